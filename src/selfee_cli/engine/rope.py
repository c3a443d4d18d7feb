"""Rotary position embedding and its scalings.

Sources: RoFormer (arXiv:2104.09864); position interpolation (arXiv:2306.15595); YaRN
(arXiv:2309.00071); the frequency bands of the Llama 3.1 release.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

SUPPORTED = frozenset({"default", "linear", "yarn", "llama3"})


@dataclass(frozen=True, kw_only=True)
class RopeConfig:
    """How positions turn into angles; ``scaling`` holds the parameters of ``kind``."""

    head_dim: int
    theta: float
    kind: str
    trained_length: int
    scaling: Mapping[str, Any]

    @staticmethod
    def parse(config: Mapping[str, Any], head_dim: int) -> RopeConfig:
        """Read either form that ``config.json`` files use for it."""
        trained = int(config.get("max_position_embeddings") or 2048)
        scaling = config.get("rope_parameters") or config.get("rope_scaling") or {}
        if not isinstance(scaling, Mapping):
            raise TypeError("its rotary scaling is no object")
        kind = scaling.get("rope_type") or scaling.get("type") or "default"
        theta = scaling.get("rope_theta") or config.get("rope_theta") or 10000.0
        return RopeConfig(
            head_dim=head_dim,
            theta=float(theta),
            kind=str(kind),
            trained_length=trained,
            scaling=scaling,
        )

    def stretched(self, context_length: int) -> RopeConfig:
        """Return the scaling that lets a model read further than it was trained for (YaRN)."""
        if context_length <= self.trained_length or self.kind != "default":
            return self
        scaling = {
            "factor": context_length / self.trained_length,
            "original_max_position_embeddings": self.trained_length,
        }
        return RopeConfig(
            head_dim=self.head_dim,
            theta=self.theta,
            kind="yarn",
            trained_length=self.trained_length,
            scaling=scaling,
        )


def rope_tables(
    rope: RopeConfig, length: int, *, dtype: torch.dtype, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return cosines and signed sines of every position, each of shape (length, head_dim).

    The sines of a head's first half are negative, so that :func:`rotate` need not negate.
    """
    frequencies, amplitude = _frequencies(rope)
    angles = torch.outer(torch.arange(length, dtype=torch.float32), frequencies)
    angles = torch.cat((angles, angles), dim=-1)  # both halves of a head turn alike
    cos, sin = angles.cos() * amplitude, angles.sin() * amplitude
    sin[:, : len(frequencies)].neg_()
    return cos.to(device=device, dtype=dtype), sin.to(device=device, dtype=dtype)


def rotate(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Turn ``x`` (..., tokens, head_dim) by its positions' angles (tokens, head_dim)."""
    return torch.addcmul(x * cos, x.roll(x.shape[-1] // 2, dims=-1), sin)


def _frequencies(rope: RopeConfig) -> tuple[torch.Tensor, float]:
    steps = torch.arange(0, rope.head_dim, 2, dtype=torch.int64).float() / rope.head_dim
    plain = 1.0 / rope.theta**steps  # (head_dim / 2,), in radians a position
    if rope.kind == "linear":
        return plain / float(rope.scaling["factor"]), 1.0
    if rope.kind == "llama3":
        return _llama3(plain, rope), 1.0
    if rope.kind == "yarn":
        return _yarn(plain, rope)
    return plain, 1.0


def _llama3(plain: torch.Tensor, rope: RopeConfig) -> torch.Tensor:
    """Slow frequencies are divided by the factor, fast ones kept, those between blended."""
    factor = float(rope.scaling["factor"])
    low, high = float(rope.scaling["low_freq_factor"]), float(rope.scaling["high_freq_factor"])
    original = float(rope.scaling.get("original_max_position_embeddings") or rope.trained_length)
    turns = original * plain / (2 * math.pi)  # whole turns over the original context
    keep = ((turns - low) / (high - low)).clamp(0, 1)
    return plain * keep + plain / factor * (1 - keep)


def _yarn(plain: torch.Tensor, rope: RopeConfig) -> tuple[torch.Tensor, float]:
    """As ``_llama3``, blended by dimension; attention is sharpened by the amplitude."""
    scaling = rope.scaling
    original = float(scaling.get("original_max_position_embeddings") or rope.trained_length)
    factor = float(scaling.get("factor") or rope.trained_length / original)

    def dimension(turns: float) -> float:
        ratio = original / (turns * 2 * math.pi)
        return rope.head_dim * math.log(ratio) / (2 * math.log(rope.theta))

    low, high = dimension(scaling.get("beta_fast") or 32), dimension(scaling.get("beta_slow") or 1)
    if scaling.get("truncate", True):
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, rope.head_dim - 1)
    span = (high - low) or 0.001
    slow = ((torch.arange(len(plain), dtype=torch.float32) - low) / span).clamp(0, 1)
    amplitude = scaling.get("attention_factor")
    if amplitude is None:
        amplitude = _yarn_amplitude(factor, scaling)
    return plain / factor * slow + plain * (1 - slow), float(amplitude)


def _yarn_amplitude(factor: float, scaling: Mapping[str, Any]) -> float:
    def sharpen(mscale: float) -> float:
        return 0.1 * mscale * math.log(factor) + 1.0 if factor > 1 else 1.0

    mscale, mscale_all = scaling.get("mscale"), scaling.get("mscale_all_dim")
    if mscale and mscale_all:
        return sharpen(mscale) / sharpen(mscale_all)
    return sharpen(1.0)
