"""The inverse of reconstruction: delta = tuned - base, in float32, and whether it leads back.

For every chunk the sum that ``apply_delta`` will give is computed as well, and the elements that do
not have the tuned weights' bits are counted. A correction beside the delta can hold them (see
:mod:`~selfee_cli.weights.corrections`). As in reconstruction, a few chunks are all that is held.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from selfee_cli.errors import MismatchError
from selfee_cli.weights.checkpoint import Checkpoint, open_checkpoint
from selfee_cli.weights.conversion import decode, encode
from selfee_cli.weights.corrections import CORRECTION_NAME, CorrectionWriter, Indices
from selfee_cli.weights.delta import CHUNK, SLACK, PairReader, not_finite, write_records
from selfee_cli.weights.digests import Advance, ignore_progress
from selfee_cli.weights.disk import (
    WrittenFile,
    check_space,
    check_target,
    copy_file,
    write_json,
)
from selfee_cli.weights.dtypes import DType, Floats, Raw
from selfee_cli.weights.journal import Journal
from selfee_cli.weights.make_delta_plan import MakePlan, plan_make_delta
from selfee_cli.weights.manifest import Manifest
from selfee_cli.weights.staging import staged_directory
from selfee_cli.weights.storage import TensorInfo, row_ranges
from selfee_cli.weights.write_behind import WriteBehind
from selfee_cli.weights.writer import ShardWriter

__all__ = ["MakePlan", "MakeResult", "RoundTrip", "make_delta", "plan_make_delta"]


@dataclass(frozen=True, kw_only=True)
class RoundTrip:
    """Base + delta, rounded to ``dtype``, held against the tuned weights bit for bit."""

    dtype: DType
    elements: int
    different: int
    """Elements whose bits are not the tuned weights', before any correction."""
    worst: str | None = None
    """The tensor with the largest share of them."""
    worst_elements: int = 0
    worst_different: int = 0
    corrected: bool = False
    """Whether a correction beside the delta puts them right."""

    @property
    def exact(self) -> bool:
        """Whether ``apply_delta`` gives the tuned weights back."""
        return self.corrected or not self.different

    def to_json(self) -> dict[str, Any]:
        """Give the JSON form."""
        worst = self.worst and {
            "tensor": self.worst,
            "elements": self.worst_elements,
            "different": self.worst_different,
            "share": self.worst_different / self.worst_elements,
        }
        return {
            "dtype": self.dtype.torch_name,
            "exact": self.exact,
            "corrected": self.corrected,
            "elements": self.elements,
            "different": self.different,
            "share": self.different / self.elements,
            "worst": worst,
        }

    def __str__(self) -> str:
        name = self.dtype.torch_name
        if not self.different:
            return f"round trip: base + delta gives the tuned weights back bit for bit, as {name}"
        counts = (
            f"{_share(self.different, self.elements)} "
            f"(worst: {self.worst}, {_share(self.worst_different, self.worst_elements)})"
        )
        if self.corrected:
            return f"round trip: bit for bit as {name}; {CORRECTION_NAME} puts right {counts}"
        return f"round trip: {counts} are not the tuned weights' as {name}; --exact stores them"


def _share(count: int, size: int) -> str:
    return f"{count:,} of {size:,} elements, {100 * count / size:.2g}%"


@dataclass(frozen=True, kw_only=True)
class MakeResult:
    """What :func:`make_delta` made."""

    path: Path
    manifest: Manifest
    round_trip: RoundTrip
    seconds: float
    bytes_read: int
    """All of the inputs in every run: the way back is checked for everything."""
    bytes_written: int
    """By this run."""
    notes: tuple[str, ...]
    """What the user should know, a line each."""
    resumed_files: int = 0
    """Files that an earlier run had finished."""
    resumed_bytes: int = 0
    """Of these files."""


def make_delta(plan: MakePlan, out: Path | str, progress: Advance = ignore_progress) -> MakeResult:
    """Write tuned - base into the directory ``out``, which must not exist or be empty.

    Args:
        plan: What :func:`plan_make_delta` gave.
        out: The target. It appears whole, at the end, by one rename; what a run that failed has
            finished of it is gone on with, as in ``apply_delta``.
        progress: Is told how many more of the ``plan.input_bytes`` were dealt with.

    Raises:
        UsageError: The target or the directory of unfinished work cannot be used, as in
            ``apply_delta``.
        ResourceError: The disk is too small or ran full.
        MismatchError: A result is not finite or too large, or an input is not whole.
        SelfeeError: Another run is making the target.
    """
    began = time.perf_counter()
    out = Path(out)
    check_target(out)
    with staged_directory(out, plan.key()) as journal:
        staging = journal.directory
        resumed, present = len(journal.finished), journal.finished_bytes
        needed = plan.output_bytes + plan.correction_bytes - present + SLACK
        check_space(out, needed, staging=staging)
        writer, round_trip, corrections = _write_shards(plan, journal, progress)
        files, notes = _write_sidecars(plan, staging)
        files += [*writer.files, *corrections]
        manifest = write_records(
            staging,
            kind="delta",
            dtype=plan.dtype,
            origins=plan.origins,
            tensors=writer.tensors,
            files=files,
        )
    return MakeResult(
        path=out,
        manifest=manifest,
        round_trip=round_trip,
        seconds=time.perf_counter() - began,
        bytes_read=plan.input_bytes,
        bytes_written=plan.output_bytes - present + sum(file.size for file in corrections),
        notes=(*notes, str(round_trip)),
        resumed_files=resumed,
        resumed_bytes=present,
    )


def _write_shards(
    plan: MakePlan, journal: Journal, progress: Advance
) -> tuple[ShardWriter, RoundTrip, list[WrittenFile]]:
    """Write what the journal does not know as finished; check the round trip of everything."""
    spill: AbstractContextManager[CorrectionWriter | None] = nullcontext()
    if plan.exact:
        spill = CorrectionWriter(journal.directory, plan.tuned_dtype, plan.tensors)
    with (
        open_checkpoint(plan.base) as base,
        open_checkpoint(plan.tuned) as tuned,
        spill as corrections,
    ):
        with ShardWriter(journal.directory, plan.shards, journal) as writer:
            subtractor = Subtractor(base, tuned, plan, corrections)
            due = {info.name for info in writer.due}
            with WriteBehind(writer, subtractor.capacity) as pipe:
                different = {
                    info: _subtract_tensor(
                        subtractor, info, pipe, write=info.name in due, progress=progress
                    )
                    for info in plan.tensors
                }
        correction = corrections.finish() if corrections is not None else None
    return writer, _round_trip(plan, different), [correction] if correction else []


class Subtractor(PairReader):
    """Computes tuned - base chunk by chunk, and whether base + that is tuned again."""

    def __init__(
        self,
        base: Checkpoint,
        tuned: Checkpoint,
        plan: MakePlan,
        corrections: CorrectionWriter | None = None,
    ) -> None:
        super().__init__(base, tuned, max(CHUNK, *(info.row_size for info in plan.tensors)))
        self._tuned_dtype = plan.tuned_dtype
        self._corrections = corrections
        self._delta = np.empty(self.capacity, np.float32)
        self._rounded = np.empty(self.capacity, plan.tuned_dtype.raw)

    def subtract(self, info: TensorInfo, start: int, stop: int, out: Raw) -> int:
        """Fill ``out`` with rows of the delta as it is stored, flat.

        Returns:
            How many elements of base + what is stored are not the tuned ones. They are added to
            the corrections.
        """
        base, tuned = self.read(info.name, start, stop)
        delta = self._delta[: base.size]
        np.subtract(tuned, base, out=delta)
        if not encode(delta, info.dtype, out):
            raise not_finite(info, delta, "the base or the tuned model")
        if info.dtype is not DType.F32:
            decode(out, info.dtype, delta)
        total = np.add(base, delta, out=base)
        if np.array_equal(total.view(np.uint32), tuned.view(np.uint32)):
            return 0  # the tuned values need no rounding, so nor does this
        where = self._departures(info, total, tuned)
        if where.size and self._corrections is not None:
            values = np.empty(where.size, self._tuned_dtype.raw)
            encode(tuned[where], self._tuned_dtype, values)
            self._corrections.add(info.name, where + start * info.row_size, values)
        return where.size

    def _departures(self, info: TensorInfo, total: Floats, tuned: Floats) -> Indices:
        """Give the places where the rounded sum has other bits than the tuned weights."""
        dtype, rounded, back = self._tuned_dtype, self._rounded[: total.size], self._delta
        if not encode(total, dtype, rounded):
            peak = float(np.abs(total).max())
            raise MismatchError(
                f"base + delta is {peak:.6g} in {info.name}, too large for {dtype.torch_name}",
                hint="--dtype float32 stores the delta without such loss",
            )
        decode(rounded, dtype, back[: total.size])  # decoding keeps bits apart
        differs = back[: total.size].view(np.uint32) != tuned.view(np.uint32)
        return np.flatnonzero(differs)


def _subtract_tensor(
    subtractor: Subtractor, info: TensorInfo, pipe: WriteBehind, *, write: bool, progress: Advance
) -> int:
    """Compute a tensor, and write it unless an earlier run has; give what does not come back."""
    different = 0
    subtractor.begin(info.name)
    for start, stop in row_ranges(info, CHUNK):
        out = pipe.buffer((stop - start) * info.row_size, info.dtype.raw)
        with np.errstate(over="ignore", invalid="ignore"):  # told with the tensor's name
            different += subtractor.subtract(info, start, stop, out)
        if write:
            pipe.write(info.name, out)
        progress(subtractor.input_bytes(info.name, start, stop))
    pipe.flush()
    return different


def _round_trip(plan: MakePlan, different: Mapping[TensorInfo, int]) -> RoundTrip:
    worst = max(different, key=lambda info: different[info] / info.size)
    total = sum(different.values())
    return RoundTrip(
        dtype=plan.tuned_dtype,
        elements=plan.parameters,
        different=total,
        worst=worst.name if total else None,
        worst_elements=worst.size if total else 0,
        worst_different=different[worst],
        corrected=plan.exact and total > 0,
    )


def _write_sidecars(plan: MakePlan, directory: Path) -> tuple[list[WrittenFile], tuple[str, ...]]:
    """Write the tuned model's small files; give them and what to tell the user."""
    files = [write_json(directory / "config.json", plan.config)]
    files += [copy_file(path, directory) for path in plan.sidecars]
    if {"tokenizer.model", "tokenizer.json"} & {file.name for file in files}:
        return files, ()
    return files, ("the tuned model has no tokenizer, so the delta has none either",)
