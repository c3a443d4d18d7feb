"""Where tensors lie: files read by offset, and the row sources that put tensors together.

A :class:`RowSource` gives rows along axis 0 of one tensor in Hugging Face's form. In a safetensors
or ``.bin`` file that is one span of bytes; in Meta's layout it is spans of several files, joined,
and for two tensors a layer a permutation of rows as well.
"""

from __future__ import annotations

import math
import os
import stat
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

import numpy as np

from selfee_cli.errors import MismatchError, NotFoundError, SelfeeError
from selfee_cli.weights.dtypes import DType, Raw, byte_view

LFS_MARK = b"version https://git-lfs"


@dataclass(frozen=True, kw_only=True)
class TensorInfo:
    """What a header says of one tensor. A tensor of one dimension has rows of one element."""

    name: str
    dtype: DType
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """Elements."""
        return math.prod(self.shape)

    @property
    def rows(self) -> int:
        """Length of axis 0 (1 for a scalar)."""
        return self.shape[0] if self.shape else 1

    @property
    def row_size(self) -> int:
        """Elements in a row."""
        return math.prod(self.shape[1:])

    @property
    def nbytes(self) -> int:
        """Bytes in its own type."""
        return self.size * self.dtype.itemsize


@dataclass(frozen=True, kw_only=True)
class StoredTensor:
    """One tensor's span in one file; ``dtype`` is a safetensors name, not always one we read."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    offset: int
    nbytes: int
    byteswapped: bool = False


class DataFile:
    """A file open for reads by offset; safe to share between threads."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            if not stat.S_ISREG(path.stat().st_mode):  # a pipe would keep us waiting for ever
                raise SelfeeError(
                    f"cannot read {path}: it is no file",
                    hint="check that it is a file that you may read, and its disk",
                )
            self._file = path.open("rb", buffering=0)
        except FileNotFoundError:
            raise NotFoundError(f"{path} is missing", hint="download it again") from None
        except OSError as error:
            raise SelfeeError(
                f"cannot read {path}: {error.strerror}",
                hint="check that it is a file that you may read, and its disk",
            ) from None
        self._lock = threading.Lock()
        self.size = os.fstat(self._file.fileno()).st_size

    def read_into(self, offset: int, out: memoryview) -> None:
        """Fill ``out`` from ``offset``; :class:`MismatchError` where the file ends before."""
        done, wanted = 0, out.nbytes
        while done < wanted:
            try:
                count = self._read_some(offset + done, out[done:])
            except OSError as error:
                raise SelfeeError(
                    f"cannot read {self.path}: {error.strerror}",
                    hint="check that it is a file that you may read, and its disk",
                ) from None
            if not count:
                raise truncated(self.path, f"it ends before byte {offset + wanted:,}")
            done += count

    def read_bytes(self, offset: int, count: int) -> bytes:
        """Give ``count`` bytes from ``offset``."""
        out = bytearray(count)
        self.read_into(offset, memoryview(out))
        return bytes(out)

    def _read_some(self, offset: int, out: memoryview) -> int:
        if hasattr(os, "preadv"):
            return os.preadv(self._file.fileno(), [out], offset)
        with self._lock:
            self._file.seek(offset)
            return self._file.readinto(out) or 0

    def close(self) -> None:
        """Close the file; a second time does nothing."""
        self._file.close()

    def __enter__(self) -> DataFile:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def truncated(path: Path, reason: str) -> MismatchError:
    """Say that a file is not whole."""
    return MismatchError(f"{path} is not whole: {reason}", hint="download it again")


def refuse_lfs_pointer(file: DataFile) -> None:
    """Refuse the small text file that git leaves in place of a large one."""
    if file.read_bytes(0, min(file.size, len(LFS_MARK))) == LFS_MARK:
        raise MismatchError(
            f"{file.path} is a git-LFS pointer, not the file itself",
            hint="fetch what it stands for: git lfs pull, or hf download",
        )


def row_ranges(info: TensorInfo, elements: int) -> Iterator[tuple[int, int]]:
    """Divide a tensor's rows into (start, stop) ranges of ``elements`` or so, one row at least."""
    step = max(1, elements // max(info.row_size, 1))
    for start in range(0, info.rows, step):
        yield start, min(start + step, info.rows)


class RowSource(Protocol):
    """Rows of one tensor."""

    info: TensorInfo
    """The tensor's name, type and shape."""
    path: Path
    """The file it begins in."""

    def read_rows(self, start: int, stop: int, out: Raw) -> None:
        """Fill ``out``, of shape (stop - start, row size) and raw type, with rows."""
        ...


class StoredRows:
    """A tensor that is one contiguous span of one file."""

    def __init__(self, file: DataFile, stored: StoredTensor, dtype: DType) -> None:
        self.info = TensorInfo(name=stored.name, dtype=dtype, shape=stored.shape)
        self.path = file.path
        self._file = file
        self._stored = stored

    def read_rows(self, start: int, stop: int, out: Raw) -> None:
        """Fill ``out`` with one read where it is contiguous, else through a copy."""
        target = out if out.flags.c_contiguous else np.empty(out.shape, out.dtype)
        if target.size:
            row_bytes = self.info.row_size * self.info.dtype.itemsize
            self._file.read_into(self._stored.offset + start * row_bytes, byte_view(target))
        if self._stored.byteswapped:
            target.byteswap(inplace=True)
        if target is not out:
            out[...] = target


class JoinedRows:
    """Parts in several files, joined along axis 0 (as column-parallel layers are split)."""

    def __init__(self, name: str, parts: Sequence[RowSource]) -> None:
        first = parts[0].info
        rows = sum(part.info.rows for part in parts)
        self.info = TensorInfo(name=name, dtype=first.dtype, shape=(rows, *first.shape[1:]))
        self.path = parts[0].path
        self._parts = parts

    def read_rows(self, start: int, stop: int, out: Raw) -> None:
        """Fill ``out`` from each part the rows touch."""
        base = 0
        for part in self._parts:
            low, high = max(start, base), min(stop, base + part.info.rows)
            if low < high:
                part.read_rows(low - base, high - base, out[low - start : high - start])
            base += part.info.rows


class JoinedColumns:
    """Parts in several files, joined along axis 1 (as row-parallel layers are split)."""

    def __init__(self, name: str, parts: Sequence[RowSource]) -> None:
        first = parts[0].info
        columns = sum(part.info.shape[1] for part in parts)
        self.info = TensorInfo(name=name, dtype=first.dtype, shape=(first.shape[0], columns))
        self.path = parts[0].path
        self._parts = parts

    def read_rows(self, start: int, stop: int, out: Raw) -> None:
        """Fill the columns of ``out`` part by part."""
        left = 0
        for part in self._parts:
            right = left + part.info.shape[1]
            part.read_rows(start, stop, out[:, left:right])
            left = right


class HeadCache:
    """The head read last in the whole checkpoint: chunks in order ask for it twice."""

    def __init__(self) -> None:
        self.last: tuple[tuple[str, int], Raw] | None = None


class HalfSplitHeads:
    """Meta's query or key rows in Hugging Face's order.

    Meta rotates pairs of neighbouring rows in a head, Hugging Face the first half against the
    second: row ``t * head_dim / 2 + i`` of a head here is row ``2 * i + t`` there.
    """

    def __init__(self, name: str, source: RowSource, head_dim: int, cache: HeadCache) -> None:
        self.info = TensorInfo(name=name, dtype=source.info.dtype, shape=source.info.shape)
        self.path = source.path
        self._source = source
        self._head_dim = head_dim
        self._cache = cache

    def read_rows(self, start: int, stop: int, out: Raw) -> None:
        """Fill ``out`` head by head."""
        done = start
        while done < stop:
            head, within = divmod(done, self._head_dim)
            count = min(stop - done, self._head_dim - within)
            target = out[done - start : done - start + count]
            if count == 1:
                self._read_row(head, within, target)
            else:
                target[...] = self._head(head)[within : within + count]
            done += count

    def _read_row(self, head: int, within: int, out: Raw) -> None:
        half, pair = divmod(within, self._head_dim // 2)
        row = head * self._head_dim + 2 * pair + half
        self._source.read_rows(row, row + 1, out)

    def _head(self, head: int) -> Raw:
        last = self._cache.last
        if last is not None and last[0] == (self.info.name, head):
            return last[1]
        info, size = self.info, self._head_dim
        rows: np.ndarray[Any, Any] = np.empty((size, info.row_size), info.dtype.raw)
        self._source.read_rows(head * size, (head + 1) * size, rows)
        split = rows.reshape(size // 2, 2, -1).swapaxes(0, 1).reshape(size, -1)
        self._cache.last = ((self.info.name, head), split)
        return split
