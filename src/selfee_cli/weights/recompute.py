"""Comparing a result with base + delta, computed again, tensor by tensor and chunk by chunk."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from selfee_cli.errors import MismatchError
from selfee_cli.weights.checkpoint import Checkpoint, open_checkpoint
from selfee_cli.weights.conversion import encode
from selfee_cli.weights.corrections import Correction, open_correction
from selfee_cli.weights.delta import CHUNK, Adder
from selfee_cli.weights.delta_plan import DeltaPlan
from selfee_cli.weights.digests import Advance, ignore_progress
from selfee_cli.weights.dtypes import byte_view
from selfee_cli.weights.storage import TensorInfo, row_ranges
from selfee_cli.weights.verify import Fault


def recompute(
    plan: DeltaPlan, path: Path | str, progress: Advance = ignore_progress
) -> Iterator[Fault]:
    """Give a fault for every tensor of ``path`` that is not base + delta, bit for bit.

    Each tensor is rounded to the type it has in ``path``; the plan's own type does not matter.
    Where that is the type that the delta's correction holds for, the correction is applied.

    Args:
        plan: Base and delta, checked by :func:`~selfee_cli.weights.delta_plan.plan_delta`.
        path: Directory of the result, in any layout.
        progress: Is told how many more bytes of base and delta were dealt with.
    """
    with (
        open_checkpoint(plan.base) as base,
        open_checkpoint(plan.delta) as delta,
        open_checkpoint(path) as made,
        open_correction(plan.delta, plan.tensors) as correction,
    ):
        adder = Adder(base, delta, max(CHUNK, *(info.row_size for info in plan.tensors)))
        wanted = {info.name: info.shape for info in plan.tensors}
        for name in sorted(made.tensors.keys() - wanted.keys()):
            yield Fault(file=made.path.name, tensor=name, reason="base and delta do not have it")
        for name, shape in wanted.items():
            info = made.tensors.get(name)
            if info is None:
                yield Fault(file=made.path.name, tensor=name, reason="it is missing")
            elif info.shape != shape:
                reason = f"the shape is {list(info.shape)}, of base + delta {list(shape)}"
                yield Fault(file=made.path.name, tensor=name, reason=reason)
            else:
                yield from _compare(adder, made, info, correction, progress)


def _compare(
    adder: Adder, made: Checkpoint, info: TensorInfo, correction: Correction, progress: Advance
) -> Iterator[Fault]:
    expected, found = hashlib.sha256(), hashlib.sha256()
    different, out = 0, np.empty(adder.capacity, info.dtype.raw)
    adder.begin(info.name)
    correction.begin(info)
    for start, stop in row_ranges(info, CHUNK):
        total = adder.add(info.name, start, stop)
        rounded = out[: total.size]
        if not encode(total, info.dtype, rounded):
            raise MismatchError(
                f"base + delta is not finite in {info.name}",
                hint="the base or the delta is damaged: verify them by themselves",
            )
        correction.patch(start * info.row_size, rounded)
        there = made.read_rows(info.name, start, stop).reshape(-1)
        bits = np.uint16 if info.dtype.itemsize == 2 else np.uint32
        different += int(np.count_nonzero(rounded.view(bits) != there.view(bits)))
        expected.update(byte_view(rounded))
        found.update(byte_view(there))
        progress(adder.input_bytes(info.name, start, stop))
    if different:
        yield Fault(
            file=made.file_of(info.name),
            tensor=info.name,
            reason=f"{different:,} of {info.size:,} elements are not base + delta",
            expected=expected.hexdigest(),
            found=found.hexdigest(),
        )
