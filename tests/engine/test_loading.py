"""What is refused when a model is loaded, and what is said of it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import models
import pytest
import torch
from safetensors.torch import load_file, save_file

from selfee_cli.engine.loading import LoadOptions, load_model
from selfee_cli.errors import SelfeeError, UsageError


@pytest.fixture
def copy(llama_dir: Path, tmp_path: Path) -> Path:
    return shutil.copytree(llama_dir, tmp_path / "model")


def change(path: Path, **values: Any) -> Path:
    """Change keys of ``config.json``; None takes one away."""
    config = {**json.loads((path / "config.json").read_text()), **values}
    config = {key: value for key, value in config.items() if value is not None}
    (path / "config.json").write_text(json.dumps(config))
    return path


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"intermediate_size": None}, "lacks intermediate_size"),
        ({"num_attention_heads": None}, "lacks num_attention_heads"),
        ({"num_attention_heads": 0}, "gives no sound 'num_attention_heads'"),
        ({"vocab_size": "many"}, "gives no sound 'vocab_size'"),
        ({"head_dim": "x"}, "does not describe a model"),
        ({"rope_parameters": None, "rope_scaling": "linear"}, "its rotary scaling is no object"),
        ({"rope_parameters": None, "rope_scaling": {"type": "linear"}}, "lacks factor"),
        ({"rope_parameters": {"rope_type": "llama3", "factor": 2.0}}, "lacks low_freq_factor"),
        ({"eos_token_id": {"a": 1}}, "eos_token_id in config.json is"),
        ({"eos_token_id": [[2]]}, "eos_token_id in config.json is"),
    ],
)
def test_a_config_that_makes_no_sense(copy: Path, values: dict[str, Any], message: str) -> None:
    with pytest.raises(SelfeeError, match=message) as caught:
        load_model(change(copy, **values))
    assert caught.value.hint


@pytest.mark.parametrize("engine", ["native", "transformers"])
def test_a_config_of_another_shape(copy: Path, engine: str) -> None:
    with pytest.raises(SelfeeError, match=r"embed|mismatch"):
        load_model(change(copy, vocab_size=321), LoadOptions(engine=engine))


def test_layers_the_config_leaves_out(copy: Path) -> None:
    with pytest.raises(SelfeeError, match=r"knows nothing of: 9, among them model\.layers\.2\."):
        load_model(change(copy, num_hidden_layers=2))


def test_buffers_of_2023_are_no_layers(copy: Path) -> None:
    tensors = load_file(copy / "model.safetensors")
    for layer in range(3):
        tensors[f"model.layers.{layer}.self_attn.rotary_emb.inv_freq"] = torch.ones(8)
    save_file(tensors, copy / "model.safetensors")
    ids = [3, 4, 5]
    wanted = load_model(copy, LoadOptions(engine="transformers")).engine.forward(ids)
    torch.testing.assert_close(load_model(copy).engine.forward(ids), wanted, atol=1e-4, rtol=1e-4)


def test_a_head_that_is_stored_is_used_though_the_config_ties_it(copy: Path) -> None:
    ids = [3, 4, 5]
    wanted = load_model(copy).engine.forward(ids)
    change(copy, tie_word_embeddings=True)
    assert torch.equal(load_model(copy).engine.forward(ids), wanted)
    oracle = load_model(copy, LoadOptions(engine="transformers")).engine.forward(ids)
    torch.testing.assert_close(oracle, wanted, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("padded", [False, True])
def test_a_tokenizer_of_another_model(tmp_path: Path, padded: bool) -> None:
    path = models.make_model(tmp_path / "model", vocabulary=384 if padded else 320)
    (path / "tokenizer.model").write_bytes(models.tokenizer_model(320 if padded else 330))
    if padded:  # rows to spare belong to many published models
        assert load_model(path).engine.vocab_size == 384
        return
    with pytest.raises(SelfeeError, match="has 330 pieces, the model's vocabulary 320"):
        load_model(path)


@pytest.mark.parametrize("context", [-5, 0, 1, 127])
def test_a_context_too_short_for_anything(llama_dir: Path, context: int) -> None:
    with pytest.raises(UsageError, match=f"--context is {context}; it must be at least 128"):
        load_model(llama_dir, LoadOptions(context_length=context))


def test_fp8_is_refused_where_the_device_has_none(
    llama_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pick: Callable[[str], torch.device] = lambda _: torch.device("mps")  # noqa: E731
    monkeypatch.setattr("selfee_cli.engine.loading.pick_device", pick)
    with pytest.raises(SelfeeError, match="fp8 does not run on Apple's GPUs"):
        load_model(llama_dir, LoadOptions(quant="fp8"))


def test_a_network_that_cannot_go_back(copy: Path) -> None:
    from transformers import MambaConfig, MambaForCausalLM

    config = MambaConfig(vocab_size=320, hidden_size=32, num_hidden_layers=1, pad_token_id=0)
    MambaForCausalLM(config).save_pretrained(copy)
    with pytest.raises(SelfeeError, match="no token can be taken back") as caught:
        load_model(copy)
    assert caught.value.hint
