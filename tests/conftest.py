"""What every test may use: an own home, and the shared data where it lies."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DATA = Path(os.environ.get("SELFEE_TEST_DATA", ROOT.parent / "shared" / "data"))


@pytest.fixture(autouse=True, scope="session")
def _own_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No test reads or writes the user's own files; the reconstructed tiny model is shared."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [*os.environ]:
            if name.startswith("SELFEE_") or name in ("NO_COLOR", "FORCE_COLOR"):
                patch.delenv(name)
        # Several tests at once share the cores; threads that wait for one another spin.
        patch.setenv("OMP_NUM_THREADS", "1")
        patch.setenv("SELFEE_HOME", str(tmp_path_factory.mktemp("selfee-home")))
        yield


@pytest.fixture(scope="session")
def published() -> list[dict]:
    """The published chains, each with the name of its file."""
    files = sorted((DATA / "published").glob("selfee_*.jsonl"))
    if not files:
        pytest.skip(f"no published chains in {DATA}: they may not be copied into the project")
    return [
        {"file": file.name, **json.loads(line)}
        for file in files
        for line in file.read_text("utf-8").splitlines()
    ]


@pytest.fixture(scope="session")
def published_texts(published: list[dict]) -> set[str]:
    """Every text that stands in the published chains: questions, inputs, answers, whole chains."""
    return {value for chain in published for value in chain.values() if isinstance(value, str)}


@pytest.fixture(scope="session")
def llama_tokenizer_dir() -> Path:
    """The folder of LLaMA's own ``tokenizer.model``."""
    folder = DATA / "llama-tokenizer"
    if not (folder / "tokenizer.model").is_file():
        pytest.skip(f"no LLaMA tokenizer in {DATA}: its licence keeps it out of the project")
    return folder
