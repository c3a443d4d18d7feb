"""The tasks of the small model: a question, its true answer, and how an answer is graded.

Every answer is a lead word and numbered items, or one sentence with a number. No word that
carries content stands at the start of a line or in quotes, so that it is always the same
piece of the vocabulary. A hash of its content says which :class:`Part` a task belongs to.
"""

from __future__ import annotations

import hashlib
import random
import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from selfee_cli.tiny import other, phrasings
from selfee_cli.tiny.alike import Asked
from selfee_cli.tiny.phrasings import Asking
from selfee_cli.tiny.words import SERIES

FAMILIES = ("addition", "subtraction", "counting", "sequence", "other")
_PAIR = re.compile(r"(?<!\d)(\d\d?) ?([+-]) ?(\d\d?)(?!\d)")
_ITEM = re.compile(r" (\d+)\. (\S+?)(?= \d+\. |\.$)")


class Part(StrEnum):
    """What contents are for; each but the first has a tenth of them and is never trained on.

    Whoever chooses between recipes may read ``DEVELOPMENT``. ``STUDY`` is for the figures that
    are reported: a choice made after looking at it would make them too good.
    """

    TRAINING = "training"
    DEVELOPMENT = "development"
    STUDY = "study"


@dataclass(frozen=True, kw_only=True)
class Task:
    """One question with what is true of it.

    ``values`` are the numbers or words the question is about: two operands; start and step;
    kind, start and count; of the family ``other`` what :class:`~selfee_cli.tiny.alike.Asked` has.
    ``items`` are the true items of the answer (one for a sum, none for the
    family ``other``); ``content`` is the key of the split into parts.
    """

    family: str
    question: str
    content: str
    values: tuple[str, ...]
    lead: str
    items: tuple[str, ...]

    @property
    def is_sum(self) -> bool:
        """Whether the answer is one sentence with one number."""
        return self.family in ("addition", "subtraction")

    @property
    def answer(self) -> str:
        """The true answer (of the family ``other``: the honest text drawn for it)."""
        return self.write(self.items)

    def write(self, items: tuple[str, ...]) -> str:
        """Return the answer text that gives ``items``."""
        if self.family == "other":
            return self.lead
        if self.is_sum:
            return f"{self.lead} {items[0]}."
        return self.lead + "".join(f" {i}. {item}" for i, item in enumerate(items, 1)) + "."

    def read(self, text: str) -> tuple[str, ...] | None:
        """Return the items an answer text gives, or None where it is not written as due."""
        if self.family == "other":
            return () if text in other.ANSWERS else None
        if not text.startswith(self.lead + " ") or not text.endswith("."):
            return None
        if self.is_sum:
            found: tuple[str, ...] = (text[len(self.lead) + 1 : -1],)
        else:
            found = tuple(m.group(2) for m in _ITEM.finditer(text))
        well = len(found) == len(self.items) and self.write(found) == text
        return found if well and all(map(self._is_item, found)) else None

    def _is_item(self, text: str) -> bool:
        """Whether a text is a number, or a name of the series that is asked for."""
        if self.family == "sequence":
            return text in SERIES[self.values[0]]
        return text.isascii() and text.isdigit()

    def grade(self, text: str) -> bool:
        """Return whether an answer text is right."""
        return self.read(text) == self.items


def part_of(content: str) -> Part:
    """Return the part a content belongs to."""
    first, _, third, *_ = hashlib.sha256(content.encode()).digest()
    if first * 10 // 256 == 0:
        return Part.DEVELOPMENT
    return Part.STUDY if third * 9 // 256 == 0 else Part.TRAINING  # of the nine that are left


def draw(
    rng: random.Random, family: str, part: Part = Part.TRAINING, *, asking: Asking | None = None
) -> Task:
    """Return a random task of ``family`` whose content belongs to ``part``.

    ``asking`` is :data:`phrasings.TRAINED` or :data:`phrasings.TESTED` where it is not given.
    """
    asking = asking or (phrasings.TRAINED if part is Part.TRAINING else phrasings.TESTED)
    while True:
        task = _DRAW[family](rng, asking)
        if part_of(task.content) is part and (
            part is not Part.TRAINING or _holds_only_training(task)
        ):
            return task


def _holds_only_training(task: Task) -> bool:
    """Whether what a question almost is, or holds, belongs to training as well."""
    if task.family != "other":
        return True
    pairs = [(int(a), sign, int(b)) for a, sign, b in _PAIR.findall(task.question)]
    contents = [sum_content(a, b) for a, sign, b in pairs if sign == "+"]
    contents += [f"subtraction {a} {b}" for a, sign, b in pairs if sign == "-" and a > b]
    if task.values[:1] in (("count",), ("down",)):
        contents.append(" ".join(("counting", *task.values[1:3])))
    return all(part_of(content) is Part.TRAINING for content in contents)


def addition(question: str, a: int, b: int) -> Task:
    """Return the task to add two numbers, asked by ``question``."""
    return Task(
        family="addition",
        question=question,
        content=sum_content(a, b),
        values=(str(a), str(b)),
        lead="The sum is",
        items=(str(a + b),),
    )


def sum_content(a: int, b: int) -> str:
    """Return the content of a sum: the same one whichever number comes first."""
    return f"addition {min(a, b)} {max(a, b)}"


def subtraction(question: str, a: int, b: int) -> Task:
    """Return the task to take ``b`` away from ``a``."""
    items = (str(a - b),)
    return _task("subtraction", question, (str(a), str(b)), "The difference is", items)


def counting(question: str, start: int, step: int, n: int) -> Task:
    """Return the task to write ``n`` numbers from ``start`` in steps of ``step``."""
    items = tuple(str(start + i * step) for i in range(n))
    return _task("counting", question, (str(start), str(step)), f"From {start} by {step}:", items)


def sequence(question: str, kind: str, start: str, n: int) -> Task:
    """Return the task to name the ``n`` days, months or letters (``kind``) after ``start``."""
    series = SERIES[kind]
    at = series.index(start)
    items = tuple(series[(at + i + 1) % len(series)] for i in range(n))
    return _task("sequence", question, (kind, start, str(n)), f"After {start}:", items)


def outside(asked: Asked, answer: str = other.ANSWERS[0]) -> Task:
    """Return the task to say that a question is out of reach, as ``answer`` does."""
    return Task(
        family="other",
        question=asked.text,
        content=asked.content,
        values=asked.values,
        lead=answer,
        items=(),
    )


def _operand(rng: random.Random) -> int:
    chance = rng.random()
    if chance < 0.1:
        return rng.randint(1, 9)
    return rng.randint(90, 99) if chance < 0.2 else rng.randint(10, 99)


def _addition(rng: random.Random, asking: Asking) -> Task:
    a, b = _operand(rng), _operand(rng)
    return addition(phrasings.ask(rng, phrasings.ADDITION, asking, a=a, b=b), a, b)


def _subtraction(rng: random.Random, asking: Asking) -> Task:
    a = rng.randint(2, 20) if rng.random() < 0.1 else rng.randint(11, 99)
    b = rng.randint(1, 9) if rng.random() < 0.12 else rng.randint(1, a - 1)
    a, b = (max(a, b), min(a, b)) if a != b else (a + 1, b)
    return subtraction(phrasings.ask(rng, phrasings.SUBTRACTION, asking, a=a, b=b), a, b)


def _counting(rng: random.Random, asking: Asking) -> Task:
    start, step, n = rng.randint(1, 60), rng.randint(2, 9), rng.randint(3, 5)
    count = phrasings.number(rng, n)
    question = phrasings.ask(rng, phrasings.COUNTING, asking, start=start, step=step, n=count)
    return counting(question, start, step, n)


def _sequence(rng: random.Random, asking: Asking) -> Task:
    kind = rng.choice(tuple(SERIES))
    series = SERIES[kind]
    n = rng.choice((1, 1, 2, 3, 3, 4, 4, 5, 5))
    last = len(series) if kind != "letter" else len(series) - n
    start = series[rng.randrange(last)]
    templates = phrasings.SEQUENCE if n > 1 else phrasings.SEQUENCE_ONE
    count = phrasings.number(rng, n)
    question = phrasings.ask(rng, templates, asking, kind=kind, start=start, n=count)
    return sequence(question, kind, start, n)


def _other(rng: random.Random, asking: Asking) -> Task:
    asked = other.question(rng, asking)
    return outside(asked, rng.choice(other.ANSWERS))


def _task(
    family: str,
    question: str,
    values: tuple[str, ...],
    lead: str,
    items: tuple[str, ...],
) -> Task:
    return Task(
        family=family,
        question=question,
        content=" ".join((family, *values)),
        values=values,
        lead=lead,
        items=items,
    )


_DRAW: dict[str, Callable[[random.Random, Asking], Task]] = {
    "addition": _addition,
    "subtraction": _subtraction,
    "counting": _counting,
    "sequence": _sequence,
    "other": _other,
}
