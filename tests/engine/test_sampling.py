from __future__ import annotations

from collections import Counter

import pytest
import torch

from selfee_cli.engine.sampling import Sampling, sample, uniform
from selfee_cli.errors import SelfeeError, UsageError


def test_greedy_is_the_argmax() -> None:
    logits = torch.tensor([[0.0, 3.0, 1.0], [2.0, 0.0, 1.0]])
    assert sample(logits, Sampling(temperature=0), 5) == [1, 0]


def test_frequencies_are_the_models() -> None:
    chances = torch.tensor([0.5, 0.3, 0.15, 0.05])
    logits = chances.log()[None].expand(20_000, -1)
    drawn = Counter(sample(logits, Sampling(temperature=1, seed=3), 0))
    for token, chance in enumerate(chances.tolist()):
        assert drawn[token] / 20_000 == pytest.approx(chance, abs=0.012)


def test_temperature_top_k_and_nucleus() -> None:
    chances = torch.tensor([0.5, 0.3, 0.15, 0.05])
    logits = chances.log()[None].expand(5_000, -1)

    def drawn(**settings: float) -> set[int]:
        return set(sample(logits, Sampling(**{"temperature": 1.0, **settings}), 0))

    assert drawn(top_k=2) == {0, 1}
    assert drawn(top_p=0.79) == {0, 1}
    assert drawn(top_p=0.81) == {0, 1, 2}
    assert drawn(top_p=0.01) == drawn(top_p=1e-50) == {0}
    assert drawn(top_k=3, top_p=0.4) == {0}
    cold = Counter(sample(logits, Sampling(temperature=0.1), 0))
    assert cold[0] / 5_000 > 0.97


@pytest.mark.parametrize("temperature", [1e-7, 1e-38, 1e-40, 1e-320])
def test_next_to_no_temperature_takes_the_likeliest(temperature: float) -> None:
    logits = torch.randn(40, 1000, generator=torch.Generator().manual_seed(0)) * 30
    cold = sample(logits, Sampling(temperature=temperature), 0)
    assert cold == sample(logits, Sampling(temperature=0), 0)


def test_a_position_draws_the_same_alone_and_in_a_block() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(40, 1000, generator=generator)
    for settings in (Sampling(seed=9), Sampling(seed=9, top_k=50, top_p=0.9)):
        block = sample(logits, settings, 100)
        alone = [sample(row[None], settings, 100 + at)[0] for at, row in enumerate(logits)]
        assert block == alone
    assert sample(logits, Sampling(seed=10), 100) != block


def test_random_numbers_are_even_and_their_own() -> None:
    drawn = [uniform(seed, position) for seed in range(50) for position in range(200)]
    assert len(set(drawn)) == len(drawn)
    assert 0 <= min(drawn) < max(drawn) < 1
    buckets = Counter(int(10 * value) for value in drawn)
    assert all(850 < count < 1150 for count in buckets.values())


@pytest.mark.parametrize("temperature", [0.0, 0.7])
def test_numbers_that_are_none_are_an_error(temperature: float) -> None:
    logits = torch.tensor([[1.0, float("nan"), 0.0]])
    with pytest.raises(SelfeeError, match="not numbers"):
        sample(logits, Sampling(temperature=temperature), 0)


@pytest.mark.parametrize("wrong", [{"temperature": -1}, {"top_p": 0}, {"top_p": 2}, {"top_k": -1}])
def test_settings_that_cannot_be_meant(wrong: dict) -> None:
    with pytest.raises(UsageError):
        Sampling(**wrong)
