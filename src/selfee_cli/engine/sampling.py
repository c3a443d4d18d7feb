"""Choosing a token from logits, reproducibly.

Every position has its own random number, made from (seed, position) alone: a chain comes out the
same however many positions one forward pass covers and however often it is cut back.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from selfee_cli.errors import SelfeeError, UsageError

if TYPE_CHECKING:
    import torch

_LEAST_TEMPERATURE = 1e-6
"""Below it float32 overflows, and at it the likeliest token has all the chance already."""


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How to sample. ``temperature`` 0 is greedy; ``top_k`` 0 and ``top_p`` 1 keep every token."""

    temperature: float = 0.7
    top_p: float = 1.0
    top_k: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.temperature <= 100:
            raise UsageError(f"--temperature is {self.temperature}; it lies between 0 and 100")
        if not 0 < self.top_p <= 1:
            raise UsageError(f"--top-p is {self.top_p}; it lies above 0 and at most at 1")
        if self.top_k < 0:
            raise UsageError(f"--top-k is {self.top_k}; it cannot be negative")

    def to_json(self) -> dict[str, Any]:
        """Return the settings by their flags' names."""
        return {
            "temperature": self.temperature,
            "top_p": self.top_p,
            "top_k": self.top_k,
            "seed": self.seed,
        }


def uniform(seed: int, position: int) -> float:
    """Return a number in [0, 1) that depends on nothing else (splitmix64, Steele et al. 2014)."""
    mask = (1 << 64) - 1
    z = (seed * 0x9E3779B97F4A7C15 + (position + 1) * 0xD1B54A32D192ED03) & mask
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        z = ((z ^ (z >> shift)) * factor) & mask
    return ((z ^ (z >> 31)) >> 11) / (1 << 53)


def sample(logits: torch.Tensor, sampling: Sampling, position: int) -> list[int]:
    """Return one token for each row of ``logits`` (rows, vocab).

    ``position`` is the place in the sequence of the first row's token; the next row's follows.

    Raises:
        SelfeeError: the logits are not finite.
    """
    return choose(
        logits, sampling, [uniform(sampling.seed, position + row) for row in range(len(logits))]
    )


def choose(logits: torch.Tensor, sampling: Sampling, draws: Sequence[float]) -> list[int]:
    """Return one token for each row of ``logits`` (rows, vocab): where its draw in [0, 1) falls.

    Raises:
        SelfeeError: the logits are not finite.
    """
    import torch

    if logits.device.type == "mps":  # which has no float64
        logits = logits.cpu()
    logits = logits.float()
    if sampling.temperature == 0:
        best = logits.max(dim=-1)
        if not all(map(math.isfinite, best.values.tolist())):
            raise _not_finite()
        return [int(token) for token in best.indices.tolist()]
    chances = _truncated(logits / max(sampling.temperature, _LEAST_TEMPERATURE), sampling)
    summed = chances.cumsum(dim=-1, dtype=torch.float64)  # (rows, vocab); unnormalised is fine
    totals = summed[:, -1:]
    points = torch.tensor(draws, dtype=torch.float64).to(totals.device)[:, None] * totals
    tokens = torch.searchsorted(summed, points, right=True).clamp_(max=logits.shape[-1] - 1)
    *chosen, finite = torch.cat((tokens[:, 0], totals.isfinite().all()[None].long())).tolist()
    if not finite:
        raise _not_finite()
    return [int(token) for token in chosen]


def _truncated(logits: torch.Tensor, sampling: Sampling) -> torch.Tensor:
    """Return probabilities (rows, vocab), zero outside the top k and the nucleus."""
    if 0 < sampling.top_k < logits.shape[-1]:
        least = logits.topk(sampling.top_k, dim=-1).values[:, -1:]
        logits = logits.masked_fill(logits < least, float("-inf"))
    chances = logits.softmax(dim=-1)
    if sampling.top_p < 1:
        ordered, order = chances.sort(dim=-1, descending=True, stable=True)
        before = ordered.cumsum(dim=-1) - ordered
        beyond = before >= sampling.top_p
        beyond[:, 0] = False  # however small the nucleus, the likeliest is in it
        ordered = ordered.masked_fill(beyond, 0.0)
        chances = chances.new_zeros(chances.shape).scatter(-1, order, ordered)
    return chances


def _not_finite() -> SelfeeError:
    return SelfeeError(
        "the model computed values that are not numbers",
        hint="wrong base weights, or float16 overflow: try --dtype float32 or bfloat16",
    )
