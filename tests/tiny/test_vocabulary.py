"""The tokenizer: size, round trips, one piece for a content whatever stands beside it."""

from __future__ import annotations

import pytest

from selfee_cli.tiny.vocabulary import (
    BOS,
    NUMBERS,
    SIZE,
    Vocabulary,
    train_vocabulary,
    with_dummy_prefix,
)
from selfee_cli.tiny.words import DAYS, LETTERS, MONTHS


def test_size_and_determinism(vocabulary: Vocabulary) -> None:
    assert vocabulary.size == SIZE
    assert train_vocabulary(texts=1500) == vocabulary.model


@pytest.mark.parametrize(
    "text",
    [
        "What is 47 + 85?",
        "",
        " two  spaces   and\ttabs\n\n\nlines ",
        "Привет 你好 😀 \u0000 \u200b",
        "### Revision 3:\nRevision is not needed.",
        "</s><s>[PAD]",
    ],
)
def test_any_text_comes_back(text: str, vocabulary: Vocabulary) -> None:
    ids = vocabulary.encode_prompt(text)
    assert ids[0] == BOS
    assert vocabulary.decode(ids) == (text and " " + text)


def test_a_content_is_one_piece(vocabulary: Vocabulary) -> None:
    words = (*DAYS, *MONTHS, *LETTERS, "right", "wrong")
    for word in (*words, *map(str, range(NUMBERS))):
        assert len(vocabulary.encode_continuation(f" {word}")) == 1
        for mark in (".", "?", ":", ","):
            assert vocabulary.encode_continuation(f" {word}{mark}")[
                :1
            ] == vocabulary.encode_continuation(f" {word}")


def test_digits_without_a_space_stand_alone(vocabulary: Vocabulary) -> None:
    assert len(vocabulary.encode_continuation("85+1055")) == 7


def test_forced_text_is_tokenised_as_in_a_chain(vocabulary: Vocabulary) -> None:
    head, forced = "I would rate it 8/10.", " Revision is needed.\n\n### Revision 1:\n"
    whole = vocabulary.encode_prompt(head + forced + "The sum is 132.")
    assert whole == [
        *vocabulary.encode_prompt(head),
        *vocabulary.encode_continuation(forced),
        *vocabulary.encode_continuation("The sum is 132."),
    ]


def test_the_dummy_prefix_is_on(vocabulary: Vocabulary) -> None:
    assert vocabulary.encode_prompt("Monday") == vocabulary.encode_prompt("")[
        :1
    ] + vocabulary.encode_continuation(" Monday")
    assert with_dummy_prefix(vocabulary.model) == vocabulary.model
    with pytest.raises(ValueError, match="no field 3"):
        with_dummy_prefix(b"")
