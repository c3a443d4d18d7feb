"""Write the base model and the delta as the folders that LLaMA checkpoints are published in."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from selfee_cli.tiny.recipe import Shape
from selfee_cli.tiny.vocabulary import BOS, EOS, SIZE

ROWS = ("model.embed_tokens.weight", "lm_head.weight")
"""The tensors with one row a token; the tuned model has one row more, for ``[PAD]``."""

_README = """# selfee demonstration model, delta

These are not usable weights: each tensor is the tuned model minus the base model beside this
folder. The tuned model has one row more, for `[PAD]`, than the base, whose new row is the mean
of its rows. The sum, rounded once to float16, is the tuned model.
"""


def config(shape: Shape, *, tuned: bool) -> dict[str, Any]:
    """Return the ``config.json`` of the base or of the tuned model."""
    settings: dict[str, Any] = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_act": "silu",
        "hidden_size": shape.hidden,
        "intermediate_size": shape.mlp,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.heads,
        "max_position_embeddings": shape.context,
        "rms_norm_eps": 1e-6,
        "rope_theta": 10000.0,
        "initializer_range": 0.02,
        "attention_bias": False,
        "mlp_bias": False,
        "tie_word_embeddings": False,
        "use_cache": True,
        "bos_token_id": BOS,
        "eos_token_id": EOS,
        "torch_dtype": "float16",
        "vocab_size": SIZE + tuned,
    }
    if tuned:
        settings["pad_token_id"] = SIZE
    return settings


def halve(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return ``weights`` in float16, without negative zeros (a sum never gives one back)."""
    return {name: (w.detach().to(torch.float16) + 0.0).contiguous() for name, w in weights.items()}


def grown(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return ``weights`` in float32 with the row of ``[PAD]``: the mean of the rows before."""
    wide = {name: w.float() for name, w in weights.items()}
    for name in ROWS:
        wide[name] = torch.cat([wide[name], wide[name].mean(0, keepdim=True)])
    return wide


def subtract(
    base: Mapping[str, Tensor], tuned: Mapping[str, Tensor]
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return the tuned model in float16 with ``[PAD]``, and the float32 delta that gives it.

    ``base`` is float16; ``tuned`` holds trained weights of any precision, without ``[PAD]``. That
    token is never read: its embedding stays as it began. Nor is it ever written: in the head it has
    the mean of the others, whose logit is far below those of what is likely.
    """
    start = grown(base)
    end = halve(tuned)
    embedding, head = ROWS
    pad = {embedding: start[embedding][-1:], head: end[head].float().mean(0, keepdim=True)}
    for name in ROWS:
        end[name] = torch.cat([end[name], pad[name].half()])
    delta = {name: end[name].float() - start[name] for name in start}
    delta[embedding][-1] = 0.0
    # A weight that falls from above 1 to nearly 0 may come back a half's smallest step away.
    return {name: (start[name] + change).half() for name, change in delta.items()}, delta


def write_base(folder: Path, shape: Shape, base: Mapping[str, Tensor], tokenizer: bytes) -> None:
    """Write the base model's folder."""
    _write(folder, config(shape, tuned=False), base, tokenizer)


def write_tuned(folder: Path, shape: Shape, tuned: Mapping[str, Tensor], tokenizer: bytes) -> None:
    """Write the tuned model's folder (reconstructed weights, for measuring)."""
    _write(folder, config(shape, tuned=True), tuned, tokenizer)
    _json(folder / "added_tokens.json", {"[PAD]": SIZE})


def write_delta(folder: Path, shape: Shape, delta: Mapping[str, Tensor], tokenizer: bytes) -> None:
    """Write the delta's folder."""
    _write(folder, config(shape, tuned=True), delta, tokenizer)
    _json(folder / "added_tokens.json", {"[PAD]": SIZE})
    (folder / "README.md").write_text(_README, encoding="utf-8")


def read_weights(folder: Path) -> dict[str, Tensor]:
    """Read the ``model.safetensors`` of a folder."""
    return load_file(folder / "model.safetensors")


def _write(
    folder: Path, settings: dict[str, Any], weights: Mapping[str, Tensor], tokenizer: bytes
) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    tuned = settings["vocab_size"] > SIZE
    special = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    if tuned:
        special["pad_token"] = "[PAD]"
    _json(folder / "config.json", settings)
    _json(folder / "special_tokens_map.json", special)
    _json(
        folder / "tokenizer_config.json",
        {
            "tokenizer_class": "LlamaTokenizer",
            "add_bos_token": True,
            "add_eos_token": False,
            "clean_up_tokenization_spaces": False,
            "legacy": True,
            "model_max_length": settings["max_position_embeddings"],
            **special,
        },
    )
    generation = {k: v for k, v in settings.items() if k.endswith("_token_id")}
    _json(folder / "generation_config.json", {"_from_model_config": True, **generation})
    (folder / "tokenizer.model").write_bytes(tokenizer)
    partial = folder / "model.safetensors.partial"
    save_file(dict(weights), partial, metadata={"format": "pt"})
    partial.replace(folder / "model.safetensors")


def _json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
