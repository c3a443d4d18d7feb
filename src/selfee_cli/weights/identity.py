"""Telling a delta from a model.

A model's norm weights lie around 1, at least those of its last norm; a delta's are differences of
two such sets and lie near 0. That shows in every layout, without trusting names or readmes.
"""

from __future__ import annotations

import numpy as np

from selfee_cli.weights.checkpoint import Checkpoint
from selfee_cli.weights.dtypes import to_float32

_DELTA_NORM = 0.35
"""Mean magnitude. Fine-tuning moves a norm weight by hundredths; a model's largest is about 1."""


def norm_magnitude(checkpoint: Checkpoint) -> float | None:
    """Give the largest mean magnitude among the norms; None where there are none to judge by."""
    means = []
    for name, info in checkpoint.tensors.items():
        if name.endswith("norm.weight") and len(info.shape) == 1 and info.size:
            values = to_float32(checkpoint.read(name), info.dtype)
            means.append(float(np.abs(values, dtype=np.float64).mean()))
    return max(means) if means else None


def is_delta(checkpoint: Checkpoint) -> bool:
    """Whether the weights are a difference to another model, of no use by themselves."""
    magnitude = norm_magnitude(checkpoint)
    return magnitude is not None and magnitude < _DELTA_NORM


def describe_delta(checkpoint: Checkpoint) -> str | None:
    """Say in one line why these weights are a delta; None where they are a model."""
    magnitude = norm_magnitude(checkpoint)
    if magnitude is None or not magnitude < _DELTA_NORM:
        return None
    return f"its norm weights are at most {magnitude:.2g} on average, a model's are near 1"
