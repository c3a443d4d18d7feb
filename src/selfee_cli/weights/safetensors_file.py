"""The safetensors format, read strictly.

A file is 8 bytes of little-endian header length, a JSON header that gives each tensor's type, shape
and span, and the data. Every byte of the data must belong to exactly one tensor.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from selfee_cli.errors import SelfeeError
from selfee_cli.weights.bounds import MAX_TENSORS, is_name, is_shape, shown
from selfee_cli.weights.storage import DataFile, StoredTensor, refuse_lfs_pointer, truncated

MAX_HEADER = 8 << 20
"""Bytes; the header of the largest LLaMA has 90 kB. The format's own library allows 100 MB."""
MAX_PARTS = 500_000
"""Values and keys in a JSON file, for each takes many times its bytes once it is parsed."""
MAX_DEPTH = 32
"""Objects and lists within each other in a JSON file."""

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
    if len(header) > MAX_TENSORS:
        raise _unsound(file.path, f"{len(header):,} tensors, over {MAX_TENSORS:,}")
    tensors = [_entry(file.path, name, value, 8 + length) for name, value in header.items()]
    tensors.sort(key=lambda tensor: (tensor.offset, tensor.nbytes))
    _check_tiling(file, tensors, 8 + length)
    return {tensor.name: tensor for tensor in tensors}


def parse_json_object(data: bytes, what: str) -> dict[str, Any]:
    """Parse a JSON object of bounded cost; ``what`` begins the error message.

    Refused is also what a parser takes in one way and another in another: a key twice, numbers that
    are not finite, half a surrogate pair.
    """

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            raise SelfeeError(
                f"{what} names {shown(_doubled(pairs))} twice", hint="download it again"
            )
        return found

    if sum(data.count(sign) for sign in b"[{:,") > MAX_PARTS:
        raise SelfeeError(f"{what} has more than {MAX_PARTS:,} parts", hint="download it again")
    try:
        parsed = json.loads(
            data.decode("utf-8"),
            object_pairs_hook=unique,
            parse_float=_finite,
            parse_constant=_finite,
        )
        if _is_deep(parsed):
            raise SelfeeError(
                f"{what} is nested more than {MAX_DEPTH} deep", hint="download it again"
            )
        if re.search(rb"\\u[dD]", data):
            json.dumps(parsed, ensure_ascii=False).encode("utf-8")  # fails on half a pair
    except (ValueError, RecursionError):
        raise SelfeeError(f"{what} is not JSON", hint="download it again") from None
    if not isinstance(parsed, dict):
        raise SelfeeError(f"{what} is no JSON object", hint="download it again")
    return parsed


def _doubled(pairs: list[tuple[str, Any]]) -> str | None:
    seen: set[str] = set()
    for key, _ in pairs:
        if key in seen:
            return key
        seen.add(key)
    return None


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError
    return value


def _is_deep(value: object) -> bool:
    level = [value]
    for _ in range(MAX_DEPTH):
        containers = [item for item in level if isinstance(item, dict | list)]
        level = []
        for item in containers:
            level.extend(item.values() if isinstance(item, dict) else item)
        if not level:
            return False
    return True


def _entry(path: Path, name: str, value: object, data_start: int) -> StoredTensor:
    if not is_name(name):
        raise _unsound(path, f"{shown(name)} is no name for a tensor")
    if not isinstance(value, Mapping) or set(value) != {"dtype", "shape", "data_offsets"}:
        raise _unsound(path, f"the entry of {shown(name)} has other keys than it should")
    dtype, shape, offsets = value["dtype"], value["shape"], value["data_offsets"]
    if not isinstance(dtype, str) or dtype not in ITEMSIZES:
        raise _unsound(path, f"{shown(name)} has the unknown type {shown(dtype)}")
    if not is_shape(shape, list) or not is_shape(offsets, list) or len(offsets) != 2:
        raise _unsound(path, f"{shown(name)} has no sound shape and offsets")
    start, end = offsets
    expected = math.prod(shape) * ITEMSIZES[dtype]
    if end - start != expected:
        raise _unsound(path, f"{shown(name)} needs {expected:,} bytes but spans {end - start:,}")
    return StoredTensor(
        name=name, dtype=dtype, shape=tuple(shape), offset=data_start + start, nbytes=expected
    )


def _check_tiling(file: DataFile, tensors: list[StoredTensor], data_start: int) -> None:
    at = data_start
    for tensor in tensors:
        if tensor.offset < at:
            raise _unsound(file.path, f"{shown(tensor.name)} overlaps another tensor")
        if tensor.offset > at:
            raise _unsound(
                file.path, f"a hole of {tensor.offset - at:,} bytes before {shown(tensor.name)}"
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
