"""Many sequences through one network at once, each at its own place: keys and values by position.

The column of a key is its position. So a row goes back by being read on from an earlier place:
what lies beyond is not looked at, and is written over.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import Cache

from selfee_cli.engine.hf import cache_keyword

_ROOM = 64  # columns
_UNSEEN = torch.finfo(torch.float32).min  # added to the scores of what is not looked at


class Rows(Cache):
    """Rows of a causal model of transformers, in float32, and the cache its layers write to.

    Used in torch's inference mode.
    """

    def __init__(self, model: Any) -> None:
        super().__init__(layers=[])
        self._model = model
        self._keyword = cache_keyword(model)
        # A layer: (rows, heads, columns, head size). The first rows are in use.
        self._keys: list[Tensor] = []
        self._values: list[Tensor] = []

    def read(self, ids: Sequence[Sequence[int]], starts: Sequence[int]) -> Tensor:
        """Read ``ids`` (rows, width), each row from its position in ``starts`` on.

        Returns:
            logits (rows, width, vocabulary).
        """
        self._positions = torch.tensor(starts)[:, None] + torch.arange(len(ids[0]))
        self._seen = max(starts) + len(ids[0])
        seen = torch.arange(self._seen) <= self._positions[..., None]  # (rows, width, columns)
        out = self._model(
            input_ids=torch.tensor(ids),
            attention_mask=torch.where(seen, 0.0, _UNSEEN)[:, None],
            position_ids=self._positions,
            use_cache=True,
            **{self._keyword: self},
        )
        logits: Tensor = out.logits.float()
        return logits

    def move(self, sources: Sequence[int], targets: Sequence[int]) -> None:
        """Copy rows over others."""
        source, target = torch.tensor(sources), torch.tensor(targets)
        for part in (*self._keys, *self._values):
            part[target, :, : self._seen] = part[source, :, : self._seen]

    def update(
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Store a layer's keys and values (rows, heads, width, head size); return all of them."""
        count = len(key_states)
        rows = torch.arange(count)[:, None]
        for parts, new in ((self._keys, key_states), (self._values, value_states)):
            if layer_idx == len(parts):
                parts.append(new[:, :, :0])
            parts[layer_idx] = _fitting(parts[layer_idx], count, self._seen)
            parts[layer_idx][rows, :, self._positions] = new.transpose(1, 2)
        keys, values = self._keys[layer_idx], self._values[layer_idx]
        return keys[:count, :, : self._seen], values[:count, :, : self._seen]


def _fitting(part: Tensor, rows: int, columns: int) -> Tensor:
    """Return ``part`` (rows, heads, columns, head size), or a larger copy where it is too small.

    What is not written yet is zero: even unseen, a value that is not a number would spread.
    """
    if rows <= part.shape[0] and columns <= part.shape[2]:
        return part
    room = columns * 3 // 2 + _ROOM if columns > part.shape[2] else part.shape[2]
    wide = part.new_zeros(max(rows, part.shape[0]), part.shape[1], room, part.shape[3])
    wide[: part.shape[0], :, : part.shape[2]] = part
    return wide
