"""Writing safetensors shards of bounded size, digested while they are written.

Everything is planned from the tensors' shapes first, so every header and file name is known before
the first byte of data. The eight bytes of header length are written last: a file cut short before
that is refused by every reader, instead of opening with tensors of zeros.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

import numpy as np

from selfee_cli.weights.digests import Crc32
from selfee_cli.weights.disk import (
    EarlySync,
    WrittenFile,
    disk_errors,
    reserve,
    write_all,
    write_json,
)
from selfee_cli.weights.dtypes import Raw, byte_view
from selfee_cli.weights.journal import FinishedShard, Journal
from selfee_cli.weights.storage import TensorInfo

INDEX_NAME = "model.safetensors.index.json"
SHARD_SIZE = 5_000_000_000
"""Bytes: the default bound of a shard."""
_PIECE = 1 << 19  # bytes written, then digested while they are in the cache


@dataclass(frozen=True, kw_only=True)
class WrittenTensor:
    """A finished tensor: its checksum is over its raw little-endian bytes."""

    info: TensorInfo
    file: str
    crc32: str


@dataclass(frozen=True, kw_only=True)
class ShardPlan:
    """A file to be: its tensors in order, and everything before their data."""

    name: str
    tensors: tuple[TensorInfo, ...]
    head: bytes

    @property
    def nbytes(self) -> int:
        """Size of the finished file."""
        return len(self.head) + sum(info.nbytes for info in self.tensors)


def plan_shards(tensors: Sequence[TensorInfo], shard_size: int) -> list[ShardPlan]:
    """Divide tensors, in order, into files of at most ``shard_size`` bytes of data.

    A tensor that is larger by itself has a file of its own.
    """
    groups: list[list[TensorInfo]] = []
    filled = 0
    for info in tensors:
        if not groups or filled + info.nbytes > shard_size:
            groups.append([])
            filled = 0
        groups[-1].append(info)
        filled += info.nbytes
    count = len(groups)
    names = [f"model-{n:05d}-of-{count:05d}.safetensors" for n in range(1, count + 1)]
    names = ["model.safetensors"] if count == 1 else names
    return [
        ShardPlan(name=name, tensors=tuple(group), head=_head(group))
        for name, group in zip(names, groups, strict=True)
    ]


def _head(tensors: Sequence[TensorInfo]) -> bytes:
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    at = 0
    for info in tensors:
        header[info.name] = {
            "dtype": info.dtype.value,
            "shape": list(info.shape),
            "data_offsets": [at, at + info.nbytes],
        }
        at += info.nbytes
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)  # the data begin on a multiple of 8
    return len(text).to_bytes(8, "little") + text


class ShardWriter:
    """Writes planned shards into a directory, one open at a time.

    A context manager. Entering reserves the space of every file to come, where the system can: a
    disk that is too small shows now, not after an hour. Data come by :meth:`write`, the tensors
    of :attr:`due` in order: all but those of shards that the ``journal`` knows as finished.
    Leaving without an error finishes the last file and writes the index where there is more than
    one shard; :attr:`files` and :attr:`tensors` then describe what was written. Leaving with one
    removes the files that are not finished, which have their full size from the beginning.
    """

    def __init__(
        self, directory: Path, shards: Sequence[ShardPlan], journal: Journal | None = None
    ) -> None:
        self.directory = directory
        self.shards = shards
        self.files: list[WrittenFile] = []
        self.tensors: list[WrittenTensor] = []
        self._journal = journal
        self._queue: list[tuple[ShardPlan, TensorInfo]] = []
        for shard in shards:
            if journal is not None and shard.name in journal.finished:
                self._take(shard, journal.finished[shard.name])
            else:
                self._queue += [(shard, info) for info in shard.tensors]
        self._begun: set[str] = set()  # files
        self._next = 0  # tensors begun
        self._left = 0  # bytes still to come of the open tensor
        self._file: BinaryIO | None = None
        self._sync: EarlySync
        self._file_digest = hashlib.sha256()
        self._checksum = Crc32()

    @property
    def due(self) -> list[TensorInfo]:
        """The tensors that are to be written, in order."""
        return [info for _, info in self._queue]

    def _take(self, shard: ShardPlan, finished: FinishedShard) -> None:
        """Count a shard that an earlier run finished as written."""
        self.files.append(finished.file)
        for info in shard.tensors:
            checksum = finished.tensors[info.name]
            self.tensors.append(WrittenTensor(info=info, file=shard.name, crc32=checksum))

    def write(self, name: str, data: Raw) -> None:
        """Append ``data``, raw, to the tensor ``name``, which must be the one that is due."""
        if not self._left:
            self._begin_tensor()
        shard, info = self._queue[self._next - 1]
        if name != info.name or data.nbytes > self._left or data.dtype != info.dtype.raw:
            raise ValueError(f"{data.nbytes} bytes of {name}: due are {self._left} of {info.name}")
        view = byte_view(np.ascontiguousarray(data))
        for start in range(0, view.nbytes, _PIECE):
            self._append(view[start : start + _PIECE])
        self._left -= view.nbytes
        if not self._left:
            checksum = self._checksum.hexdigest()
            self.tensors.append(WrittenTensor(info=info, file=shard.name, crc32=checksum))
            if info is shard.tensors[-1]:
                self._finish_file(shard)

    def _append(self, piece: memoryview) -> None:
        assert self._file is not None
        with disk_errors(self.directory):
            write_all(self._file, piece)
            self._sync.wrote(piece.nbytes)
        self._file_digest.update(piece)
        self._checksum.update(piece)

    def _begin_tensor(self) -> None:
        if self._next == len(self._queue):
            raise ValueError("every tensor was written")
        shard, info = self._queue[self._next]
        if info is shard.tensors[0]:
            self._begin_file(shard)
        self._next += 1
        self._left = info.nbytes
        self._checksum = Crc32()

    def _begin_file(self, shard: ShardPlan) -> None:
        with disk_errors(self.directory):
            self._file = (self.directory / shard.name).open("r+b", buffering=0)
            self._sync = EarlySync(self._file)
            write_all(self._file, bytes(8) + shard.head[8:])
        self._file_digest = hashlib.sha256(shard.head)

    def _finish_file(self, shard: ShardPlan) -> None:
        assert self._file is not None
        with disk_errors(self.directory):
            self._sync.finish()
            self._file.seek(0)
            write_all(self._file, shard.head[:8])
            os.fsync(self._file.fileno())
            self._file.close()
        self._file = None
        digest = self._file_digest.hexdigest()
        written = WrittenFile(name=shard.name, size=shard.nbytes, sha256=digest)
        self.files.append(written)
        if self._journal is not None:
            checksums = {t.info.name: t.crc32 for t in self.tensors if t.file == shard.name}
            self._journal.add(FinishedShard(file=written, tensors=checksums))

    def _write_index(self) -> None:
        index = {
            "metadata": {"total_size": sum(t.info.nbytes for t in self.tensors)},
            "weight_map": {info.name: s.name for s in self.shards for info in s.tensors},
        }
        self.files.append(write_json(self.directory / INDEX_NAME, index))

    def _remove_unfinished(self) -> None:
        finished = {file.name for file in self.files}
        for name in self._begun - finished:
            with contextlib.suppress(OSError):  # something else went wrong first
                (self.directory / name).unlink()

    def __enter__(self) -> ShardWriter:
        try:
            with disk_errors(self.directory):
                for shard in dict.fromkeys(shard for shard, _ in self._queue):
                    with (self.directory / shard.name).open("xb") as file:
                        self._begun.add(shard.name)
                        reserve(file, shard.nbytes)
        except BaseException:
            self._remove_unfinished()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._file is not None:
            self._sync.abandon()
            self._file.close()
        if error is not None:
            self._remove_unfinished()
        else:
            if self._left or self._next != len(self._queue):
                raise ValueError("not every tensor was written")
            written = {tensor.info.name: tensor for tensor in self.tensors}
            self.tensors = [written[info.name] for s in self.shards for info in s.tensors]
            if len(self.shards) > 1:
                self._write_index()
