"""Quantised matrices, and models that are made of them."""

from __future__ import annotations

from pathlib import Path

import models
import pytest
import torch

from selfee_cli.engine import quant
from selfee_cli.engine.loading import LoadOptions, load_model
from selfee_cli.engine.native import NativeEngine
from selfee_cli.engine.quant import (
    QUANTS,
    Dense,
    GroupScaled,
    KernelInt4,
    KernelInt8,
    Quantiser,
    RowScaled,
    bytes_per_weight,
    group_of,
)
from selfee_cli.errors import SelfeeError, UsageError
from selfee_cli.weights.checkpoint import open_checkpoint

# Relative error of a product with normal random weights, about twice what was measured.
MOST_ERROR = {"none": 0.0, "int8": 0.02, "fp8": 0.06, "int4": 0.2}


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def error(found: torch.Tensor, wanted: torch.Tensor) -> float:
    return float((found.float() - wanted).norm() / wanted.norm())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("quant", ["int8", "int4", "fp8"])
@pytest.mark.parametrize("rows", [576, 321])  # with torch's kernel, and without
def test_products_keep_to_the_format_and_do_not_overflow(
    quant: str, dtype: torch.dtype, rows: int
) -> None:
    weight, x = normal(rows, 576) * 0.02, 40 * normal(5, 576, seed=1)
    found = Quantiser(quant)(weight.to(dtype))(x.to(dtype))
    assert found.dtype == dtype
    assert error(found, x @ weight.T) <= MOST_ERROR[quant]


def test_strips_of_a_large_matrix_join(monkeypatch: pytest.MonkeyPatch) -> None:
    weight, x = normal(200, 64), normal(5, 64, seed=1)
    for name in ("int8", "int4", "fp8"):
        whole = Quantiser(name)(weight)(x)
        with monkeypatch.context() as patched:
            patched.setattr(quant, "_STRIP", 3000)
            assert torch.equal(Quantiser(name)(weight)(x), whole)


@pytest.mark.parametrize("shape", [(960, 576), (128, 384), (321, 96), (64, 64)])
@pytest.mark.parametrize("quant", QUANTS)
def test_products_are_near_those_of_the_weight(quant: str, shape: tuple[int, int]) -> None:
    weight, x = normal(*shape) * 0.02, normal(5, shape[1], seed=1)
    matrix = Quantiser(quant)(weight)
    found = matrix(x)
    assert found.shape == (5, shape[0])
    assert error(found, x @ weight.T) <= MOST_ERROR[quant]
    # Scales are a sixty-fourth of these small matrices at most.
    bytes_of_weights = weight.numel() * bytes_per_weight(quant, torch.float32)
    assert matrix.nbytes <= 1.2 * bytes_of_weights


def test_torchs_kernels_serve_the_cpu_where_they_take_the_shape() -> None:
    weight = normal(960, 576)
    assert isinstance(Quantiser("int8")(weight), KernelInt8)
    assert isinstance(Quantiser("int4")(weight), KernelInt4)
    assert isinstance(Quantiser("int4")(normal(321, 96)), GroupScaled)  # 321 rows are odd
    assert isinstance(Quantiser("fp8")(weight), RowScaled)
    assert isinstance(Quantiser("none")(weight), Dense)


def test_a_kernel_that_gives_something_else_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    class Wrong(KernelInt8):
        def __call__(self, x: torch.Tensor) -> torch.Tensor:
            return super().__call__(x) * 1.1

    quantiser = Quantiser("int8")
    monkeypatch.setattr(quantiser, "_kernel", lambda device: Wrong)
    weight, x = normal(64, 64), normal(2, 64, seed=1)
    assert error(quantiser(weight)(x), x @ weight.T) < MOST_ERROR["int8"]


@pytest.mark.parametrize("quant", ["int8", "fp8", "int4"])
def test_extreme_rows_stay_finite(quant: str) -> None:
    weight = torch.zeros(64, 64)
    weight[1], weight[2, 5], weight[3] = 1e-30, 6e4, -5.0
    product = Quantiser(quant)(weight)(torch.eye(64)).float()
    assert product.isfinite().all()
    assert (product[:, 0] == 0).all()
    assert product[5, 2] == pytest.approx(6e4, rel=0.02)
    torch.testing.assert_close(product[:, 3], torch.full((64,), -5.0), rtol=0.02, atol=0)


def test_four_bits_are_two_codes_in_a_byte() -> None:
    weight = torch.arange(32.0)[None] % 16 - 8  # every code, scale 1, zero 0
    packed = GroupScaled(
        torch.arange(0, 16, 2, dtype=torch.uint8).repeat(2)[None]
        | torch.arange(1, 16, 2, dtype=torch.uint8).repeat(2)[None] << 4,
        torch.ones(1, 1),
        torch.zeros(1, 1),
    )
    assert (packed.restored(torch.float32) == weight).all()


def test_groups_divide_rows() -> None:
    assert [group_of(columns) for columns in (4096, 576, 96)] == [128, 64, 32]
    with pytest.raises(SelfeeError, match="do not divide"):
        group_of(100)


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("quant", ["int8", "int4", "fp8"])
def test_a_model_is_near_itself(model_dir: Path, quant: str, dtype: str) -> None:
    ids = list(range(3, 60))
    plain = load_model(model_dir).engine
    fewer = load_model(model_dir, LoadOptions(quant=quant, dtype=dtype)).engine
    assert fewer.quant == quant
    assert fewer.weight_bytes < plain.weight_bytes / 2
    assert fewer.parameters == plain.parameters
    wanted = plain.forward(ids, last=len(ids)).softmax(-1)
    found = fewer.forward(ids, last=len(ids)).float().softmax(-1)
    distance = (wanted - found).abs().sum(-1).mean() / 2  # total variation
    assert distance < {"int8": 0.15, "fp8": 0.4, "int4": 0.8}[quant]


@pytest.mark.parametrize("quant", ["none", "int8"])
def test_layers_on_several_devices_give_the_same(llama_dir: Path, quant: str) -> None:
    cpu = torch.device("cpu")
    with open_checkpoint(llama_dir) as checkpoint:
        settings = {"device": cpu, "dtype": torch.float32, "quant": quant}
        whole = NativeEngine(checkpoint, **settings)
        spread = NativeEngine(checkpoint, placement=[(cpu, 1), (cpu, 2)], **settings)
    for ids in (list(range(3, 40)), [5], [6, 7, 8]):
        last = len(ids)
        assert torch.equal(whole.forward(ids, last=last), spread.forward(ids, last=last))
    assert whole.weight_bytes == spread.weight_bytes


def test_what_cannot_be_quantised_is_told(llama_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--quant int3 is unknown"):
        load_model(llama_dir, LoadOptions(quant="int3"))
    with pytest.raises(UsageError, match="needs the native engine"):
        load_model(llama_dir, LoadOptions(quant="int8", engine="transformers"))
    odd = models.make_model(tmp_path / "odd", hidden_size=72, num_attention_heads=4)
    with pytest.raises(SelfeeError, match="do not divide into int4 groups"):
        load_model(odd, LoadOptions(quant="int4"))
