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

from selfee_cli.engine.base import is_out_of_memory
from selfee_cli.engine.hf import cache_keyword
from selfee_cli.errors import ResourceError

_ROOM = 64  # columns


class Rows(Cache):
    """Rows of a causal model of transformers, and the cache its layers write to.

    Used in torch's inference mode, and for networks of which :func:`agrees` holds.
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
            logits (rows, width, vocabulary), in float32.

        Raises:
            ResourceError: memory ran out.
        """
        device, dtype = self._model.device, self._model.dtype
        ahead = torch.arange(len(ids[0]), device=device)
        self._positions = torch.tensor(starts, device=device)[:, None] + ahead
        self._seen = max(starts) + len(ids[0])
        columns = torch.arange(self._seen, device=device)
        unseen = columns > self._positions[..., None]  # (rows, width, columns)
        mask = torch.zeros(unseen.shape, dtype=dtype, device=device)
        try:
            out = self._model(
                input_ids=torch.tensor(ids, device=device),
                attention_mask=mask.masked_fill_(unseen, torch.finfo(dtype).min)[:, None],
                position_ids=self._positions,
                use_cache=True,
                **{self._keyword: self},
            )
            logits: Tensor = out.logits.float()
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            raise ResourceError(
                f"the memory of {device} ran out with {len(ids)} chains of {self._seen} tokens",
                hint="--batch takes fewer at once",
            ) from error
        return logits

    def move(self, sources: Sequence[int], targets: Sequence[int]) -> None:
        """Copy rows over others."""
        device = self._model.device
        source = torch.tensor(sources, device=device)
        target = torch.tensor(targets, device=device)
        for part in (*self._keys, *self._values):
            part[target, :, : self._seen] = part[source, :, : self._seen]

    def update(
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Store a layer's keys and values (rows, heads, width, head size); return all of them."""
        count = len(key_states)
        rows = torch.arange(count, device=key_states.device)[:, None]
        for parts, new in ((self._keys, key_states), (self._values, value_states)):
            if layer_idx == len(parts):
                parts.append(new[:, :, :0])
            parts[layer_idx] = _fitting(parts[layer_idx], count, self._seen)
            parts[layer_idx][rows, :, self._positions] = new.transpose(1, 2)
        keys, values = self._keys[layer_idx], self._values[layer_idx]
        return keys[:count, :, : self._seen], values[:count, :, : self._seen]


_PROBE = ([3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5], [8, 9, 7, 9, 3, 2, 3, 8])
"""Ids of two texts, the first longer by three."""


@torch.inference_mode()
def agrees(network: Any) -> bool:
    """Whether a network reads rows as it reads each text alone.

    Not every architecture takes a mask and positions for each row, or keeps keys and values.
    """
    long, short = ([id % network.config.vocab_size for id in text] for text in _PROBE)
    try:
        rows = Rows(network)
        rows.read([long[:8], short], [0, 0])
        read = rows.read([long[8:], short[5:]], [8, 5])  # the second has gone back
        for text, mine in zip((long, short), read, strict=True):
            ids = torch.tensor([text], device=network.device)
            alone = network(input_ids=ids, use_cache=False).logits[0, -3:].float()
            if (mine - alone).norm() > _TOLERANCE[network.dtype] * alone.norm():
                return False
    except Exception:  # whatever a foreign network makes of what it does not know
        return False
    return True


_TOLERANCE = {torch.float32: 1e-3, torch.float16: 1e-2, torch.bfloat16: 5e-2}


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
