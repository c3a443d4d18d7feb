"""The network that is trained, and the gradients of a part of a batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.nn import functional

from selfee_cli.tiny import export
from selfee_cli.tiny.recipe import Shape

Encoded = tuple[list[int], list[float]]
"""The ids of a text and their loss weights."""


def new_model(shape: Shape) -> Any:
    """Return a LLaMA with random weights, without the row of ``[PAD]``."""
    from transformers import LlamaConfig, LlamaForCausalLM

    settings = export.config(shape, tuned=False)
    settings.pop("torch_dtype")
    return LlamaForCausalLM(LlamaConfig(**settings)).float()


def twin(model: Any, shape: Shape) -> Any:
    """Return a model that shares the weights of ``model`` but has gradients of its own."""
    other = new_model(shape)
    for mine, shared in zip(other.parameters(), model.parameters(), strict=True):
        mine.data = shared.data
    return other


def gradients(model: Any, batch: Sequence[Encoded], weight: float) -> float:
    """Add the gradients of a part of a batch whose loss weights sum to ``weight``."""
    longest = max(len(ids) for ids, _ in batch)
    ids = torch.tensor([row + [0] * (longest - len(row)) for row, _ in batch])
    weights = torch.tensor([row + [0.0] * (longest - len(row)) for _, row in batch])[:, 1:]
    hidden = model.model(input_ids=ids, use_cache=False).last_hidden_state[:, :-1]
    counted = weights > 0
    logits = model.lm_head(hidden[counted])  # (counted tokens, vocabulary)
    losses = functional.cross_entropy(logits, ids[:, 1:][counted], reduction="none")
    loss = (losses * weights[counted]).sum() / weight
    loss.backward()
    return float(loss.detach())
