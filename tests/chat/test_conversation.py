"""What was asked and answered, and what a reader may do about it."""

from __future__ import annotations

import pytest

from selfee_cli.chat.conversation import Conversation, room_for_revisions, used_context
from selfee_cli.errors import UsageError
from selfee_cli.protocol.chain import Chain, StopReason, Turn, parse_chain
from selfee_cli.protocol.grammar import TurnId, TurnKind, Verdict
from selfee_cli.protocol.prompt import Exchange

RAW = (
    "A0.\n\n### Feedback 1:\nBad. 4/10. Revision is needed.\n\n### Revision 1:\nA1."
    "\n\n### Feedback 2:\nGood. 9/10. Revision is not needed."
)
ANSWER, FEEDBACK_1, REVISION_1, FEEDBACK_2 = parse_chain(RAW, complete=True)
BROKEN_FEEDBACK = Turn(id=FEEDBACK_1.id, text="Ba", complete=False)


def ended(reason: StopReason = StopReason.NOT_NEEDED, **details: object) -> Chain:
    return Chain(instruction="", turns=(), stop_reason=reason, **details)


def talk_of(*turns: Turn, reason: StopReason = StopReason.NOT_NEEDED) -> Conversation:
    talk = Conversation()
    talk.begin("Why?", None)
    for turn in turns:
        talk.add(turn)
    talk.end(ended(reason, sampling={"seed": 7}))
    return talk


def whole() -> Conversation:
    return talk_of(ANSWER, FEEDBACK_1, REVISION_1, FEEDBACK_2)


def ids(turns: tuple[Turn, ...]) -> list[str]:
    return [turn.id.title for turn in turns]


def test_nothing_was_asked_yet() -> None:
    talk = Conversation()
    for steer in (talk.undo, talk.revise, talk.resume, lambda: talk.accept(None)):
        with pytest.raises(UsageError, match="nothing was asked yet"):
            steer()
    assert talk.history() == []


def test_the_model_is_shown_final_answers() -> None:
    talk = whole()
    talk.begin("More?", "Some text.")
    talk.add(ANSWER)
    talk.end(ended())
    assert talk.history() == [
        Exchange(instruction="Why?", answer="A1."),
        Exchange(instruction="More?", input="Some text.", answer="A0."),
    ]
    assert talk.history(less=1) == talk.history()[:1]
    assert talk.chains[0].raw == RAW


def test_turns_take_their_places() -> None:
    talk = talk_of(ANSWER)
    with pytest.raises(UsageError, match="Revision 1 does not follow"):
        talk.add(REVISION_1)
    talk.add(FEEDBACK_1)
    other = Turn(id=ANSWER.id, text="Anew.", complete=True)
    talk.add(other)
    assert talk.last.turns == (other,), "what stood after it is gone"


def test_a_broken_turn_displaces_nothing() -> None:
    talk = whole()
    talk.add(BROKEN_FEEDBACK)
    assert ids(talk.last.turns) == ["Answer", "Feedback 1", "Revision 1", "Feedback 2"]
    talk = talk_of(ANSWER, BROKEN_FEEDBACK, reason=StopReason.INTERRUPTED)
    assert talk.last.final == "A0."
    with pytest.raises(UsageError, match="does not follow"):
        talk.add(REVISION_1)
    talk.add(FEEDBACK_1)
    assert talk.last.turns == (ANSWER, FEEDBACK_1)


def test_with_nothing_complete_a_question_is_withdrawn() -> None:
    talk = whole()
    talk.begin("More?", None)
    talk.add(Turn(id=ANSWER.id, text="Be", complete=False))
    assert not talk.end(ended(StopReason.INTERRUPTED))
    assert [chain.instruction for chain in talk.chains] == ["Why?"]


def test_what_was_to_be_replaced_comes_back() -> None:
    talk = whole()
    talk.begin("Why not?", None, replaces=1)
    assert talk.history(less=1) == []
    assert not talk.end(ended(StopReason.INTERRUPTED))
    assert [chain.instruction for chain in talk.chains] == ["Why?"]
    talk.begin("Why not?", None, replaces=1)
    talk.add(ANSWER)
    assert talk.end(ended())
    assert [chain.instruction for chain in talk.chains] == ["Why not?"]


def test_what_had_no_room_has_it_again_without_the_question() -> None:
    talk = whole()
    for name in ("B?", "C?"):
        talk.begin(name, None)
        talk.add(ANSWER)
        talk.end(ended())
    talk.begin("A long question?", None)
    talk.forget(2)
    assert [each.instruction for each in talk.history(less=1)] == ["C?"]
    talk.withdraw()
    assert len(talk.history()) == 3
    talk.begin("A long question?", None)
    talk.forget(3)
    talk.add(ANSWER)
    talk.end(ended())
    talk.begin("And?", None)
    assert [each.instruction for each in talk.history(less=1)] == ["A long question?"]
    talk.withdraw()
    assert talk.undo() == 1
    assert [each.instruction for each in talk.history()] == ["Why?", "B?", "C?"]


def test_accepting() -> None:
    talk = whole()
    assert talk.accept(0) == ANSWER
    assert talk.last.final == "A0."
    assert talk.history()[0].answer == "A0."
    assert talk.accept(None) == REVISION_1
    with pytest.raises(UsageError, match="there is no revision 2") as refused:
        talk.accept(2)
    assert refused.value.hint == "0 is the answer, 1 to 1 are the revisions"
    broken = Turn(id=TurnId(TurnKind.REVISION, 1), text="A", complete=False)
    talk = talk_of(ANSWER, FEEDBACK_1, broken, reason=StopReason.INTERRUPTED)
    with pytest.raises(UsageError, match="Revision 1 is unfinished"):
        talk.accept(1)


def test_undoing() -> None:
    talk = whole()
    talk.begin("More?", None)
    talk.add(ANSWER)
    talk.end(ended())
    assert talk.undo(5) == 2
    assert talk.chains == []


def test_revising_the_accepted_turn() -> None:
    more = whole().revise()
    assert ids(more.turns) == ["Answer", "Feedback 1", "Revision 1", "Feedback 2"]
    (overruled,) = more.supplied
    assert overruled.text == "Good. 9/10. Revision is needed."
    assert overruled.enforced
    assert overruled.verdict is Verdict.NEEDED
    assert (more.revisions, more.new_seed) == (2, False)
    talk = whole()
    talk.accept(0)
    more = talk.revise(3)
    assert ids(more.turns) == ["Answer"], "its feedback led to what was not accepted"
    assert (more.revisions, more.new_seed, more.supplied) == (3, True, ())


@pytest.mark.parametrize(
    ("criticism", "text"),
    [
        ("Too long", "Too long. Revision is needed."),
        ("Too long! 3/10.", "Too long! 3/10. Revision is needed."),
        ("Fine. Revision is not needed.", "Fine. Revision is needed."),
        ("a \udcff b", "a � b. Revision is needed."),
        ("Revision is needed: add dates.", "Revision is needed: add dates."),
        ("Revision is not needed. No, revision is needed", None),
        (
            "It says that revision is not needed, yet the dates are missing.",
            "It says that revision is not needed, yet the dates are missing. Revision is needed.",
        ),
        ("Good.\nNo revision is needed!", "Good.\nRevision is needed."),
        ("No revision is needed", "Revision is needed."),
    ],
)
def test_revising_on_ones_own_feedback(criticism: str, text: str | None) -> None:
    more = whole().revise_on(criticism)
    assert ids(more.turns) == ["Answer", "Feedback 1", "Revision 1", "Feedback 2"]
    assert more.supplied == more.turns[-1:]
    assert more.supplied[0].text == (text or criticism), "no word is lost"
    assert more.supplied[0].verdict is Verdict.NEEDED
    assert not more.supplied[0].enforced
    assert more.revisions == 2
    with pytest.raises(UsageError, match="the feedback is empty"):
        whole().revise_on("  ")


def test_ones_own_feedback_stands_when_its_revision_was_stopped() -> None:
    (own,) = talk_of(ANSWER).revise_on("Revision is needed: add dates.").supplied
    talk = talk_of(ANSWER, own, reason=StopReason.INTERRUPTED)
    for more in (talk.resume(1), talk.revise()):
        assert (more.turns, more.supplied) == ((ANSWER, own), ())


def test_resuming_what_was_stopped() -> None:
    talk = talk_of(ANSWER, BROKEN_FEEDBACK, reason=StopReason.INTERRUPTED)
    assert talk.resume().turns == (ANSWER,), "the broken turn is written anew"
    talk = talk_of(ANSWER, FEEDBACK_1, REVISION_1, FEEDBACK_2, reason=StopReason.MAX_NEW_TOKENS)
    assert talk.resume().supplied[0].verdict is Verdict.NEEDED, "it goes on, so it was needed"
    with pytest.raises(UsageError, match="was not stopped"):
        whole().resume()
    with pytest.raises(UsageError, match="the context is full"):
        talk_of(ANSWER, reason=StopReason.CONTEXT).resume()


def test_resuming_what_was_revised_anew() -> None:
    talk = whole()
    talk.accept(0)
    talk.add(BROKEN_FEEDBACK)
    talk.end(ended(StopReason.INTERRUPTED))
    assert talk.resume(1, 1).turns == (ANSWER,), "what was not accepted is not gone on from"
    talk.accept(1)
    assert talk.resume().turns[:-1] == (ANSWER, FEEDBACK_1, REVISION_1), "its feedback stands"


def test_resuming_ends_at_the_most_revisions() -> None:
    stopped = (ANSWER, FEEDBACK_1, REVISION_1), (ANSWER, FEEDBACK_1, REVISION_1, FEEDBACK_2)
    for turns in stopped:
        talk = talk_of(*turns, reason=StopReason.INTERRUPTED)
        assert talk.resume(0, 2).turns[:3] == turns[:3]
        for most in (0, 1):
            with pytest.raises(UsageError, match=f"1 revision, and max-revisions is {most}"):
                talk.resume(0, most)


def test_a_chain_without_anything_complete_goes_on_from_its_question() -> None:
    broken = Turn(id=ANSWER.id, text="Be", complete=False)
    for stop in (StopReason.MAX_NEW_TOKENS, None):  # None: as published, where nobody knows
        chain = Chain(instruction="Why?", turns=(broken,), stop_reason=stop)
        assert Conversation([chain]).resume(2, 3).turns == ()
    full = Chain(instruction="Why?", turns=(broken,), stop_reason=StopReason.CONTEXT)
    with pytest.raises(UsageError, match="the context is full"):
        Conversation([full]).resume()


def test_turns_have_the_numbers_of_their_places() -> None:
    for kind, index in (("answer", 1), ("answer", -1), ("feedback", 0), ("revision", 0)):
        talk = talk_of(ANSWER, FEEDBACK_1)
        with pytest.raises(UsageError, match="does not follow"):
            talk.add(Turn(id=TurnId(TurnKind(kind), index), text="A", complete=True))
        assert talk.last.turns == (ANSWER, FEEDBACK_1)


@pytest.mark.parametrize(
    ("raw", "tokens", "length", "room"),
    [
        ("A0.", (10,), 1050, 1),  # 30 + 10 are used; a published revision takes 510
        ("A0.", (10,), 549, 0),
        (RAW, (10, 20, 30, 40), 229, 1),  # 30 + 100 are used; this chain's take 20 + 30
        (RAW, (10, 20, 30, 40), 230, 2),
        (RAW, (200, 0, 0, 0), 1250, 2),  # supplied turns count nothing
    ],
)
def test_room_for_revisions(raw: str, tokens: tuple[int, ...], length: int, room: int) -> None:
    turns = tuple(
        Turn(id=turn.id, text=turn.text, complete=True, tokens=count)
        for turn, count in zip(parse_chain(raw, complete=True), tokens, strict=True)
    )
    usage = {"prompt_tokens": 30, "completion_tokens": sum(tokens)}
    chain = Chain(instruction="Q", turns=turns, usage=usage)
    assert used_context(chain) == 30 + sum(tokens)
    assert room_for_revisions(chain, length) == room
