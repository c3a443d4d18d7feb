import numkong
import numpy as np
import pytest
import torch

from selfee_cli.weights import conversion
from selfee_cli.weights.conversion import from_float32, to_float32
from selfee_cli.weights.dtypes import DType

TORCH = {DType.F16: torch.float16, DType.BF16: torch.bfloat16, DType.F32: torch.float32}
ALL_16_BITS = np.arange(65536, dtype=np.uint16)


def torch_bits(values: np.ndarray, dtype: DType) -> np.ndarray:
    return torch.from_numpy(values).to(TORCH[dtype]).view(torch.int16).numpy().view(np.uint16)


@pytest.mark.parametrize("dtype", [DType.F16, DType.BF16])
def test_every_bit_pattern_decodes_as_torch_does(dtype):
    bits = ALL_16_BITS
    wanted = torch.from_numpy(bits.view(np.int16)).view(TORCH[dtype]).float().numpy()
    found = to_float32(bits, dtype)
    numbers = ~np.isnan(wanted)
    assert (found.view(np.uint32)[numbers] == wanted.view(np.uint32)[numbers]).all()
    assert (np.isnan(found) == np.isnan(wanted)).all()


@pytest.mark.parametrize("dtype", [DType.F16, DType.BF16])
def test_every_value_encodes_to_itself(dtype):
    values = to_float32(ALL_16_BITS, dtype)
    found = from_float32(values, dtype)
    assert (found[~np.isnan(values)] == ALL_16_BITS[~np.isnan(values)]).all()
    assert np.isnan(to_float32(found[np.isnan(values)], dtype)).all()


@pytest.mark.parametrize("dtype", [DType.F16, DType.BF16])
def test_halfway_cases_round_to_even_and_their_neighbours_to_nearest(dtype):
    finite = ALL_16_BITS[np.isfinite(to_float32(ALL_16_BITS, dtype))]
    values = to_float32(finite, dtype).view(np.uint32)
    lost = 13 if dtype is DType.F16 else 16
    for offset in (1, (1 << (lost - 1)) - 1, 1 << (lost - 1), (1 << (lost - 1)) + 1):
        near = (values + np.uint32(offset)).view(np.float32)
        assert (from_float32(near, dtype) == torch_bits(near, dtype)).all()


@pytest.mark.parametrize("dtype", [DType.F16, DType.BF16])
def test_subnormals_and_random_bits_encode_as_torch_does(dtype):
    rng = np.random.default_rng(0)
    small = (rng.standard_normal(100_000) * 2.0**-16).astype(np.float32)
    tiny = (rng.standard_normal(100_000) * 2.0**-25).astype(np.float32)
    wild = rng.integers(0, 2**32, 500_000, dtype=np.uint32).view(np.float32)
    for values in (small, tiny, wild):
        found, wanted = from_float32(values, dtype), torch_bits(values, dtype)
        numbers = ~np.isnan(values)
        assert (found[numbers] == wanted[numbers]).all()
        assert np.isnan(to_float32(found, dtype)[~numbers]).all()


@pytest.mark.parametrize("dtype", list(DType))
def test_encoding_tells_whether_everything_is_finite(dtype):
    edge = np.float32(65519.996) if dtype is DType.F16 else np.float32(3.38e38)
    over = np.float32(65520.0) if dtype is DType.F16 else np.float32(np.inf)
    out = np.empty(3, dtype.raw)
    for value, finite in ((edge, True), (over, False), (np.float32(np.nan), False)):
        for signed in (value, -value):
            values = np.array([1.0, signed, 0.0], np.float32)
            assert conversion.encode(values, dtype, out) is finite
            assert conversion.is_finite(out, dtype) is finite
            assert np.isfinite(to_float32(out, dtype)).all() == finite
    assert conversion.is_finite(out[:0], dtype)


class Skewed:
    """A library of conversions that gets one half wrong, in one direction."""

    from_pointer = staticmethod(numkong.from_pointer)

    def __init__(self, direction: str) -> None:
        self.direction = direction

    def astype(self, values, dtype, *, out):
        numkong.astype(values, dtype, out=out)
        if self.direction == "decode" and dtype == "float32":
            out[values.view(np.uint16) == 0x2401] *= 2
        elif self.direction == "encode" and dtype == "float16":
            out.view(np.uint16)[values == np.float32(2.0**-6 + 2.0**-17)] += 1  # half a place
        elif self.direction == "encode subnormals" and dtype == "float16":
            out.view(np.uint16)[values == np.float32(-2.5 * 2.0**-24)] += 1


@pytest.mark.parametrize("library", [None, *map(Skewed, ("decode", "encode", "encode subnormals"))])
def test_a_library_that_is_not_there_or_errs_is_not_used(monkeypatch, library):
    values = np.random.default_rng(2).standard_normal(1000).astype(np.float32)
    wanted = from_float32(values, DType.F16)
    assert conversion.is_vectorised(DType.F16)
    monkeypatch.setattr(conversion, "numkong", library)
    conversion.is_vectorised.cache_clear()
    try:
        assert not conversion.is_vectorised(DType.F16)
        assert (from_float32(values, DType.F16) == wanted).all()
        assert (to_float32(wanted, DType.F16) == wanted.view(np.float16)).all()
    finally:
        conversion.is_vectorised.cache_clear()


@pytest.mark.parametrize("dtype", [DType.F16, DType.BF16])
def test_with_and_without_vectors_it_is_the_same(dtype):
    assert conversion.is_vectorised(dtype)
    rng = np.random.default_rng(3)
    wild = rng.integers(0, 2**32, 2_000_001, dtype=np.uint32).view(np.float32)
    wild = wild[np.isfinite(torch.from_numpy(wild).to(TORCH[dtype]).float().numpy())]
    for values in (wild, (rng.standard_normal(1_000_001) * 2.0**-15).astype(np.float32)):
        found, wanted = np.empty(values.size, np.uint16), np.empty(values.size, np.uint16)
        assert conversion.encode(values, dtype, found)
        conversion.plain_encode(values, dtype, wanted)
        assert (found == wanted).all()


def test_names():
    assert DType.from_torch_name("bfloat16") is DType.BF16
    assert [d.itemsize for d in DType] == [2, 2, 4]
    with pytest.raises(ValueError):
        DType.from_torch_name("int8")
