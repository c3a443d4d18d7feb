"""The native engine against transformers."""

from __future__ import annotations

import json
import random
from pathlib import Path

import models
import pytest
import torch

from selfee_cli.engine.hf import TransformersEngine
from selfee_cli.engine.llama import unsupported
from selfee_cli.engine.loading import LoadOptions, load_model
from selfee_cli.engine.native import NativeEngine
from selfee_cli.errors import SelfeeError
from selfee_cli.weights.checkpoint import open_checkpoint

CPU = torch.device("cpu")


def engines(path: Path) -> tuple[NativeEngine, TransformersEngine]:
    with open_checkpoint(path) as checkpoint:
        native = NativeEngine(checkpoint, device=CPU, dtype=torch.float32)
    return native, TransformersEngine(path, device=CPU, dtype=torch.float32)


def random_ids(count: int, seed: int = 0) -> list[int]:
    rng = random.Random(seed)
    return [rng.randrange(320) for _ in range(count)]


def test_logits_equal_transformers(model_dir: Path) -> None:
    native, oracle = engines(model_dir)
    ids = random_ids(70)
    at = 0
    for width in (17, 1, 1, 2, 5, 40, 1, 3):  # prefill, single steps and blocks
        block = ids[at : at + width]
        ours, theirs = native.forward(block, last=width), oracle.forward(block, last=width)
        assert ours.shape == theirs.shape == (width, 320)
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)
        at += width
    assert native.parameters == oracle.parameters


@pytest.mark.parametrize("engine", ["native", "transformers"])
def test_truncate_undoes_what_came_after(llama_dir: Path, engine: str) -> None:
    model = load_model(llama_dir, LoadOptions(engine=engine)).engine
    ids = random_ids(40)
    model.forward(ids[:20])
    model.forward(random_ids(9, seed=1))
    model.truncate(20)
    assert model.ids == ids[:20]
    again = model.forward(ids[20:], last=20)
    model.truncate(0)
    torch.testing.assert_close(again, model.forward(ids, last=20), atol=1e-4, rtol=1e-4)


def test_a_long_text_may_come_in_parts(llama_dir: Path) -> None:
    with open_checkpoint(llama_dir) as checkpoint:
        native = NativeEngine(checkpoint, device=CPU, dtype=torch.float32, context_length=2000)
    caches = [block._cache.data_ptr() for block in native._blocks]
    whole = random_ids(1400)
    for start in range(0, 1400, 350):
        stepped = native.forward(whole[start : start + 350], last=350)
    native.truncate(0)
    torch.testing.assert_close(native.forward(whole, last=350), stepped, atol=1e-4, rtol=1e-4)
    # A cache that had grown would have been there twice while it was copied.
    assert [block._cache.data_ptr() for block in native._blocks] == caches


SCALINGS = [
    {"rope_type": "linear", "factor": 4.0},
    {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 128},
    {
        "rope_type": "llama3",
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 128,
    },
]


@pytest.mark.parametrize("scaling", SCALINGS, ids=lambda scaling: scaling["rope_type"])
def test_scaled_positions_equal_transformers(tmp_path: Path, scaling: dict) -> None:
    path = models.make_model(tmp_path / "m", rope_parameters={"rope_theta": 10000.0, **scaling})
    native, oracle = engines(path)
    ids = random_ids(300)
    ours, theirs = native.forward(ids, last=300), oracle.forward(ids, last=300)
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)


def test_a_longer_context_is_yarn(tmp_path: Path) -> None:
    path = models.make_model(tmp_path / "m", max_position_embeddings=128)
    scaled = models.make_model(
        tmp_path / "scaled",
        max_position_embeddings=512,
        rope_parameters={"rope_theta": 10000.0, **SCALINGS[1]},
    )
    with open_checkpoint(path) as checkpoint:
        native = NativeEngine(checkpoint, device=CPU, dtype=torch.float32, context_length=512)
    oracle = TransformersEngine(scaled, device=CPU, dtype=torch.float32)
    ids = random_ids(400)
    torch.testing.assert_close(native.forward(ids), oracle.forward(ids), atol=1e-4, rtol=1e-4)


def test_old_configs_are_read(llama_dir: Path, tmp_path: Path) -> None:
    """``rope_theta`` and ``rope_scaling`` stood at the top level before transformers 5."""
    config = json.loads((llama_dir / "config.json").read_text())
    native, _ = engines(llama_dir)
    del config["rope_parameters"], config["num_key_value_heads"]
    old = tmp_path / "old"
    old.mkdir()
    (old / "config.json").write_text(json.dumps({**config, "rope_scaling": None}))
    (old / "model.safetensors").symlink_to(llama_dir / "model.safetensors")
    with open_checkpoint(old) as checkpoint:
        same = NativeEngine(checkpoint, device=CPU, dtype=torch.float32)
    ids = random_ids(30)
    assert torch.equal(native.forward(ids), same.forward(ids))


def test_bad_calls_are_refused_before_the_device_sees_them(llama_dir: Path) -> None:
    engine = load_model(llama_dir, LoadOptions(context_length=128)).engine
    for ids in ([], [320], [-1], [1] * 129):
        with pytest.raises(ValueError, match=r"ids|vocabulary"):
            engine.forward(ids)
    with pytest.raises(ValueError, match="cannot cut"):
        engine.truncate(1)
    assert engine.ids == []


def test_half_precision_stays_close(llama_dir: Path) -> None:
    exact = load_model(llama_dir).engine
    ids = random_ids(60)
    wanted = exact.forward(ids, last=60)
    for dtype in ("float16", "bfloat16"):
        engine = load_model(llama_dir, LoadOptions(dtype=dtype)).engine
        assert engine.dtype == dtype
        error = (engine.forward(ids, last=60).float() - wanted).abs().max() / wanted.abs().max()
        assert error < (0.04 if dtype == "float16" else 0.15)


@pytest.mark.parametrize(
    "change",
    [
        {"model_type": "qwen2"},
        {"attention_bias": True},
        {"hidden_act": "gelu"},
        {"quantization_config": {"bits": 4}},
        {"rope_scaling": {"type": "dynamic", "factor": 2.0}},
    ],
)
def test_what_native_cannot_run_goes_to_transformers(change: dict) -> None:
    assert unsupported({"model_type": "llama"}) is None
    assert unsupported({"model_type": "llama", **change})


def test_another_architecture_runs_on_transformers(tmp_path: Path) -> None:
    from transformers import GPT2Config, GPT2LMHeadModel

    path = tmp_path / "gpt2"
    torch.manual_seed(0)
    config = GPT2Config(vocab_size=320, n_embd=32, n_layer=2, n_head=2, n_positions=256)
    GPT2LMHeadModel(config).save_pretrained(path)
    (path / "tokenizer.model").write_bytes(models.tokenizer_model())
    model = load_model(path)
    assert model.engine.name == "transformers"
    assert model.engine.forward([1, 2, 3], last=3).shape == (3, 320)
    with pytest.raises(SelfeeError, match="native engine cannot run"):
        load_model(path, LoadOptions(engine="native"))


def test_a_tensor_of_the_wrong_shape_is_named(llama_dir: Path, tmp_path: Path) -> None:
    config = json.loads((llama_dir / "config.json").read_text())
    path = tmp_path / "wrong"
    path.mkdir()
    (path / "config.json").write_text(json.dumps({**config, "intermediate_size": 97}))
    for name in ("model.safetensors", "tokenizer.model"):
        (path / name).symlink_to(llama_dir / name)
    with pytest.raises(SelfeeError, match=r"gate_proj.*\[96, 64\].*\[97, 64\]"):
        load_model(path)
