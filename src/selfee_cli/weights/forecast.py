"""What ``apply_delta`` would take, told before it begins (``--dry-run``)."""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from selfee_cli.weights.conversion import decode, encode
from selfee_cli.weights.delta import CHUNK, SLACK, Adder
from selfee_cli.weights.delta_plan import DeltaPlan
from selfee_cli.weights.digests import Crc32
from selfee_cli.weights.disk import free_space, staging_of
from selfee_cli.weights.dtypes import DType, byte_view
from selfee_cli.weights.journal import finished_bytes, unfinished_bytes
from selfee_cli.weights.write_behind import WriteBehind

_INTERPRETER = 32 << 20
"""Bytes that Python and numpy take by themselves, about."""
_ROUNDS = 24  # chunks that are timed


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """Sizes in bytes, time in seconds."""

    input_bytes: int
    output_bytes: int
    finished_bytes: int
    """Of the output, what an interrupted run has left that this one goes on with."""
    free_bytes: int
    """On the disk, with what an interrupted run has left that is removed first."""
    memory_bytes: int
    """Resident at the most, about."""
    seconds: float
    """At the least: computing and hashing, as timed just now. A slow disk takes longer."""

    @property
    def needed_bytes(self) -> int:
        """What must be free on the disk."""
        return self.output_bytes - self.finished_bytes + SLACK

    @property
    def fits(self) -> bool:
        """Whether the disk has room."""
        return self.needed_bytes <= self.free_bytes

    def to_json(self) -> dict[str, Any]:
        """Give the JSON form."""
        return {**vars(self), "needed_bytes": self.needed_bytes, "fits": self.fits}


def forecast(plan: DeltaPlan, out: Path | str) -> Forecast:
    """Say what the work of ``plan`` into ``out`` would take; nothing is written."""
    out = Path(out)
    staging = staging_of(out)
    finished = finished_bytes(staging, plan.key())
    left = 1 - finished / max(1, plan.output_bytes)
    capacity = max(CHUNK, *(info.row_size for info in plan.tensors))
    return Forecast(
        input_bytes=plan.input_bytes,
        output_bytes=plan.output_bytes,
        finished_bytes=finished,
        free_bytes=free_space(staging) + unfinished_bytes(staging, plan.key()),
        memory_bytes=_INTERPRETER
        + Adder.scratch_bytes(capacity)
        + WriteBehind.scratch_bytes(capacity),
        seconds=left * plan.parameters * _seconds_per_element(plan.dtype),
    )


def _seconds_per_element(dtype: DType) -> float:
    """Time the inner loop on made-up chunks: decode, add, encode; hash, checksum."""
    half = np.full(CHUNK, 0x2400, np.uint16)  # 2**-6
    delta = np.full(CHUNK, 2.0**-12, np.float32)
    total, out = np.empty(CHUNK, np.float32), np.empty(CHUNK, dtype.raw)
    of_file, of_tensor = hashlib.sha256(), Crc32()
    times = []
    for _ in range(_ROUNDS):
        began = time.perf_counter()
        decode(half, DType.F16, total)
        np.add(total, delta, out=total)
        encode(total, dtype, out)
        computed = time.perf_counter()
        of_file.update(byte_view(out))
        of_tensor.update(byte_view(out))
        digested = time.perf_counter()
        times.append(max(computed - began, digested - computed))  # two threads, side by side
    return sorted(times)[_ROUNDS // 2] / CHUNK
