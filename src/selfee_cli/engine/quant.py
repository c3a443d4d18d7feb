"""Weight-only quantisation: matrices in fewer bits, made one by one while a model is loaded.

int8 and fp8 (e4m3) have a scale for each output row, int4 a scale and a zero for each group of
inputs of a row. Activations stay as they are. Where torch has a kernel that multiplies with such
a matrix as it lies, and it gives the right product on this device, it is used; elsewhere the
matrix is restored, in the activations' format, for each product.
"""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812

from selfee_cli.errors import SelfeeError, UsageError

QUANTS = ("none", "int8", "int4", "fp8")
GROUPS = (128, 64, 32)
"""Inputs that share an int4 scale: the first that divides a row."""

_CENTRE = 8  # the int4 code of a group's zero
_TOLERANCE = 0.02  # of a kernel's product: its activations and scales are bfloat16
_LEAST_SCALE = 1e-12
_STRIP = 1 << 22  # weights that are quantised at a time


class Matrix(ABC):
    """A weight of shape (out, in) that activations are multiplied with."""

    nbytes: int
    """Bytes that a product reads."""

    @abstractmethod
    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """Return ``x @ weight.T``: (rows, in) to (rows, out).

        It is in the format of ``x``, or bfloat16 where that is float32, to which sums promote it.
        """


class Dense(Matrix):
    """The weight itself."""

    def __init__(self, weight: torch.Tensor) -> None:
        self.weight, self.nbytes = weight, weight.nbytes

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """Multiply."""
        return F.linear(x, self.weight)


class RowScaled(Matrix):
    """Codes in int8 or fp8, (out, in), and a scale for each row: ``codes * scale[:, None]``."""

    def __init__(self, codes: torch.Tensor, scale: torch.Tensor) -> None:
        self.codes, self.scale = codes, scale
        self.nbytes = codes.nbytes + scale.nbytes

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """Multiply with the codes, then scale the outputs."""
        if x.dtype is torch.float16:  # unscaled sums would overflow
            return F.linear(x, self.codes.to(x.dtype).mul_(self.scale.to(x.dtype)[:, None]))
        return F.linear(x, self.codes.to(x.dtype)) * self.scale.to(x.dtype)


class GroupScaled(Matrix):
    """Codes of four bits: ``(code - 8) * scale + zero`` of the group.

    Two are packed in a byte, the even input's in the low bits: (out, in / 2). Scales and zeros
    are (out, groups).
    """

    def __init__(self, packed: torch.Tensor, scale: torch.Tensor, zero: torch.Tensor) -> None:
        self.packed, self.scale, self.zero = packed, scale, zero
        self.nbytes = packed.nbytes + scale.nbytes + zero.nbytes

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """Restore the weight, then multiply."""
        return F.linear(x, self.restored(x.dtype))

    def codes(self) -> torch.Tensor:
        """Return the codes, a byte each: (out, in)."""
        halves = torch.stack((self.packed & 15, self.packed >> 4), dim=-1)
        return halves.view(len(self.packed), -1)

    def restored(self, dtype: torch.dtype) -> torch.Tensor:
        """Return the weight that the codes stand for: (out, in)."""
        values = self.codes().view(*self.scale.shape, -1).to(dtype).sub_(_CENTRE)
        values.mul_(self.scale.to(dtype)[..., None]).add_(self.zero.to(dtype)[..., None])
        return values.view(len(self.packed), -1)


class KernelInt8(Matrix):
    """int8 by torch's kernel for CPU and Apple. It wants bfloat16 activations."""

    def __init__(self, matrix: RowScaled) -> None:
        self._codes, self._scale = matrix.codes, matrix.scale
        self.nbytes = matrix.nbytes

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """Multiply with the codes as they lie."""
        kernel = torch.ops.aten._weight_int8pack_mm
        return _promotable(kernel(x.to(torch.bfloat16), self._codes, self._scale), x.dtype)


class KernelInt4(Matrix):
    """int4 by torch's kernels, codes in the order that the device wants them in."""

    def __init__(self, matrix: GroupScaled) -> None:
        self._group = 2 * matrix.packed.shape[1] // matrix.scale.shape[1]
        scales = torch.stack((matrix.scale, matrix.zero), dim=-1)
        self._scales = scales.transpose(0, 1).contiguous()  # (groups, out, 2)
        ops: Any = torch.ops.aten
        if matrix.packed.device.type == "cpu":
            self._codes = ops._convert_weight_to_int4pack_for_cpu(matrix.codes().int(), 1)
            self._kernel = ops._weight_int4pack_mm_for_cpu
        else:
            even_first = matrix.packed << 4 | matrix.packed >> 4
            self._codes = ops._convert_weight_to_int4pack(even_first, 8)
            self._kernel = ops._weight_int4pack_mm
        self.nbytes = self._codes.nbytes + self._scales.nbytes

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """Multiply with the codes as they lie."""
        activations = x.to(torch.bfloat16)
        product = self._kernel(activations, self._codes, self._group, self._scales)
        return _promotable(product, x.dtype)


class Quantiser:
    """Quantises the matrices of one model on their device."""

    def __init__(self, quant: str) -> None:
        self.quant = quant
        self._usable: dict[torch.Size, bool] = {}  # the kernel, by a matrix's shape

    def __call__(self, weight: torch.Tensor) -> Matrix:
        """Return ``weight``, of shape (out, in), in the form that is kept."""
        if self.quant == "none":
            return Dense(weight)
        matrix = self._quantised(weight)
        kernel = self._kernel(weight.device.type)
        if kernel is None:
            return matrix
        shape = weight.shape
        if shape not in self._usable:
            self._usable[shape] = _gives_the_product(kernel, matrix, shape[1], weight.device)
        return kernel(matrix) if self._usable[shape] else matrix

    def _quantised(self, weight: torch.Tensor) -> RowScaled | GroupScaled:
        """Quantise strip by strip: what is computed on the way takes more room than the weight."""
        strips = weight.split(max(1, _STRIP // weight.shape[1]))
        if self.quant == "int4":
            return GroupScaled(*map(torch.cat, zip(*map(_by_group, strips), strict=True)))
        by_row = functools.partial(_by_row, quant=self.quant)
        return RowScaled(*map(torch.cat, zip(*map(by_row, strips), strict=True)))

    def _kernel(self, device: str) -> Any:
        """Return the class that holds a matrix for torch's kernel, where there may be one."""
        if self.quant == "int4":
            return KernelInt4
        # On CUDA torch's int8 kernel has a thread for an output: slower than restoring.
        return KernelInt8 if self.quant == "int8" and device != "cuda" else None


def check_quant(name: str) -> None:
    """Refuse a ``--quant`` that there is not."""
    if name not in QUANTS:
        raise UsageError(f"--quant {name} is unknown", hint=", ".join(QUANTS))


def head_quant(quant: str) -> str:
    """Return how the output head is held: every token hangs on it, so never in four bits."""
    return "int8" if quant == "int4" else quant


def group_of(columns: int) -> int:
    """Return the inputs of an int4 group in rows of ``columns``."""
    for group in GROUPS:
        if columns % group == 0:
            return group
    raise SelfeeError(
        f"rows of {columns} weights do not divide into int4 groups of {GROUPS[-1]}",
        hint="--quant int8 has no groups",
    )


def bytes_per_weight(quant: str, dtype: torch.dtype) -> float:
    """Return about what a weight of a quantised matrix takes, its share of scales included."""
    if quant == "none":
        return float(dtype.itemsize)
    return 0.5 + 4 / GROUPS[0] if quant == "int4" else 1.0


def _by_row(weight: torch.Tensor, quant: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Return codes and scales. Symmetric: a row's largest magnitude takes the largest code."""
    code = torch.int8 if quant == "int8" else torch.float8_e4m3fn
    largest = 127.0 if quant == "int8" else torch.finfo(code).max
    scale = (weight.abs().amax(dim=1).float() / largest).clamp(min=_LEAST_SCALE)
    scale = scale.to(torch.bfloat16)
    scaled = (weight.float() / scale.float()[:, None]).clamp(-largest, largest)
    return (scaled.round() if quant == "int8" else scaled).to(code), scale


def _by_group(weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return packed codes, scales and zeros. Asymmetric: a group's range is cut into sixteen."""
    rows, columns = weight.shape
    groups = weight.reshape(rows, -1, group_of(columns)).float()
    low, high = groups.aminmax(dim=-1)
    scale = ((high - low) / 15).clamp(min=_LEAST_SCALE).to(torch.bfloat16)
    zero = (low + _CENTRE * scale.float()).to(torch.bfloat16)
    centred = (groups - zero.float()[..., None]) / scale.float()[..., None]
    codes = (centred.round() + _CENTRE).clamp(0, 15).to(torch.uint8).view(rows, columns)
    return codes[:, 0::2] | codes[:, 1::2] << 4, scale, zero


def _promotable(product: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Return a kernel's bfloat16 product in a form that stays ``dtype`` in sums with it."""
    return product if dtype is torch.float32 else product.to(dtype)


def _gives_the_product(kernel: Any, matrix: Matrix, columns: int, device: torch.device) -> bool:
    """Whether a kernel is there, takes this shape and gives what restoring gives."""
    x = torch.randn(3, columns, generator=torch.Generator().manual_seed(0)).to(device)
    try:
        found = kernel(matrix)(x)
    except (RuntimeError, NotImplementedError, AttributeError):
        return False
    wanted = matrix(x)
    return bool((found - wanted).norm() <= _TOLERANCE * wanted.norm())
