"""Do a base and a delta belong together? Checked before any work, from headers and a few rows."""

from __future__ import annotations

import numpy as np

from selfee_cli.errors import MismatchError, SelfeeError
from selfee_cli.weights.checkpoint import Checkpoint
from selfee_cli.weights.conversion import to_float32
from selfee_cli.weights.dtypes import Floats
from selfee_cli.weights.identity import describe_delta, is_delta
from selfee_cli.weights.manifest import read_manifest
from selfee_cli.weights.storage import row_ranges

VOCABULARY = frozenset({"model.embed_tokens.weight", "lm_head.weight"})
"""The tensors with a row a token."""

_SIZES = {(32, 4096): "7B", (40, 5120): "13B", (60, 6656): "33B", (80, 8192): "65B"}
"""LLaMA-1 by layers and hidden size."""

_ALIKE = 0.5  # correlation: noise stays far below, the same delta is near 1
_CHUNK = 1 << 18  # elements


def check_pair(base: Checkpoint, delta: Checkpoint, delta_fingerprint: str) -> None:
    """Raise where ``delta`` cannot or must not be added to ``base``.

    Raises:
        MismatchError: Names or shapes differ by more than one row of the vocabulary.
        SelfeeError: Base and delta are swapped, one is not what it should be, or the delta was
            added to the base before.
    """
    _check_roles(base, delta)
    check_shapes(base, delta, "delta")
    _check_not_applied(base, delta, delta_fingerprint)


def size_name(checkpoint: Checkpoint) -> str:
    """Give the size as people call it, ``7B``, or the layers and the hidden size."""
    layers, hidden = _size(checkpoint)
    return _SIZES.get((layers, hidden), f"{layers} layers of {hidden}")


def _size(checkpoint: Checkpoint) -> tuple[int, int]:
    layers = {name.split(".")[2] for name in checkpoint.tensors if name.startswith("model.layers.")}
    embedding = checkpoint.tensors.get("model.embed_tokens.weight")
    return len(layers), embedding.row_size if embedding else 0


def _check_roles(base: Checkpoint, delta: Checkpoint) -> None:
    base_is_delta, delta_is_delta = is_delta(base), is_delta(delta)
    if base_is_delta and not delta_is_delta:
        raise _swapped(base, delta, f"{base.path} is a delta: {describe_delta(base)}")
    if base_is_delta:
        raise SelfeeError(
            f"the base {base.path} is itself a delta: {describe_delta(base)}",
            hint="give --base the original LLaMA weights",
        )
    if delta_is_delta:
        return
    if _vocabulary(base) == _vocabulary(delta) + 1:
        reason = f"{base.path} has {_vocabulary(base)} rows, {delta.path} {_vocabulary(delta)}"
        raise _swapped(base, delta, reason)
    raise SelfeeError(
        f"{delta.path} is a whole model, not a delta: its norm weights are not near 0",
        hint="it needs no base: selfee ask --model DIR; or give --delta the published delta",
    )


def _swapped(base: Checkpoint, delta: Checkpoint, reason: str) -> SelfeeError:
    return SelfeeError(
        f"base and delta are swapped: {reason}",
        hint=f"use --base {delta.path} --delta {base.path}",
    )


def _vocabulary(checkpoint: Checkpoint) -> int:
    return max(
        (checkpoint.tensors[n].rows for n in VOCABULARY & set(checkpoint.tensors)), default=0
    )


def check_shapes(base: Checkpoint, other: Checkpoint, role: str) -> None:
    """Raise where the names or shapes of ``other``, the ``role`` of the pair, are not the base's.

    Embedding and head may both have one row more.

    Raises:
        MismatchError: Names the tensor and both shapes.
    """
    if _size(base) != _size(other):
        raise _mismatch(base, role, f"the base is {size_name(base)}, the {role} {size_name(other)}")
    for name in other.tensors:
        if name not in base.tensors:
            raise _mismatch(base, role, f"the {role} has {name}, the base has not")
    for name, wanted in base.tensors.items():
        if name not in other.tensors:
            raise _mismatch(base, role, f"the base has {name}, the {role} has not")
        found = other.tensors[name]
        grown = (wanted.rows + 1, *wanted.shape[1:])
        if found.shape != wanted.shape and (name not in VOCABULARY or found.shape != grown):
            shapes = f"{list(wanted.shape)} in the base, {list(found.shape)} in the {role}"
            raise _mismatch(base, role, f"{name} is {shapes}")
    grows = {other.tensors[n].rows - base.tensors[n].rows for n in VOCABULARY & set(base.tensors)}
    if len(grows) > 1:
        raise _mismatch(base, role, "embedding and head do not grow by the same row")


def _mismatch(base: Checkpoint, role: str, what: str) -> MismatchError:
    return MismatchError(
        f"base and {role} do not belong together: {what}",
        hint=f"{base.path} must be the LLaMA of the {role}'s size (7B with 7B, 13B with 13B)",
    )


def _check_not_applied(base: Checkpoint, delta: Checkpoint, fingerprint: str) -> None:
    manifest = read_manifest(base.path)
    applied = manifest.made_from.get("delta", {}) if manifest else {}
    if applied.get("fingerprint") == fingerprint or _holds(base, delta):
        raise SelfeeError(
            f"this delta was already applied: {base.path} was made with it",
            hint=f"use it as it is: selfee ask --model {base.path}",
        )


def _holds(base: Checkpoint, delta: Checkpoint) -> bool:
    """Whether the base is the sum already, told by the row of ``[PAD]``.

    That row was made as the mean of the others. So in the sum it departs from their mean just as
    the delta's own last row departs from the mean of the delta's rows; in LLaMA itself no row has
    anything to do with that. Only a base with as many rows as the delta can be the sum.
    """
    for name in sorted(VOCABULARY & set(base.tensors)):
        info = base.tensors[name]
        if info.shape != delta.tensors[name].shape or info.rows < 2 or info.row_size < 16:
            continue
        ours, theirs = _departure(base, name), _departure(delta, name)
        if not np.isfinite(ours).all() or not ours.any() or not theirs.any():
            continue
        if float(np.corrcoef(ours, theirs)[0, 1]) > _ALIKE:
            return True
    return False


def _departure(checkpoint: Checkpoint, name: str) -> Floats:
    """Give the last row less the mean of the rows before it."""
    info = checkpoint.tensors[name]
    total = np.zeros(info.row_size, np.float64)
    for start, stop in row_ranges(info, _CHUNK):
        rows = to_float32(checkpoint.read_rows(name, start, stop), info.dtype)
        total += rows.sum(0, dtype=np.float64)
    last = rows[-1].astype(np.float64)
    departure: Floats = (last - (total - last) / (info.rows - 1)).astype(np.float32)
    return departure
