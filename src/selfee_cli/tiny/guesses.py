"""Answers to questions that are no tasks as if they were, and the feedback that finds them out.

What a guess is worth shows where the work is written down: the check of a difference comes to a
column below zero, the check of a sum to a number that it was not taught.
"""

from __future__ import annotations

import random

from selfee_cli.tiny import tasks
from selfee_cli.tiny.checks import SUM, Segment, Weights, columns, heavy_for, opening
from selfee_cli.tiny.tasks import Part, Task, part_of
from selfee_cli.tiny.words import DAYS, MONTHS, SERIES

FAULTS = {
    "The sum": "Not a sum of two numbers below 100",
    "The difference": "Not a difference of two numbers below 100",
    "From": "Not a count of up to five numbers below 100",
    "After": "Not up to five days, months or letters that come next",
}
"""What is at fault with a guess that nothing in the question leads to, by how it begins."""

_TOLD = {
    "letters": " z is the last letter",
    "down": " counting down is asked for",
    "before": " what comes before is asked for",
}
_END = ", so this is a guess. I would rate it 1/10."


def is_close(task: Task) -> bool:
    """Whether a question is so like a task that only the check of an answer can tell."""
    kind, *asked = task.values or ("",)
    if kind == "count":
        return 99 < int(asked[0]) < 200
    return kind in ("sum", "difference") and all(int(number) < 200 for number in asked)


def guess(rng: random.Random, task: Task) -> Task:
    """Return the task that a question of training is taken for; its answer is the guess."""
    for _ in range(100):
        taken = _taken_for(rng, task)
        if part_of(taken.content) is Part.TRAINING:
            return taken
    raise ValueError(f"whatever it is taken for is kept from training: {task.question}")


def unmask(task: Task, answer: str, weights: Weights) -> list[Segment]:
    """Return the feedback on a guess: what cannot be checked, and why."""
    if task.values:
        return [*begin_check(task, weights), (_END, weights.plain)]
    text = next(text for start, text in FAULTS.items() if answer.startswith(start))
    return [(text[:3], weights.opening), (text[3:] + _END, weights.plain)]


def begin_check(task: Task, weights: Weights) -> list[Segment]:
    """Return how the check of what is almost a task begins, to where it can go no further."""
    like = _likeness(task)
    segments: list[Segment] = [(opening(like), weights.opening)]
    kind, *asked = task.values
    large = [number for number in asked if number.isdigit() and int(number) > 99]
    if kind in ("sum", "difference", "count") and large:
        named = weights.step * heavy_for(like) if like.is_sum else weights.plain
        return [*segments, (f" {large[0]}", named), (" is above 99", weights.word)]
    if kind == "difference":
        return [*segments, *columns(like, weights), (" is below zero", weights.step * SUM)]
    if kind in _TOLD:
        return [*segments, (_TOLD[kind], weights.plain)]
    return [*segments, (f" {asked[-1]}", weights.plain), (" is more than five", weights.word)]


def _likeness(task: Task, n: int = 3) -> Task:
    """Return the task, of ``n`` items where it is a list, that a question almost is."""
    kind, *asked = task.values
    if kind in ("sum", "difference"):
        make = tasks.addition if kind == "sum" else tasks.subtraction
        return make(task.question, *map(int, asked))
    if kind in ("count", "down"):
        return tasks.counting(task.question, int(asked[0]), int(asked[1]), n)
    return tasks.sequence(task.question, asked[0], asked[1], n)


def _taken_for(rng: random.Random, task: Task) -> Task:
    kind = task.values[0] if task.values else ""
    if kind in ("count", "down", "row", "letters", "before"):
        return _likeness(task, rng.randint(1, 7))
    rare, low = rng.random(), task.question.lower()
    if not kind and (taken := _list(rng, task.question, rare)):
        return taken
    a, b = rng.randint(1, 99), rng.randint(1, 99)
    away = any(sign in low for sign in ("-", "minus", "take", "subtract", "left"))
    if kind == "difference" or (not kind and away):
        return tasks.subtraction(task.question, max(a, b), min(a, b))
    return tasks.addition(task.question, a, b)


def _list(rng: random.Random, question: str, rare: float) -> Task | None:
    """Return the list that a question may be taken for; now and then for no reason at all."""
    low = question.lower()
    names = [name for name in (*DAYS, *MONTHS) if name.lower() in low]
    if names or rare < 0.08:
        kind = next(kind for kind, series in SERIES.items() if not names or names[0] in series)
        start = names[0] if names else rng.choice(SERIES[kind])
        return tasks.sequence(question, kind, start, rng.randint(1, 7))
    if rare < 0.16 or any(word in low for word in ("count", "step", "numbers")):
        start_at, step = rng.randint(1, 60), rng.randint(2, 9)
        return tasks.counting(question, start_at, step, rng.randint(3, 6))
    return None
