"""Telling a delta from a model by its norms."""

from __future__ import annotations

import numpy as np
import pytest

from selfee_cli.weights.identity import is_delta_by


def norms(*means: float) -> list[np.ndarray]:
    return [np.full(64, mean, dtype=np.float32) for mean in means]


def test_a_models_norms_average_near_one() -> None:
    assert not is_delta_by(norms(0.1, 0.4, 1.2))
    assert is_delta_by(norms(-0.02, 0.0, 0.05))
    assert not is_delta_by([])


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("at", [0, 1, 2])
def test_a_damaged_norm_has_no_say(bad: float, at: int) -> None:
    delta, model = norms(-0.02, 0.0, 0.05), norms(0.1, 0.4, 1.2)
    delta[at][0] = bad
    model[0][0] = bad
    assert is_delta_by(delta)
    assert not is_delta_by(model)
