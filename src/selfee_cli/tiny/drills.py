"""What is trained apart from chains: comparisons, facts, corrections, checks, leads, limits.

A model that has not learned to compare neighbours before it sees chains never learns it from
them, so these come first.
"""

from __future__ import annotations

import random
from dataclasses import replace

from selfee_cli.protocol.prompt import render_prompt
from selfee_cli.tiny import tasks
from selfee_cli.tiny.checks import (
    SUM,
    Segment,
    Weights,
    check,
    close,
    columns,
    formula,
    opening,
    rewrite,
    spoil_some,
    sum_steps,
)
from selfee_cli.tiny.guesses import begin_check
from selfee_cli.tiny.phrasings import SEQUENCE, SEQUENCE_ONE, TRAINED, Asking, number
from selfee_cli.tiny.tasks import Part, Task, part_of, sum_content
from selfee_cli.tiny.words import DAYS, LETTERS, MONTHS, SERIES

WORD, FACT, CORRECTED = 8.0, 6.0, 6.0
"""Weights in the loss: a drill has few counted tokens and stands beside whole checks."""

CHECKED = ("addition", "subtraction", "counting", "sequence")


def comparisons(rng: random.Random, *, numbers: bool = True) -> list[Segment]:
    """Return 10 to 16 pairs to compare, ``3. May? June: wrong.``, loss on the word."""
    segments: list[Segment] = []
    for at in range(rng.randint(10, 16)):
        given = _content(rng) if numbers else rng.choice((_letter, _name, _name))(rng)
        true = given if rng.random() < 0.5 else _unlike(rng, given)
        word = " right" if given == true else " wrong"
        segments += [(f"{' ' if at else ''}{at % 9 + 1}. {given}? {true}:", 0.05), (word, WORD)]
        segments.append((".", 0.05))
    return segments


def facts(rng: random.Random) -> list[Segment]:
    """Return a dozen small sums and successions, loss on what they come to."""
    segments: list[Segment] = []
    for at in range(rng.randint(8, 14)):
        left, right = _fact(rng)
        segments += [(" " + left if at else left, 0.1), (f" {right}", FACT), (".", 0.1)]
    return segments


def body(rng: random.Random, weights: Weights, family: str | None = None) -> list[Segment]:
    """Return a question, an answer with random errors, the check of it and the true answer."""
    task = tasks.draw(rng, family or rng.choice(CHECKED))
    items = task.items
    if rng.random() < 0.75:
        items = spoil_some(rng, task, items, 0.5)
    wrong = sum(item != true for item, true in zip(items, task.items, strict=True))
    return [
        (f"{task.question}\n{task.write(items)}\n", 0.0),
        *check(task, items, weights),
        *close(task, wrong, weights),
        ("\n", weights.plain),
        *rewrite(task, items, task.items, weights),
    ]


def corrections(rng: random.Random, *, numbers: bool = True) -> list[Segment]:
    """Return three lists compared item by item, each followed by its corrected form.

    The contents are random, so that a corrected item can only be looked up, never guessed.
    """
    segments: list[Segment] = []
    for _ in range(3):
        kind = rng.random() if numbers else rng.uniform(0.6, 1.0)
        draw = _number if kind < 0.6 else _letter if kind < 0.75 else _name
        lead = f"From {_number(rng)} by {rng.randint(2, 9)}:" if kind < 0.6 else "After:"
        pairs = []
        for _ in range(rng.randint(2, 5)):
            true = draw(rng)
            pairs.append((true if rng.random() < 0.4 else _unlike(rng, true), true))
        for at, (given, true) in enumerate(pairs, 1):
            segments.append((f" {at}. {given}? {true}:", 0.05))
            segments += [(" right" if given == true else " wrong", WORD / 4), (".", 0.05)]
        segments.append((f"\n{lead}", 0.05))
        for at, (given, true) in enumerate(pairs, 1):
            segments += [(f" {at}.", 0.5), (f" {true}", CORRECTED if given != true else 1.5)]
        segments.append((".\n", 0.5))
    return segments


def plain(rng: random.Random, family: str) -> list[Segment]:
    """Return a question and its answer alone, as the base model should continue it."""
    task = tasks.draw(rng, family, asking=replace(TRAINED, alike=0.0))
    weight = 0.2 if task.is_sum else 1.5
    return [(render_prompt(task.question), 0.02), *_answer(task, weight)]


def leads(rng: random.Random) -> list[Segment]:
    """Return a question that ends in a name without a mark, and how its answer would begin.

    Kind, count and name do not belong together, so that the name can only be read.
    """
    kind, n = rng.choice(tuple(SERIES)), rng.randint(1, 9)
    start = rng.choice(rng.choice([names for other, names in SERIES.items() if other != kind]))
    templates = SEQUENCE if n > 1 else SEQUENCE_ONE
    last = [template for template in templates if template[:-1].endswith("{start}")]
    question = rng.choice(last)[:-1].format(kind=kind, n=number(rng, n), start=start)
    return [(render_prompt(question), 0.02), ("After", 1.0), (f" {start}", WORD), (":", 1.0)]


def limits(rng: random.Random) -> list[Segment]:
    """Return questions within reach and just beyond it, and how the check of each begins."""
    weights = Weights(opening=2.0, step=2.0, word=4.0, plain=4.0)
    segments: list[Segment] = []
    for _ in range(rng.randint(5, 8)):
        if rng.random() < 0.5:
            task = tasks.draw(rng, rng.choice(CHECKED), asking=Asking(rough=2.5))
            begun = [(opening(task), weights.opening)]
            if task.is_sum:
                begun += [*columns(task, weights), (" =", weights.step * SUM)]
            else:
                begun.append((" 1.", weights.plain))
        else:
            task = _nearly(rng)
            begun = begin_check(task, weights)
        segments += [(f"{task.question}\n", 0.0), *begun, ("\n", 0.05)]
    return segments


def _nearly(rng: random.Random) -> Task:
    """A question that is almost a task."""
    while True:
        task = tasks.draw(rng, "other", asking=Asking(rough=2.5, alike=1.0))
        if task.values:
            return task


def _answer(task: Task, weight: float) -> list[Segment]:
    head, tail = (task.lead, task.answer[len(task.lead) :])
    return [(head, 1.0), (tail, weight)] if tail else [(head, 1.0)]


def _content(rng: random.Random) -> str:
    chance = rng.random()
    draw = _number if chance < 0.60 else _letter if chance < 0.75 else _name
    return draw(rng)


def _number(rng: random.Random) -> str:
    return str(rng.randint(0, rng.choice((9, 99, 99, 99, 99, 199, 199))))


def _letter(rng: random.Random) -> str:
    return rng.choice(LETTERS)


def _name(rng: random.Random) -> str:
    return rng.choice(rng.choice((DAYS, MONTHS)))


def _unlike(rng: random.Random, given: str) -> str:
    """Return another content than ``given``, often one that is close to it."""
    while True:
        if given.isdigit():
            true = str(abs(int(given) + rng.choice((1, -1, 2, 10, -10, rng.randint(-40, 40)))))
        elif given in LETTERS:
            true = rng.choice(LETTERS)
        else:
            true = rng.choice(DAYS if given in DAYS else MONTHS)
        if true != given:
            return true


def _fact(rng: random.Random) -> tuple[str, str]:
    chance = rng.random()
    if rng.random() < 0.4:
        return _columns(rng)
    if chance < 0.3:
        a, b, carry = rng.randint(0, 9), rng.randint(0, 9), rng.randint(0, 1)
        return f"{a} + {b}{' + 1' if carry else ''} =", str(a + b + carry)
    if chance < 0.55:
        b = rng.randint(0, 9)
        a, borrow = rng.randint(b, min(b + 9, 18)), 0
        if a > b and a < 10 and rng.random() < 0.5:
            borrow = 1
        return f"{a} - {b}{' - 1' if borrow else ''} =", str(a - b - borrow)
    if chance < 0.9:
        while True:
            a, b = rng.randint(1, 99), rng.randint(2, 9)
            contents = (sum_content(a, b), f"counting {a} {b}")
            if all(part_of(content) is Part.TRAINING for content in contents):
                return f"{a} + {b} =", str(a + b)
    series = rng.choice((DAYS, MONTHS, LETTERS))
    at = rng.randrange(len(series) - 1)
    return f"after {series[at]},", series[at + 1]


def _columns(rng: random.Random) -> tuple[str, str]:
    """A sum taken apart into its columns, or put together from them."""
    if rng.random() < 0.6:
        task = tasks.draw(rng, rng.choice(("addition", "subtraction")))
        (ones, last), (tens, first) = sum_steps(task)
        return f"{formula(task)}:", f"ones {ones} = {last}, tens {tens} = {first}"
    upper, lower = rng.randint(0, 19), rng.randint(0, 19)
    return f"ones {lower}, tens {upper}:", str(10 * upper + lower % 10)
