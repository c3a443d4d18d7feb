"""PyTorch's zip files (``.bin``, ``.pth``), read without executing anything.

``torch.save`` writes a zip archive of uncompressed entries: ``data.pkl``, a pickle that describes
the tensors, and ``data/KEY``, the bytes of each storage. A pickle is a program;
:mod:`~selfee_cli.weights.pickle_machine` steps through it without executing anything.
"""

from __future__ import annotations

import math
import zlib
from pathlib import Path

from selfee_cli.errors import SelfeeError
from selfee_cli.weights.bounds import MAX_TENSORS, is_name, shown
from selfee_cli.weights.pickle_machine import PickleMachine, Refusal, TensorView
from selfee_cli.weights.safetensors_file import ITEMSIZES
from selfee_cli.weights.storage import DataFile, StoredTensor, refuse_lfs_pointer, truncated
from selfee_cli.weights.zip_directory import ZipEntry, read_zip_directory

MAX_PICKLE = 8 << 20
"""Bytes of ``data.pkl``; the largest LLaMA needs a hundredth of it."""
NEWEST_VERSION = 10
"""Of the archive's layout, the last one that torch reads."""


def read_torch_zip(file: DataFile) -> dict[str, StoredTensor]:
    """Give every tensor of an open file of ``torch.save``, in the order of its state dict.

    :class:`~selfee_cli.errors.MismatchError` where the file is not whole,
    :class:`~selfee_cli.errors.SelfeeError` where it is in the old format, asks for what a state
    dict does not need, or holds views that are not contiguous.
    """
    refuse_lfs_pointer(file)
    start = file.read_bytes(0, min(file.size, 4))
    if start != b"PK\x03\x04":
        raise _not_a_zip(file.path, start)
    try:
        archive = _Archive(file)
        state = PickleMachine().run(archive.pickle())
        if not isinstance(state, dict):
            raise Refusal("it holds no mapping of names to tensors")
        if len(state) > MAX_TENSORS:
            raise Refusal(f"it holds {len(state):,} tensors, over {MAX_TENSORS:,}")
        return {name: _locate(archive, name, value) for name, value in state.items()}
    except Refusal as refusal:
        raise SelfeeError(
            f"{file.path} is refused: {refusal}",
            hint="get the file from a source you trust, or the same weights as safetensors",
        ) from None


class _Archive:
    """What ``torch.save`` wrote beside the storages, and where those lie."""

    def __init__(self, file: DataFile) -> None:
        self._file = file
        self._entries = read_zip_directory(file)
        pickles = [name for name in self._entries if name.split("/")[1:] == ["data.pkl"]]
        if len(pickles) != 1:
            raise Refusal("no file of torch.save: there is no single data.pkl in it")
        self._root = pickles[0].removesuffix("data.pkl")
        self._check_version()
        order = self._small("byteorder")
        if order not in (None, b"little", b"big"):
            raise Refusal("its byte order is neither little nor big")
        self.is_big_endian = order == b"big"
        """Whether storages were written on a big-endian machine."""

    def pickle(self) -> bytes:
        """The bytes of ``data.pkl``."""
        entry = self.entry("data.pkl")
        if entry.size > MAX_PICKLE:
            raise Refusal(f"its data.pkl has {entry.size:,} bytes, over {MAX_PICKLE:,}")
        data = self._file.read_bytes(entry.offset, entry.size)
        # torch writes 0 where it is told to compute none
        if entry.crc and zlib.crc32(data) != entry.crc:
            raise truncated(self._file.path, "the checksum of its data.pkl is wrong")
        return data

    def entry(self, name: str) -> ZipEntry:
        """Where an entry's data lies."""
        found = self._entries.get(self._root + name)
        if found is None:
            raise Refusal(f"its entry {shown(name)} is missing")
        return found

    def _check_version(self) -> None:
        version = self._small("version")
        if version is None:
            return
        text = version.decode("ascii", "replace").strip()
        if not text.isdecimal() or not 1 <= int(text) <= NEWEST_VERSION:
            raise Refusal(f"its version is not one of 1 to {NEWEST_VERSION}")

    def _small(self, name: str) -> bytes | None:
        """A few bytes that stand in an entry of their own; ``None`` where it is not there."""
        found = self._entries.get(self._root + name)
        if found is None:
            return None
        return self._file.read_bytes(found.offset, min(found.size, 16))


def _locate(archive: _Archive, name: str, value: object) -> StoredTensor:
    if not is_name(name):
        raise Refusal(f"{shown(name)} in it is no name for a tensor")
    if not isinstance(value, TensorView):
        raise Refusal(f"{shown(name)} in it is no tensor")
    itemsize = ITEMSIZES[value.storage.dtype]
    size = math.prod(value.shape)
    if not _is_contiguous(value):
        raise Refusal(f"{shown(name)} is a transposed or strided view; save it contiguous")
    if value.offset + size > value.storage.size:
        raise Refusal(f"{shown(name)} reaches past its storage")
    entry = archive.entry(f"data/{value.storage.key}")
    if entry.size != value.storage.size * itemsize:
        raise Refusal(f"the storage of {shown(name)} has not the size it should")
    return StoredTensor(
        name=name,
        dtype=value.storage.dtype,
        shape=value.shape,
        offset=entry.offset + value.offset * itemsize,
        nbytes=size * itemsize,
        byteswapped=archive.is_big_endian,
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
