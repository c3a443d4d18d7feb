"""What a study reads off a chain: answers, verdicts, form and cost."""

from __future__ import annotations

from dataclasses import replace

import pytest
from scripted import END, PieceVocabulary, ScriptedSource, split_words

from selfee_cli.protocol.chain import ChainEnded
from selfee_cli.protocol.driver import ChainDriver
from selfee_cli.protocol.policy import RevisionPolicy
from selfee_cli.tiny.written import Plan, Written

PROMPT = [7, 7, 7]
GOOD = "Good. Revision is not needed."


def write(*parts: str, minimum: int = 0, limit: int | None = None) -> Written:
    """Let a driver write what a script says; ``|`` is an end of text."""
    vocabulary = PieceVocabulary()
    pieces = [[*split_words(part.rstrip("|")), *[END] * part.endswith("|")] for part in parts]
    source = ScriptedSource(vocabulary, pieces)
    driver = ChainDriver(
        source, vocabulary, RevisionPolicy(minimum=minimum, maximum=2), max_new_tokens=limit
    )
    *_, last = driver.run(source.sample)
    assert isinstance(last, ChainEnded)
    ids = last.chain.token_ids
    assert ids is not None
    return Written.of(replace(last.chain, token_ids=replace(ids, prompt=PROMPT)))


def test_a_chain_that_is_as_it_should_be() -> None:
    answer, feedback = "A b c.", f"\n\n### Feedback 1:\n{GOOD}"
    chain = write(f"{answer}{feedback}|")
    assert (chain.answers, chain.needed, chain.formed) == (["A b c."], [False], [True, True])
    assert chain.well_formed
    count = len(split_words(answer))
    whole = count + len(split_words(feedback)) + 1
    assert (chain.cost(0), chain.tokens) == (count, len(PROMPT) + whole)
    assert list(chain.ends) == [len(PROMPT) + count, len(PROMPT) + whole]


def test_overruled_verdicts_are_the_models_own() -> None:
    first = f"A.\n\n### Feedback 1:\n{GOOD}"
    chain = write(
        first, "B.\n\n### Feedback 2:\nSo so.|", f"C.\n\n### Feedback 3:\n{GOOD}|", minimum=2
    )
    assert chain.answers == ["A.", "B.", "C."]
    assert chain.needed == [False, None]
    assert chain.formed == [True, True, True, False, True]
    assert [chain.standing(k) for k in (0, 1, 2, 6)] == ["A.", "B.", "C.", "C."]


@pytest.mark.parametrize("answer", ["A.", ""])
def test_a_header_that_had_to_be_supplied(answer: str) -> None:
    chain = write(f"{answer}|", GOOD, "B.\n\n### Feedback 2:\n" + GOOD + "|", minimum=1)
    assert chain.answers == [answer, "B."]
    assert chain.formed == [False, True, True, True]
    parts = (f"A.\n\n### Feedback 1:\n{GOOD}", f"{answer}|", GOOD, "C.\n\n### Feedback 3:\n")
    assert write(*parts, minimum=2).formed == [True, True, False, True, True]


@pytest.mark.parametrize(
    "text", ["A.|", "A.\n\n### Feedback 1:\nSo so.|", "A.\n\n### Feedback 1:\nRevision is needed.|"]
)
def test_a_chain_that_stops_short(text: str) -> None:
    chain = write(text)
    assert chain.answers == ["A."]
    assert not chain.formed[-1]


def test_a_chain_that_is_cut_off() -> None:
    chain = write("A b c d e.", limit=3)
    assert (chain.answers, chain.needed, chain.formed) == (["A b c"], [], [False])
    chain = write(f"A.\n\n### Feedback 1:\n{GOOD}|", limit=12)
    assert (chain.answers, chain.needed, chain.formed) == (["A."], [], [True, False])
    assert chain.cost(0) == 2
    assert chain.cost(3) == 12


def test_a_plan_limits_a_chain() -> None:
    plan = Plan(enforced=6, at_most=4)
    assert (plan.policy.minimum, plan.policy.maximum) == (6, 6)
    assert plan.max_new_tokens == 13 * plan.turn_tokens
    assert Plan(at_most=0).max_new_tokens == plan.turn_tokens
