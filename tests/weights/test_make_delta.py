"""The inverse of reconstruction: what it stores, and that what it says of the way back is true."""

import json
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from makers import (
    DTYPES,
    SMALL,
    Shape,
    config,
    oracle,
    random_chunks,
    random_tensors,
    raw,
    stream_safetensors,
    tensor_shapes,
    write_big_pair,
    write_checkpoint,
    write_config,
    write_hf,
)  # fmt: skip

from selfee_cli.errors import MismatchError, NotFoundError, ResourceError, SelfeeError, UsageError
from selfee_cli.weights import make_delta as make_delta_module
from selfee_cli.weights.checkpoint import open_checkpoint
from selfee_cli.weights.corrections import CORRECTION_NAME
from selfee_cli.weights.delta import SLACK, apply_delta, plan_delta
from selfee_cli.weights.digests import read_sums
from selfee_cli.weights.dtypes import DType
from selfee_cli.weights.make_delta import make_delta, plan_make_delta
from selfee_cli.weights.manifest import read_manifest
from selfee_cli.weights.recompute import recompute
from selfee_cli.weights.verify import verify

LAYOUTS = ["safetensors", "bin", "meta"]


def trained(base, *, dtype="float16", rows_more=1, scale=0.002):
    """What training might have made of a base: a little of everything is moved."""
    generator = torch.Generator().manual_seed(3)
    tuned = {}
    for name, tensor in base.items():
        values = tensor.float()
        if rows_more and name in ("model.embed_tokens.weight", "lm_head.weight"):
            values = torch.cat([values, values.mean(0, keepdim=True)])
        moved = values + torch.randn(values.shape, generator=generator) * scale
        tuned[name] = moved.to(getattr(torch, dtype))
    return tuned


def any_bits(shape, *, seed, dtype, largest, rows_more=0):
    """Values of every magnitude up to a largest, subnormals and both zeros among them."""
    generator = np.random.default_rng(seed)
    tensors = {}
    for name, size in tensor_shapes(shape, rows_more=rows_more).items():
        if name.endswith("norm.weight"):
            tensors[name] = torch.ones(size, dtype=getattr(torch, dtype))
            continue
        width = np.uint32 if dtype == "float32" else np.uint16
        bits = generator.integers(0, np.iinfo(width).max, size, width, endpoint=True)
        signed = torch.from_numpy(bits.view(np.int32 if dtype == "float32" else np.int16))
        values = signed.view(getattr(torch, dtype)).clone()
        values[~(values.abs().float() <= largest)] = 0.01
        flat = values.view(-1)
        flat[:4] = torch.tensor([0.0, -0.0, -0.0, 2.0**-24])
        tensors[name] = values
    return tensors


def write_pair(tmp_path, base, tuned, layouts=("safetensors", "safetensors"), *, shape=SMALL,
               rows_more=1):  # fmt: skip
    write_checkpoint(tmp_path / "base", base, shape, layouts[0], shards=2)
    shards = 1 if layouts[1] == "meta" else 2  # Meta's cannot halve an odd vocabulary
    write_checkpoint(
        tmp_path / "tuned", tuned, shape, layouts[1], shards=shards, rows_more=rows_more
    )


def make(tmp_path, progress=lambda count: None, out="delta", **options):
    plan = plan_make_delta(tmp_path / "base", tmp_path / "tuned", **options)
    return make_delta(plan, tmp_path / out, progress)


def apply(tmp_path, dtype):
    plan = plan_delta(tmp_path / "base", tmp_path / "delta", dtype=DType(DTYPES[dtype]))
    return plan, apply_delta(plan, tmp_path / "out")


def difference(base, tuned):
    """Tuned - base as float32, the new row less the mean, in torch's words."""
    found = {}
    for name, after in tuned.items():
        before = base[name].float()
        if after.shape[0] == before.shape[0] + 1:
            before = torch.cat([before, before.mean(0, keepdim=True)])
        found[name] = after.float() - before
    return found


def count_lost(base, tuned, stored, dtype):
    """Elements by tensor that torch does not get back."""
    back = oracle(base, stored, dtype)
    return {n: int((raw(back[n]) != raw(t)).sum()) if dtype != "float32"
            else int((back[n].view(torch.int32) != t.view(torch.int32)).sum())
            for n, t in tuned.items()}  # fmt: skip


def bits(array):
    return array.view(np.uint32) if array.dtype == np.float32 else array


def assert_bits(path, wanted):
    with open_checkpoint(path) as made:
        assert made.tensors.keys() == wanted.keys()
        for name, tensor in wanted.items():
            np.testing.assert_array_equal(bits(made.read(name)), bits(raw(tensor)), err_msg=name)


# What is stored, and the way back.


@pytest.mark.parametrize(
    "layouts", [("safetensors", "meta"), ("meta", "bin"), ("bin", "safetensors")]
)
def test_float16_through_a_float32_delta_is_exact(tmp_path, layouts):
    base = random_tensors(SMALL, seed=1)
    tuned = trained(base)
    write_pair(tmp_path, base, tuned, layouts)
    result = make(tmp_path)
    assert_bits(tmp_path / "delta", difference(base, tuned))
    assert result.round_trip.exact and result.round_trip.different == 0
    assert "bit for bit" in result.notes[-1]
    assert not (tmp_path / "delta" / CORRECTION_NAME).exists()
    plan, _ = apply(tmp_path, "float16")
    assert_bits(tmp_path / "out", tuned)
    assert not list(recompute(plan, tmp_path / "tuned"))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("tuned_dtype", list(DTYPES))
def test_a_narrow_delta_loses_what_it_says(tmp_path, dtype, tuned_dtype):
    base = random_tensors(SMALL, seed=1)
    tuned = trained(base, dtype=tuned_dtype, scale=0.02)
    write_pair(tmp_path, base, tuned)
    result = make(tmp_path, dtype=DType(DTYPES[dtype]))
    stored = {n: t.to(getattr(torch, dtype)) for n, t in difference(base, tuned).items()}
    assert_bits(tmp_path / "delta", stored)
    lost = count_lost(base, tuned, stored, tuned_dtype)
    told = result.round_trip
    assert told.different == sum(lost.values()) > 0
    assert told.elements == sum(t.numel() for t in tuned.values())
    shares = {name: lost[name] / tensor.numel() for name, tensor in tuned.items()}
    assert shares[told.worst] == max(shares.values())
    assert told.worst_different == lost[told.worst]
    assert told.worst_elements == tuned[told.worst].numel()
    assert not told.exact and told.dtype.torch_name == tuned_dtype
    assert f"{told.different:,} of {told.elements:,}" in result.notes[-1]
    assert told.worst in result.notes[-1] and "--exact" in result.notes[-1]
    plan, _ = apply(tmp_path, tuned_dtype)
    faults = list(recompute(plan, tmp_path / "tuned"))
    assert {fault.tensor for fault in faults} == {name for name, count in lost.items() if count}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("tuned_dtype", list(DTYPES))
@pytest.mark.parametrize("dtype", list(DTYPES))
def test_exact_brings_every_bit_back(tmp_path, layout, tuned_dtype, dtype):
    largest = 3e4 if "float16" in (tuned_dtype, dtype) else 1e38
    base = any_bits(SMALL, seed=1, dtype="float16", largest=3e4)
    tuned = any_bits(SMALL, seed=2, dtype=tuned_dtype, largest=largest, rows_more=1)
    write_pair(tmp_path, base, tuned, (LAYOUTS[LAYOUTS.index(layout) - 1], layout))
    result = make(tmp_path, dtype=DType(DTYPES[dtype]), exact=True, shard_size=20_000)
    stored = {n: t.to(getattr(torch, dtype)) for n, t in difference(base, tuned).items()}
    assert result.round_trip.different == sum(count_lost(base, tuned, stored, tuned_dtype).values())
    assert result.round_trip.corrected and result.round_trip.exact
    assert not list(verify(tmp_path / "delta"))
    plan, _ = apply(tmp_path, tuned_dtype)
    assert_bits(tmp_path / "out", tuned)
    assert not list(recompute(plan, tmp_path / "tuned"))
    assert not list(recompute(plan, tmp_path / "out"))


def test_the_sign_of_zero_counts(tmp_path):
    base = random_tensors(SMALL, seed=1)
    tuned = {name: tensor.clone() for name, tensor in base.items()}
    tuned["lm_head.weight"][0, :3] = -0.0
    base["lm_head.weight"][0, 1] = -0.0
    write_pair(tmp_path, base, tuned, rows_more=0)
    result = make(tmp_path, exact=True)
    assert (result.round_trip.different, result.round_trip.worst) == (3, "lm_head.weight")
    apply(tmp_path, "float16")
    assert_bits(tmp_path / "out", tuned)


def test_the_row_of_pad_at_full_vocabulary(tmp_path):
    shape = Shape(vocabulary=32_000, hidden=64, heads=4, layers=1)
    base = random_tensors(shape, seed=1)
    tuned = trained(base, dtype="float32")
    write_pair(tmp_path, base, tuned, shape=shape)
    make(tmp_path, exact=True)
    assert_bits(tmp_path / "delta", difference(base, tuned))
    apply(tmp_path, "float32")
    assert_bits(tmp_path / "out", tuned)


@pytest.mark.parametrize("chunk", [1, 33, 1000])
def test_chunks_do_not_show(tmp_path, monkeypatch, chunk):
    base = random_tensors(SMALL, seed=1)
    tuned = trained(base)
    write_pair(tmp_path, base, tuned, ("meta", "meta"))
    make(tmp_path, out="whole", dtype=DType.BF16, exact=True)
    monkeypatch.setattr(make_delta_module, "CHUNK", chunk)
    make(tmp_path, dtype=DType.BF16, exact=True)
    for file in (tmp_path / "whole").glob("*.safetensors"):
        assert file.read_bytes() == (tmp_path / "delta" / file.name).read_bytes()


def test_weights_of_several_types_are_compared_as_float32(tmp_path):
    base = random_tensors(SMALL, seed=1)
    tuned = trained(base)
    tuned["model.norm.weight"] = tuned["model.norm.weight"].float() + 1e-5
    write_pair(tmp_path, base, tuned)
    result = make(tmp_path, dtype=DType.F16, exact=True)
    assert result.round_trip.dtype is DType.F32 and result.round_trip.different
    apply(tmp_path, "float32")
    assert_bits(tmp_path / "out", {name: tensor.float() for name, tensor in tuned.items()})


def test_the_directory_of_the_delta(tmp_path):
    base = random_tensors(SMALL, seed=1)
    write_pair(tmp_path, base, trained(base))
    (tmp_path / "tuned" / "special_tokens_map.json").write_text('{"pad_token": "[PAD]"}')
    (tmp_path / "tuned" / "README.md").write_text("a model")
    result = make(tmp_path, dtype=DType.BF16, exact=True)
    out = tmp_path / "delta"
    assert sorted(path.name for path in out.iterdir()) == [
        "SHA256SUMS", "config.json", "model.safetensors", CORRECTION_NAME, "selfee-manifest.json",
        "special_tokens_map.json", "tokenizer.model",
    ]  # fmt: skip
    wanted = config(SMALL, rows_more=1) | {"torch_dtype": "bfloat16"}
    assert json.loads((out / "config.json").read_text()) == wanted
    for name in ("tokenizer.model", "special_tokens_map.json"):
        assert (out / name).read_bytes() == (tmp_path / "tuned" / name).read_bytes()
    manifest = read_manifest(out)
    assert manifest == result.manifest
    assert (manifest.kind, manifest.dtype) == ("delta", "bfloat16")
    assert {role: origin["name"] for role, origin in manifest.made_from.items()} == {
        "base": "base", "tuned": "tuned",
    }  # fmt: skip
    assert read_sums(out / "SHA256SUMS").keys() == {*manifest.files, "selfee-manifest.json"}
    assert CORRECTION_NAME in manifest.files
    assert not list(verify(out))
    (out / CORRECTION_NAME).unlink()
    assert [fault.file for fault in verify(out)] == [CORRECTION_NAME]


def test_metas_layout_gives_configuration_and_tokenizer(tmp_path):
    base = random_tensors(SMALL, seed=1)
    write_pair(tmp_path, base, trained(base), ("safetensors", "meta"))
    (tmp_path / "tuned" / "tokenizer.model").rename(tmp_path / "tokenizer.model")
    result = make(tmp_path)
    made = json.loads((tmp_path / "delta" / "config.json").read_text())
    assert made["vocab_size"] == SMALL.vocabulary + 1
    assert (made["hidden_size"], made["torch_dtype"]) == (SMALL.hidden, "float32")
    assert (tmp_path / "delta" / "tokenizer.model").is_file()
    assert len(result.notes) == 1


def test_a_missing_tokenizer_is_told(tmp_path):
    base = random_tensors(SMALL, seed=1)
    write_pair(tmp_path, base, trained(base))
    (tmp_path / "tuned" / "tokenizer.model").unlink()
    assert "no tokenizer" in make(tmp_path).notes[0]


def test_progress_ends_at_the_bytes_of_the_inputs(tmp_path):
    base = random_tensors(SMALL, seed=1)
    write_pair(tmp_path, base, trained(base))
    counts = []
    result = make(tmp_path, counts.append)
    assert sum(counts) == result.bytes_read == sum(
        tensor.nbytes for tensors in (base, trained(base)) for tensor in tensors.values()
    )  # fmt: skip


# What is refused: one line, the right kind, and nothing left behind.


@pytest.fixture
def tensors(tmp_path):
    base = random_tensors(SMALL, seed=1)
    tuned = trained(base)
    write_pair(tmp_path, base, tuned)
    return {"base": base, "tuned": tuned}


def rewrite(tmp_path, side, tensors):
    write_hf(tmp_path / side, tensors, "safetensors", 2)


def refused(tmp_path, kind, *words, **options):
    before = sorted(path.name for path in tmp_path.iterdir())
    with pytest.raises(kind) as caught:
        make(tmp_path, **options)
    assert type(caught.value) is kind
    assert "\n" not in caught.value.message and caught.value.hint
    for word in words:
        assert word in caught.value.message
    assert sorted(path.name for path in tmp_path.iterdir()) == before
    return caught.value


@pytest.mark.parametrize("side", ["base", "tuned"])
def test_a_delta_in_place_of_a_model(tensors, tmp_path, side):
    rewrite(tmp_path, side, random_tensors(SMALL, seed=5, delta=True, rows_more=side == "tuned"))
    refused(tmp_path, SelfeeError, f"--{side}", "itself a delta")


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("model.layers.1.mlp.up_proj.weight", (49, 32)),
        ("model.embed_tokens.weight", (52, 32)),
        ("model.embed_tokens.weight", (49, 32)),
        ("lm_head.weight", (51, 31)),
    ],
)
def test_shapes_that_do_not_match(tensors, tmp_path, name, size):
    tensors["tuned"][name] = torch.zeros(size, dtype=torch.float16)
    rewrite(tmp_path, "tuned", tensors["tuned"])
    refused(tmp_path, MismatchError, name, str(list(size)))


def test_embedding_and_head_that_grow_differently(tensors, tmp_path):
    tensors["tuned"]["lm_head.weight"] = tensors["base"]["lm_head.weight"]
    rewrite(tmp_path, "tuned", tensors["tuned"])
    refused(tmp_path, MismatchError, "embedding and head")


@pytest.mark.parametrize("side", ["base", "tuned"])
def test_a_tensor_only_one_side_has(tensors, tmp_path, side):
    del tensors[side]["model.layers.1.mlp.up_proj.weight"]
    rewrite(tmp_path, side, tensors[side])
    name = "model.layers.1.mlp.up_proj.weight"
    told = {
        "base": f"the tuned model has {name}, the base has not",
        "tuned": f"the base has {name}, the tuned model has not",
    }
    refused(tmp_path, MismatchError, told[side])


def test_the_same_directory_twice(tensors, tmp_path):
    with pytest.raises(UsageError, match="same directory"):
        plan_make_delta(tmp_path / "tuned", tmp_path / "tuned")


def test_a_tuned_model_without_configuration(tensors, tmp_path):
    (tmp_path / "tuned" / "config.json").unlink()
    refused(tmp_path, NotFoundError, "config.json")


@pytest.mark.parametrize("side", ["base", "tuned"])
@pytest.mark.parametrize("value", [float("nan"), float("-inf")])
@pytest.mark.parametrize("name", ["model.layers.1.mlp.up_proj.weight", "lm_head.weight"])
def test_values_that_are_not_finite(tensors, tmp_path, side, value, name):
    tensors[side][name][3, 3] = value
    rewrite(tmp_path, side, tensors[side])
    refused(tmp_path, MismatchError, name, "not finite", exact=True)


def test_a_difference_too_large_for_float16(tensors, tmp_path):
    for side, value in (("base", -60_000), ("tuned", 60_000)):
        tensors[side]["model.layers.0.mlp.up_proj.weight"][3, 3] = value
        rewrite(tmp_path, side, tensors[side])
    error = refused(
        tmp_path, MismatchError, "model.layers.0.mlp.up_proj.weight", "too large", dtype=DType.F16
    )
    assert "float32" in error.hint
    assert make(tmp_path).round_trip.exact


def test_a_sum_too_large_for_the_tuned_type(tensors, tmp_path):
    """65,504 less a half is 65,536 as bfloat16: apply-delta could not round the sum."""
    tensors["base"]["lm_head.weight"][3, 3] = 0.5
    tensors["tuned"]["lm_head.weight"][3, 3] = 65_504
    for side in tensors:
        rewrite(tmp_path, side, tensors[side])
    refused(tmp_path, MismatchError, "lm_head.weight", "too large for float16", dtype=DType.BF16)


def test_a_delta_that_nobody_could_tell_from_a_model(tensors, tmp_path):
    tensors["tuned"]["model.norm.weight"] += 1
    rewrite(tmp_path, "tuned", tensors["tuned"])
    refused(tmp_path, SelfeeError, "told from a model")
    with pytest.raises(SelfeeError, match="told from a model"):  # before any work
        plan_make_delta(tmp_path / "base", tmp_path / "tuned")


def test_a_target_with_something_in_it(tensors, tmp_path):
    (tmp_path / "delta").mkdir()
    (tmp_path / "delta" / "mine").write_text("keep")
    refused(tmp_path, UsageError, "not empty")
    assert (tmp_path / "delta" / "mine").read_text() == "keep"


def test_a_disk_too_small(tensors, tmp_path, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 1000}))
    refused(tmp_path, ResourceError, "free")


def test_a_disk_too_small_for_the_correction(tensors, tmp_path, monkeypatch):
    planned = plan_make_delta(tmp_path / "base", tmp_path / "tuned", dtype=DType.F16)
    free = planned.output_bytes + SLACK
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": free}))
    refused(tmp_path, ResourceError, "free", dtype=DType.F16, exact=True)
    assert make(tmp_path, dtype=DType.F16).round_trip.different


# Stopped, and begun again.


def interrupt_after(share, total):
    done = 0

    def progress(count):
        nonlocal done
        done += count
        if done > share * total:
            raise KeyboardInterrupt

    return progress


STOPPED = {"dtype": DType.BF16, "exact": True, "shard_size": 4_000}


def contents(path):
    return {file.name: file.read_bytes() for file in path.iterdir()}


def stop(tmp_path, share, **options):
    total = plan_make_delta(tmp_path / "base", tmp_path / "tuned").input_bytes
    with pytest.raises(KeyboardInterrupt):
        make(tmp_path, interrupt_after(share, total), **{**STOPPED, **options})


def test_an_interrupted_run_goes_on(tensors, tmp_path):
    make(tmp_path, out="wanted", **STOPPED)
    stop(tmp_path, 0.4)
    assert not (tmp_path / "delta").exists()
    stop(tmp_path, 0.8)
    counts = []
    result = make(tmp_path, counts.append, **STOPPED)
    assert result.resumed_files >= 2
    made = sum(path.stat().st_size for path in (tmp_path / "delta").glob("*.safetensors"))
    assert result.resumed_bytes + result.bytes_written == made
    assert sum(counts) == result.bytes_read
    assert contents(tmp_path / "delta") == contents(tmp_path / "wanted")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["base", "delta", "tuned", "wanted"]


def test_other_work_starts_anew(tensors, tmp_path):
    stop(tmp_path, 0.8)
    assert make(tmp_path, **(STOPPED | {"dtype": DType.F16})).resumed_files == 0
    assert not list(verify(tmp_path / "delta"))


def test_the_correction_may_be_wanted_later(tensors, tmp_path):
    make(tmp_path, out="wanted", **STOPPED)
    stop(tmp_path, 0.8, exact=False)
    assert make(tmp_path, **STOPPED).resumed_files >= 2
    assert contents(tmp_path / "delta") == contents(tmp_path / "wanted")


def test_an_interrupt_with_nothing_finished_leaves_nothing(tensors, tmp_path):
    stop(tmp_path, 0.0)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["base", "tuned"]


# In processes of their own: kills and memory.

RUN = """
    import sys
    from selfee_cli.weights.dtypes import DType
    from selfee_cli.weights.make_delta import make_delta, plan_make_delta
    base, tuned, out, size = sys.argv[1:]
    plan = plan_make_delta(base, tuned, dtype=DType.BF16, exact=True, shard_size=int(size))
    make_delta(plan, out, lambda count: print(flush=True) if {loud} else None)
    if not {loud}:
        assert not {{"torch", "transformers", "safetensors"}} & set(sys.modules)
        with open("/proc/self/status") as status:
            print(next(line.split()[1] for line in status if line.startswith("VmHWM")))
"""


def command(place, out, size, *, loud):
    script = textwrap.dedent(RUN).format(loud=loud)
    return [sys.executable, "-c", script, place / "base", place / "tuned", out, str(size)]


def write_big_models(place, shape):
    """A base and a tuned model that have nothing to do with each other, both float16."""
    base, delta = write_big_pair(place, shape)
    (delta / "model.safetensors").unlink()
    tuned = delta.rename(place / "tuned")
    shapes = tensor_shapes(shape, rows_more=1)
    chunks = random_chunks(shapes, "F16", delta=False, seed=7)
    stream_safetensors(tuned / "model.safetensors", shapes, "F16", chunks)
    write_config(tuned, config(shape, rows_more=1))
    return base, tuned


def test_kills_at_any_moment(tmp_path):
    shape = Shape(vocabulary=600, hidden=256, mlp=688, layers=4, heads=8, kv_heads=8)
    write_big_models(tmp_path, shape)
    size, generator = 1_500_000, np.random.default_rng(1)
    make(tmp_path, out="wanted", dtype=DType.BF16, exact=True, shard_size=size)
    for _ in range(6):
        run = command(tmp_path, tmp_path / "delta", size, loud=True)
        with subprocess.Popen(run, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
            process.stdout.readline()
            time.sleep(generator.uniform(0, 0.1))
            process.kill()
        if (tmp_path / "delta").exists():
            break
    else:
        make(tmp_path, dtype=DType.BF16, exact=True, shard_size=size)
    assert contents(tmp_path / "delta") == contents(tmp_path / "wanted")
    assert not list(tmp_path.glob(".*"))


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's /proc")
def test_memory_does_not_grow_with_layers(tmp_path):
    peaks = []
    for layers in (1, 8):
        place = tmp_path / str(layers)
        shape = Shape(vocabulary=2000, hidden=512, mlp=1376, layers=layers, heads=8, kv_heads=8)
        write_big_models(place, shape)
        done = subprocess.run(
            command(place, place / "delta", 10**9, loud=False), capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        peaks.append(int(done.stdout) / 1024)
    correction = (place / "delta" / CORRECTION_NAME).stat().st_size
    assert correction > 10 << 20  # MiB that were not held
    assert peaks[1] < 64
    assert peaks[1] - peaks[0] < 6, peaks
