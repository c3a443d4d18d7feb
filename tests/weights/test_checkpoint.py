import json
import os
import pickle
import shutil
import zipfile

import numpy as np
import pytest
import torch
from makers import (
    DTYPES,
    SMALL,
    Shape,
    config,
    random_tensors,
    raw,
    write_checkpoint,
    write_hf,
    write_meta,
)  # fmt: skip
from safetensors.torch import save_file

from selfee_cli.errors import MismatchError, NotFoundError, SelfeeError
from selfee_cli.weights.checkpoint import open_checkpoint
from selfee_cli.weights.fingerprint import sampled_fingerprint
from selfee_cli.weights.storage import row_ranges

LAYOUTS = ["safetensors", "bin", "meta"]


def canonical(tensors):
    ends = ["model.embed_tokens.weight", "model.norm.weight", "lm_head.weight"]
    return [ends[0], *sorted(set(tensors) - set(ends)), *ends[1:]]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shards", [1, 2])
@pytest.mark.parametrize("dtype", list(DTYPES))
def test_every_layout_gives_the_same_tensors(tmp_path, layout, shards, dtype):
    tensors = random_tensors(SMALL, seed=1, dtype=dtype)
    path = write_checkpoint(tmp_path / "m", tensors, SMALL, layout, shards=shards)
    with open_checkpoint(path) as checkpoint:
        assert checkpoint.layout == layout
        assert list(checkpoint.tensors) == canonical(tensors)
        assert len(checkpoint.files) == shards
        assert checkpoint.parameters == sum(t.numel() for t in tensors.values())
        for name, tensor in tensors.items():
            info = checkpoint.tensors[name]
            assert (info.dtype.value, info.shape) == (DTYPES[dtype], tuple(tensor.shape))
            wanted = raw(tensor)
            np.testing.assert_array_equal(checkpoint.read(name), wanted)
            for elements in (1, 100, 1000):
                parts = [checkpoint.read_rows(name, *r) for r in row_ranges(info, elements)]
                np.testing.assert_array_equal(np.concatenate(parts), wanted)


def test_meta_with_grouped_queries_and_its_configuration(tmp_path):
    shape = Shape(kv_heads=2)
    tensors = random_tensors(shape, seed=2)
    write_meta(tmp_path / "m", tensors, shape, 2)
    with open_checkpoint(tmp_path / "m") as checkpoint:
        for name, tensor in tensors.items():
            np.testing.assert_array_equal(checkpoint.read(name), raw(tensor))
        wanted = config(shape)
        for key in ("hidden_size", "num_attention_heads", "num_key_value_heads", "vocab_size",
                    "num_hidden_layers", "intermediate_size", "rms_norm_eps"):  # fmt: skip
            assert checkpoint.config[key] == wanted[key], key


def test_the_fingerprint_does_not_depend_on_storage(tmp_path):
    shape = Shape(vocabulary=3000, hidden=64, heads=4)  # one tensor over the sampling bound
    tensors = random_tensors(shape, seed=3)
    wide = {name: tensor.float() for name, tensor in tensors.items()}
    places = {
        write_checkpoint(tmp_path / f"{layout}{n}", tensors, shape, layout, shards=n)
        for layout in LAYOUTS
        for n in (1, 2)
    } | {write_checkpoint(tmp_path / "wide", wide, shape, "safetensors")}
    found = set()
    for place in places:
        with open_checkpoint(place) as checkpoint:
            found.add(sampled_fingerprint(checkpoint))
    assert len(found) == 1
    tensors["model.layers.1.mlp.up_proj.weight"] = tensors["model.layers.1.mlp.up_proj.weight"] * 2
    with open_checkpoint(write_checkpoint(tmp_path / "o", tensors, shape, "bin")) as checkpoint:
        assert sampled_fingerprint(checkpoint) not in found


def test_shared_storages_offsets_and_parameters_are_read(tmp_path):
    whole = torch.arange(24, dtype=torch.float32)
    state = {"a": whole.view(4, 6), "b": whole[12:].view(2, 6), "c": torch.nn.Parameter(whole[:6])}
    write_hf(tmp_path, state, "bin")
    with open_checkpoint(tmp_path) as checkpoint:
        for name, tensor in state.items():
            np.testing.assert_array_equal(checkpoint.read(name), tensor.detach().numpy())


def test_a_state_dict_of_a_module_is_read(tmp_path):
    module = torch.nn.Linear(3, 2)
    torch.save(module.state_dict(), tmp_path / "pytorch_model.bin")  # carries _metadata
    with open_checkpoint(tmp_path) as checkpoint:
        np.testing.assert_array_equal(checkpoint.read("weight"), module.weight.detach().numpy())


def test_big_endian_files_are_read(tmp_path):
    values = torch.arange(6, dtype=torch.float32)
    torch.save({"a": values}, tmp_path / "little.pt")
    with (
        zipfile.ZipFile(tmp_path / "little.pt") as old,
        zipfile.ZipFile(tmp_path / "pytorch_model.bin", "w") as new,
    ):
        for name in old.namelist():
            data = old.read(name)
            if name.endswith("/byteorder"):
                data = b"big"
            if name.endswith("/data/0"):
                data = np.frombuffer(data, "<f4").astype(">f4").tobytes()
            new.writestr(name, data)
    with open_checkpoint(tmp_path) as checkpoint:
        np.testing.assert_array_equal(checkpoint.read("a"), values.numpy())


def test_recomputed_buffers_are_dropped(tmp_path):
    tensors = random_tensors(SMALL, seed=1)
    tensors["model.layers.0.self_attn.rotary_emb.inv_freq"] = torch.ones(4)
    write_hf(tmp_path, tensors, "bin", 2)
    with open_checkpoint(tmp_path) as checkpoint:
        assert not [name for name in checkpoint.tensors if "inv_freq" in name]


def test_shards_without_an_index_are_read(tmp_path):
    tensors = random_tensors(SMALL, seed=1)
    write_hf(tmp_path, tensors, "safetensors", 2)
    (tmp_path / "model.safetensors.index.json").unlink()
    with open_checkpoint(tmp_path) as checkpoint:
        assert list(checkpoint.tensors) == canonical(tensors)
    (tmp_path / "model-00001-of-00002.safetensors").unlink()
    with pytest.raises(NotFoundError, match="model-00001-of-00002"):
        open_checkpoint(tmp_path)


# What is refused, and how.


@pytest.fixture(params=LAYOUTS)
def sharded(request, tmp_path):
    tensors = random_tensors(SMALL, seed=1)
    return write_checkpoint(tmp_path / "m", tensors, SMALL, request.param, shards=2)


def refused(path, kind, *words):
    with pytest.raises(kind) as caught:
        open_checkpoint(path).close()
    assert type(caught.value) is kind
    assert "\n" not in caught.value.message
    for word in words:
        assert word in caught.value.message
    return caught.value


def shard_files(path):
    return sorted(p for p in path.iterdir() if p.suffix in (".safetensors", ".bin", ".pth"))


def test_no_such_directory(tmp_path):
    error = refused(tmp_path / "nowhere", NotFoundError, "nowhere")
    assert "hf download" in error.hint


def test_a_file_in_place_of_a_directory(tmp_path):
    (tmp_path / "f").write_bytes(b"x")
    refused(tmp_path / "f", NotFoundError, "no directory")


def test_an_empty_directory(tmp_path):
    refused(tmp_path, NotFoundError, "no weights")


def test_weights_one_directory_further_down_are_pointed_at(tmp_path):
    write_meta(tmp_path / "7B", random_tensors(SMALL, seed=1), SMALL)
    assert "7B" in refused(tmp_path, NotFoundError).hint


def test_a_missing_shard_is_named(sharded):
    last = shard_files(sharded)[-1]
    last.unlink()
    refused(sharded, NotFoundError, last.name)


def test_a_truncated_shard(sharded):
    last = shard_files(sharded)[-1]
    last.write_bytes(last.read_bytes()[:-2000])
    refused(sharded, MismatchError, last.name, "not whole")


def test_an_empty_shard(sharded):
    last = shard_files(sharded)[-1]
    last.write_bytes(b"")
    refused(sharded, MismatchError, last.name)


def test_an_lfs_pointer(sharded):
    last = shard_files(sharded)[-1]
    last.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
    refused(sharded, MismatchError, last.name, "git-LFS pointer")


def test_two_layouts(tmp_path):
    tensors = random_tensors(SMALL, seed=1)
    write_hf(tmp_path, tensors, "bin")
    write_hf(tmp_path, tensors, "safetensors", 2)
    error = refused(tmp_path, SelfeeError, "pytorch_model.bin", "model-00001-of-00002.safetensors")
    assert "move" in error.hint


def test_a_leftover_index(tmp_path):
    tensors = random_tensors(SMALL, seed=1)
    write_hf(tmp_path, tensors, "safetensors")
    (tmp_path / "pytorch_model.bin.index.json").write_text("{}")
    refused(tmp_path, SelfeeError, "pytorch_model.bin.index.json")


def test_two_indexes_of_one_layout(tmp_path):
    write_hf(tmp_path, random_tensors(SMALL, seed=1), "safetensors", 2)
    index = tmp_path / "model.safetensors.index.json"
    shutil.copy(index, tmp_path / "old.safetensors.index.json")
    refused(tmp_path, SelfeeError, "more than one set", "old.safetensors.index.json")


def test_a_whole_file_beside_shards(tmp_path):
    tensors = random_tensors(SMALL, seed=1)
    write_hf(tmp_path, tensors, "safetensors", 2)
    write_hf(tmp_path, tensors, "safetensors")
    refused(tmp_path, SelfeeError, "more than one set", "model.safetensors")


def edit_index(path, change):
    index = next(path.glob("*.index.json"))
    value = json.loads(index.read_text())
    change(value["weight_map"])
    index.write_text(json.dumps(value))


@pytest.mark.parametrize("target", ["../x.bin", "/etc/passwd", "..", "a\\b", "sub/x.bin"])
def test_an_index_that_points_outside(tmp_path, target):
    write_hf(tmp_path, random_tensors(SMALL, seed=1), "bin", 2)
    edit_index(tmp_path, lambda weight_map: weight_map.update({"lm_head.weight": target}))
    refused(tmp_path, SelfeeError, "outside", "lm_head.weight")


def test_an_index_that_knows_less_or_more_than_the_shards(tmp_path):
    write_hf(tmp_path, random_tensors(SMALL, seed=1), "safetensors", 2)
    shard = "model-00002-of-00002.safetensors"
    edit_index(tmp_path, lambda weight_map: weight_map.pop("lm_head.weight"))
    refused(tmp_path, MismatchError, "lm_head.weight")
    edit_index(
        tmp_path,
        lambda weight_map: weight_map.update(dict.fromkeys(("x", "lm_head.weight"), shard)),
    )
    refused(tmp_path, MismatchError, "x is in", "not there")


def test_a_tensor_in_two_shards(tmp_path):
    write_hf(tmp_path, random_tensors(SMALL, seed=1), "safetensors", 2)
    shutil.copy(
        tmp_path / "model-00001-of-00002.safetensors", tmp_path / "model-00002-of-00002.safetensors"
    )
    refused(tmp_path, SelfeeError, "stands in both")


def test_quantised_weights(tmp_path):
    save_file({"a": torch.ones(3, dtype=torch.int8)}, tmp_path / "model.safetensors")
    refused(tmp_path, SelfeeError, "I8")


def test_broken_json(tmp_path):
    write_hf(tmp_path, random_tensors(SMALL, seed=1), "safetensors")
    for text in ("{", "[]", '{"a": 1, "a": 2}', "[" * 100_000):
        (tmp_path / "config.json").write_text(text)
        refused(tmp_path, SelfeeError, "config.json")


def test_symlinks_are_followed(tmp_path):
    write_hf(tmp_path / "blobs", random_tensors(SMALL, seed=1), "safetensors")
    (tmp_path / "snapshot").mkdir()
    link = tmp_path / "snapshot" / "model.safetensors"
    link.symlink_to(tmp_path / "blobs" / "model.safetensors")
    open_checkpoint(tmp_path / "snapshot").close()


# Meta's own ways to be wrong.


def test_meta_without_params(tmp_path):
    write_meta(tmp_path, random_tensors(SMALL, seed=1), SMALL)
    (tmp_path / "params.json").unlink()
    refused(tmp_path, NotFoundError, "params.json")


def test_meta_with_a_gap(tmp_path):
    write_meta(tmp_path, random_tensors(SMALL, seed=1), SMALL, 2)
    (tmp_path / "consolidated.00.pth").unlink()
    refused(tmp_path, NotFoundError, "consolidated.00.pth")


def test_meta_with_other_sizes_than_params_say(tmp_path):
    write_meta(tmp_path, random_tensors(SMALL, seed=1), SMALL)
    params = json.loads((tmp_path / "params.json").read_text())
    for key, value in (("dim", 64), ("n_layers", 3), ("n_layers", 1), ("n_heads", 0)):
        (tmp_path / "params.json").write_text(json.dumps(params | {key: value}))
        with pytest.raises(SelfeeError):
            open_checkpoint(tmp_path)


# Pickles.


class Evil:
    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def save_pickle(path, data: bytes):
    with zipfile.ZipFile(path / "pytorch_model.bin", "w") as archive:
        archive.writestr("archive/data.pkl", data)
        archive.writestr("archive/data/0", b"\0" * 16)


@pytest.mark.parametrize(
    "payload,word",
    [
        (Evil(os.system, "touch {path}"), "system"),
        (Evil(eval, "open('{path}', 'w')"), "eval"),
        ({"w": Evil(getattr, Evil(__import__, "os"), "system")}, "getattr"),
        ({"a": Evil(exec, "open('{path}', 'w')")}, "exec"),
        ({"a": np.zeros(3)}, "numpy"),
    ],
)
def test_a_malicious_pickle_is_refused_and_not_run(tmp_path, payload, word):
    mark = tmp_path / "ran"
    if isinstance(payload, Evil) and isinstance(payload.call[1][0], str):
        payload = Evil(payload.call[0], payload.call[1][0].format(path=mark))
    for protocol in (2, 4):
        save_pickle(tmp_path, pickle.dumps(payload, protocol=protocol))
        refused(tmp_path, SelfeeError, "pytorch_model.bin", "asks for", word)
    torch.save(payload, tmp_path / "pytorch_model.bin")
    refused(tmp_path, SelfeeError, "asks for", word)
    assert not mark.exists()


@pytest.mark.parametrize(
    "data,word",
    [
        (b"\x80\x02\x82\x01.", "EXT1"),
        (b"(cos\nsystem\n.", "os.system"),
        (b"\x80\x02(S'ls'\nios\nsystem\n.", "STRING"),
        (b"\x80\x02}q\x00(K\x01K\x02u.", "no text"),
        (b"\x80\x02]q\x00h\x00a.", "no mapping"),
        (b"\x80\x02}r\xff\xff\xff\xff.", "no mapping"),  # a memo index: no memory for it
        (b"\x80\x04\x8d\xff\xff\xff\xff\xff\xff\xff\x7f.", "damaged"),
        (b"", "damaged"),
        (b"\x80\x02}", "damaged"),
        (b"\x80\x02u.", "damaged"),
        (b"\x80\x02K\x01K\x02a.", "no list"),
        (b"\x80\x02K\x01(K\x02e.", "no list"),
        (b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n)R.", "no tensor"),
    ],
)
def test_odd_pickles_are_refused(tmp_path, data, word):
    save_pickle(tmp_path, data)
    if data == b"\x80\x02}r\xff\xff\xff\xff.":
        refused(tmp_path, NotFoundError)  # an empty state dict: no tensors
    else:
        refused(tmp_path, SelfeeError, word)


def test_the_old_format_of_torch_save(tmp_path):
    torch.save(
        {"a": torch.ones(2)}, tmp_path / "pytorch_model.bin", _use_new_zipfile_serialization=False
    )
    error = refused(tmp_path, SelfeeError, "before version 1.6")
    assert "save it again" in error.hint


def test_views_that_are_not_contiguous(tmp_path):
    torch.save({"a": torch.ones(2, 3).t()}, tmp_path / "pytorch_model.bin")
    refused(tmp_path, SelfeeError, "'a'", "transposed or strided")


def test_a_storage_of_the_wrong_size(tmp_path):
    torch.save({"a": torch.ones(8)}, tmp_path / "good.pt")
    with (
        zipfile.ZipFile(tmp_path / "good.pt") as old,
        zipfile.ZipFile(tmp_path / "pytorch_model.bin", "w") as new,
    ):
        for name in old.namelist():
            new.writestr(name, old.read(name)[: 16 if name.endswith("data/0") else None])
    refused(tmp_path, SelfeeError, "size")


def test_compressed_entries(tmp_path):
    torch.save({"a": torch.ones(8)}, tmp_path / "good.pt")
    with (
        zipfile.ZipFile(tmp_path / "good.pt") as old,
        zipfile.ZipFile(tmp_path / "pytorch_model.bin", "w", zipfile.ZIP_DEFLATED) as new,
    ):
        for name in old.namelist():
            new.writestr(name, old.read(name))
    refused(tmp_path, SelfeeError, "compressed")


# Safetensors headers.


def entry(dtype="F32", shape=(2,), offsets=(0, 8)):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


@pytest.mark.parametrize(
    "header,data,kind,word",
    [
        ({"a": entry(), "b": entry(offsets=(4, 12))}, 12, SelfeeError, "overlaps"),
        ({"a": entry(), "b": entry(offsets=(12, 20))}, 20, SelfeeError, "hole"),
        ({"a": entry(offsets=(4, 12))}, 12, SelfeeError, "hole"),
        ({"a": entry()}, 12, SelfeeError, "after the last"),
        ({"a": entry()}, 7, MismatchError, "not whole"),
        ({"a": entry(shape=(3,))}, 8, SelfeeError, "needs 12 bytes"),
        ({"a": entry(shape=(2**62, 2**62))}, 8, SelfeeError, "needs"),
        ({"a": entry(shape=(-2,))}, 8, SelfeeError, "shape"),
        ({"a": entry(shape=(True, 2))}, 8, SelfeeError, "shape"),
        ({"a": entry(shape=(2.0,))}, 8, SelfeeError, "shape"),
        ({"a": entry(offsets=(8, 0))}, 8, SelfeeError, "spans"),
        ({"a": entry(dtype="F3")}, 8, SelfeeError, "unknown type"),
        ({"a": entry(dtype=["F32"])}, 8, SelfeeError, "unknown type"),
        ({"a": 3}, 8, SelfeeError, "keys"),
        ({"a": entry() | {"more": 1}}, 8, SelfeeError, "keys"),
        ({"a": entry(shape=(0,), offsets=(0, 0))}, 0, SelfeeError, "no elements"),
        ({"__metadata__": []}, 0, SelfeeError, "__metadata__"),
    ],
)
def test_unsound_headers(tmp_path, header, data, kind, word):
    text = json.dumps(header).encode()
    content = len(text).to_bytes(8, "little") + text + bytes(data)
    (tmp_path / "model.safetensors").write_bytes(content)
    refused(tmp_path, kind, word)


@pytest.mark.parametrize(
    "content,kind,word",
    [
        (b"\xff" * 8, SelfeeError, "header length"),
        ((1000).to_bytes(8, "little") + b"{}", MismatchError, "not whole"),
        (bytes(100), MismatchError, "never finished"),
        (b"short", MismatchError, "5 bytes"),
        ((2).to_bytes(8, "little") + b"[]", SelfeeError, "no JSON object"),
        ((3).to_bytes(8, "little") + b"\xff{}", SelfeeError, "not JSON"),
        ((16).to_bytes(8, "little") + b'{"a": 1, "a": 2}', SelfeeError, "twice"),
    ],
)
def test_unsound_files(tmp_path, content, kind, word):
    (tmp_path / "model.safetensors").write_bytes(content)
    refused(tmp_path, kind, word)
