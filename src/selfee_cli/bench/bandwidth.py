"""How fast a device reads its memory: what writing one token at a time cannot exceed."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

_PROBE = {"cpu": 256 << 20, "cuda": 4 << 30, "mps": 1 << 30}  # bytes, beyond any cache
_PROBE_SHARE = 0.5  # of what is free, at most


def bandwidth(device: torch.device) -> float:
    """Return the bytes a second that a sum over a large tensor reads; 0 where none has room."""
    import torch

    from selfee_cli.engine.placement import free_memory

    def measure() -> float:
        began = time.perf_counter()
        data.sum().item()
        return time.perf_counter() - began

    try:
        size, free = _PROBE[device.type], free_memory(device)
        if free is not None:
            size = min(size, int(_PROBE_SHARE * free))
        data = torch.ones(size // 4, device=device)
        measure()
        return data.nbytes / min(measure() for _ in range(5))
    except (MemoryError, RuntimeError):  # on a GPU even asking what is free takes some memory
        return 0.0
