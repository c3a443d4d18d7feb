"""The revision policy on a scripted model."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scripted import END, PieceVocabulary, ScriptedSource, split_words

from selfee_cli.errors import UsageError
from selfee_cli.protocol.chain import (
    Chain,
    ChainEnded,
    StopReason,
    TextDelta,
    TurnEnded,
    TurnStarted,
    parse_chain,
)
from selfee_cli.protocol.driver import ChainDriver
from selfee_cli.protocol.grammar import TurnKind, Verdict
from selfee_cli.protocol.overruling import overruled
from selfee_cli.protocol.policy import RevisionPolicy
from selfee_cli.protocol.text import decode


def write(
    parts: list[list[str | bytes]],
    *,
    batch: int = 1,
    minimum: int = 0,
    maximum: int | None = None,
    capacity: int = 10_000,
    max_new_tokens: int | None = None,
    cancelled=lambda: False,
) -> Chain:
    """Run a driver over a script and check what must hold of any chain."""
    vocabulary = PieceVocabulary()
    source = ScriptedSource(vocabulary, parts, batch=batch, capacity=capacity)
    driver = ChainDriver(
        source,
        vocabulary,
        RevisionPolicy(minimum=minimum, maximum=maximum),
        max_new_tokens=max_new_tokens,
        cancelled=cancelled,
    )
    events = list(driver.run(source.sample))
    assert isinstance(events[-1], ChainEnded)
    chain = events[-1].chain
    check_events(events[:-1], chain)
    ids = chain.token_ids
    assert decode(vocabulary, ids.generated) == chain.raw
    assert list(ids.generated) == source.generated[: len(ids.generated)]
    edges = [edge for span in ids.forced for edge in span]
    assert edges == sorted(edges)
    assert all(edge <= len(ids.generated) for edge in edges)
    assert "".join(turn.id.header + turn.text for turn in chain.turns) == chain.raw
    assert sum(turn.tokens for turn in chain.turns) == len(ids.generated)
    again = parse_chain(chain.raw, complete=True)
    assert [(t.id, t.text, t.verdict) for t in again] == [
        (t.id, t.text, t.verdict) for t in chain.turns
    ]
    return chain


def check_events(events: list, chain: Chain) -> None:
    """Turns come in order, and what was shown of each is its text: nothing was taken back."""
    place = 0
    shown = ""
    for event in events:
        turn = chain.turns[place]
        if isinstance(event, TurnStarted):
            assert event.id == turn.id
            shown = ""
        elif isinstance(event, TextDelta):
            assert event.id == turn.id
            assert event.text
            shown += event.text
        elif isinstance(event, TurnEnded):
            assert event.turn == turn
            assert shown == turn.text
            place += 1
    assert place == len(chain.turns)


def words(text: str, *end: str) -> list[str | bytes]:
    return [*split_words(text), *end]


GOOD = "The answer is 4.\n\n### Feedback 1:\nIt is right. 9/10. Revision is not needed."
OWN_REVISION = (
    "A.\n\n### Feedback 1:\nBad. Revision is needed.\n\n### Revision 1:\nB.\n\n### Feedback 2:\n"
)
VERDICTS = [
    " Revision is not needed.",
    " No revision is needed.",
    " no revision is needed",
    " Revision is not needed, but some tweaks could help.",
    "\nRevision is not needed.",
    "",
    " Revision is needed.",
    " Revision is needed to see the revision.",
    " Revision is needed. The answer is a 10 out of 10.",
]
DAMAGED = [
    "vision is needed",
    " Novision is needed",
    " revisionvision is needed.",
    "vision is need",
]


def test_autonomous_stops_when_the_model_does() -> None:
    chain = write([words(GOOD, END)])
    assert chain.stop_reason is StopReason.NOT_NEEDED
    assert chain.final == "The answer is 4."
    assert chain.revisions == 0
    assert chain.turns[1].score == 9
    assert not chain.turns[1].enforced
    assert chain.token_ids.forced == ()


@pytest.mark.parametrize("verdict", VERDICTS)
@pytest.mark.parametrize("minimum", [1, 2, 3, 11])
@pytest.mark.parametrize("batch", [1, 4])
def test_n_gives_n(verdict: str, minimum: int, batch: int) -> None:
    first = words(f"An answer.\n\n### Feedback 1:\nGood. 8/10.{verdict}", END)
    rest = [
        words(f"Text {k}.\n\n### Feedback {k + 1}:\nGood. 8/10.{verdict}", END)
        for k in range(1, minimum + 1)
    ]
    chain = write([first, *rest], minimum=minimum, batch=batch)
    own = parse_chain("".join(first), complete=True)[1].verdict
    assert chain.revisions == minimum
    assert chain.final == f"Text {minimum}."
    for turn in chain.turns[:-1]:
        if turn.id.kind is TurnKind.FEEDBACK:
            space = "\n" if verdict.startswith("\n") else " "
            assert turn.text == f"Good. 8/10.{space}Revision is needed."
            assert turn.verdict is Verdict.NEEDED
            assert turn.enforced == (verdict.startswith(" Revision is needed") is False)
            assert turn.own_verdict is (own if turn.enforced else Verdict.NEEDED)
    assert chain.turns[-1].text == f"Good. 8/10.{verdict}"
    assert len(chain.token_ids.forced) == minimum


def test_the_models_own_revision_is_left_alone() -> None:
    text = OWN_REVISION
    chain = write([words(text + "Good. Revision is not needed.", END)], minimum=1)
    assert chain.token_ids.forced == ()
    assert [turn.enforced for turn in chain.turns] == [False] * 4
    assert chain.stop_reason is StopReason.NOT_NEEDED


def test_an_end_in_an_answer_that_owes_feedback() -> None:
    parts = [words("A.", END), words("Fine. Revision is not needed.", END), words("B.", END)]
    chain = write(parts, minimum=1)
    assert chain.raw == ("A.\n\n### Feedback 1:\nFine. Revision is needed.\n\n### Revision 1:\nB.")
    assert chain.stop_reason is StopReason.END
    assert chain.turns[1].enforced


def test_a_missing_verdict_before_a_header_is_supplied() -> None:
    parts = [
        words("A.\n\n### Feedback 1:\nBad.\n\n### Revision 1:\n"),
        words("B.\n\n### Feedback 2:\nFine. Revision is not needed.", END),
    ]
    chain = write(parts, minimum=1)
    assert chain.turns[1].text == "Bad. Revision is needed."
    assert chain.turns[1].enforced
    autonomous = write([words("A.\n\n### Feedback 1:\nBad.\n\n### Revision 1:\nB.", END)])
    assert autonomous.turns[1].text == "Bad."
    assert autonomous.turns[1].verdict is None
    assert autonomous.stop_reason is StopReason.END


def test_the_maximum_stops_after_its_revision() -> None:
    text = OWN_REVISION
    chain = write([words(text + "Bad. Revision is needed.")], maximum=1)
    assert chain.stop_reason is StopReason.MAX_REVISIONS
    assert chain.final == "B."
    assert chain.raw.endswith("B.")
    assert all(turn.complete for turn in chain.turns)
    assert write([words(text)], maximum=0).raw == "A."


def test_minimum_and_maximum_together() -> None:
    parts = [
        words(GOOD, END),
        words("B.\n\n### Feedback 2:\nGood. Revision is not needed.", END),
        words("C.\n\n### Feedback 3:\n"),
    ]
    chain = write(parts, minimum=2, maximum=2)
    assert chain.revisions == 2
    assert chain.stop_reason is StopReason.MAX_REVISIONS
    with pytest.raises(UsageError, match="max-revisions 1"):
        RevisionPolicy(minimum=3, maximum=1)


def test_limits_end_a_chain_with_the_last_complete_turn() -> None:
    text = "A.\n\n### Feedback 1:\nBad. Revision is needed.\n\n### Revision 1:\nB is longer"
    for limit in range(1, len(split_words(text)) + 1):
        chain = write([words(text)], max_new_tokens=limit)
        assert chain.stop_reason is StopReason.MAX_NEW_TOKENS
        assert len(chain.token_ids.generated) == limit
        full = write([words(text)], capacity=limit)
        assert full.stop_reason is StopReason.CONTEXT
        if chain.turns[0].complete:
            assert chain.final == "A."


def test_what_is_supplied_keeps_to_the_limits() -> None:
    for limit in range(1, 60):
        chain = write([words(GOOD, END), words("B. and more", END)], minimum=1, capacity=limit)
        assert len(chain.token_ids.generated) <= limit
        supplied = sum(until - start for start, until in chain.token_ids.forced)
        assert any(turn.enforced for turn in chain.turns) == (supplied > 0)


def test_a_turn_that_ended_is_complete_without_room_for_a_header() -> None:
    text = OWN_REVISION.removesuffix("\n\n### Feedback 2:\n")
    for whole, final in (("A.", "A."), (text, "B.")):
        for room in (1, 2, 3):
            limit = len(split_words(whole)) + room
            chain = write([words(whole, END)], minimum=2, max_new_tokens=limit)
            assert chain.stop_reason is StopReason.MAX_NEW_TOKENS
            assert chain.turns[-1].complete
            assert chain.final == final


def test_what_was_shown_of_a_token_that_is_cut_stays_without_room_for_more() -> None:
    parts = [["A.", *split_words("\n\n### Feedback 1:\n"), "Good", ". Revision is not needed"]]
    for limit in range(8, 40):
        chain = write(parts, minimum=1, max_new_tokens=limit)
        if len(chain.turns) == 2 and chain.turns[1].text:
            assert chain.turns[1].text.startswith("Good")


def test_forced_spans_end_where_the_chain_is_cut() -> None:
    asked = 0

    def finishing() -> bool:
        nonlocal asked
        asked += 1
        return asked > 1

    vocabulary = PieceVocabulary()
    source = ScriptedSource(vocabulary, [words(GOOD), words("B.", END)])
    driver = ChainDriver(source, vocabulary, RevisionPolicy(minimum=1), finishing=finishing)
    *_, last = driver.run(source.sample)
    ids = last.chain.token_ids
    assert ids.forced
    assert ids.forced[-1][1] == len(ids.generated)
    assert last.chain.turns[-1].text.endswith("Revision is needed.")


def test_cancelling_keeps_what_is_complete() -> None:
    calls = iter([False] * 12 + [True])
    chain = write([words(GOOD, END)], cancelled=lambda: next(calls))
    assert chain.stop_reason is StopReason.INTERRUPTED
    assert chain.final == "The answer is 4."
    assert not chain.turns[-1].complete


@pytest.mark.parametrize("verdict", VERDICTS)
def test_overruled_is_what_the_driver_writes(verdict: str) -> None:
    first = f"A.\n\n### Feedback 1:\nGood. 8/10.{verdict}"
    own = parse_chain(first, complete=True)[1]
    written = write([words(first, END), words("B.", END)], minimum=1).turns[1]
    changed = overruled(own)
    assert (changed.text, changed.enforced, changed.verdict, changed.score) == (
        written.text,
        written.enforced,
        Verdict.NEEDED,
        8.0,
    )
    assert changed.own_verdict is written.own_verdict
    assert overruled(changed) == changed


@pytest.mark.parametrize("minimum", [0, 1, 2])
def test_a_chain_that_goes_on_after_turns(minimum: int) -> None:
    whole = write([words(OWN_REVISION + "Bad. 3/10.", END), words("C.", END)], minimum=2)
    vocabulary = PieceVocabulary()
    for cut in range(1, len(whole.turns)):
        rest = "".join(turn.id.header + turn.text for turn in whole.turns[cut:])
        rest = rest.removeprefix(whole.turns[cut].id.header)
        source = ScriptedSource(vocabulary, [words(rest, END)])
        driver = ChainDriver(
            source, vocabulary, RevisionPolicy(minimum=minimum), beginning=whole.turns[:cut]
        )
        first, *_, last = driver.run(source.sample)
        assert first == TurnStarted(whole.turns[cut].id)
        assert last.chain.raw == whole.raw
        assert [(t.id, t.text) for t in last.chain.turns] == [(t.id, t.text) for t in whole.turns]
        assert decode(vocabulary, last.chain.token_ids.generated) == rest


def test_finishing_stops_at_every_kind_of_turn() -> None:
    text = OWN_REVISION + "Fine. Revision is not needed."
    for which, kinds in enumerate(["answer", "feedback", "revision", "feedback"]):
        done = 0

        def finishing(wanted: int = which) -> bool:
            nonlocal done
            done += 1
            return done > wanted

        vocabulary = PieceVocabulary()
        source = ScriptedSource(vocabulary, [words(text, END), words("C.", END)])
        driver = ChainDriver(source, vocabulary, RevisionPolicy(minimum=2), finishing=finishing)
        *_, last = driver.run(source.sample)
        assert len(last.chain.turns) == which + 1
        assert last.chain.turns[-1].id.kind.value == kinds
        assert last.chain.turns[-1].complete
        assert last.chain.stop_reason is StopReason.INTERRUPTED


def test_text_that_may_be_withdrawn_is_not_shown() -> None:
    vocabulary = PieceVocabulary()
    parts = [
        ["A.", *split_words("\n\n### Feedback 1:\nGood. Revision is not needed."), END],
        ["B."],
    ]
    source = ScriptedSource(vocabulary, parts)
    driver = ChainDriver(source, vocabulary, RevisionPolicy(minimum=1))
    shown = [event.text for event in driver.run(source.sample) if isinstance(event, TextDelta)]
    assert shown[:5] == ["A.", "Good", ".", " Revision is needed.", "B."]


@pytest.mark.parametrize("damaged", DAMAGED[:3])
@pytest.mark.parametrize("after", ["", "ed", " at once. It is short."])
def test_a_damaged_verdict_is_withdrawn_unseen(damaged: str, after: str) -> None:
    text = f"A.\n\n### Feedback 1:\nGood, 8.{damaged}{after}"
    chain = write([[*text, END], ["B", END]], minimum=1)
    assert chain.turns[1].text.startswith("Good, 8.")
    assert chain.turns[1].text.endswith("Revision is needed.")
    assert chain.final == "B"


def test_characters_cut_by_a_roll_back() -> None:
    emoji = "🙂".encode()
    whole = [emoji[:2], emoji[2:]]
    parts = [
        [
            "Hi ",
            *whole,
            *split_words("\n\n### Feedback 1:\nNice "),
            *whole,
            b" Revision is not needed",
        ],
        ["B"],
    ]
    chain = write(parts, minimum=1)
    assert chain.turns[1].text == "Nice 🙂 Revision is needed."
    # A character that never gets its last bytes, right before the verdict.
    broken = ["A.", *split_words("\n\n### Feedback 1:\nNice "), emoji[:3], "Revision is not needed"]
    chain = write([broken, ["B"]], minimum=1)
    assert chain.turns[1].text == "Nice \ufffd Revision is needed."


def test_one_token_may_hold_more_than_the_header() -> None:
    parts = [
        ["A", ".\n\n", "### Feedback 1:\nBad. Revision is", " needed.\n\n### Revision 1:\nB", END]
    ]
    chain = write(parts)
    assert [turn.text for turn in chain.turns] == ["A.", "Bad. Revision is needed.", "B"]
    chain = write([["A", ".\n\n", "### Feedback 1:\nBad"]], maximum=0)
    assert chain.raw == "A."


def test_a_question_of_headers_and_double_digits() -> None:
    text = "A."
    for k in range(1, 13):
        text += f"\n\n### Feedback {k}:\nBad. Revision is needed.\n\n### Revision {k}:\nText {k}."
    chain = write([words(text, END)], batch=5)
    assert chain.revisions == 12
    assert chain.final == "Text 12."


def test_three_newlines_before_a_header() -> None:
    text = "A.\n\n\n### Feedback 1:\nBad. Revision is needed.\n\n\n### Revision 1:\nB."
    for minimum in (0, 1):
        chain = write(
            [words(text, END), words("Good. Revision is not needed.", END)], minimum=minimum
        )
        assert chain.turns[0].text == "A.\n"
        assert chain.turns[2].text == "B."


@settings(max_examples=300, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    minimum=st.integers(0, 3),
    batch=st.integers(1, 7),
    verdicts=st.lists(
        st.sampled_from([*VERDICTS, *DAMAGED, " Revision is needed", "##"]), min_size=4
    ),
)
def test_any_split_of_any_text_gives_n(
    seed: int, minimum: int, batch: int, verdicts: list[str]
) -> None:
    rng = random.Random(seed)
    parts = []
    for k, verdict in enumerate(verdicts):
        head = f"Über {k} 🙂 No. R\n\n### Notes:\n\n\n### Feedback {k + 1}:\nOk 数 8/10."
        tail = rng.choice(["", f"\n\n### Revision {k + 1}:\nC", "\n\n### Rev", "\n", " No"])
        parts.append([*random_pieces(head + verdict + tail, rng), *([END] * rng.randint(0, 1))])
    chain = write(parts, minimum=minimum, batch=batch)
    assert chain.revisions >= minimum


def random_pieces(text: str, rng: random.Random) -> list[bytes]:
    data = text.encode()
    cuts = sorted(rng.sample(range(1, len(data)), k=rng.randint(0, len(data) - 1)))
    return [data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True)]
