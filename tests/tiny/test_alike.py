"""Questions that look like tasks, and the guesses that take them for one."""

from __future__ import annotations

import random
import re
from collections import Counter

import pytest

from selfee_cli.tiny import alike, evaluate, guesses, other, phrasings, snippets, tasks
from selfee_cli.tiny.chains import NEEDED, NOT_NEEDED, ChainMix, build
from selfee_cli.tiny.checks import Segment, Weights
from selfee_cli.tiny.other import ANSWERS, PRAISE
from selfee_cli.tiny.phrasings import Asking
from selfee_cli.tiny.stages import STAGES
from selfee_cli.tiny.tasks import Part, part_of
from selfee_cli.tiny.words import NUMBER_WORDS, SERIES

PLAINLY = Asking(rough=0.0001)
SLOTS = {
    "a": r"(?P<a>\d+)",
    "b": r"(?P<b>\d+)",
    "start": r"(?P<start>\w+)",
    "step": r"(?P<step>\d+)",
    "n": r"(?P<n>\w+)",
    "kind": r"(?P<kind>day|month|letter)",
}


def read(question: str) -> dict[str, str] | None:
    """Read a question as a task's phrasing, whatever its contents."""
    for templates in (
        phrasings.ADDITION,
        phrasings.SUBTRACTION,
        phrasings.COUNTING,
        phrasings.SEQUENCE,
        phrasings.SEQUENCE_ONE,
    ):
        for template in templates:
            found = re.fullmatch(
                re.escape(template).replace(r"\{", "{").replace(r"\}", "}").format(**SLOTS),
                question,
            )
            if found:
                return found.groupdict()
    return None


def size(count: str) -> int:
    """How many a count asks for; one in words beyond ten is many."""
    if count.isdigit():
        return int(count)
    return NUMBER_WORDS.index(count) if count in NUMBER_WORDS else 99


def is_task(question: str) -> bool:
    """Whether a question, typed with care, is one that the model was taught."""
    values = read(question)
    if values is None:
        return False
    if "a" in values:
        a, b = int(values["a"]), int(values["b"])
        below = (a < b) and any(
            word in question.lower() for word in ("-", "minus", "away", "subtract")
        )
        return a < 100 and b < 100 and not below
    if "step" in values:
        return int(values["start"]) < 100 and int(values["step"]) < 10 and size(values["n"]) < 6
    series = SERIES[values["kind"]]
    n = size(values.get("n") or "one")
    if values["start"] not in series or n > 5:
        return False
    return values["kind"] != "letter" or series.index(values["start"]) + n < len(series)


def drawn(count: int = 6000, asking: Asking = PLAINLY) -> list[str]:
    rng = random.Random(11)
    return [alike.question(rng, asking).text for _ in range(count)]


def close_to(kind: str, count: int = 200) -> list[tasks.Task]:
    """Tasks of the family ``other`` that are almost one of that kind."""
    rng, asking = random.Random(f"close to {kind}"), Asking(alike=1.0)
    found: list[tasks.Task] = []
    while len(found) < count:
        task = tasks.draw(rng, "other", asking=asking)
        if (task.values or ("",))[0] == kind:
            found.append(task)
    return found


def written(segments: list[Segment]) -> str:
    return "".join(text for text, _ in segments)


def test_tasks_are_known_as_tasks() -> None:
    rng = random.Random(12)
    for family in ("addition", "subtraction", "counting", "sequence"):
        asked = [tasks.draw(rng, family, asking=PLAINLY).question for _ in range(300)]
        assert sum(map(is_task, asked)) > 290  # but for the few that are typed carelessly


def test_what_looks_like_a_task_is_none() -> None:
    assert not [question for question in drawn() if is_task(question)]
    phrased = Counter("a" in values or "step" in values for values in map(read, drawn()) if values)
    assert phrased[True] > 1000 < 10 * phrased[False]


def test_it_is_never_empty_and_seldom_the_same() -> None:
    asked = drawn(asking=Asking(rough=3.0))
    assert all(question.strip() for question in asked)
    assert len(set(asked)) > 0.9 * len(asked)


def test_code_holds_signs_and_numbers() -> None:
    rng = random.Random(13)
    asked = [snippets.snippet(rng) for _ in range(1000)]
    assert not [question for question in asked if is_task(question)]
    assert sum(bool(re.search(r"return|let |\+\+|\w\(", question)) for question in asked) > 300
    assert sum("\n" in question for question in asked) > 250
    assert sum("+" in question or "-" in question for question in asked) > 500
    alike_ones = set(drawn())
    assert sum(question in alike_ones for question in asked) > 100  # those that are short


KINDS = ("sum", "difference", "count", "row", "letters", "down", "before", "")


@pytest.mark.parametrize("kind", KINDS)
def test_a_guess_is_an_answer_to_a_task_that_is_trained_on(kind: str) -> None:
    rng = random.Random(kind)
    for task in close_to(kind):
        taken = guesses.guess(rng, task)
        assert taken.family != "other"
        assert taken.grade(taken.answer)
        assert part_of(taken.content) is Part.TRAINING
        assert task.read(taken.answer) is None


def test_only_what_stands_in_the_question_is_taken_up() -> None:
    rng = random.Random(14)
    for kind, family in (("sum", "addition"), ("difference", "subtraction")):
        assert all(guesses.guess(rng, task).family == family for task in close_to(kind))
    for kind in ("count", "down"):
        for task in close_to(kind):
            assert guesses.guess(rng, task).values == task.values[1:3]
    for kind in ("row", "before"):
        for task in close_to(kind):
            assert guesses.guess(rng, task).values[:2] == task.values[1:3]


def fault_of(task: tasks.Task) -> str:
    rng = random.Random(task.question)
    found = written(guesses.unmask(task, guesses.guess(rng, task).answer, Weights()))
    assert found.endswith(", so this is a guess. I would rate it 1/10.")
    return found.removesuffix(", so this is a guess. I would rate it 1/10.")


def test_the_columns_of_a_difference_below_zero_are_true() -> None:
    below = [task for task in close_to("difference") if all(int(v) < 100 for v in task.values[1:])]
    assert len(below) > 60
    for task in below:
        a, b = map(int, task.values[1:])
        ones, one, tens = re.fullmatch(
            rf"Check {a} - {b}: ones (.+) = (\d), tens (.+) is below zero", fault_of(task)
        ).groups()
        assert eval(ones) == int(one) == (a - b) % 10
        assert eval(tens) == (a - b) // 10 < 0


def test_what_is_too_large_is_named() -> None:
    for kind, family in (("sum", "[+]"), ("difference", "-"), ("count", "by")):
        large = [t for t in close_to(kind) if any(v.isdigit() and int(v) > 99 for v in t.values)]
        for task in large:
            named = re.fullmatch(rf"Check \d+ {family} \d+: (\d+) is above 99", fault_of(task))[1]
            assert int(named) > 99
            assert named in task.values
            assert named in task.question
        assert len(large) > 60


def test_a_count_above_five_is_named_as_it_was_asked_for() -> None:
    typed_well = 0
    for task in close_to("row"):
        named = re.fullmatch(r"Check after \w+: ([\w ]+) is more than five", fault_of(task))[1]
        assert named == task.values[-1]
        assert size(named) > 5
        typed_well += named in task.question
    assert typed_well > 190
    for task in close_to("letters", 20):
        assert fault_of(task) == f"Check after {task.values[2]}: z is the last letter"


def test_the_wrong_way_round_is_named() -> None:
    for task in close_to("down", 50):
        _, start, step, _ = task.values
        assert fault_of(task) == f"Check {start} by {step}: counting down is asked for"
        assert (
            re.search("down|back|bcak|bakc|away", task.question.lower()) or "dwn" in task.question
        )
    for task in close_to("before", 50):
        assert fault_of(task) == f"Check after {task.values[2]}: what comes before is asked for"
        assert task.values[2].lower() in task.question.lower()


def test_other_guesses_have_the_fault_of_their_form() -> None:
    begun = Counter()
    for task in close_to("", 1000):
        begun[fault_of(task)] += 1
    assert set(begun) == set(guesses.FAULTS.values())
    assert min(begun.values()) > 50


@pytest.mark.parametrize("kind", KINDS)
def test_a_guess_is_found_out_and_taken_back(kind: str) -> None:
    rng = random.Random(15)
    mix = ChainMix(history=0.0, guessed=1.0, overruled_other=0.0)
    for task in close_to(kind, 20):
        (prompt, _), (lead, leads), (rest, weight), header, *feedback = build(rng, task, mix)
        assert task.question in prompt
        assert task.read(lead + rest) is None
        assert weight < mix.weights.answer  # what is guessed hardly counts
        assert (leads > 0) == (weight > 0) == guesses.is_close(task)
        assert header == ("\n\n### Feedback 1:\n", 1.0)
        found, revised = written(feedback).split("\n\n### Revision 1:\n")
        assert found.endswith("so this is a guess. I would rate it 1/10." + NEEDED)
        revised, judged = revised.split("\n\n### Feedback 2:\n")
        assert revised in ANSWERS
        assert judged.endswith(NOT_NEEDED)
        assert judged.split(" I would")[0] in PRAISE
        assert all(weight > 0 for _, weight in feedback)


@pytest.mark.parametrize("kind", KINDS[:-1])
def test_what_is_almost_a_task_is_one_content_however_it_is_asked(kind: str) -> None:
    found: dict[tuple[str, ...], set[str]] = {}
    for task in close_to(kind, 60):
        again = tasks.outside(alike.Asked(text="Tell me.", values=task.values))
        assert again.content == task.content
        found.setdefault(task.values, set()).add(task.content)
    assert all(len(contents) == 1 for contents in found.values())
    least = {"letters": 10, "before": 15}  # of 15 and of 45 that there are
    assert len(set.union(*found.values())) > least.get(kind, 30)


def test_a_sum_beyond_reach_that_is_turned_round_is_one_content() -> None:
    there, back = (
        alike.Asked(text="", values=("sum", *pair)) for pair in (("7", "150"), ("150", "7"))
    )
    assert tasks.outside(there).content == tasks.outside(back).content


def test_what_else_is_asked_is_what_the_content_is() -> None:
    rng, asking = random.Random(17), Asking(alike=1.0, rough=3.0)
    of_numbers: dict[frozenset[str], set[str]] = {}
    for _ in range(6000):
        asked = alike.question(rng, asking)
        if re.fullmatch(r"\D*[1-9]\d* ?[*x^] ?[1-9]\d*\D*", asked.text):
            numbers = frozenset(re.findall(r"\d+", asked.text))
            of_numbers.setdefault(numbers, set()).add(asked.content)
    assert len(of_numbers) > 50
    for numbers, contents in of_numbers.items():
        assert contents == {" ".join(("other", *sorted(numbers)))}
    alone = alike.fill("Write a poem about {t}.", t="tea", u="rain")
    assert alone.content == alike.fill("What is {t}?", t="tea").content == "other tea"
    pair = alike.fill("Compare {t} with {u}.", t="tea", u="rain")
    assert pair.content == alike.fill("Is {t} {u}?", t="rain", u="tea").content == "other rain tea"
    for count in ("6", "six"):
        asked = alike.Asked(text="", values=("row", "day", "Monday", count))
        assert asked.content == "other 6 Monday day"
    greetings = {alike.Asked(text=text).content for text in ("Hello!", "hello", " Hello")}
    assert greetings == {"other hello"}
    assert alike.Asked(text="??").content == "other ? ?"
    asked = {alike.question(rng, asking) for _ in range(3000)}
    assert {a.content for a in asked if re.fullmatch("(?i)how many days are there.", a.text)} == {
        "other How many days are there?"
    }
    contents = Counter(other.question(rng, Asking(alike=0.0)).content for _ in range(500))
    assert max(contents.values()) < 50


def test_what_is_close_to_a_task_is_never_declined_at_first() -> None:
    rng, mix = random.Random(16), ChainMix(history=0.0)
    for kind in ("sum", "difference", "count", "row", "down", "before"):
        answers = Counter()
        for task in close_to(kind):
            answer = written(build(rng, task, mix)).split("### Answer:\n")[-1].split("\n")[0]
            answers[guesses.is_close(task), answer in ANSWERS] += 1
        assert answers[True, True] == answers[False, False] == 0
        assert (answers[True, False] > 20) == (kind in ("sum", "difference", "count"))


def test_what_is_trained_on_holds_no_sum_of_another_part() -> None:
    rng, asking = random.Random(16), Asking(alike=1.0)
    seen = Counter()
    for _ in range(3000):
        question = tasks.draw(rng, "other", asking=asking).question
        for a, sign, b in re.findall(r"(?<!\d)(\d\d?) ?([+-]) ?(\d\d?)(?!\d)", question):
            content = tasks.sum_content(int(a), int(b))
            if sign == "-":
                content = f"subtraction {a} {b}"
                if int(a) <= int(b):
                    continue
            seen[part_of(content)] += 1
    assert set(seen) == {Part.TRAINING}
    assert seen[Part.TRAINING] > 100


def test_no_question_of_the_study_is_met_in_training_however_it_is_typed() -> None:
    study = evaluate.draw_tasks(Part.STUDY, 200, ["other"])
    asked = {task.question.lower() for task in study}
    assert len(asked) > 100
    rng = random.Random(18)
    trained = {
        tasks.draw(rng, "other", asking=stage.asking).question.lower()
        for stage in STAGES
        for _ in range(500)
    }
    assert len(trained) > 3000
    assert not trained & asked
