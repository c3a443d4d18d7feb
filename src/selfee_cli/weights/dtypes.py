"""The three storage types of weights.

Storage is *raw*: 16-bit types are held as ``uint16`` bit patterns (numpy has no bfloat16), float32
as ``float32``. What the bits mean is known to :mod:`~selfee_cli.weights.conversion`.
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
    def infinity(self) -> int:
        """The bits of infinity; those of NaN are above it, all others below."""
        return _INFINITY[self]

    @classmethod
    def from_torch_name(cls, name: str) -> DType:
        """Give the type torch calls ``name``; ``ValueError`` where it is none of the three."""
        for dtype, torch_name in _TORCH_NAMES.items():
            if torch_name == name:
                return dtype
        raise ValueError(f"no such storage type: {name}")


_TORCH_NAMES = {DType.F16: "float16", DType.BF16: "bfloat16", DType.F32: "float32"}
_INFINITY = {DType.F16: 0x7C00, DType.BF16: 0x7F80, DType.F32: 0x7F800000}


def byte_view(raw: Raw) -> memoryview:
    """Give the bytes of a contiguous array, without a copy."""
    view: Any = raw.reshape(-1).view(np.uint8)
    return memoryview(view)
