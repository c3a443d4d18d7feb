from __future__ import annotations

from pathlib import Path

import models
import pytest


@pytest.fixture(scope="session", params=list(models.SHAPES))
def model_dir(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of each shape that LLaMA checkpoints come in."""
    path = tmp_path_factory.mktemp("model") / request.param
    return models.make_model(path, **models.SHAPES[request.param])


@pytest.fixture(scope="session")
def llama_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of LLaMA-1's shape."""
    return models.make_model(tmp_path_factory.mktemp("model") / "llama-1")
