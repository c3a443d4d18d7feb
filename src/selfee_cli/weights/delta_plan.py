"""What ``apply_delta`` will do, decided and checked before any work."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from selfee_cli.errors import MismatchError, NotFoundError, SelfeeError, UsageError
from selfee_cli.weights.checkpoint import Checkpoint, open_checkpoint
from selfee_cli.weights.dtypes import DType
from selfee_cli.weights.fingerprint import sampled_fingerprint
from selfee_cli.weights.identity import describe_delta, is_delta
from selfee_cli.weights.manifest import Origin, read_manifest
from selfee_cli.weights.releases import FINGERPRINTS
from selfee_cli.weights.storage import TensorInfo
from selfee_cli.weights.writer import SHARD_SIZE, ShardPlan, plan_shards

__all__ = ["DeltaPlan", "describe_delta", "plan_delta"]

VOCABULARY = frozenset({"model.embed_tokens.weight", "lm_head.weight"})
"""The tensors with a row a token."""


@dataclass(frozen=True, kw_only=True)
class DeltaPlan:
    """A checked pair of checkpoints and the files that will come of it."""

    base: Path
    delta: Path
    dtype: DType
    tensors: tuple[TensorInfo, ...]
    """Of the result, in the order they are written."""
    shards: tuple[ShardPlan, ...]
    config: Mapping[str, Any]
    """``config.json`` of the delta."""
    origins: Mapping[str, Origin]
    """``"base"`` and ``"delta"``."""
    input_bytes: int
    stamps: tuple[tuple[str, int, int], ...]
    """Path, size and time of change (ns) of every input file."""

    @property
    def output_bytes(self) -> int:
        """Size of the shards."""
        return sum(shard.nbytes for shard in self.shards)

    @property
    def parameters(self) -> int:
        """Elements of the result."""
        return sum(info.size for info in self.tensors)

    def key(self) -> str:
        """Name the work by its inputs and outputs: what another run may go on with."""
        digest = hashlib.sha256(json.dumps([self.stamps, self.dtype.value]).encode())
        for origin in self.origins.values():
            digest.update(origin.fingerprint.encode())
        for shard in self.shards:
            digest.update(shard.head)
        return digest.hexdigest()


def plan_delta(
    base: Path | str,
    delta: Path | str,
    *,
    dtype: DType = DType.F16,
    shard_size: int = SHARD_SIZE,
) -> DeltaPlan:
    """Check that ``delta`` belongs on ``base`` and plan the result.

    Args:
        base: Directory of the base model, in any layout.
        delta: Directory of the delta, in any layout.
        dtype: Storage type of the result; float16 unless told, as LLaMA's weights were published.
        shard_size: Bytes of data at most in a file of the result.

    Raises:
        MismatchError: Names or shapes differ by more than one row of the vocabulary, or a file is
            not whole.
        NotFoundError: Weights, or the delta's ``config.json``, are not there.
        SelfeeError: Base and delta are swapped, or one of them is not what it should be.
    """
    base, delta = Path(base), Path(delta)
    if base.exists() and delta.exists() and base.samefile(delta):
        raise UsageError(f"base and delta are the same directory: {base}")
    with open_checkpoint(base) as base_weights, open_checkpoint(delta) as delta_weights:
        _check_roles(base_weights, delta_weights)
        _check_shapes(base_weights, delta_weights)
        origins = {"base": _origin(base_weights), "delta": _origin(delta_weights)}
        _check_not_applied(base_weights, origins["delta"])
        if not delta_weights.config:
            raise NotFoundError(
                f"{delta / 'config.json'} is missing",
                hint="the configuration comes with the delta: download all of its files",
            )
        tensors = tuple(
            TensorInfo(name=name, dtype=dtype, shape=info.shape)
            for name, info in delta_weights.tensors.items()
        )
        return DeltaPlan(
            base=base,
            delta=delta,
            dtype=dtype,
            tensors=tensors,
            shards=tuple(plan_shards(tensors, shard_size)),
            config=delta_weights.config,
            origins=origins,
            input_bytes=base_weights.nbytes + delta_weights.nbytes,
            stamps=(*_stamps(base_weights), *_stamps(delta_weights)),
        )


def _stamps(checkpoint: Checkpoint) -> Iterator[tuple[str, int, int]]:
    for path in checkpoint.files:
        status = path.stat()
        yield str(path.resolve()), status.st_size, status.st_mtime_ns


def _origin(checkpoint: Checkpoint) -> Origin:
    fingerprint = sampled_fingerprint(checkpoint)
    return Origin(
        name=checkpoint.path.resolve().name,
        layout=checkpoint.layout,
        fingerprint=fingerprint,
        release=FINGERPRINTS.get(fingerprint),
    )


def _check_roles(base: Checkpoint, delta: Checkpoint) -> None:
    base_is_delta, delta_is_delta = is_delta(base), is_delta(delta)
    if base_is_delta and not delta_is_delta:
        raise _swapped(base, delta, f"{base.path} is a delta: {describe_delta(base)}")
    if base_is_delta:
        raise SelfeeError(
            f"the base {base.path} is itself a delta: {describe_delta(base)}",
            hint="give --base the original LLaMA weights",
        )
    if _vocabulary(base) == _vocabulary(delta) + 1:
        reason = f"{base.path} has {_vocabulary(base)} rows, {delta.path} {_vocabulary(delta)}"
        raise _swapped(base, delta, reason)
    if not delta_is_delta:
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


def _check_shapes(base: Checkpoint, delta: Checkpoint) -> None:
    for name in delta.tensors:
        if name not in base.tensors:
            raise _mismatch(base, f"the delta has {name}, the base has not")
    for name, wanted in base.tensors.items():
        if name not in delta.tensors:
            raise _mismatch(base, f"the base has {name}, the delta has not")
        found = delta.tensors[name]
        grown = (wanted.rows + 1, *wanted.shape[1:])
        if found.shape != wanted.shape and (name not in VOCABULARY or found.shape != grown):
            raise _mismatch(
                base,
                f"{name} is {list(wanted.shape)} in the base, {list(found.shape)} in the delta",
            )
    grows = {delta.tensors[n].rows - base.tensors[n].rows for n in VOCABULARY & set(base.tensors)}
    if len(grows) > 1:
        raise _mismatch(base, "embedding and head do not grow by the same row")


def _mismatch(base: Checkpoint, what: str) -> MismatchError:
    return MismatchError(
        f"base and delta do not belong together: {what}",
        hint=f"{base.path} must be the LLaMA of the delta's size (7B with 7B, 13B with 13B)",
    )


def _check_not_applied(base: Checkpoint, delta: Origin) -> None:
    manifest = read_manifest(base.path)
    applied = manifest.made_from.get("delta", {}) if manifest else {}
    if applied.get("fingerprint") == delta.fingerprint:
        raise SelfeeError(
            f"this delta was already applied: {base.path} was made with it",
            hint=f"use it as it is: selfee ask --model {base.path}",
        )
