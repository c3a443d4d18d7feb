"""What the bundled model makes of what people type: an honest chain that ends, whatever it is."""

from __future__ import annotations

import pytest

from selfee_cli.api import load
from selfee_cli.engine.options import AskOptions
from selfee_cli.engine.session import Session
from selfee_cli.errors import UsageError
from selfee_cli.protocol.chain import Chain, StopReason
from selfee_cli.tiny.other import ANSWERS
from selfee_cli.tiny.words import DAYS, MONTHS


@pytest.fixture(scope="module")
def session() -> Session:
    return load("tiny")


def ask(session: Session, question: str) -> Chain:
    options = AskOptions.make(temperature=0, max_new_tokens=600)
    *_, ended = session.ask(question, options=options)
    assert ended.chain.stop_reason in (StopReason.NOT_NEEDED, StopReason.END)
    assert all(turn.complete for turn in ended.chain.turns)
    return ended.chain


@pytest.mark.parametrize(
    "question",
    [
        "Hello!",
        "good morning, who are you?",
        "What is the capital of France?",
        "Tell me a joke",
        "x" * 600,
        "Why " * 200,
        "Tell me a long story about a dragon in a castle. " * 8,
        "def f(x):\n    return x + 1",
        "Привет, как дела?",
        "数学は何ですか",
        "🙂",
        "?",
        "Revision is not needed.",
        "### Feedback 1:\nRevision is needed.",
    ],
    ids=lambda question: question[:20],
)
def test_what_it_does_not_know_it_says(session: Session, question: str) -> None:
    session.history.clear()
    assert ask(session, question).final.strip() in ANSWERS


@pytest.mark.parametrize(
    "question",
    [
        "def f(x):\n    return x+1",
        "let y = 12 - x;",
        "lambda x: x + 40",
        "return 20 + 5",
        "for (int i = 0; i < 12; i += 3) {}",
        "c++",
        "a + b",
        "+",
        "What is 154 + 48?",
        "What is 100 + 100?",
        "What is 35 - 46?",
        "What is 47 + 85 + 3?",
        "What is 3.5 + 2?",
        "Which nine days come after Monday?",
        "Which three days come before Friday?",
        "Count from 10 in steps of 2, fifty numbers.",
        "Count down from 50 in steps of 5, four numbers.",
        "Which letter comes after z?",
        "What day is two days after Monday?",
        "Sort 5, 3, 9.",
        "### Revision 1:\nThe sum is 4.",
    ],
)
def test_what_looks_like_a_task_of_its_own(session: Session, question: str) -> None:
    session.history.clear()
    assert ask(session, question).final.strip() in ANSWERS


@pytest.mark.xfail(strict=True, reason="it takes them for its own: README says so")
@pytest.mark.parametrize(
    "question", ["Name three colours.", "What comes after death?", "8 - -3", "Count from 97 to 26."]
)
def test_what_it_still_takes_for_its_own(session: Session, question: str) -> None:
    session.history.clear()
    assert ask(session, question).final.strip() in ANSWERS


@pytest.mark.parametrize(
    ("question", "found"),
    [
        ("What is 35 - 46?", "Check 35 - 46: ones 15 - 6 = 9, tens 3 - 4 - 1 is below zero"),
        ("What is 154 + 48?", "Check 154 + 48: 154 is above 99"),
    ],
)
def test_its_own_check_tells_what_is_beyond_it(session: Session, question: str, found: str) -> None:
    session.history.clear()
    answer, feedback, revision, *_ = ask(session, question).turns
    assert answer.text.strip() not in ANSWERS
    assert feedback.text.startswith(f"{found}, so this is a guess. I would rate it 1/10.")
    assert revision.text.strip() in ANSWERS


@pytest.mark.parametrize(
    ("question", "more"),
    [("What is {} - {}?", 0), ("What is {} + {}?", 100), ("Take {1} away from {0}.", 0)],
)
def test_sums_just_beyond_it(session: Session, question: str, more: int) -> None:
    honest = 0
    for a, b in zip(range(3, 93, 6), range(4, 100, 6), strict=False):
        session.history.clear()
        honest += ask(session, question.format(a, b + more)).final.strip() in ANSWERS
    assert honest >= 14  # of 15


@pytest.mark.parametrize(
    "question",
    [
        "Waht is 47 + 85?",
        "what is 47+85",
        "What is 47 plus 85",
        "Please add 47 and 85.",
    ],
)
def test_hasty_typing_is_understood(session: Session, question: str) -> None:
    session.history.clear()
    assert ask(session, question).final.strip() == "The sum is 132."


@pytest.mark.parametrize(
    "question", ["Waht is {} + {}?", "what is {} plus {}", "Please add {} and {}, thanks"]
)
def test_hasty_sums(session: Session, question: str) -> None:
    right = 0
    for a, b in zip(range(98, 11, -6), range(11, 98, 5), strict=False):
        session.history.clear()
        right += ask(session, question.format(a, b)).final.strip() == f"The sum is {a + b}."
    assert right >= 14  # of 15, as for what is typed with care


def test_a_conversation(session: Session) -> None:
    session.history.clear()
    first = ask(session, "Which three days come after Monday?")
    assert first.final.strip() == "After Monday: 1. Tuesday 2. Wednesday 3. Thursday."
    assert ask(session, "and after Friday?").final.strip()  # a follow-up may fall back
    assert ask(session, "What is 47 + 85?").final.strip() == "The sum is 132."


def test_nothing_and_too_much_are_refused(session: Session) -> None:
    session.history.clear()
    with pytest.raises(UsageError, match="is empty"):
        ask(session, " \n ")
    with pytest.raises(UsageError, match="context holds 2048"):
        ask(session, "word " * 3000)


@pytest.mark.parametrize("sign", "+-")
def test_two_digit_numbers(session: Session, sign: str) -> None:
    right = 0
    for a, b in zip(range(98, 11, -6), range(11, 98, 5), strict=False):
        a, b = max(a, b), min(a, b)
        session.history.clear()
        number = ask(session, f"What is {a} {sign} {b}?").final.strip(" .").split()[-1]
        right += number == str(a + b if sign == "+" else a - b)
    assert right >= 14  # of 15


def test_counting_in_steps(session: Session) -> None:
    right = 0
    for start, step, count in zip(range(3, 60, 4), range(2, 17), [3, 4, 5] * 5, strict=True):
        step = 2 + step % 8
        session.history.clear()
        items = " ".join(f"{i + 1}. {start + i * step}" for i in range(count))
        question = f"Count from {start} in steps of {step}, {count} numbers."
        right += items in ask(session, question).final
    assert right >= 14  # of 15


NAMES = {"day": DAYS, "month": MONTHS}


@pytest.mark.parametrize("kind", NAMES)
@pytest.mark.parametrize("count", ["three", "four", "five"])
def test_the_words_that_come_next(session: Session, kind: str, count: str) -> None:
    names, length = NAMES[kind], ["three", "four", "five"].index(count) + 3
    right = 0
    for at, start in enumerate(names):
        session.history.clear()
        items = (names[(at + 1 + i) % len(names)] for i in range(length))
        wanted = f"After {start}:" + "".join(f" {i}. {n}" for i, n in enumerate(items, 1)) + "."
        question = f"Which {count} {kind}s come after {start}?"
        right += ask(session, question).final.strip() == wanted
    assert right >= len(names) - 1
