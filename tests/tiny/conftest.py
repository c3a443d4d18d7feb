"""One tokenizer, trained once, for all tests of the small model."""

from __future__ import annotations

import pytest

from selfee_cli.tiny.vocabulary import Vocabulary, train_vocabulary


@pytest.fixture(scope="session")
def vocabulary() -> Vocabulary:
    return Vocabulary(train_vocabulary(texts=1500))
