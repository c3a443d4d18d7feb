"""Passes of fixed shape, which CUDA captures as graphs; here they are computed each time."""

from __future__ import annotations

import gc
import random
import weakref
from pathlib import Path

import pytest
import torch

from selfee_cli.engine.decoder import Decoder
from selfee_cli.engine.native import NativeEngine
from selfee_cli.engine.sampling import Sampling
from selfee_cli.engine.static import WIDTHS, StaticPasses
from selfee_cli.errors import SelfeeError
from selfee_cli.weights.checkpoint import open_checkpoint

CPU = torch.device("cpu")


def engines(path: Path, **settings: object) -> tuple[NativeEngine, NativeEngine]:
    with open_checkpoint(path) as checkpoint:
        settings = {"device": CPU, "dtype": torch.float32, **settings}
        return (
            NativeEngine(checkpoint, static=False, **settings),
            NativeEngine(checkpoint, static=True, **settings),
        )


@pytest.mark.parametrize(("quant", "near"), [("none", 1e-4), ("int8", 0.1)])  # bfloat16 sums
def test_they_give_what_free_passes_give(model_dir: Path, quant: str, near: float) -> None:
    free, fixed = engines(model_dir, quant=quant)
    rng = random.Random(0)
    for count in (70, 1, 2, 3, 64, 5, 1, 33, 100, 1, 17):  # 70 and 100 are wider than any
        ids = [rng.randrange(320) for _ in range(count)]
        wanted, found = free.forward(ids, last=count), fixed.forward(ids, last=count)
        torch.testing.assert_close(found, wanted, atol=near, rtol=near)
        if rng.random() < 0.5:  # what padding wrote into the cache must not be seen
            keep = len(free.ids) - rng.randrange(count)
            free.truncate(keep)
            fixed.truncate(keep)


def test_at_the_end_of_the_context_passes_are_free(llama_dir: Path) -> None:
    free, fixed = engines(llama_dir, context_length=100)
    ids = [3 + at for at in range(95)]
    free.forward(ids)
    fixed.forward(ids)
    for part in ([7, 8, 9], [5], [6]):  # a width of 4 fits once, then only 1
        torch.testing.assert_close(fixed.forward(part), free.forward(part), atol=1e-4, rtol=1e-4)
    assert len(fixed.ids) == 100


def test_logits_stay_when_the_next_pass_is_run(llama_dir: Path) -> None:
    _, fixed = engines(llama_dir)
    first = fixed.forward([3, 4, 5], last=3)
    kept = first.clone()
    fixed.forward([9, 9, 9], last=3)
    assert torch.equal(first, kept)


def test_few_shapes_serve_all_passes() -> None:
    shapes = []

    def compute(tokens: torch.Tensor, positions: torch.Tensor, span: int) -> torch.Tensor:
        shapes.append((len(tokens), span))
        assert positions.tolist() == list(range(int(positions[0]), int(positions[0]) + len(tokens)))
        assert positions[-1] < span
        return torch.zeros(len(tokens), 10)

    passes = StaticPasses(CPU, 1000)
    for past in range(0, 936, 7):
        for count in (1, 2, 3, 7, 40, 64):
            assert passes.takes(past, count)
            assert len(passes(compute, [1] * count, past)) == count
    assert {width for width, _ in shapes} == {1, 2, 4, 8, 64}
    assert {span for _, span in shapes} == {256, 512, 1000}
    assert not passes.takes(0, WIDTHS[-1] + 1)
    assert not passes.takes(997, 3)
    assert passes.takes(998, 2)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="graphs are captured on CUDA")
def test_captured_passes_give_what_free_passes_give(llama_dir: Path) -> None:
    """On the last device, which is not the current one where there are several."""
    free, fixed = engines(llama_dir, device=torch.device("cuda", torch.cuda.device_count() - 1))
    rng = random.Random(0)
    for count in (70, 1, 2, 3, 64, 1, 2, 3, 64):  # the second time they are replayed
        ids = [rng.randrange(320) for _ in range(count)]
        wanted, found = free.forward(ids, last=count), fixed.forward(ids, last=count)
        torch.testing.assert_close(found, wanted, atol=1e-3, rtol=1e-3)


def test_an_engine_is_gone_once_nobody_uses_it(llama_dir: Path) -> None:
    """By reference counting: the next model's memory is wanted before garbage is looked for."""
    _, fixed = engines(llama_dir)
    fixed.forward([3, 4, 5])
    alive = weakref.ref(fixed)
    gc.disable()
    try:
        del fixed
        assert alive() is None
    finally:
        gc.enable()


@pytest.mark.parametrize("temperature", [0.0, 0.7])
def test_what_is_no_number_is_not_met_by_the_next_question(
    llama_dir: Path, temperature: float
) -> None:
    free, fixed = engines(llama_dir, dtype=torch.float16)
    sampling = Sampling(temperature=temperature)
    fixed._embedding[7] = float("nan")  # as of a wrong base
    with pytest.raises(SelfeeError, match="not numbers"):
        Decoder(fixed, sampling, [3, 4, 5, 6, 7, 8]).sample()
    wanted = Decoder(free, sampling, [3, 4, 5, 9]).sample()
    assert Decoder(fixed, sampling, [3, 4, 5, 9]).sample() == wanted
