"""Items gone wrong, and the feedback that finds them.

A check names the given item first, the true one right beside it, then the word: ``2. Friday?
Wednesday: wrong.`` So the given item is a copy and the word a comparison of neighbours. Work
that leads to the true item must not name it before the given one, or the model copies it there:
the columns of a sum stand first, for the result is in none of them.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from selfee_cli.tiny import other
from selfee_cli.tiny.tasks import Task
from selfee_cli.tiny.words import SERIES

SCORES = (10, 8, 6, 4, 3, 2)
"""The score out of ten by the number of wrong items; a wrong sum earns 4."""

SUM = 3.0
"""Times the weights of a list that those of a sum are: it has one result to find, not five."""

Segment = tuple[str, float]
"""A piece of text and the weight of its tokens in the loss."""


@dataclass(frozen=True, kw_only=True)
class Weights:
    """How much each part of a check counts in the loss."""

    plain: float = 1.0
    number: float = 1.0
    """Of what stands before an item and after the last: it says how many items there are."""
    lead: float = 3.0
    """Of how the first answer begins: it says what the question was taken for."""
    answer: float = 1.5
    """Of a right item of the first answer; one made wrong on purpose has a part of it."""
    opening: float = 3.0
    given: float = 1.0
    given_wrong: float = 6.0
    true: float = 1.0
    true_beside_wrong: float = 4.0
    step: float = 3.0
    word: float = 4.0
    count: float = 4.0
    verdict: float = 3.0
    kept: float = 1.5
    corrected: float = 5.0


def spoil(rng: random.Random, task: Task, at: int) -> str:
    """Return a wrong item for place ``at`` of the answer, near the true one as a rule."""
    true = task.items[at]
    while True:
        wrong = _near(rng, task, at)
        if wrong != true:
            return wrong


def _near(rng: random.Random, task: Task, at: int) -> str:
    true = task.items[at]
    if task.family in ("addition", "subtraction", "counting"):
        far = rng.randint(-30, 30)
        if task.family == "counting" and at:
            step = int(task.values[1])
            far = rng.choice((step, -step, far))
        moved = int(true) + rng.choice((1, -1, 2, -2, 10, -10, 10, -10, far, far))
        return str(abs(moved))
    return rng.choice(SERIES[task.values[0]])


def spoil_some(
    rng: random.Random, task: Task, items: tuple[str, ...], share: float
) -> tuple[str, ...]:
    """Return ``items`` with about ``share`` of the right ones made wrong, at least one."""
    chosen = [i for i in range(len(items)) if rng.random() < share]
    chosen = chosen or [rng.randrange(len(items))]
    spoilt = [
        spoil(rng, task, i) if i in chosen and item == task.items[i] else item
        for i, item in enumerate(items)
    ]
    return tuple(spoilt)


def sum_steps(task: Task) -> tuple[tuple[str, str], ...]:
    """Return the column steps of a sum or difference as (left side, result)."""
    (a1, a0), (b1, b0) = (divmod(int(value), 10) for value in task.values)
    if task.family == "addition":
        carry = (a0 + b0) // 10
        tens = f"{a1} + {b1}" + (" + 1" if carry else "")
        return ((f"{a0} + {b0}", str(a0 + b0)), (tens, str(a1 + b1 + carry)))
    borrow = int(a0 < b0)
    tens = f"{a1} - {b1}" + (" - 1" if borrow else "")
    ones = a0 + 10 * borrow
    return ((f"{ones} - {b0}", str(ones - b0)), (tens, str(a1 - b1 - borrow)))


def formula(task: Task) -> str:
    """Return the sum or difference that a question asks for, as ``48 + 57``."""
    return (" + " if task.family == "addition" else " - ").join(task.values)


def opening(task: Task) -> str:
    """Return how a check of ``task`` begins."""
    if task.is_sum:
        return f"Check {formula(task)}:"
    if task.family == "counting":
        return f"Check {task.values[0]} by {task.values[1]}:"
    return f"Check after {task.values[1]}:"


def heavy_for(task: Task) -> float:
    """Return what the weights of an answer to ``task``, and of its check, are multiplied with."""
    return SUM if task.is_sum else 1.0


def columns(task: Task, weights: Weights) -> list[Segment]:
    """Return the work of a sum as far as what its tens come to."""
    ones, tens = sum_steps(task)
    step = weights.step * heavy_for(task)
    return [(f" ones {ones[0]} =", step), (f" {ones[1]}", step), (f", tens {tens[0]}", step)]


def check(
    task: Task,
    items: tuple[str, ...],
    weights: Weights,
    *,
    missed: Sequence[int] = (),
) -> list[Segment]:
    """Return the body of a feedback on ``items``: each compared with the true one.

    Places in ``missed`` are overlooked: the check repeats the given item as the true one.
    What is false in that has no weight.
    """
    segments: list[Segment] = [(opening(task), weights.opening)]
    if task.is_sum:
        _, tens = sum_steps(task)
        step = weights.step * heavy_for(task)
        segments += [*columns(task, weights), (" =", step), (f" {tens[1]}", step)]
        segments += [(f". {task.lead}", weights.plain)]
    for at, (given, true) in enumerate(zip(items, task.items, strict=True)):
        if not task.is_sum:
            segments.append((f" {at + 1}.", weights.plain))
        named = weights.given if given == true else weights.given_wrong * heavy_for(task)
        segments += [(f" {given}", named), ("?", weights.plain)]
        if at in missed:
            segments += [(f" {given}", 0.0), (":", weights.plain), (" right", 0.0)]
        else:
            same = given == true
            heavy = weights.true if same else weights.true_beside_wrong
            heavy *= heavy_for(task)
            segments += [(f" {true}", heavy), (":", weights.plain)]
            segments.append((" right" if same else " wrong", weights.word))
        segments.append((".", weights.plain))
    return segments


def rewrite(
    task: Task, before: tuple[str, ...], after: tuple[str, ...], weights: Weights
) -> list[Segment]:
    """Return the answer text that gives ``after`` where the one before gave ``before``.

    An item that is wrong has no weight.
    """
    segments: list[Segment] = [(task.lead, weights.plain)]
    for at, (old, new, true) in enumerate(zip(before, after, task.items, strict=True)):
        if not task.is_sum:
            segments.append((f" {at + 1}.", weights.number))
        weight = weights.kept if old == new else weights.corrected
        segments.append((f" {new}", weight if new == true else 0.0))
    segments.append((".", weights.number))
    return segments


def close(task: Task, wrong: int, weights: Weights) -> list[Segment]:
    """Return the count of wrong items and the score that follow a check."""
    score = 4 if task.is_sum and wrong else SCORES[wrong]
    count = f" {wrong}" if wrong else " None"
    return [
        (count, weights.count),
        (" wrong.", weights.plain),
        (f" I would rate it {score}/10.", weights.plain),
    ]


def praise(rng: random.Random, weights: Weights) -> list[Segment]:
    """Return the feedback on an honest answer to a question out of reach."""
    return [(rng.choice(other.PRAISE) + " I would rate it 10/10.", weights.plain)]
