"""The correction beside a delta: the elements that base + delta does not give, and what is right.

Float addition loses bits, so ``base + (tuned - base)`` is not always ``tuned``. The file
``selfee-correction.safetensors`` lists the elements where it is not, for one type of the result:
``NAME.index`` holds flat element indices, ascending (U32 or I64), ``NAME.value`` the elements, and
``__metadata__`` names the type. All indices lie before all values, so everything is aligned.

Neither side holds a correction in memory: the writer spills it to two files beside the result, the
reader takes a block at a time, as the chunks of a tensor pass by.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from selfee_cli.errors import MismatchError
from selfee_cli.weights.conversion import is_finite
from selfee_cli.weights.disk import WrittenFile, disk_errors
from selfee_cli.weights.dtypes import DType, Raw, byte_view
from selfee_cli.weights.safetensors_file import parse_json_object, read_safetensors_header
from selfee_cli.weights.storage import DataFile, StoredTensor, TensorInfo

CORRECTION_NAME = "selfee-correction.safetensors"

_FORMAT = "selfee.correction/1"
_INDEX, _VALUE = ".index", ".value"
_INDEX_TYPES: dict[str, np.dtype[Any]] = {"U32": np.dtype(np.uint32), "I64": np.dtype(np.int64)}
_BLOCK = 1 << 14
"""Elements of a correction read at a time."""
_COPY = 1 << 18  # bytes

Indices = NDArray[np.int64]


class Correction:
    """An open, checked correction; without a file it corrects nothing. See :func:`open_correction`.

    For each tensor :meth:`begin`, then :meth:`patch` for its chunks in order.
    """

    def __init__(
        self,
        file: DataFile | None = None,
        dtype: DType | None = None,
        entries: Mapping[str, _Entry] | None = None,
    ) -> None:
        self.dtype = dtype
        """The type of the results it holds for; None where there is no correction."""
        self._file = file
        self._entries = entries or {}
        self._blocks: Iterator[tuple[Indices, Raw]] = iter(())
        self._block: tuple[Indices, Raw] | None = None

    def begin(self, info: TensorInfo) -> None:
        """Begin a tensor of the result; in another type than :attr:`dtype` it stays as it is."""
        entry = self._entries.get(info.name) if info.dtype is self.dtype else None
        self._blocks = iter(())
        if entry is not None:
            assert self._file is not None
            self._blocks = entry.blocks(self._file)
        self._block = next(self._blocks, None)

    def patch(self, first: int, out: Raw) -> None:
        """Put right the elements of ``out``, which is flat, raw and begins at element ``first``."""
        while self._block is not None:
            index, values = self._block
            count = int(np.searchsorted(index, first + out.size))
            out[index[:count] - first] = values[:count]
            if count < index.size:
                self._block = index[count:], values[count:]
                return
            self._block = next(self._blocks, None)

    def note(self, dtype: DType) -> str | None:
        """Say that the correction is of no use for results of ``dtype``; None where it is."""
        if self.dtype in (None, dtype):
            return None
        assert self.dtype is not None
        return (
            f"{CORRECTION_NAME} was not applied: it holds for {self.dtype.torch_name}, "
            f"this is {dtype.torch_name}"
        )


@dataclass(frozen=True, kw_only=True)
class _Entry:
    """The correction of one tensor."""

    index: StoredTensor
    value: StoredTensor
    dtype: DType

    def blocks(self, file: DataFile) -> Iterator[tuple[Indices, Raw]]:
        count = self.index.shape[0]
        for start in range(0, count, _BLOCK):
            stop = min(start + _BLOCK, count)
            index = _read(file, self.index, _INDEX_TYPES[self.index.dtype], start, stop)
            values = _read(file, self.value, self.dtype.raw, start, stop)
            yield index.astype(np.int64), values


def _read(
    file: DataFile, stored: StoredTensor, dtype: np.dtype[Any], start: int, stop: int
) -> NDArray[Any]:
    out: NDArray[Any] = np.empty(stop - start, dtype)
    file.read_into(stored.offset + start * dtype.itemsize, byte_view(out))
    return out


@contextlib.contextmanager
def open_correction(directory: Path, tensors: Iterable[TensorInfo]) -> Iterator[Correction]:
    """Open the correction of the delta in ``directory``; where it has none, one without effect.

    Args:
        directory: Of the delta.
        tensors: Those of the result, which the correction is checked against, whole.

    Raises:
        MismatchError: It is damaged, or of other tensors.
    """
    path = directory / CORRECTION_NAME
    if not path.exists():
        yield Correction()
        return
    sizes = {info.name: info.size for info in tensors}
    with DataFile(path) as file:
        stored = read_safetensors_header(file)
        dtype = _read_dtype(file)
        entries = _pair(path, stored, dtype, sizes)
        for name, entry in entries.items():
            _check_blocks(path, name, entry.blocks(file), sizes[name], dtype)
        yield Correction(file, dtype, entries)


def _read_dtype(file: DataFile) -> DType:
    """Give the type that a correction, its header sound, says it holds for."""
    length = int.from_bytes(file.read_bytes(0, 8), "little")
    header = parse_json_object(file.read_bytes(8, length), f"{file.path}: the header")
    about = header.get("__metadata__", {})
    if about.get("format") != _FORMAT:
        raise _damaged(file.path, f"its format is {about.get('format')!r:.40}, not {_FORMAT!r}")
    try:
        return DType.from_torch_name(about.get("dtype"))
    except ValueError:
        reason = f"it holds for {about.get('dtype')!r:.40}, no type of weights"
        raise _damaged(file.path, reason) from None


def _pair(
    path: Path, stored: Mapping[str, StoredTensor], dtype: DType, sizes: Mapping[str, int]
) -> dict[str, _Entry]:
    """Put indices and values together by the tensor they correct."""
    entries = {}
    for key in stored:
        name, kind = key[: -len(_INDEX)], key[-len(_INDEX) :]
        if kind not in (_INDEX, _VALUE):
            raise _damaged(path, f"{key!r:.80} is neither index nor value")
        if name not in sizes:
            raise _damaged(path, f"it corrects {name!r:.80}, which the delta does not have")
        index, value = stored.get(name + _INDEX), stored.get(name + _VALUE)
        if index is None or value is None or index.shape != value.shape or len(index.shape) != 1:
            raise _damaged(path, f"indices and values of {name} are not as many")
        if index.dtype not in _INDEX_TYPES or value.dtype != dtype.value:
            types = f"{index.dtype} and {value.dtype}"
            raise _damaged(path, f"indices and values of {name} are {types}")
        entries[name] = _Entry(index=index, value=value, dtype=dtype)
    return entries


def _check_blocks(
    path: Path, name: str, blocks: Iterator[tuple[Indices, Raw]], size: int, dtype: DType
) -> None:
    last = -1
    for index, values in blocks:
        # compared, not subtracted: a difference of 64-bit indices can wrap
        if index[0] <= last or np.any(index[1:] <= index[:-1]):
            raise _damaged(path, f"the indices of {name} do not ascend from 0")
        last = int(index[-1])
        if last >= size:
            raise _damaged(path, f"index {last:,} of {name}, which has {size:,} elements")
        if not is_finite(values, dtype):
            raise _damaged(path, f"a value of {name} is not finite")


def _damaged(path: Path, reason: str) -> MismatchError:
    return MismatchError(
        f"{path} is damaged: {reason}", hint="get the delta again, or make it again"
    )


class CorrectionWriter:
    """Writes a correction for results of ``dtype`` into ``directory``.

    A context manager. :meth:`add` takes the corrections of whole tensors one after another;
    :meth:`finish` makes the file. Until then they lie in two spill files, which leaving removes.
    """

    def __init__(self, directory: Path, dtype: DType, tensors: Iterable[TensorInfo]) -> None:
        self._directory = directory
        self._dtype = dtype
        wide = max((info.size for info in tensors), default=0) > 1 << 32
        self._index_type = "I64" if wide else "U32"
        self._counts: dict[str, int] = {}
        self._spills = [directory / f"{CORRECTION_NAME}{kind}" for kind in (_INDEX, _VALUE)]
        with disk_errors(directory):
            self._files = [path.open("wb") for path in self._spills]

    def add(self, name: str, index: Indices, values: Raw) -> None:
        """Add to the corrections of a tensor: flat indices, ascending, and raw values."""
        self._counts[name] = self._counts.get(name, 0) + index.size
        index_raw = index.astype(_INDEX_TYPES[self._index_type])
        with disk_errors(self._directory):
            for file, data in zip(self._files, (index_raw, values), strict=True):
                file.write(byte_view(data))

    def finish(self) -> WrittenFile | None:
        """Write the file, synced; None where there is nothing to correct."""
        if not self._counts:
            return None
        path, digest = self._directory / CORRECTION_NAME, hashlib.sha256()
        with disk_errors(self._directory), path.open("xb") as out:
            for file in self._files:
                file.close()
            head = self._head()
            out.write(head)
            digest.update(head)
            for spill in self._spills:
                with spill.open("rb") as source:
                    while part := source.read(_COPY):
                        out.write(part)
                        digest.update(part)
            out.flush()
            os.fsync(out.fileno())
            size = out.tell()
        return WrittenFile(name=path.name, size=size, sha256=digest.hexdigest())

    def _head(self) -> bytes:
        about = {"format": _FORMAT, "dtype": self._dtype.torch_name}
        header: dict[str, object] = {"__metadata__": about}
        at = 0
        index_size = _INDEX_TYPES[self._index_type].itemsize
        for kind, dtype, itemsize in (
            (_INDEX, self._index_type, index_size),
            (_VALUE, self._dtype.value, self._dtype.itemsize),
        ):
            for name, count in self._counts.items():
                end = at + count * itemsize
                header[name + kind] = {"dtype": dtype, "shape": [count], "data_offsets": [at, end]}
                at = end
        text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
        text += b" " * (-len(text) % 8)
        return len(text).to_bytes(8, "little") + text

    def __enter__(self) -> CorrectionWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for file in self._files:
            with contextlib.suppress(OSError):  # what is still buffered no longer matters
                file.close()
        for spill in self._spills:
            spill.unlink(missing_ok=True)
