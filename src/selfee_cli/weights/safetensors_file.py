"""The safetensors format, read strictly.

A file is 8 bytes of little-endian header length, a JSON header that gives each tensor's type, shape
and span, and the data. Every byte of the data must belong to exactly one tensor.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from selfee_cli.errors import SelfeeError
from selfee_cli.weights.storage import DataFile, StoredTensor, refuse_lfs_pointer, truncated

MAX_HEADER = 100_000_000
"""Bytes: the bound that the format's own library sets."""

ITEMSIZES = {
    "BOOL": 1, "U8": 1, "I8": 1, "F8_E4M3": 1, "F8_E5M2": 1, "U16": 2, "I16": 2, "F16": 2,
    "BF16": 2, "U32": 4, "I32": 4, "F32": 4, "U64": 8, "I64": 8, "F64": 8, "C64": 8,
}  # fmt: skip


def read_safetensors_header(file: DataFile) -> dict[str, StoredTensor]:
    """Give every tensor of an open file, in the order of their data.

    :class:`~selfee_cli.errors.MismatchError` where the file is not whole,
    :class:`~selfee_cli.errors.SelfeeError` where its header is not sound.
    """
    refuse_lfs_pointer(file)
    if file.size < 8:
        raise truncated(file.path, f"it has {file.size} bytes")
    length = int.from_bytes(file.read_bytes(0, 8), "little")
    if length == 0 and file.size > 8:
        raise truncated(file.path, "its header length is zero, as in a file never finished")
    if length > MAX_HEADER:
        raise _unsound(file.path, f"header length {length:,} is over {MAX_HEADER:,}")
    if 8 + length > file.size:
        raise truncated(file.path, f"its header needs {8 + length:,} bytes, it has {file.size:,}")
    header = parse_json_object(file.read_bytes(8, length), f"{file.path}: the header")
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict):
        raise _unsound(file.path, "__metadata__ is no object")
    tensors = [_entry(file.path, name, value, 8 + length) for name, value in header.items()]
    tensors.sort(key=lambda tensor: (tensor.offset, tensor.nbytes))
    _check_tiling(file, tensors, 8 + length)
    return {tensor.name: tensor for tensor in tensors}


def parse_json_object(data: bytes, what: str) -> dict[str, Any]:
    """Parse a JSON object that names no key twice; ``what`` begins the error message."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, value in pairs:
            if key in found:
                raise SelfeeError(f"{what} names {key!r} twice")
            found[key] = value
        return found

    try:
        parsed = json.loads(data.decode("utf-8"), object_pairs_hook=unique)
    except (ValueError, RecursionError):
        raise SelfeeError(f"{what} is not JSON", hint="download it again") from None
    if not isinstance(parsed, dict):
        raise SelfeeError(f"{what} is no JSON object")
    return parsed


def _entry(path: Path, name: str, value: object, data_start: int) -> StoredTensor:
    if not isinstance(value, Mapping) or set(value) != {"dtype", "shape", "data_offsets"}:
        raise _unsound(path, f"the entry of {name!r} has other keys than it should")
    dtype, shape, offsets = value["dtype"], value["shape"], value["data_offsets"]
    if not isinstance(dtype, str) or dtype not in ITEMSIZES:
        raise _unsound(path, f"{name!r} has the unknown type {dtype!r:.40}")
    if not _is_counts(shape) or not _is_counts(offsets) or len(offsets) != 2:
        raise _unsound(path, f"{name!r} has no sound shape and offsets")
    start, end = offsets
    expected = math.prod(shape) * ITEMSIZES[dtype]
    if end - start != expected:
        raise _unsound(path, f"{name!r} needs {expected:,} bytes but spans {end - start:,}")
    return StoredTensor(
        name=name, dtype=dtype, shape=tuple(shape), offset=data_start + start, nbytes=expected
    )


def _is_counts(value: object) -> bool:
    return isinstance(value, list) and all(type(item) is int and item >= 0 for item in value)


def _check_tiling(file: DataFile, tensors: list[StoredTensor], data_start: int) -> None:
    at = data_start
    for tensor in tensors:
        if tensor.offset < at:
            raise _unsound(file.path, f"{tensor.name!r} overlaps another tensor")
        if tensor.offset > at:
            raise _unsound(
                file.path, f"a hole of {tensor.offset - at:,} bytes before {tensor.name!r}"
            )
        at += tensor.nbytes
    if at > file.size:
        raise truncated(file.path, f"its tensors need {at:,} bytes, it has {file.size:,}")
    if at < file.size:
        raise _unsound(file.path, f"{file.size - at:,} bytes after the last tensor")


def _unsound(path: Path, reason: str) -> SelfeeError:
    return SelfeeError(
        f"{path} is not a sound safetensors file: {reason}", hint="download it again"
    )
