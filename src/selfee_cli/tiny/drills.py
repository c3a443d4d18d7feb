"""The base model's reading: comparisons, facts, checks, copies and plain answers.

A model that has not learned to compare neighbours before it sees chains never learns it from
them, so these come first.
"""

from __future__ import annotations

import random

from selfee_cli.protocol.prompt import render_prompt
from selfee_cli.tiny import tasks
from selfee_cli.tiny.checks import Segment, Weights, check, close, spoil_some
from selfee_cli.tiny.tasks import DAYS, LETTERS, MONTHS, Task, held_out

WORD, FACT, COPY = 8.0, 6.0, 6.0
"""Weights in the loss: a drill has few counted tokens and stands beside whole checks."""

CHECKED = ("addition", "subtraction", "counting", "sequence", "reverse")


def comparisons(rng: random.Random) -> list[Segment]:
    """Return 10 to 16 pairs to compare, ``3. May? June: wrong.``, loss on the word."""
    segments: list[Segment] = []
    for at in range(rng.randint(10, 16)):
        given = _content(rng)
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


def body(rng: random.Random, weights: Weights) -> list[Segment]:
    """Return a question, an answer with random errors and the check of it."""
    task = tasks.draw(rng, rng.choice(CHECKED))
    items = task.items
    if rng.random() < 0.75:
        items = spoil_some(rng, task, items, 0.5)
    wrong = sum(item != true for item, true in zip(items, task.items, strict=True))
    return [
        (f"{task.question}\n{task.write(items)}\n", 0.0),
        *check(task, items, weights),
        *close(task, wrong, weights),
    ]


def copy(rng: random.Random) -> list[Segment]:
    """Return six lines of letters, each given twice and then from the last to the first."""
    segments: list[Segment] = []
    while len(segments) < 24:
        letters = rng.sample(LETTERS, rng.randint(3, 5))
        if held_out(" ".join(("reverse", *letters))):
            continue
        text, back = " ".join(letters), " ".join(reversed(letters))
        segments += [(f"{text}:", 0.05), (f" {text}", COPY), (". Backwards:", 0.2)]
        segments.append((f" {back}.\n", COPY))
    return segments


def plain(rng: random.Random, family: str) -> list[Segment]:
    """Return a question and its answer alone, as the base model should continue it."""
    task = tasks.draw(rng, family)
    weight = 0.2 if task.is_sum else 1.5
    return [(render_prompt(task.question), 0.02), *_answer(task, weight)]


def _answer(task: Task, weight: float) -> list[Segment]:
    head, tail = (task.lead, task.answer[len(task.lead) :])
    return [(head, 1.0), (tail, weight)] if tail else [(head, 1.0)]


def _content(rng: random.Random) -> str:
    chance = rng.random()
    if chance < 0.55:
        top = 9 if chance < 0.08 else 99 if chance < 0.42 else 199
        return str(rng.randint(0, top))
    if chance < 0.80:
        return rng.choice(LETTERS)
    return rng.choice(DAYS if chance < 0.90 else MONTHS)


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
        a, b = rng.randint(1, 99), rng.randint(2, 9)
        return f"{a} + {b},", str(a + b)
    series = rng.choice((DAYS, MONTHS, LETTERS))
    at = rng.randrange(len(series) - 1)
    return f"after {series[at]},", series[at + 1]
