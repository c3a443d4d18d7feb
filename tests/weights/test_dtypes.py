import numpy as np
import pytest
import torch

from selfee_cli.weights.dtypes import Codec, DType, from_float32, to_float32

TORCH = {DType.F16: torch.float16, DType.BF16: torch.bfloat16, DType.F32: torch.float32}
ALL_16_BITS = np.arange(65536, dtype=np.uint16)


def torch_bits(values: np.ndarray, dtype: DType) -> np.ndarray:
    return torch.from_numpy(values).to(TORCH[dtype]).view(torch.int16).numpy().view(np.uint16)


@pytest.mark.parametrize("dtype", [DType.F16, DType.BF16])
@pytest.mark.parametrize("finite_only", [True, False])
def test_every_bit_pattern_decodes_as_torch_does(dtype, finite_only):
    bits = ALL_16_BITS
    wanted = torch.from_numpy(bits.view(np.int16)).view(TORCH[dtype]).float().numpy()
    if finite_only:  # takes the fast road
        bits, wanted = bits[np.isfinite(wanted)], wanted[np.isfinite(wanted)]
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
        near = near[np.abs(near) < dtype.overflow]
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
def test_peak_tells_whether_everything_is_finite(dtype):
    edge = np.float32(65519.996) if dtype is DType.F16 else np.float32(3.38e38)
    over = np.float32(65520.0) if dtype is DType.F16 else np.float32(np.inf)
    out = np.empty(3, dtype.raw)
    for value, finite in ((edge, True), (over, False), (np.float32(np.nan), False)):
        values = np.array([1.0, -value, 0.0], np.float32)
        assert (Codec(3).encode(values, dtype, out) < dtype.overflow) is finite
        assert np.isfinite(to_float32(out, dtype)).all() == finite


@pytest.mark.parametrize("dtype", list(DType))
def test_encoding_in_place_gives_the_same_bits(dtype):
    rng = np.random.default_rng(1)
    for values in (
        (rng.standard_normal(10_000) * 0.02).astype(np.float32),
        rng.integers(0, 2**32, 10_000, dtype=np.uint32).view(np.float32),
    ):
        wanted = from_float32(values, dtype).copy()
        codec, in_place = Codec(values.size), values.view(dtype.raw)[: values.size]
        codec.encode(values, dtype, in_place)
        assert in_place.tobytes() == wanted.tobytes()


def test_names():
    assert DType.from_torch_name("bfloat16") is DType.BF16
    assert [d.itemsize for d in DType] == [2, 2, 4]
    with pytest.raises(ValueError):
        DType.from_torch_name("int8")
