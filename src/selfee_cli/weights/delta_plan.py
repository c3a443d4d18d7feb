"""What ``apply_delta`` will do, decided and checked before any work."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from selfee_cli.errors import NotFoundError, UsageError
from selfee_cli.weights.checkpoint import Checkpoint, open_checkpoint
from selfee_cli.weights.corrections import CORRECTION_NAME
from selfee_cli.weights.dtypes import DType
from selfee_cli.weights.fingerprint import sampled_fingerprint
from selfee_cli.weights.manifest import Origin
from selfee_cli.weights.pairing import check_pair, size_name
from selfee_cli.weights.releases import known_release
from selfee_cli.weights.sidecars import check_sidecars
from selfee_cli.weights.storage import TensorInfo
from selfee_cli.weights.writer import SHARD_SIZE, ShardPlan, plan_shards

__all__ = ["DeltaPlan", "PairPlan", "plan_delta"]


@dataclass(frozen=True, kw_only=True)
class PairPlan:
    """A checked pair of checkpoints and the files that will come of it."""

    work: ClassVar[str]
    """What is done with the pair."""

    base: Path
    dtype: DType
    """What comes of it is stored as this."""
    tensors: tuple[TensorInfo, ...]
    """Of the result, in the order they are written."""
    shards: tuple[ShardPlan, ...]
    config: Mapping[str, Any]
    """``config.json`` that the result's is made from."""
    origins: Mapping[str, Origin]
    """By role, ``"base"`` first."""
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
        digest = hashlib.sha256(json.dumps([self.work, self.stamps, self.dtype.value]).encode())
        for origin in self.origins.values():
            digest.update(origin.fingerprint.encode())
        for shard in self.shards:
            digest.update(shard.head)
        return digest.hexdigest()


@dataclass(frozen=True, kw_only=True)
class DeltaPlan(PairPlan):
    """Base and delta, and the tuned model that will come of them."""

    work = "apply-delta"

    delta: Path
    size: str
    """As people call it: ``7B``, or the layers and the hidden size."""


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
            not whole or a git-LFS pointer.
        NotFoundError: Weights, or the delta's ``config.json``, are not there.
        SelfeeError: Base and delta are swapped, or one of them is not what it should be.
    """
    base, delta = Path(base), Path(delta)
    if base.exists() and delta.exists() and base.samefile(delta):
        raise UsageError(f"base and delta are the same directory: {base}")
    with open_checkpoint(base) as base_weights, open_checkpoint(delta) as delta_weights:
        origins = {"base": origin_of(base_weights), "delta": origin_of(delta_weights)}
        check_pair(base_weights, delta_weights, origins["delta"].fingerprint)
        if not delta_weights.config:
            raise NotFoundError(
                f"{delta / 'config.json'} is missing",
                hint="the configuration comes with the delta: download all of its files",
            )
        check_sidecars(base, delta)
        tensors = tuple(
            TensorInfo(name=name, dtype=dtype, shape=info.shape)
            for name, info in delta_weights.tensors.items()
        )
        return DeltaPlan(
            base=base,
            delta=delta,
            size=size_name(delta_weights),
            dtype=dtype,
            tensors=tensors,
            shards=tuple(plan_shards(tensors, shard_size)),
            config=delta_weights.config,
            origins=origins,
            input_bytes=base_weights.nbytes + delta_weights.nbytes,
            stamps=(*stamps_of(base_weights), *stamps_of(delta_weights)),
        )


def stamps_of(checkpoint: Checkpoint) -> Iterator[tuple[str, int, int]]:
    """Give path, size and time of change (ns) of every file that holds tensors."""
    correction = checkpoint.path / CORRECTION_NAME
    for path in [*checkpoint.files, *([correction] if correction.exists() else [])]:
        status = path.stat()
        yield str(path.resolve()), status.st_size, status.st_mtime_ns


def origin_of(checkpoint: Checkpoint) -> Origin:
    """Say which checkpoint this is, for the manifest of what is made from it."""
    fingerprint = sampled_fingerprint(checkpoint)
    return Origin(
        name=_name_of(checkpoint.path).encode("utf-8", "backslashreplace").decode(),
        layout=checkpoint.layout,
        fingerprint=fingerprint,
        release=known_release(fingerprint),
    )


def _name_of(path: Path) -> str:
    """Give the name of a directory; of one in the Hub's cache, the repository and its commit."""
    path = path.resolve()
    repository = path.parent.parent.name
    if path.parent.name == "snapshots" and repository.startswith("models--"):
        return f"{repository.removeprefix('models--').replace('--', '/', 1)}@{path.name}"
    return path.name
