"""Conversion between storage types and float32: exact one way, rounded once the other.

Encoding rounds to nearest, ties to even, with subnormals and infinities as IEEE 754 has them; NaN
stays NaN. The 16-bit types are converted by numkong, whose vector instructions take a tenth of the
time of numpy's conversion of halves one by one. Which instructions these are depends on the
processor, so before a process relies on them they must get every 16-bit pattern right, and all that
lies on and beside the middle between two. Otherwise numpy does the work.

Arrays passed in are flat, contiguous, of equal length and do not overlap.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

import numpy as np

from selfee_cli.weights.dtypes import DType, Floats, Raw

numkong: Any
try:
    import numkong
except ImportError:  # there is no wheel for every system
    numkong = None

_U16 = np.uint16
_U32 = np.uint32
_OVERFLOW = {  # the bits of the least float32 that no longer rounds to a finite value
    DType.F16: 0x477FF000,  # halfway from 65504, the largest half, to 2**16
    DType.BF16: 0x7F7F8000,
    DType.F32: DType.F32.infinity,
}


def decode(raw: Raw, dtype: DType, out: Floats) -> None:
    """Write the float32 values of ``raw`` into ``out``."""
    if dtype is DType.F32:
        np.copyto(out, raw)
    elif is_vectorised(dtype):
        numkong.astype(_typed(raw, dtype), "float32", out=out)
    else:
        plain_decode(raw, dtype, out)


def encode(values: Floats, dtype: DType, out: Raw) -> bool:
    """Round ``values`` into ``out``; return whether everything in ``out`` is finite."""
    finite = _below(values, _OVERFLOW[dtype])
    if dtype is DType.F32:
        np.copyto(out, values)
    elif finite and is_vectorised(dtype):  # numkong rounds some NaN up to zero
        numkong.astype(values, dtype.torch_name, out=_typed(out, dtype))
    else:
        plain_encode(values, dtype, out)
    return finite


def is_finite(raw: Raw, dtype: DType) -> bool:
    """Return whether ``raw`` holds neither infinities nor NaN."""
    return _below(raw, dtype.infinity)


def _below(raw: Raw, bits: int) -> bool:
    """Return whether the magnitudes of ``raw`` are all below the one with these ``bits``."""
    if not raw.size:
        return True
    signed, unsigned = (np.int32, _U32) if raw.itemsize == 4 else (np.int16, _U16)
    sign = 1 << (8 * raw.itemsize - 1)  # as signed the positive are above, else the negative
    return bool(
        np.maximum.reduce(raw.view(signed)) < bits
        and np.maximum.reduce(raw.view(unsigned)) < sign + bits
    )


def to_float32(raw: Raw, dtype: DType) -> Floats:
    """Decode an array of any shape into a new float32 array of that shape."""
    flat = np.ascontiguousarray(raw).reshape(-1)
    out = np.empty(flat.size, np.float32)
    decode(flat, dtype, out)
    return out.reshape(raw.shape)


def from_float32(values: Floats, dtype: DType) -> Raw:
    """Round a float32 array of any shape into a new raw array of that shape."""
    flat = np.ascontiguousarray(values, dtype=np.float32).reshape(-1)
    out = np.empty(flat.size, dtype.raw)
    encode(flat, dtype, out)
    return out.reshape(values.shape)


@cache
def is_vectorised(dtype: DType) -> bool:
    """Return whether numkong is there and converts ``dtype`` as numpy does, bit for bit."""
    if numkong is None or dtype is DType.F32:
        return False
    raw = np.arange(1 << 16, dtype=_U16)
    values, found = np.empty(raw.size, np.float32), np.empty(raw.size, np.float32)
    plain_decode(raw, dtype, values)
    numkong.astype(_typed(raw, dtype), "float32", out=found)
    nan = np.isnan(values)
    if not np.where(nan, np.isnan(found), found.view(_U32) == values.view(_U32)).all():
        return False
    near = values[raw & 0x7FFF < dtype.infinity - 1]  # nothing beside it overflows
    for beside in _beside(near, dtype):
        wanted, rounded = np.empty(beside.size, _U16), np.empty(beside.size, _U16)
        plain_encode(beside, dtype, wanted)
        numkong.astype(beside, dtype.torch_name, out=_typed(rounded, dtype))
        if not np.array_equal(rounded, wanted):
            return False
    return True


def _beside(values: Floats, dtype: DType) -> Iterator[Floats]:
    """Give the values of a 16-bit type, the middles between each and the next, and neighbours."""
    bits = values.view(_U32)
    middle = 1 << (12 if dtype is DType.F16 else 15)
    for offset in (0, 1, middle - 1, middle, middle + 1):
        yield (bits + _U32(offset)).view(np.float32)
    if dtype is DType.F16:  # its subnormals are wider apart than the bits of float32 tell
        middles = ((np.arange(1 << 10) + 0.5) * 2.0**-24).astype(np.float32).view(_U32)
        for near in (middles - _U32(1), middles, middles + _U32(1)):
            yield near.view(np.float32)
            yield (near | _U32(1 << 31)).view(np.float32)


def plain_decode(raw: Raw, dtype: DType, out: Floats) -> None:
    """Do what :func:`decode` does to a 16-bit type, with numpy alone."""
    if dtype is DType.F16:
        np.copyto(out, raw.view(np.float16))
    else:
        np.left_shift(raw.astype(_U32), _U32(16), out=out.view(_U32))


def plain_encode(values: Floats, dtype: DType, out: Raw) -> None:
    """Do what :func:`encode` does to a 16-bit type, with numpy alone."""
    if dtype is DType.F16:
        with np.errstate(over="ignore", invalid="ignore"):
            np.copyto(out.view(np.float16), values, casting="unsafe")
        return
    bits = values.view(_U32)
    rounded = (bits + _U32(0x7FFF) + ((bits >> _U32(16)) & _U32(1))) >> _U32(16)
    quiet = (bits >> _U32(16)) | _U32(0x40)
    np.copyto(out, np.where(np.isnan(values), quiet, rounded), casting="unsafe")


def _typed(raw: Raw, dtype: DType) -> Any:
    """Give the memory of ``raw`` as something that numkong knows the type of."""
    if dtype is DType.F16:
        return raw.view(np.float16)
    return numkong.from_pointer(raw.ctypes.data, (raw.size,), dtype.torch_name, owner=raw)
