"""Reconstruction: base + delta, in float32, rounded once, in chunks that fit the cache.

Nothing is held but a few chunks, so memory does not grow with the model. Where the delta has one
row more than the base, in the embedding and the head, that row's base is the mean of the base's
rows: so SelFee's training began the row of ``[PAD]``.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from selfee_cli.errors import MismatchError
from selfee_cli.weights.checkpoint import Checkpoint, open_checkpoint
from selfee_cli.weights.column_mean import ColumnMean
from selfee_cli.weights.conversion import decode, encode
from selfee_cli.weights.corrections import Correction, open_correction
from selfee_cli.weights.delta_plan import DeltaPlan, plan_delta
from selfee_cli.weights.digests import SUMS_NAME, Advance, format_sums, ignore_progress
from selfee_cli.weights.disk import (
    WrittenFile,
    check_space,
    check_target,
    write_json,
    write_text,
)
from selfee_cli.weights.dtypes import DType, Floats, Raw
from selfee_cli.weights.fingerprint import sampled_fingerprint
from selfee_cli.weights.journal import Journal
from selfee_cli.weights.manifest import (
    MANIFEST_NAME,
    Manifest,
    Origin,
    file_records,
    tensor_records,
)
from selfee_cli.weights.sidecars import write_sidecars
from selfee_cli.weights.staging import staged_directory
from selfee_cli.weights.storage import TensorInfo, row_ranges
from selfee_cli.weights.write_behind import WriteBehind
from selfee_cli.weights.writer import ShardWriter, WrittenTensor

__all__ = ["DeltaPlan", "DeltaResult", "apply_delta", "plan_delta"]

CHUNK = 1 << 17
"""Elements in a chunk: with fewer the calls cost more than the work, more leave the cache."""
SLACK = 64 << 20
"""Bytes left free beside the weights."""


@dataclass(frozen=True, kw_only=True)
class DeltaResult:
    """What :func:`apply_delta` made."""

    path: Path
    manifest: Manifest
    seconds: float
    bytes_read: int
    bytes_written: int
    """By this run, as ``bytes_read``."""
    notes: tuple[str, ...]
    """What the user should know, a line each."""
    resumed_files: int = 0
    """Files that an earlier run had finished."""
    resumed_bytes: int = 0
    """Of these files."""


def apply_delta(
    plan: DeltaPlan, out: Path | str, progress: Advance = ignore_progress
) -> DeltaResult:
    """Write base + delta into the directory ``out``, which must not exist or be empty.

    Args:
        plan: What :func:`plan_delta` gave.
        out: The target. It appears whole, at the end, by one rename. A failure leaves what is
            finished in ``.NAME.partial`` beside it, from which the next run goes on; one that
            shows an input to be wrong leaves nothing.
        progress: Is told how many more of the ``plan.input_bytes`` were dealt with.

    Raises:
        UsageError: The target is not empty, a mount point or the current directory; or
            ``.NAME.partial`` holds other files.
        ResourceError: The disk is too small or ran full.
        MismatchError: A result is not finite, an input is not whole, or the delta's correction
            is damaged.
        SelfeeError: Another run is making the target.
    """
    began = time.perf_counter()
    out = Path(out)
    check_target(out)
    with (
        open_correction(plan.delta, plan.tensors) as correction,
        staged_directory(out, plan.key()) as journal,
    ):
        staging = journal.directory
        resumed, present = len(journal.finished), journal.finished_bytes
        check_space(out, plan.output_bytes - present + SLACK, staging=staging)
        writer, bytes_read = _write_shards(plan, journal, correction, progress)
        files, notes = write_sidecars(plan, staging)
        manifest = write_records(
            staging,
            kind="model",
            dtype=plan.dtype,
            origins=plan.origins,
            tensors=writer.tensors,
            files=[*writer.files, *files],
        )
    not_applied = correction.note(plan.dtype)
    return DeltaResult(
        path=out,
        manifest=manifest,
        seconds=time.perf_counter() - began,
        bytes_read=bytes_read,
        bytes_written=plan.output_bytes - present,
        notes=(*notes, not_applied) if not_applied else tuple(notes),
        resumed_files=resumed,
        resumed_bytes=present,
    )


def _write_shards(
    plan: DeltaPlan, journal: Journal, correction: Correction, progress: Advance
) -> tuple[ShardWriter, int]:
    """Write the shards that the journal does not know as finished; give the bytes read for it."""
    bytes_read = plan.input_bytes
    with (
        open_checkpoint(plan.base) as base,
        open_checkpoint(plan.delta) as delta,
        ShardWriter(journal.directory, plan.shards, journal) as writer,
    ):
        adder = Adder(base, delta, max(CHUNK, *(info.row_size for info in plan.tensors)))
        due = {info.name for info in writer.due}
        for info in plan.tensors:
            if info.name not in due:
                skipped = adder.input_bytes(info.name, 0, info.rows)
                bytes_read -= skipped
                progress(skipped)
        with WriteBehind(writer, adder.capacity) as pipe:
            for info in writer.due:
                _add_tensor(adder, info, pipe, correction, progress)
    return writer, bytes_read


class PairReader:
    """Reads a base and what belongs on it, as float32, chunk by chunk, into space made once.

    The row that the base lacks is the mean of its rows.
    """

    def __init__(self, base: Checkpoint, other: Checkpoint, capacity: int) -> None:
        self.capacity = capacity
        self._base = base
        self._other = other
        self._raw = np.empty(capacity, np.float32)
        self._of_base = np.empty(capacity, np.float32)
        self._of_other = np.empty(capacity, np.float32)
        self._mean: ColumnMean | None = None

    @staticmethod
    def scratch_bytes(capacity: int) -> int:
        """Give the bytes for chunks of up to ``capacity`` elements."""
        return 3 * 4 * capacity

    def begin(self, name: str) -> None:
        """Begin a tensor, whose chunks must then come in order."""
        base, other = self._base.tensors[name], self._other.tensors[name]
        grows = other.rows > base.rows
        self._mean = ColumnMean(base.rows, base.row_size) if grows else None

    def read(self, name: str, start: int, stop: int) -> tuple[Floats, Floats]:
        """Give rows ``start`` to ``stop`` of base and other, flat; valid until the next call."""
        base = self._base.tensors[name]
        columns = base.row_size
        size = (stop - start) * columns
        of_base, of_other = self._of_base[:size], self._of_other[:size]
        middle = max(start, min(stop, base.rows))  # rows from here on are the base's mean
        if middle > start:
            values = of_base[: (middle - start) * columns]
            self._load(self._base, name, start, middle, values)
            if self._mean is not None:
                self._mean.add(values.reshape(-1, columns))
        if stop > middle:
            assert self._mean is not None
            of_base[(middle - start) * columns :].reshape(-1, columns)[:] = self._mean.mean()
        self._load(self._other, name, start, stop, of_other)
        return of_base, of_other

    def input_bytes(self, name: str, start: int, stop: int) -> int:
        """Give the bytes that :meth:`read` read for these rows."""
        base, other = self._base.tensors[name], self._other.tensors[name]
        from_base = max(0, min(stop, base.rows) - start) * base.dtype.itemsize
        return base.row_size * (from_base + (stop - start) * other.dtype.itemsize)

    def _load(self, checkpoint: Checkpoint, name: str, start: int, stop: int, out: Floats) -> None:
        dtype = checkpoint.tensors[name].dtype
        raw: Raw = out if dtype is DType.F32 else self._raw.view(np.uint16)[: out.size]
        checkpoint.read_rows_into(name, start, stop, raw.reshape(stop - start, -1))
        if dtype is not DType.F32:
            decode(raw, dtype, out)


class Adder(PairReader):
    """Computes base + delta chunk by chunk, in float32."""

    def add(self, name: str, start: int, stop: int) -> Floats:
        """Give rows ``start`` to ``stop`` of the sum, flat; valid until the next call."""
        base, delta = self.read(name, start, stop)
        with np.errstate(over="ignore", invalid="ignore"):  # it shows when the sum is rounded
            return np.add(base, delta, out=base)


def _add_tensor(
    adder: Adder, info: TensorInfo, pipe: WriteBehind, correction: Correction, progress: Advance
) -> None:
    adder.begin(info.name)
    correction.begin(info)
    for start, stop in row_ranges(info, CHUNK):
        total = adder.add(info.name, start, stop)
        rounded = pipe.buffer(total.size, info.dtype.raw)
        if not encode(total, info.dtype, rounded):
            raise not_finite(info, total, "the base or the delta")
        correction.patch(start * info.row_size, rounded)
        pipe.write(info.name, rounded)
        progress(adder.input_bytes(info.name, start, stop))
    pipe.flush()


def not_finite(info: TensorInfo, values: Floats, damaged: str) -> MismatchError:
    """Say that ``values``, which were to become part of ``info``, hold what it cannot."""
    peak = float(np.abs(values).max())
    if np.isfinite(peak):
        return MismatchError(
            f"{info.name} has a value of {peak:.6g}, too large for {info.dtype.torch_name}",
            hint="--dtype bfloat16 and --dtype float32 hold it",
        )
    return MismatchError(
        f"{info.name} is not finite: NaN or infinity came out",
        hint=f"{damaged} is damaged: selfee verify tells which",
    )


def write_records(
    staging: Path,
    *,
    kind: str,
    dtype: DType,
    origins: Mapping[str, Origin],
    tensors: Sequence[WrittenTensor],
    files: list[WrittenFile],
) -> Manifest:
    """Write the manifest, of a ``"model"`` or a ``"delta"``, and ``SHA256SUMS``."""
    with open_checkpoint(staging) as made:
        fingerprint = sampled_fingerprint(made)
    files = sorted(files, key=lambda file: file.name)
    manifest = Manifest(
        kind=kind,
        dtype=dtype.torch_name,
        fingerprint=fingerprint,
        made_from={role: origin.to_json() for role, origin in origins.items()},
        files=file_records(files),
        tensors=tensor_records(tensors),
    )
    files.append(write_json(staging / MANIFEST_NAME, manifest.to_json()))
    write_text(staging / SUMS_NAME, format_sums((file.name, file.sha256) for file in files))
    return manifest
