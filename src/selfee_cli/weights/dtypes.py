"""The three storage types of weights, and exact conversion between them and float32.

Storage is *raw*: 16-bit types are held as ``uint16`` bit patterns (numpy has no bfloat16), float32
as ``float32``. Decoding is exact; encoding rounds once, to nearest, ties to even, with subnormals,
infinities and NaN as IEEE 754 has them.

numpy converts halves one by one; the :class:`Codec` does it in vector instructions instead:

* a half becomes a float32 by moving its bits into place and scaling by 2**112;
* a float32 becomes a half by adding a power of two so large that the float32 addition itself rounds
  at the half's last place, after which the low bits of the sum are the significand.
"""

from __future__ import annotations

from enum import Enum
from typing import Any

import numpy as np
from numpy.typing import NDArray

Raw = NDArray[Any]
"""Raw storage: ``uint16`` bit patterns for F16 and BF16, ``float32`` for F32."""

Floats = NDArray[np.float32]


class DType(Enum):
    """A storage type; the value is its safetensors name."""

    F16 = "F16"
    BF16 = "BF16"
    F32 = "F32"

    @property
    def itemsize(self) -> int:
        """Bytes an element takes."""
        return 4 if self is DType.F32 else 2

    @property
    def torch_name(self) -> str:
        """The name torch and ``config.json`` use: ``float16``, ``bfloat16`` or ``float32``."""
        return _TORCH_NAMES[self]

    @property
    def raw(self) -> np.dtype[Any]:
        """The numpy type of raw storage."""
        return np.dtype(np.float32) if self is DType.F32 else np.dtype(np.uint16)

    @property
    def overflow(self) -> float:
        """The least magnitude that no longer rounds to a finite value of this type."""
        return _OVERFLOW[self]

    @classmethod
    def from_torch_name(cls, name: str) -> DType:
        """Give the type torch calls ``name``; ``ValueError`` where it is none of the three."""
        for dtype, torch_name in _TORCH_NAMES.items():
            if torch_name == name:
                return dtype
        raise ValueError(f"no such storage type: {name}")


_TORCH_NAMES = {DType.F16: "float16", DType.BF16: "bfloat16", DType.F32: "float32"}
_OVERFLOW = {
    DType.F16: 65520.0,  # halfway from 65504, the largest half, to 2**16
    DType.BF16: (2.0 - 2.0**-8) * 2.0**127,
    DType.F32: float("inf"),
}

_U16 = np.uint16
_U32 = np.uint32
_HALF_INF = 0x7C00
_HALF_SCALE = np.float32(2.0**112)  # moves a half's exponent bias of 15 to a float32's 127
_LEAST_NORMAL = np.float32(2.0**-14)
# Added to the bits of 2**e it gives 2**(e + 13) + 2048 last places. The power makes float32
# additions round at a half's last place; the 2048 cancels what is left of the two exponent biases
# modulo 2**16, which is all that is kept.
_ROUNDING = _U32((13 << 23) + 2048)


class Codec:
    """Conversion of chunks of up to ``capacity`` elements with scratch space that is made once.

    Not safe to share between threads. Arrays passed in are flat, contiguous and of equal length.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self._magnitude = np.empty(capacity, np.float32)
        self._power = np.empty(capacity, np.float32)
        # An array, because numpy vectorises `maximum` of two arrays but not of array and scalar.
        self._floor = np.full(capacity, _LEAST_NORMAL, np.float32)

    @staticmethod
    def scratch_bytes(capacity: int) -> int:
        """Give the bytes of the scratch space for ``capacity`` elements."""
        return 3 * 4 * capacity

    def decode(self, raw: Raw, dtype: DType, out: Floats) -> None:
        """Write the float32 values of ``raw`` into ``out``; exact for every bit pattern."""
        bits = out.view(_U32)
        if dtype is DType.F32:
            np.copyto(out, raw)
        elif dtype is DType.BF16:
            np.copyto(bits, raw)
            np.left_shift(bits, _U32(16), out=bits)
        elif self._has_specials(raw):
            np.copyto(out, raw.view(np.float16))
        else:
            np.copyto(out.view(np.int32), raw.view(np.int16))  # sign extended
            np.left_shift(bits, _U32(13), out=bits)
            np.bitwise_and(bits, _U32(0x8FFFE000), out=bits)
            np.multiply(out, _HALF_SCALE, out=out)

    def encode(self, values: Floats, dtype: DType, out: Raw) -> float:
        """Round ``values`` into ``out`` and return the largest magnitude among them.

        ``out`` may lie at the front of the values' own memory, which then hold nothing.

        The result is NaN where any value is NaN: ``encode(...) < dtype.overflow`` is true just when
        everything in ``out`` is finite.
        """
        magnitude = self._magnitude[: values.size]
        np.absolute(values, out=magnitude)
        peak = float(np.maximum.reduce(magnitude)) if values.size else 0.0
        if dtype is DType.F32:
            np.copyto(out, values)
        elif dtype is DType.BF16:
            self._encode_bfloat16(values, out, is_nan=peak != peak)
        elif peak < DType.F16.overflow:
            self._encode_half(values, magnitude, out)
        else:
            with np.errstate(over="ignore", invalid="ignore"):
                out[:] = values.astype(np.float16).view(_U16)
        return peak

    def _has_specials(self, raw: Raw) -> bool:
        if not raw.size:
            return False
        exponent_and_up = self._power.view(_U16)[: raw.size]
        np.bitwise_and(raw, _U16(0x7FFF), out=exponent_and_up)
        return int(np.maximum.reduce(exponent_and_up)) >= _HALF_INF

    def _encode_half(self, values: Floats, magnitude: Floats, out: Raw) -> None:
        power = self._power[: values.size]
        power_bits, sum_bits = power.view(_U32), magnitude.view(_U32)
        np.maximum(magnitude, self._floor[: values.size], out=power)  # subnormals share 2**-14's
        np.bitwise_and(power_bits, _U32(0x7F800000), out=power_bits)
        np.add(power_bits, _ROUNDING, out=power_bits)
        np.add(magnitude, power, out=magnitude)  # rounds; a carry runs on into the exponent below
        np.right_shift(power_bits, _U32(13), out=power_bits)
        np.add(sum_bits, power_bits, out=sum_bits)
        np.right_shift(values.view(_U32), _U32(16), out=power_bits)
        np.bitwise_and(power_bits, _U32(0x8000), out=power_bits)
        np.bitwise_or(sum_bits, power_bits, out=sum_bits)
        np.copyto(out, sum_bits, casting="unsafe")  # keeps the low 16 bits

    def _encode_bfloat16(self, values: Floats, out: Raw, *, is_nan: bool) -> None:
        bits = values.view(_U32)
        rounded = self._power[: values.size].view(_U32)
        np.right_shift(bits, _U32(16), out=rounded)
        np.bitwise_and(rounded, _U32(1), out=rounded)
        np.add(rounded, _U32(0x7FFF), out=rounded)
        np.add(rounded, bits, out=rounded)
        np.right_shift(rounded, _U32(16), out=rounded)
        if is_nan:
            where = np.isnan(values)
            rounded[where] = (bits[where] >> _U32(16)) | _U32(0x40)  # quiet, same sign
        np.copyto(out, rounded, casting="unsafe")


def byte_view(raw: Raw) -> memoryview:
    """Give the bytes of a contiguous array, without a copy."""
    view: Any = raw.reshape(-1).view(np.uint8)
    return memoryview(view)


def to_float32(raw: Raw, dtype: DType) -> Floats:
    """Decode an array of any shape into a new float32 array of that shape."""
    flat = np.ascontiguousarray(raw).reshape(-1)
    out = np.empty(flat.size, np.float32)
    Codec(max(flat.size, 1)).decode(flat, dtype, out)
    return out.reshape(raw.shape)


def from_float32(values: Floats, dtype: DType) -> Raw:
    """Round a float32 array of any shape into a new raw array of that shape."""
    flat = np.ascontiguousarray(values, dtype=np.float32).reshape(-1)
    out = np.empty(flat.size, dtype.raw)
    Codec(max(flat.size, 1)).encode(flat, dtype, out)
    return out.reshape(values.shape)
