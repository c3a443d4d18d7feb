"""What ``make_delta`` will do, decided and checked before any work."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from selfee_cli.errors import NotFoundError, SelfeeError, UsageError
from selfee_cli.weights.checkpoint import Checkpoint, open_checkpoint
from selfee_cli.weights.conversion import decode, encode
from selfee_cli.weights.delta_plan import PairPlan, origin_of, stamps_of
from selfee_cli.weights.dtypes import DType, Floats
from selfee_cli.weights.identity import describe_delta, is_delta_by, norms
from selfee_cli.weights.pairing import check_shapes
from selfee_cli.weights.sidecars import (
    COPIED,
    TOKENIZER,
    check_copied,
    named_files,
    stored_config,
)
from selfee_cli.weights.storage import TensorInfo
from selfee_cli.weights.writer import SHARD_SIZE, plan_shards

_CORRECTED = 0.016
"""Share of a float16 delta's elements that are not given back, at the most that was seen."""


@dataclass(frozen=True, kw_only=True)
class MakePlan(PairPlan):
    """Base and tuned model, and the delta that will come of them."""

    work = "make-delta"

    tuned: Path
    tuned_dtype: DType
    """The tuned weights are; float32 where theirs are of several types."""
    exact: bool
    """Whether a correction is made."""
    sidecars: tuple[Path, ...]
    """Small files of the tuned model, to be copied as they are."""

    @property
    def correction_bytes(self) -> int:
        """Space that a correction takes, about, and the spill files it is made of."""
        if not self.exact or self.dtype is DType.F32:
            return 0
        return round(_CORRECTED * self.parameters) * 2 * (4 + self.tuned_dtype.itemsize)


def plan_make_delta(
    base: Path | str,
    tuned: Path | str,
    *,
    dtype: DType = DType.F32,
    exact: bool = False,
    shard_size: int = SHARD_SIZE,
) -> MakePlan:
    """Check that ``tuned`` can have come from ``base`` and plan the delta.

    Args:
        base: Directory of the base model, in any layout.
        tuned: Directory of the tuned model, in any layout.
        dtype: Storage type of the delta; float32 loses least.
        exact: Store the elements that base + delta does not give.
        shard_size: Bytes of data at most in a file of the delta.

    Raises:
        MismatchError: Names or shapes differ by more than one row of the vocabulary, or a file is
            not whole or a git-LFS pointer.
        NotFoundError: Weights, or the tuned model's ``config.json``, are not there.
        SelfeeError: One of them is a delta itself, or nobody could tell the delta from a model.
        UsageError: They are the same directory.
    """
    base, tuned = Path(base), Path(tuned)
    if base.exists() and tuned.exists() and base.samefile(tuned):
        raise UsageError(
            f"base and tuned are the same directory: {base}",
            hint="--base takes the model before its training, --tuned the one after",
        )
    with open_checkpoint(base) as base_weights, open_checkpoint(tuned) as tuned_weights:
        _check_models(base_weights, tuned_weights)
        check_shapes(base_weights, tuned_weights, "tuned model")
        _check_told_apart(base_weights, tuned_weights, dtype)
        if not tuned_weights.config:
            raise NotFoundError(
                f"{tuned / 'config.json'} is missing",
                hint="the delta needs the tuned model's configuration",
            )
        sidecars = tuple(_sidecars(tuned_weights))
        check_copied(sidecars)
        tensors = tuple(
            TensorInfo(name=name, dtype=dtype, shape=info.shape)
            for name, info in tuned_weights.tensors.items()
        )
        kinds = {info.dtype for info in tuned_weights.tensors.values()}
        return MakePlan(
            base=base,
            tuned=tuned,
            dtype=dtype,
            tuned_dtype=kinds.pop() if len(kinds) == 1 else DType.F32,
            exact=exact,
            tensors=tensors,
            shards=tuple(plan_shards(tensors, shard_size)),
            config=stored_config(tuned_weights.config, tensors),
            sidecars=sidecars,
            origins={"base": origin_of(base_weights), "tuned": origin_of(tuned_weights)},
            input_bytes=base_weights.nbytes + tuned_weights.nbytes,
            stamps=(*stamps_of(base_weights), *stamps_of(tuned_weights)),
        )


def _check_models(base: Checkpoint, tuned: Checkpoint) -> None:
    for role, checkpoint in (("base", base), ("tuned", tuned)):
        reason = describe_delta(checkpoint)
        if reason is not None:
            raise SelfeeError(
                f"--{role} {checkpoint.path} is itself a delta: {reason}",
                hint="give whole models: selfee apply-delta makes one of a delta",
            )


def _check_told_apart(base: Checkpoint, tuned: Checkpoint, dtype: DType) -> None:
    """Refuse a pair whose delta ``apply_delta`` would take for a model."""
    before = dict(norms(base))
    with np.errstate(over="ignore", invalid="ignore"):  # the run tells it, with the tensor's name
        stored = [_stored(after - before[name], dtype) for name, after in norms(tuned)]
    if all(np.isfinite(values).all() for values in stored) and not is_delta_by(stored):
        raise SelfeeError(
            "this delta could not be told from a model: its norm weights are not near 0",
            hint="was --tuned trained from --base? training moves these weights only a little",
        )


def _stored(values: Floats, dtype: DType) -> Floats:
    """Give values as they come back from ``dtype``."""
    raw, back = np.empty(values.size, dtype.raw), np.empty(values.size, np.float32)
    encode(values, dtype, raw)
    decode(raw, dtype, back)
    return back


def _sidecars(tuned: Checkpoint) -> Iterator[Path]:
    found = named_files(tuned.path, (*TOKENIZER, *COPIED))
    yield from found
    beside = tuned.path.resolve().parent / "tokenizer.model"  # there Meta's download puts it
    names = {entry.name for entry in found}
    if tuned.layout == "meta" and beside.is_file() and beside.name not in names:
        yield beside
