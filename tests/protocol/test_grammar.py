import pytest

from selfee_cli.protocol.grammar import (
    ANSWER,
    TurnBuffer,
    TurnId,
    TurnKind,
    Verdict,
    find_score,
    find_verdict,
    last_verdict,
    unfinished,
)


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        ("8/10. Revision is needed.", Verdict.NEEDED),
        ("8/10. Revision is not needed.", Verdict.NOT_NEEDED),
        ("Revision is not needed, but some tweaks could help.", Verdict.NOT_NEEDED),
        ("9 out of 10. No revision is needed.", Verdict.NOT_NEEDED),
        ("so no revision is needed", Verdict.NOT_NEEDED),
        ("No revisions needed", Verdict.NOT_NEEDED),
        ("No further revision is needed.", Verdict.NOT_NEEDED),
        ("a score of 8.vision is needed.", Verdict.NEEDED),
        ("9 out of 10. Novision is needed", Verdict.NEEDED),
        ("revisionvision is needed", Verdict.NEEDED),
        ("A better vision is needed.", None),
        ("Revision is need", None),
        ("The revision of the text is fine.", None),
    ],
)
def test_verdict(text: str, verdict: Verdict | None) -> None:
    assert last_verdict(text) is verdict


def test_verdict_span_is_the_phrase() -> None:
    text = "Fine. No revision is needed."
    span = find_verdict(text)
    assert span is not None
    assert text[span.start : span.end] == "No revision is needed"


@pytest.mark.parametrize(
    ("text", "score"),
    [
        ("I would give this answer a score of 8. Revision", 8),
        ("the answer is a solid 8/10, but", 8),
        ("I would score this answer an 8 out of 10.", 8),
        ("score this answer an 8. Revision is needed.", 8),
        ("Score: 10/10.", 10),
        ("Score: 7", 7),
        ("The score is 9 out of 10.", 9),
        ("a score of 8.5 out of 10", 8.5),
        ("The answer is a solid 8.5. Revision", 8.5),
        ("rate it 7 out of ten", 7),
        ("substituting x = 2 into the final fraction -1/2", None),
        ("an estimate of 10,000 to 20,000", None),
        ("costs a 5.000 fee", None),
        ("it names 3/100 of them", None),
        ("no score at all", None),
        ("first a 6/10, after that 9/10", 9),
    ],
)
def test_score(text: str, score: float | None) -> None:
    assert find_score(text) == score


def test_turn_ids_follow_each_other() -> None:
    order = [ANSWER]
    for _ in range(21):
        order.append(order[-1].next)
    titles = [id.title for id in order]
    assert titles[:4] == ["Answer", "Feedback 1", "Revision 1", "Feedback 2"]
    assert titles[-1] == "Feedback 11"
    assert order[20].header == "\n\n### Revision 10:\n"


def test_unfinished_finds_the_longest_tail() -> None:
    assert unfinished("abc Rev", (" Revision",)) == 3
    assert unfinished("abc", (" Revision",)) == 3
    assert unfinished("a\n\n### F", ("\n\n### Feedback 1:\n",)) == 1


def test_only_the_due_header_ends_a_turn() -> None:
    buffer = TurnBuffer(ANSWER)
    buffer.append("# Title\n\n### Feedback 2:\nno\n\n### Revision 1:\nno\n\n### Notes:\n")
    assert buffer.header_at is None
    buffer.append("yes\n\n### Feedback 1:\n")
    assert buffer.header_at == buffer.text.index("\n\n### Feedback 1:")


def test_a_second_verdict_does_not_move_the_first() -> None:
    buffer = TurnBuffer(TurnId(TurnKind.FEEDBACK, 1))
    for piece in ("Re", "vision is not need", "ed. Revision is needed."):
        buffer.append(piece)
    assert buffer.verdict is not None
    assert buffer.verdict.start == 0
    buffer.cut(5)
    assert buffer.verdict is None
