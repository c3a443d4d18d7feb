"""Hostile weight files by name: what fuzzing and reading the readers found, kept."""

from __future__ import annotations

import json
import os
import struct
from pathlib import Path
from typing import Any

import pytest
import torch
from hostile import Entry, Tensor, archive, archive_entries, number, state_ops, text, zip_bytes
from makers import SMALL, random_tensors, write_hf, write_meta

from selfee_cli.errors import MismatchError, SelfeeError
from selfee_cli.weights.checkpoint import open_checkpoint

BYTES = {"0": bytes(24)}
SOUND = b"".join(state_ops(Tensor()))


def refused(path: Path, word: str, kind: type[SelfeeError] = SelfeeError) -> None:
    with pytest.raises(kind, match=word) as caught:
        open_checkpoint(path).close()
    assert caught.value.message.isprintable(), caught.value.message
    assert len(caught.value.message) < 600 + len(str(path))


def test_the_builder_writes_what_torch_and_we_read(tmp_path: Path) -> None:
    for wide in (False, True):
        (tmp_path / "pytorch_model.bin").write_bytes(archive(SOUND, BYTES, wide=wide))
        assert torch.load(tmp_path / "pytorch_model.bin")["a"].shape == (2, 3)
        with open_checkpoint(tmp_path) as checkpoint:
            assert checkpoint.tensors["a"].shape == (2, 3)


# Pickles.

NEGATED = [b"}", text("neg"), b"\x88", b"s"]
DOUBLED = [text("x"), b"\x85", *[b"q\0", b"h\0", b"\x86"] * 60]  # 2**60 leaves
NESTED = [b")", *[b"\x85"] * 100_000]


@pytest.mark.parametrize(
    "ops,word",
    [
        # torch negates what such a view holds; we gave it as it lies there
        (state_ops(Tensor(more=NEGATED)), "negated"),
        # torch reads one storage in the type that came first
        (state_ops(Tensor(), Tensor(name="b", dtype="F16")), "two kinds"),
        (state_ops(Tensor(), Tensor()), "twice"),
        (state_ops(Tensor(shape=(1,) * 100)), "no tensor"),
        (state_ops(Tensor(shape=(2**63, 3), size=6)), "no tensor"),
        (state_ops(Tensor(shape=(2**62, 2**62, 2**62), size=6)), "no tensor"),
        (state_ops(Tensor(shape=(-2, -3), stride=(3, 1))), "no tensor"),
        (state_ops(Tensor(offset=2**63, size=6)), "no tensor"),
        (state_ops(Tensor(offset=2**62, size=6)), "reaches past"),
        (state_ops(Tensor(stride=(-3, 1))), "no tensor"),
        (state_ops(Tensor(stride=(2**40, 1))), "strided"),
        (state_ops(Tensor(size=2**61)), "has not the size"),
        (state_ops(Tensor(size=2**64)), "without a size"),
        (state_ops(Tensor(shape=(0, 3))), "no elements|has not the size"),
        (state_ops(Tensor(key="../0")), "is missing"),
        (state_ops(Tensor(key="x" * 10_000)), "is missing"),
        (state_ops(Tensor(name="a\x1b[2J\nb")), "no name for a tensor"),
        (state_ops(Tensor(name="\u202egnp")), "no name for a tensor"),
        (state_ops(Tensor(name="\ud800")), "no name for a tensor"),
        (state_ops(Tensor(name="x" * 10_000)), "no name for a tensor"),
        # what follows was written out whole in the error message
        ([b"\x80\x04", *DOUBLED, text("y"), b"\x93", b"."], "has no name"),
        ([b"\x80\x04", *NESTED, text("y"), b"\x93", b"."], "has no name"),
        ([b"\x80\x02", *DOUBLED, b"Q."], "unknown kind|damaged"),
        ([b"\x80\x02", b"}", text("a"), *NESTED, b"s."], "no tensor"),
        ([b"\x80\x02", b"(" * 300_000, b"."], "damaged"),
        ([b"\x80\x02", b"}" * 600_000, b"."], "steps"),
        ([b"\x80\x02", b"\x8b\xff\xff\xff\x7f", b"."], "LONG4"),
        ([b"\x80\x02", b"\x8e" + b"\xff" * 8, b"."], "BINBYTES8"),
        ([b"\x80\x02", b"X\xff\xff\xff\xff", b"."], "damaged"),
        ([b"\x80\x04", b"\x95" + b"\xff" * 8, b"K\1."], "no mapping"),
        ([b"\x80\x02", b"c\\d\n\x1b[31m\n", b"."], "asks for"),  # an escape that only warns
        ([b"\x80\x02", b"c" + b"x" * 100_000 + b"\ny\n", b"."], "asks for"),
        ([b"\x80\x02", b"(", number(1), b"b."], "damaged"),
    ],
)  # fmt: skip
def test_pickles(tmp_path: Path, ops: list[bytes], word: str) -> None:
    (tmp_path / "pytorch_model.bin").write_bytes(archive(b"".join(ops), BYTES))
    refused(tmp_path, word)


def test_a_negated_view_that_torch_saved(tmp_path: Path) -> None:
    torch.save({"a": torch._neg_view(torch.ones(3))}, tmp_path / "pytorch_model.bin")
    assert torch.load(tmp_path / "pytorch_model.bin")["a"].tolist() == [-1, -1, -1]
    refused(tmp_path, "negated")


def test_products_of_endless_numbers_are_not_worked_out(tmp_path: Path) -> None:
    big = number(2**2030)
    shape = [b"(", big + b"q\0", b"h\0" * 300_000, b"t"]
    ops = state_ops(Tensor())
    start = ops.index(b"Q") + 2
    ops[start : start + 4] = shape
    (tmp_path / "pytorch_model.bin").write_bytes(archive(b"".join(ops), BYTES))
    refused(tmp_path, "no tensor")


def test_checksums_of_the_pickle(tmp_path: Path) -> None:
    entries = archive_entries(SOUND.replace(b"X\1\0\0\0a", b"X\1\0\0\0b"), BYTES)
    entries[0].local["crc"] = entries[0].central["crc"] = 1
    (tmp_path / "pytorch_model.bin").write_bytes(zip_bytes(entries))
    refused(tmp_path, "checksum", MismatchError)
    entries[0].local["crc"] = entries[0].central["crc"] = 0  # torch, told to compute none
    (tmp_path / "pytorch_model.bin").write_bytes(zip_bytes(entries))
    open_checkpoint(tmp_path).close()


# Zip archives.


def changed(which: int, /, **fields: Any) -> list[Entry]:
    entries = archive_entries(SOUND, BYTES)
    for name, value in fields.items():
        setattr(entries[which], name, value)
    return entries


WIDE = b"\1\0\x08\0" + struct.pack("<Q", 2**63)


@pytest.mark.parametrize(
    "entries,more,word",
    [
        (changed(3, name=b"m/data/0"), {}, "twice"),
        (changed(3, name=b"M/DATA/0"), {}, "twice"),  # torch looks without regard to case
        (changed(2, local={"name": b"m/data/1"}), {}, "another name"),
        (changed(2, local={"name": b""}), {}, "another name"),
        (changed(2, at=0), {}, "overlaps"),
        (changed(1, central={"size": 80, "packed": 80}), {}, "another size"),
        (changed(2, local={"method": 8}), {}, "another size or kind"),
        (changed(2, central={"method": 8}), {}, "compressed"),
        (changed(2, central={"flags": 1}), {}, "encrypted"),
        (changed(2, central={"packed": 23}), {}, "compressed"),
        (changed(2, central={"outer": 0x10}), {}, "folder"),
        (changed(2, local={"mark": b"PK\3\5"}), {}, "no header"),
        (changed(2, at=2**31), {}, "lies past"),
        (changed(2, central={"header": 2**32 - 1, "extra": 12, "more": WIDE}), {}, "lies past"),
        (changed(2, central={"header": 2**32 - 1}), {}, "broken"),
        (changed(2, name=b"m/\x1b[2J"), {}, "cannot be shown"),
        (changed(2, name=b"m/\xff"), {}, "cannot be shown"),
        (changed(1, data=b"middle"), {}, "byte order"),
        (changed(3, data=b"11"), {}, "version"),
        (changed(3, data=b"\x1b"), {}, "version"),
        (changed(0, name=b"m/x"), {}, "single data.pkl"),
        (changed(3, name=b"n/data.pkl"), {}, "single data.pkl"),
        (changed(0), {"gap": b"gap", "end": {"start": 0}}, "broken"),
        (changed(0), {"end": {"comment": 4}}, "broken"),
        (changed(0), {"end": {"disk": 1, "first": 1}}, "several parts"),
        (changed(0), {"wide": True, "wide_end": {"count": 2**40, "here": 2**40}}, "broken"),
        (changed(0), {"wide": True, "end": {"count": 65535, "here": 65535},
                      "wide_end": {"count": 2**40, "here": 2**40}}, "entries"),
        (changed(0), {"wide": True, "end": {"size": 2**32 - 1}, "wide_end": {"size": 2**63}},
         "directory has"),
        (changed(0), {"wide": True, "wide_end": {"length": 2**63}}, "broken"),
    ],
)  # fmt: skip
def test_archives(tmp_path: Path, entries: list[Entry], more: dict[str, Any], word: str) -> None:
    (tmp_path / "pytorch_model.bin").write_bytes(zip_bytes(entries, **more))
    refused(tmp_path, word)


# Headers of safetensors.


def named(name: str = "a", dtype: str = '"F32"', shape: str = "[2]") -> str:
    return f'{{"{name}":{{"dtype":{dtype},"shape":{shape},"data_offsets":[0,8]}}}}'


@pytest.mark.parametrize(
    "header,word",
    [
        (named(shape=f"[{','.join(['1'] * 100)}]"), "shape"),
        # the product had too many digits to be told
        (named(shape=f"[{','.join(['9' * 4000] * 3)}]"), "shape"),
        (named(shape="[9223372036854775808]"), "shape"),
        (named(shape="[1e400]"), "not JSON"),
        (named(shape="[NaN]"), "not JSON"),
        ('{"__metadata__":{"x":Infinity}}', "not JSON"),
        (named("a\\u001b[2J"), "no name"),
        (named("a\\n"), "no name"),
        (named("\\ud800"), "not JSON"),
        (named("\u202ea"), "no name"),
        (named("x" * 10_000), "no name"),
        ('{"a":1,"\\u0061":1}', "twice"),
        ('{"\\u001b":1,"\\u001b":1}', "twice"),
        # a nested type was written out whole
        (named(dtype="[" * 30 + "]" * 30), "unknown type"),
        (named(dtype=f'"{"x" * 100_000}"'), "unknown type"),
        ("[" * 200_000, "not JSON"),
        ('{"__metadata__":{"x":' + "[" * 40 + "]" * 40 + "}}", "deep"),
    ],
)
def test_headers(tmp_path: Path, header: str, word: str) -> None:
    raw = header.encode()
    content = len(raw).to_bytes(8, "little") + raw + bytes(8)
    (tmp_path / "model.safetensors").write_bytes(content)
    refused(tmp_path, word)


# JSON files and the directory.


@pytest.mark.parametrize(
    "change,word",
    [
        ({"lm_head.weight": "x" * 300 + ".bin"}, "no file name"),  # the system refuses the name
        ({"lm_head.weight": "\ud800.bin"}, "not JSON"),
        ({"lm_head.weight": "a\nb.bin"}, "no file name"),
        ({"a\x1b[2J": "pytorch_model-00001-of-00002.bin"}, "no name"),
    ],
)
def test_indexes(tmp_path: Path, change: dict[str, str], word: str) -> None:
    write_hf(tmp_path, random_tensors(SMALL, seed=1), "bin", 2)
    index = tmp_path / "pytorch_model.bin.index.json"
    value = json.loads(index.read_text())
    value["weight_map"] |= change
    index.write_text(json.dumps(value))
    refused(tmp_path, word)


@pytest.mark.parametrize("key", ["dim", "n_heads", "n_layers", "norm_eps", "rope_theta"])
def test_params(tmp_path: Path, key: str) -> None:
    write_meta(tmp_path, random_tensors(SMALL, seed=1), SMALL)
    params = json.loads((tmp_path / "params.json").read_text())
    for value in (10**13, 10**400, 0, -1, True, "7", [], *((1.5,) if key != "rope_theta" else ())):
        (tmp_path / "params.json").write_text(json.dumps(params | {key: value}))
        refused(tmp_path, key)


def test_heads_that_are_not_those_of_the_weights(tmp_path: Path) -> None:
    write_meta(tmp_path, random_tensors(SMALL, seed=1), SMALL)
    params = json.loads((tmp_path / "params.json").read_text())
    for heads in (1, 2, 8):
        (tmp_path / "params.json").write_text(json.dumps(params | {"n_heads": heads}))
        refused(tmp_path, "rope.freqs", MismatchError)


@pytest.mark.parametrize("zero", ["00", "\u0660"])
def test_two_names_for_one_layer(tmp_path: Path, zero: str) -> None:
    name = f"layers.{zero}.attention.wq.weight"
    write_meta(tmp_path, random_tensors(SMALL, seed=1), SMALL)
    state = torch.load(tmp_path / "consolidated.00.pth")
    torch.save(state | {name: torch.ones(32, 32)}, tmp_path / "consolidated.00.pth")
    refused(tmp_path, "no tensor of a LLaMA")


@pytest.mark.parametrize("name,shape", [("attention.wo", (32, 40)), ("feed_forward.w3", (40, 32))])
def test_shapes_that_do_not_fit_each_other(tmp_path: Path, name: str, shape: Any) -> None:
    write_meta(tmp_path, random_tensors(SMALL, seed=1), SMALL)
    state = torch.load(tmp_path / "consolidated.00.pth")
    state[f"layers.1.{name}.weight"] = torch.ones(shape)
    torch.save(state, tmp_path / "consolidated.00.pth")
    refused(tmp_path, "it should be", MismatchError)


@pytest.mark.parametrize(
    "change",
    [{"hidden_size": 10**9}, {"num_attention_heads": 0}, {"vocab_size": -1},
     {"num_hidden_layers": 2.0}, {"max_position_embeddings": True}, {"rms_norm_eps": "x"},
     {"rms_norm_eps": -1}, {"architectures": ["\x1b[2J"]}, {"architectures": "x"}],
)  # fmt: skip
def test_configurations(tmp_path: Path, change: dict[str, object]) -> None:
    write_hf(tmp_path, random_tensors(SMALL, seed=1), "safetensors")
    (tmp_path / "config.json").write_text(json.dumps(change))
    refused(tmp_path, f"config.json gives no sound '{next(iter(change))}'")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes here")
def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "model.safetensors")
    refused(tmp_path, "no file")


def test_rows_that_are_too_long_to_hold(tmp_path: Path) -> None:
    entry = {"dtype": "F32", "shape": [1, 2**30], "data_offsets": [0, 2**32]}
    header = json.dumps({"a": entry}).encode()
    with (tmp_path / "model.safetensors").open("wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        file.truncate(8 + len(header) + 2**32)  # sparse
    refused(tmp_path, "rows are too long")
