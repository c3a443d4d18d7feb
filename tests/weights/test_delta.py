import dataclasses
import json
import os
import signal
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
    oracle,
    random_chunks,
    random_tensors,
    raw,
    stream_safetensors,
    tensor_shapes,
    write_big_pair,
    write_checkpoint,
    write_hf,
    write_sparse,
)  # fmt: skip
from safetensors.torch import load_file

from selfee_cli.errors import MismatchError, NotFoundError, ResourceError, SelfeeError, UsageError
from selfee_cli.weights import delta as delta_module
from selfee_cli.weights.checkpoint import open_checkpoint
from selfee_cli.weights.delta import apply_delta, plan_delta
from selfee_cli.weights.digests import read_sums
from selfee_cli.weights.dtypes import DType
from selfee_cli.weights.identity import describe_delta
from selfee_cli.weights.manifest import read_manifest
from selfee_cli.weights.pairing import size_name


def make_pair(tmp_path, layouts=("safetensors", "safetensors"), *, shape=SMALL, shards=(1, 1),
              dtypes=("float16", "float32"), rows_more=1):  # fmt: skip
    base = random_tensors(shape, seed=1, dtype=dtypes[0])
    delta = random_tensors(shape, seed=2, delta=True, rows_more=rows_more, dtype=dtypes[1])
    write_checkpoint(tmp_path / "base", base, shape, layouts[0], shards=shards[0])
    write_checkpoint(
        tmp_path / "delta", delta, shape, layouts[1], shards=shards[1], rows_more=rows_more
    )
    return base, delta


def apply(tmp_path, **options):
    plan = plan_delta(tmp_path / "base", tmp_path / "delta", **options)
    return apply_delta(plan, tmp_path / "out")


def assert_same(path, wanted):
    with open_checkpoint(path) as made:
        assert made.tensors.keys() == wanted.keys()
        for name, tensor in wanted.items():
            np.testing.assert_array_equal(made.read(name), raw(tensor), err_msg=name)


@pytest.mark.parametrize("base_layout", ["safetensors", "bin", "meta"])
@pytest.mark.parametrize("delta_layout", ["safetensors", "bin"])
@pytest.mark.parametrize("dtypes", [("float16", "float32"), ("bfloat16", "float16"),
                                    ("float32", "bfloat16")])  # fmt: skip
@pytest.mark.parametrize("out", list(DTYPES))
def test_the_sum_has_the_bits_of_the_original(tmp_path, base_layout, delta_layout, dtypes, out):
    base, delta = make_pair(tmp_path, (base_layout, delta_layout), dtypes=dtypes, shards=(2, 2))
    apply(tmp_path, dtype=DType(DTYPES[out]))
    assert_same(tmp_path / "out", oracle(base, delta, out))


@pytest.mark.parametrize("chunk", [1, 33, 1000])
@pytest.mark.parametrize("layout", ["safetensors", "meta"])
def test_chunks_do_not_show(tmp_path, monkeypatch, chunk, layout):
    monkeypatch.setattr(delta_module, "CHUNK", chunk)
    base, delta = make_pair(tmp_path, (layout, "bin"), shape=Shape(vocabulary=77, kv_heads=2))
    apply(tmp_path, dtype=DType.F32)
    assert_same(tmp_path / "out", oracle(base, delta, "float32"))


def test_the_row_of_pad_at_full_vocabulary(tmp_path):
    shape = Shape(vocabulary=32_000, hidden=64, heads=4, layers=1)
    base, delta = make_pair(tmp_path, shape=shape)
    apply(tmp_path, dtype=DType.F32)
    assert_same(tmp_path / "out", oracle(base, delta, "float32"))


def test_without_a_row_more(tmp_path):
    base, delta = make_pair(tmp_path, rows_more=0)
    apply(tmp_path)
    assert_same(tmp_path / "out", oracle(base, delta, "float16"))


def test_shards_are_bounded_and_other_readers_agree(tmp_path):
    base, delta = make_pair(tmp_path)
    result = apply(tmp_path, shard_size=5_000)
    wanted = oracle(base, delta, "float16")
    index = json.loads((tmp_path / "out" / "model.safetensors.index.json").read_text())
    assert index["metadata"]["total_size"] == sum(t.nbytes for t in wanted.values())
    assert index["weight_map"].keys() == wanted.keys()
    names = sorted(set(index["weight_map"].values()))
    assert names[0] == f"model-00001-of-{len(names):05d}.safetensors" and len(names) > 3
    for name in names:
        part = load_file(tmp_path / "out" / name)
        assert sum(t.nbytes for t in part.values()) <= 5_000
        for key, tensor in part.items():
            assert torch.equal(tensor, wanted[key])
            assert index["weight_map"][key] == name
    assert result.bytes_written == sum((tmp_path / "out" / n).stat().st_size for n in names)


def test_configuration_tokenizer_and_records(tmp_path):
    make_pair(tmp_path)
    (tmp_path / "delta" / "README.md").write_text("these are not usable weights")
    result = apply(tmp_path, dtype=DType.BF16)
    out = tmp_path / "out"
    config = json.loads((out / "config.json").read_text())
    assert config["architectures"] == ["LlamaForCausalLM"]
    assert (config["torch_dtype"], config["vocab_size"]) == ("bfloat16", SMALL.vocabulary + 1)
    assert (out / "tokenizer.model").read_bytes() == b"a stand-in: delta"
    assert sorted(p.name for p in out.iterdir()) == [
        "SHA256SUMS", "config.json", "model.safetensors", "selfee-manifest.json", "tokenizer.model",
    ]  # fmt: skip
    manifest = read_manifest(out)
    assert manifest == result.manifest
    assert manifest.kind == "model" and manifest.dtype == "bfloat16"
    assert manifest.made_from["base"]["name"] == "base"
    assert manifest.made_from["delta"]["layout"] == "safetensors"
    assert manifest.files.keys() == {"config.json", "model.safetensors", "tokenizer.model"}
    assert read_sums(out / "SHA256SUMS").keys() == {*manifest.files, "selfee-manifest.json"}
    checked = subprocess.run(["sha256sum", "-c", "SHA256SUMS"], cwd=out, capture_output=True)
    assert checked.returncode == 0, checked.stderr


def test_a_tokenizer_the_delta_lacks_comes_from_the_base_and_is_told(tmp_path):
    make_pair(tmp_path, ("meta", "safetensors"))
    (tmp_path / "delta" / "tokenizer.model").unlink()
    (tmp_path / "base" / "tokenizer.model").rename(tmp_path / "tokenizer.model")
    result = apply(tmp_path)
    assert (tmp_path / "out" / "tokenizer.model").read_bytes() == b"a stand-in: base"
    assert "tokenizer.model" in result.notes[0]


def test_inputs_are_named_in_the_manifest(tmp_path):
    make_pair(tmp_path)
    cached = tmp_path / "models--kaist-ai--selfee-7b-delta" / "snapshots" / ("0" * 40)
    cached.parent.mkdir(parents=True)
    (tmp_path / "delta").rename(cached)
    made = apply_delta(plan_delta(tmp_path / "base", cached), tmp_path / "out").manifest.made_from
    assert made["base"]["name"] == "base"
    assert made["delta"]["name"] == f"kaist-ai/selfee-7b-delta@{'0' * 40}"


def test_progress_ends_at_the_bytes_of_the_inputs(tmp_path):
    make_pair(tmp_path)
    plan = plan_delta(tmp_path / "base", tmp_path / "delta")
    counts = []
    apply_delta(plan, tmp_path / "out", counts.append)
    assert sum(counts) == plan.input_bytes


def test_transformers_loads_the_result(tmp_path):
    base, delta = make_pair(tmp_path)
    apply(tmp_path, dtype=DType.F32, shard_size=20_000)
    from transformers import LlamaForCausalLM

    model, report = LlamaForCausalLM.from_pretrained(
        tmp_path / "out", output_loading_info=True, dtype=torch.float32
    )
    assert not any(report.values()), report
    wanted = oracle(base, delta, "float32")
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, wanted[name]), name


# What is refused: one line, the right kind, and nothing left behind.


def refused(tmp_path, kind, *words, **options):
    before = sorted(p.name for p in tmp_path.iterdir())
    with pytest.raises(kind) as caught:
        apply(tmp_path, **options)
    assert type(caught.value) is kind
    assert "\n" not in caught.value.message
    for word in words:
        assert word in caught.value.message
    assert sorted(p.name for p in tmp_path.iterdir()) == before
    return caught.value


def test_swapped(tmp_path):
    make_pair(tmp_path)
    (tmp_path / "base").rename(tmp_path / "x")
    (tmp_path / "delta").rename(tmp_path / "base")
    (tmp_path / "x").rename(tmp_path / "delta")
    error = refused(tmp_path, SelfeeError, "swapped")
    assert "--base" in error.hint


def test_a_model_as_delta(tmp_path):
    make_pair(tmp_path)
    tuned = random_tensors(SMALL, seed=5, rows_more=1)
    write_hf(tmp_path / "delta", tuned, "safetensors")
    refused(tmp_path, SelfeeError, "whole model, not a delta")


def test_a_delta_as_base(tmp_path):
    make_pair(tmp_path)
    write_hf(tmp_path / "base", random_tensors(SMALL, seed=5, delta=True), "safetensors")
    refused(tmp_path, SelfeeError, "itself a delta")


def test_delta_twice(tmp_path):
    make_pair(tmp_path, rows_more=0)
    apply(tmp_path)
    (tmp_path / "base").rename(tmp_path / "first")
    (tmp_path / "out").rename(tmp_path / "base")
    refused(tmp_path, SelfeeError, "already applied")


def test_the_same_directory_twice(tmp_path):
    make_pair(tmp_path)
    with pytest.raises(UsageError):
        plan_delta(tmp_path / "base", tmp_path / "base")


@pytest.mark.parametrize(
    "name,size",
    [
        ("model.layers.1.mlp.up_proj.weight", (49, 32)),
        ("model.embed_tokens.weight", (52, 32)),
        ("lm_head.weight", (49, 32)),
    ],
)
def test_shapes_that_do_not_match(tmp_path, name, size):
    _, delta = make_pair(tmp_path)
    delta[name] = torch.zeros(size)
    write_hf(tmp_path / "delta", delta, "safetensors")
    refused(tmp_path, MismatchError, name, str(list(size)))


@pytest.mark.parametrize("size", [{"hidden": 64}, {"layers": 3}])
def test_another_size_is_told_as_a_size(tmp_path, size):
    make_pair(tmp_path)
    shape = dataclasses.replace(SMALL, **size)
    write_hf(tmp_path / "delta", random_tensors(shape, seed=2, delta=True), "safetensors")
    refused(tmp_path, MismatchError, "2 layers of 32", f"{shape.layers} layers of {shape.hidden}")


def test_sizes_have_the_names_people_use(tmp_path):
    shape = Shape(vocabulary=8, hidden=4096, mlp=8, layers=32, heads=4, kv_heads=4)
    write_sparse(tmp_path / "base", shape)
    with open_checkpoint(tmp_path / "base") as base:
        assert size_name(base) == "7B"


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_a_sum_of_other_tools_is_known_by_its_row_of_pad(tmp_path, dtype):
    """Nothing names the delta in such a directory, and its shapes are the delta's."""
    base, delta = make_pair(tmp_path)
    write_hf(tmp_path / "base", oracle(base, delta, dtype), "safetensors")
    refused(tmp_path, SelfeeError, "already applied")


def test_a_base_that_was_resized_before_is_taken(tmp_path):
    base, _ = make_pair(tmp_path)
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        base[name] = torch.cat([base[name], base[name].float().mean(0, keepdim=True).half()])
    write_hf(tmp_path / "base", base, "safetensors")
    assert apply(tmp_path).manifest.tensors["lm_head.weight"].shape[0] == SMALL.vocabulary + 1


def test_embedding_and_head_that_grow_differently(tmp_path):
    _, delta = make_pair(tmp_path)
    delta["lm_head.weight"] = torch.zeros(SMALL.vocabulary, SMALL.hidden)
    write_hf(tmp_path / "delta", delta, "safetensors")
    refused(tmp_path, MismatchError, "embedding and head")


@pytest.mark.parametrize("side", ["base", "delta"])
def test_a_tensor_only_one_side_has(tmp_path, side):
    base, delta = make_pair(tmp_path)
    tensors = {"base": base, "delta": delta}[side]
    del tensors["model.layers.1.mlp.up_proj.weight"]
    write_hf(tmp_path / side, tensors, "safetensors")
    refused(tmp_path, MismatchError, "model.layers.1.mlp.up_proj.weight")


def test_a_delta_without_configuration(tmp_path):
    make_pair(tmp_path)
    (tmp_path / "delta" / "config.json").unlink()
    refused(tmp_path, NotFoundError, "config.json")


@pytest.mark.parametrize("side", ["base", "delta"])
@pytest.mark.parametrize("value", [float("nan"), float("-inf")])
def test_values_that_are_not_finite(tmp_path, side, value):
    base, delta = make_pair(tmp_path)
    tensors = {"base": base, "delta": delta}[side]
    tensors["model.layers.1.mlp.up_proj.weight"][3, 3] = value
    write_hf(tmp_path / side, tensors, "safetensors")
    refused(tmp_path, MismatchError, "model.layers.1.mlp.up_proj.weight", "not finite")


def test_values_too_large_for_float16(tmp_path):
    _, delta = make_pair(tmp_path)
    delta["lm_head.weight"][3, 3] = 70_000
    write_hf(tmp_path / "delta", delta, "safetensors")
    error = refused(tmp_path, MismatchError, "lm_head.weight", "too large for float16")
    assert "bfloat16" in error.hint
    apply(tmp_path, dtype=DType.BF16)


def test_a_target_with_something_in_it(tmp_path):
    make_pair(tmp_path)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("keep")
    refused(tmp_path, UsageError, "not empty")
    assert (tmp_path / "out" / "mine").read_text() == "keep"
    (tmp_path / "out" / "mine").unlink()
    apply(tmp_path)  # an empty one will do


def test_a_target_that_is_a_file(tmp_path):
    make_pair(tmp_path)
    (tmp_path / "out").write_text("keep")
    refused(tmp_path, UsageError, "is a file")


def test_a_target_in_directories_that_are_not_there(tmp_path):
    _, delta = make_pair(tmp_path)
    plan = plan_delta(tmp_path / "base", tmp_path / "delta")
    delta["lm_head.weight"][0, 0] = float("nan")
    write_hf(tmp_path / "delta", delta, "safetensors")
    with pytest.raises(MismatchError):
        apply_delta(plan, tmp_path / "a" / "b" / "c")
    assert not (tmp_path / "a").exists()


def test_a_disk_too_small(tmp_path, monkeypatch):
    make_pair(tmp_path)
    usage = type("Usage", (), {"free": 1000})
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage)
    refused(tmp_path, ResourceError, "free")


def test_a_disk_that_runs_full(tmp_path, monkeypatch):
    make_pair(tmp_path)

    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    refused(tmp_path, ResourceError, "No space left")


def test_an_input_that_shrinks_midway(tmp_path):
    make_pair(tmp_path)
    plan = plan_delta(tmp_path / "base", tmp_path / "delta")
    weights = tmp_path / "delta" / "model.safetensors"

    def cut(count):
        os.truncate(weights, weights.stat().st_size // 2)

    with pytest.raises(MismatchError, match="not whole"):
        apply_delta(plan, tmp_path / "out", cut)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["base", "delta"]


def test_an_interrupt_leaves_nothing(tmp_path):
    make_pair(tmp_path)
    plan = plan_delta(tmp_path / "base", tmp_path / "delta")

    def interrupt(count):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        apply_delta(plan, tmp_path / "out", interrupt)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["base", "delta"]


def test_describe_delta(tmp_path):
    make_pair(tmp_path)
    with open_checkpoint(tmp_path / "base") as base, open_checkpoint(tmp_path / "delta") as delta:
        assert describe_delta(base) is None
        assert "norm weights" in describe_delta(delta)


# Memory, in a process of its own.

MEASURE = """
import sys
from selfee_cli.weights.delta import apply_delta, plan_delta
apply_delta(plan_delta(sys.argv[1], sys.argv[2]), sys.argv[3])
assert not {"torch", "transformers", "safetensors"} & set(sys.modules)
with open("/proc/self/status") as status:  # getrusage would count the parent's pages before exec
    print(next(line.split()[1] for line in status if line.startswith("VmHWM")))
"""
needs_proc = pytest.mark.skipif(
    not Path("/proc/self/status").exists(), reason="needs Linux's /proc"
)


def peak_mib(base: Path, delta: Path, out: Path) -> float:
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, base, delta, out], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return int(done.stdout) / 1024


@needs_proc
def test_memory_does_not_grow_with_layers(tmp_path):
    peaks = []
    for layers in (1, 8):
        shape = Shape(vocabulary=2000, hidden=512, mlp=1376, layers=layers, heads=8, kv_heads=8)
        base, delta = write_big_pair(tmp_path / str(layers), shape)
        peaks.append(peak_mib(base, delta, tmp_path / f"out{layers}"))
    assert peaks[1] < 64
    assert peaks[1] - peaks[0] < 6, peaks


@needs_proc
def test_memory_of_meta_and_bin(tmp_path):
    shape = Shape(vocabulary=500, hidden=512, mlp=1376, layers=6, heads=8, kv_heads=8)
    base = random_tensors(shape, seed=1)
    write_checkpoint(tmp_path / "base", base, shape, "meta", shards=2)
    shapes = tensor_shapes(shape, rows_more=1)
    delta = random_tensors(shape, seed=2, delta=True, rows_more=1)
    assert {name: tuple(t.shape) for name, t in delta.items()} == shapes
    write_checkpoint(tmp_path / "delta", delta, shape, "bin", shards=2)
    assert peak_mib(tmp_path / "base", tmp_path / "delta", tmp_path / "out") < 64


def test_ctrl_c_in_a_real_process_leaves_nothing(tmp_path):
    shape = Shape(vocabulary=2000, hidden=1024, mlp=2752, layers=8, heads=8, kv_heads=8)
    base, delta = write_big_pair(tmp_path / "pair", shape)
    script = textwrap.dedent("""
        import sys
        from selfee_cli.weights.delta import apply_delta, plan_delta
        plan = plan_delta(sys.argv[1], sys.argv[2])
        apply_delta(plan, sys.argv[3], lambda count: print(flush=True))
    """)
    process = subprocess.Popen(
        [sys.executable, "-c", script, base, delta, tmp_path / "out"],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    with process:
        process.stdout.readline()
        time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        process.stdout.read()
    assert process.returncode != 0
    assert [p.name for p in tmp_path.iterdir()] == ["pair"]


def test_the_maker_streams_what_it_says(tmp_path):
    shapes = tensor_shapes(SMALL)
    chunks = random_chunks(shapes, "F16", delta=False)
    stream_safetensors(tmp_path / "model.safetensors", shapes, "F16", chunks)
    with open_checkpoint(tmp_path) as checkpoint:
        assert {n: i.shape for n, i in checkpoint.tensors.items()} == shapes
