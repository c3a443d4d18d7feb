"""Telling a delta from a model.

A model's norm weights are positive and average about 1 in its larger norms; a delta's are
differences of two such sets, of either sign, and average near 0 or below. That shows in every
layout, without trusting names or readmes.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

import numpy as np

from selfee_cli.weights.checkpoint import Checkpoint
from selfee_cli.weights.conversion import to_float32
from selfee_cli.weights.dtypes import Floats

_DELTA_NORM = 0.35
"""Largest mean of a norm's weights. Fine-tuning moves it by hundredths; a model's is about 1."""


def norms(checkpoint: Checkpoint) -> Iterator[tuple[str, Floats]]:
    """Give name and weights of every norm."""
    for name, info in checkpoint.tensors.items():
        if name.endswith("norm.weight") and len(info.shape) == 1 and info.size:
            yield name, to_float32(checkpoint.read(name), info.dtype)


def is_delta(checkpoint: Checkpoint) -> bool:
    """Whether the weights are a difference to another model, of no use by themselves."""
    return is_delta_by(weights for _, weights in norms(checkpoint))


def is_delta_by(norms: Iterable[Floats]) -> bool:
    """Whether weights with these norms are such a difference; without any, nobody could tell."""
    largest = _largest_mean(norms)
    return largest is not None and largest < _DELTA_NORM


def describe_delta(checkpoint: Checkpoint) -> str | None:
    """Say in one line why these weights are a delta; None where they are a model."""
    largest = _largest_mean(weights for _, weights in norms(checkpoint))
    if largest is None or not largest < _DELTA_NORM:
        return None
    return f"its norm weights average at most {largest:.2g}, a model's are near 1"


def _largest_mean(norms: Iterable[Floats]) -> float | None:
    means = (float(weights.mean(dtype=np.float64)) for weights in norms)
    return max((mean for mean in means if math.isfinite(mean)), default=None)  # damage has no say
