"""Whether a model fits, and on which devices its layers lie."""

from __future__ import annotations

import gc
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from selfee_cli.engine.memory import available_memory
from selfee_cli.engine.quant import QUANTS, bytes_per_weight, head_quant
from selfee_cli.errors import ResourceError

if TYPE_CHECKING:
    from selfee_cli.engine.llama import LlamaConfig

RUNTIME = 700 << 20
"""Bytes that a device's libraries and scratch space take beside weights and cache, about."""

Placement = list[tuple[torch.device, int]]
"""Devices and how many layers each has, in order."""


@dataclass(frozen=True, kw_only=True)
class Footprint:
    """Bytes that a LLaMA takes."""

    layer: int
    """A layer's weights and its cache for the whole context."""
    ends: int
    """Embedding and head, matrices in their first format (see ``footprint``), the runtime."""
    layers: int
    read: int
    """Read for a token: the weights of all layers and of the head."""

    @property
    def total(self) -> int:
        """On one device."""
        return self.ends + self.layers * self.layer


def footprint(c: LlamaConfig, dtype: torch.dtype, quant: str, context: int) -> Footprint:
    """Return what a model of these shapes takes.

    A matrix stands in its first format while it is quantised. Those of int8 and fp8 also do for
    each product on a GPU, in free passes and in captured ones, which have memory of their own.
    """
    queries, keys = c.heads * c.head_dim, c.kv_heads * c.head_dim
    fused = (queries + 2 * keys) * c.hidden, queries * c.hidden, 2 * c.mlp * c.hidden
    weights = sum(fused) + c.mlp * c.hidden
    cache = 2 * keys * context * dtype.itemsize
    vocabulary = c.vocab_size * c.hidden
    head = vocabulary * bytes_per_weight(head_quant(quant), dtype)
    apart = 0 if c.tied and quant == "none" else head
    layer = round(weights * bytes_per_weight(quant, dtype))
    largest = max(*fused, vocabulary) * dtype.itemsize
    passing = {"none": 0, "int4": largest}.get(quant, 2 * largest)
    return Footprint(
        layer=layer + cache,
        ends=round(vocabulary * dtype.itemsize + apart) + passing + RUNTIME,
        layers=c.layers,
        read=c.layers * layer + round(head),
    )


def free_memory(device: torch.device) -> int | None:
    """Return the bytes that are free on a device; None where that is not known."""
    if device.type == "cuda":  # what torch holds ready and no tensor uses is free as well
        ready = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(torch.cuda.mem_get_info(device)[0]) + ready
    if device.type == "mps":
        return int(torch.mps.recommended_max_memory() - torch.mps.current_allocated_memory())
    return available_memory()


def release_memory() -> None:
    """Give back to the devices what models that nobody uses any more have left."""
    gc.collect()  # a session refers to itself, and so may transformers' models
    torch.cuda.empty_cache()


def place(needs: Footprint, devices: Sequence[torch.device], free: Sequence[int]) -> Placement:
    """Lay the layers on ``devices``, with ``free`` bytes each; an empty list: they do not fit.

    The first device that holds all of them has them. Where none does, they lie in a row: from the
    first device that holds embedding, head and a layer, over those after it and those before.
    """
    rooms = list(zip(devices, free, strict=True))
    for device, room in rooms:
        if room >= needs.total:
            return [(device, needs.layers)]
    start = next((at for at, room in enumerate(free) if room >= needs.ends + needs.layer), None)
    if start is None:
        return []
    placed: Placement = []
    left, ends = needs.layers, needs.ends
    for device, room in [*rooms[start:], *rooms[:start]]:
        count = min(left, max(0, (room - ends) // needs.layer))
        ends = RUNTIME  # embedding and head lie on the first device of the row
        if count:
            placed.append((device, count))
        left -= count
    return [] if left else placed


def does_not_fit(
    c: LlamaConfig, dtype: torch.dtype, quant: str, context: int, where: str, free: int
) -> ResourceError:
    """Return the error that says what was needed, what there is, and what would fit."""
    needed = footprint(c, dtype, quant, context).total
    smaller = {name: footprint(c, dtype, name, context).total for name in QUANTS if name != quant}
    fitting = [name for name in ("int8", "int4") if smaller.get(name, free + 1) <= free]
    short = footprint(c, dtype, "int4", 512).total
    if fitting:
        hint = f"--quant {fitting[0]} takes {smaller[fitting[0]] / 1e9:.1f} GB"
    elif short <= free:
        hint = f"--quant int4 --context 512 takes {short / 1e9:.1f} GB"
    else:
        hint = f"int4 with a context of 512 would need {short / 1e9:.1f} GB; take a smaller model"
    form = str(dtype).removeprefix("torch.") if quant == "none" else quant
    return ResourceError(
        f"as {form} with {context} tokens of context the model takes {needed / 1e9:.1f} GB; "
        f"{where} has {free / 1e9:.1f} GB free",
        hint=hint,
    )
