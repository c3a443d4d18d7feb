"""PyTorch's zip files (``.bin``, ``.pth``), read without executing anything.

``torch.save`` writes a zip archive of uncompressed entries: ``data.pkl``, a pickle that describes
the tensors, and ``data/KEY``, the bytes of each storage. A pickle is a program;
:mod:`~selfee_cli.weights.pickle_machine` steps through it without executing anything.
"""

from __future__ import annotations

import math
import struct
import zipfile
from pathlib import Path

from selfee_cli.errors import SelfeeError
from selfee_cli.weights.pickle_machine import PickleMachine, Refusal, TensorView
from selfee_cli.weights.safetensors_file import ITEMSIZES
from selfee_cli.weights.storage import DataFile, StoredTensor, refuse_lfs_pointer, truncated

MAX_PICKLE = 8 << 20
"""Bytes of ``data.pkl``; the largest LLaMA needs a hundredth of it."""
MAX_ENTRIES = 100_000
"""Entries in the archive."""


def read_torch_zip(file: DataFile) -> dict[str, StoredTensor]:
    """Give every tensor of an open file of ``torch.save``, in the order of its state dict.

    :class:`~selfee_cli.errors.MismatchError` where the file is not whole,
    :class:`~selfee_cli.errors.SelfeeError` where it is in the old format, asks for what a state
    dict does not need, or holds views that are not contiguous.
    """
    refuse_lfs_pointer(file)
    archive = _Archive(file)
    try:
        state = PickleMachine().run(archive.pickle())
        if not isinstance(state, dict):
            raise Refusal("it holds no mapping of names to tensors")
        return {name: _locate(archive, name, value) for name, value in state.items()}
    except Refusal as refusal:
        raise SelfeeError(
            f"{file.path} is refused: {refusal}",
            hint="get the file from a source you trust, or the same weights as safetensors",
        ) from None


class _Archive:
    """The entries of an uncompressed zip file, by offset."""

    def __init__(self, file: DataFile) -> None:
        self._file = file
        start = file.read_bytes(0, min(file.size, 4))
        if start != b"PK\x03\x04":
            raise _not_a_zip(file.path, start)
        try:
            with zipfile.ZipFile(file.path) as archive:
                entries = archive.infolist()
        except (
            zipfile.BadZipFile,
            ValueError,
            NotImplementedError,
            EOFError,
            OSError,
            struct.error,
        ):
            raise truncated(file.path, "its zip directory is missing or broken") from None
        if len(entries) > MAX_ENTRIES:
            raise SelfeeError(f"{file.path} is refused: {len(entries):,} entries")
        self._entries = {entry.filename: entry for entry in entries}
        if len(self._entries) != len(entries):
            raise SelfeeError(f"{file.path} is refused: an entry stands in it twice")
        pickles = [name for name in self._entries if name.split("/")[1:] == ["data.pkl"]]
        if len(pickles) != 1:
            raise SelfeeError(f"{file.path} is no file of torch.save: no single data.pkl in it")
        self._root = pickles[0].removesuffix("data.pkl")

    def pickle(self) -> bytes:
        """The bytes of ``data.pkl``."""
        offset, size = self.span("data.pkl")
        if size > MAX_PICKLE:
            raise Refusal(f"its data.pkl has {size:,} bytes, over {MAX_PICKLE:,}")
        return self._file.read_bytes(offset, size)

    def is_big_endian(self) -> bool:
        """Whether storages were written on a big-endian machine."""
        if self._root + "byteorder" not in self._entries:
            return False
        offset, size = self.span("byteorder")
        order = self._file.read_bytes(offset, min(size, 16)).strip()
        if order not in (b"little", b"big"):
            raise Refusal(f"its byte order is {order!r}")
        return order == b"big"

    def span(self, name: str) -> tuple[int, int]:
        """Offset and size in bytes of an entry's data."""
        entry = self._entries.get(self._root + name)
        if entry is None:
            raise Refusal(f"its entry {name!r:.80} is missing")
        if entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & 1:
            raise Refusal(f"its entry {name!r:.80} is compressed or encrypted")
        if entry.header_offset < 0 or entry.header_offset + 30 > self._file.size:
            raise truncated(self._file.path, f"entry {name!r:.80} lies past its end")
        local = self._file.read_bytes(entry.header_offset, 30)
        if local[:4] != b"PK\x03\x04":
            raise Refusal(f"its entry {name!r:.80} has no header")
        lengths = int.from_bytes(local[26:28], "little") + int.from_bytes(local[28:30], "little")
        offset = entry.header_offset + 30 + lengths
        if offset + entry.file_size > self._file.size:
            raise truncated(self._file.path, f"entry {name!r:.80} runs past its end")
        return offset, entry.file_size


def _locate(archive: _Archive, name: str, value: object) -> StoredTensor:
    if not isinstance(value, TensorView):
        raise Refusal(f"{name!r:.80} in it is no tensor")
    itemsize = ITEMSIZES[value.storage.dtype]
    size = math.prod(value.shape)
    if not _is_contiguous(value):
        raise Refusal(f"{name!r:.80} is a transposed or strided view; save it contiguous")
    if value.offset + size > value.storage.size:
        raise Refusal(f"{name!r:.80} reaches past its storage")
    offset, nbytes = archive.span(f"data/{value.storage.key}")
    if nbytes != value.storage.size * itemsize:
        raise Refusal(f"the storage of {name!r:.80} has not the size it should")
    return StoredTensor(
        name=name,
        dtype=value.storage.dtype,
        shape=tuple(value.shape),
        offset=offset + value.offset * itemsize,
        nbytes=size * itemsize,
        byteswapped=archive.is_big_endian(),
    )


def _is_contiguous(tensor: TensorView) -> bool:
    if len(tensor.shape) != len(tensor.stride):
        return False
    size: int = math.prod(tensor.shape)
    expected = 1
    for length, stride in zip(reversed(tensor.shape), reversed(tensor.stride), strict=True):
        if length != 1 and stride != expected and size:
            return False
        expected *= length
    return True


def _not_a_zip(path: Path, start: bytes) -> SelfeeError:
    if start[:1] == b"\x80":
        return SelfeeError(
            f"{path} is in the format torch.save used before version 1.6",
            hint="load it once with torch and save it again, or get the weights as safetensors",
        )
    return truncated(path, "it does not begin as a file of torch.save does")
