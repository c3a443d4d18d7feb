"""Telling a delta from a model.

A model's norm weights are positive and average about 1 in its larger norms; a delta's are
differences of two such sets, of either sign, and average near 0 or below. That shows in every
layout, without trusting names or readmes.
"""

from __future__ import annotations

import numpy as np

from selfee_cli.weights.checkpoint import Checkpoint
from selfee_cli.weights.conversion import to_float32

_DELTA_NORM = 0.35
"""Largest mean of a norm's weights. Fine-tuning moves it by hundredths; a model's is about 1."""


def largest_norm(checkpoint: Checkpoint) -> float | None:
    """Give the largest mean of weights among the norms; None where there are none to judge by."""
    means = []
    for name, info in checkpoint.tensors.items():
        if name.endswith("norm.weight") and len(info.shape) == 1 and info.size:
            values = to_float32(checkpoint.read(name), info.dtype)
            means.append(float(values.mean(dtype=np.float64)))
    return max(means) if means else None


def is_delta(checkpoint: Checkpoint) -> bool:
    """Whether the weights are a difference to another model, of no use by themselves."""
    largest = largest_norm(checkpoint)
    return largest is not None and largest < _DELTA_NORM


def describe_delta(checkpoint: Checkpoint) -> str | None:
    """Say in one line why these weights are a delta; None where they are a model."""
    largest = largest_norm(checkpoint)
    if largest is None or not largest < _DELTA_NORM:
        return None
    return f"its norm weights average at most {largest:.2g}, a model's are near 1"
