"""The task generator: true answers by another road, grading, the split, the questions."""

from __future__ import annotations

import itertools
import random
import re
from collections import Counter

import pytest

from selfee_cli.tiny import other, phrasings, tasks, words
from selfee_cli.tiny.checks import spoil, spoil_some, sum_steps
from selfee_cli.tiny.tasks import FAMILIES, Part, Task, draw, part_of

LISTED = ("counting", "sequence")
GRADED = ("addition", "subtraction", *LISTED)


def drawn(family: str, count: int = 300, part: Part = Part.TRAINING) -> list[Task]:
    rng = random.Random(f"test {family}")
    return [draw(rng, family, part) for _ in range(count)]


def expected(task: Task) -> tuple[str, ...]:
    """What is true, worked out from the values without the generator's own arithmetic."""
    values, n = task.values, len(task.items)
    if task.family == "addition":
        return (str(len("x" * int(values[0]) + "x" * int(values[1]))),)
    if task.family == "subtraction":
        return (str(len(range(int(values[1]), int(values[0])))),)
    if task.family == "counting":
        start, step = map(int, values)
        return tuple(map(str, range(start, start + n * step, step)))
    kind, start, _ = values
    wheel = " ".join(words.SERIES[kind] * 2)
    return tuple(wheel[re.search(rf"\b{start}\b", wheel).end() :].split()[:n])


@pytest.mark.parametrize("family", GRADED)
def test_the_answer_is_true_and_graded_right(family: str) -> None:
    for task in drawn(family):
        assert task.items == expected(task)
        assert task.grade(task.answer)
        assert task.read(task.answer) == task.items


@pytest.mark.parametrize("family", GRADED)
def test_spoilt_answers_are_graded_wrong(family: str) -> None:
    rng = random.Random(5)
    for task in drawn(family):
        wrong = spoil_some(rng, task, task.items, 0.5)
        assert wrong != task.items
        assert task.read(task.write(wrong)) == wrong
        assert not task.grade(task.write(wrong))
        at = rng.randrange(len(task.items))
        assert spoil(rng, task, at) != task.items[at]


@pytest.mark.parametrize("family", GRADED)
def test_an_answer_written_otherwise_is_not_read(family: str) -> None:
    task = drawn(family, 1)[0]
    for text in ("", "12", task.answer[:-1], task.answer + " ", " " + task.answer, task.lead + "."):
        assert task.read(text) is None
        assert not task.grade(text)


def test_only_numbers_and_names_of_the_series_are_read() -> None:
    total = tasks.addition("What is 47 + 85?", 47, 85)
    assert total.read("The sum is 131.") == ("131",)
    for word in ("right", "December", "-3", "1_2", "\u0663", "a"):
        assert total.read(f"The sum is {word}.") is None
    days = tasks.sequence("Which two days come after Monday?", "day", "Monday", 2)
    assert days.read("After Monday: 1. Sunday 2. Friday.") == ("Sunday", "Friday")
    for word in ("May", "12", "tuesday"):
        assert days.read(f"After Monday: 1. Tuesday 2. {word}.") is None


def test_every_value_stands_in_the_question() -> None:
    for family in ("addition", "subtraction", "counting"):
        for task in drawn(family):
            for value in task.values:
                assert re.search(rf"(?<!\w){value}(?!\w)", task.question), task


def test_the_steps_of_a_sum_add_up() -> None:
    for task in drawn("addition") + drawn("subtraction"):
        (ones, ones_result), (tens, tens_result) = sum_steps(task)
        for left, result in ((ones, ones_result), (tens, tens_result)):
            assert eval(left) == int(result)
        assert int(tens_result) * 10 + int(ones_result) % 10 == int(task.items[0])


def test_a_tenth_is_for_development_and_a_tenth_for_the_study() -> None:
    contents = [f"subtraction {a} {b}" for a in range(10, 100) for b in range(10, 100)]
    parts = Counter(map(part_of, contents))
    assert 0.09 < parts[Part.DEVELOPMENT] / len(contents) < 0.11
    assert 0.09 < parts[Part.STUDY] / len(contents) < 0.11
    for family in FAMILIES:
        for part in Part:
            assert all(part_of(task.content) is part for task in drawn(family, 20, part))


def test_a_sum_turned_round_belongs_to_the_same_part() -> None:
    for a, b in itertools.product(range(10, 100, 7), repeat=2):
        there, back = (tasks.addition(f"{x} + {y}", x, y) for x, y in ((a, b), (b, a)))
        assert there.content == back.content
        assert there.values == back.values[::-1]


def test_there_are_eight_phrasings_a_family() -> None:
    for name in ("ADDITION", "SUBTRACTION", "COUNTING", "SEQUENCE"):
        assert len(set(getattr(phrasings, name))) == 8


@pytest.mark.parametrize(
    ("family", "question"),
    [
        ("addition", "What is 47 + 85?"),
        ("subtraction", "What is 93 - 28?"),
        ("counting", "Count from 12 in steps of 7, five numbers."),
        ("sequence", "Which three days come after Tuesday?"),
    ],
)
def test_the_examples_are_phrased_as_in_training(family: str, question: str) -> None:
    def shape(text: str) -> str:
        text = re.sub(r"\d+", "0", re.sub(r"\b[a-z](?: [a-z])+\b", "abc", text))
        return re.sub(r"\b(one|two|three|four|five|[A-Z]\w+day)\b", "N", text)

    assert question in other.EXAMPLES
    assert shape(question) in {shape(task.question) for task in drawn(family, 3000)}


def test_questions_come_rough_too() -> None:
    questions = [task.question for family in GRADED for task in drawn(family)]
    assert any(question[0].islower() for question in questions)
    assert any(question[-1] not in ".?)" for question in questions)
    assert any(question.startswith("Please ") for question in questions)


def test_the_rougher_the_asking_the_fewer_are_asked_plainly() -> None:
    plain = {}
    for rough in (1.0, 4.0):
        rng, asking = random.Random(1), phrasings.Asking(rough=rough)
        asked = [draw(rng, "addition", asking=asking).question for _ in range(500)]
        plain[rough] = sum(
            re.fullmatch(r"[A-Z]\w+ .*[a-z\d][.?]", text) is not None for text in asked
        )
    assert plain[1.0] > 1.3 * plain[4.0] > 0


def test_a_mistyped_name_is_still_its_own() -> None:
    rng, asking = random.Random(2), phrasings.Asking(rough=30.0)
    names = {name.lower() for name in (*words.DAYS, *words.MONTHS)}
    for _ in range(2000):
        task = draw(rng, "sequence", asking=asking)
        found = {word.lower() for word in re.findall(r"[A-Za-z]+", task.question)} & names
        assert found <= {task.values[1].lower()}


def test_other_questions_get_an_honest_answer() -> None:
    for task in drawn("other"):
        assert task.answer in other.ANSWERS
        assert "small demonstration model of selfee" in task.answer
        assert task.grade(other.ANSWERS[0])
        assert not task.grade("The sum is 12.")
    assert any("###" in task.question for task in drawn("other", 600))


def test_no_content_word_starts_a_line_or_stands_in_quotes() -> None:
    for family in FAMILIES:
        for task in drawn(family, 50):
            assert '"' not in task.answer
            assert "\n" not in task.answer
            assert not re.match(r"\d|[a-z]\b", task.answer)
