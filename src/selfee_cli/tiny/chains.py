"""Whole chains as weighted text: answer, feedback, revision, and so on to the end.

The loss skips what the model should read but not learn to write: the prompt, errors made on
purpose, overlooked errors and the verdict of an overruled feedback. Such a feedback finds
nothing wrong and yet says that revision is needed, as it reads after a revision was forced;
the revision that follows repeats the answer.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from selfee_cli.protocol.grammar import TurnId, TurnKind
from selfee_cli.protocol.overruling import SUPPLIED_VERDICT
from selfee_cli.protocol.prompt import Exchange, render_prompt
from selfee_cli.tiny import tasks
from selfee_cli.tiny.checks import (
    Segment,
    Weights,
    check,
    close,
    heavy_for,
    praise,
    rewrite,
    spoil,
    spoil_some,
)
from selfee_cli.tiny.guesses import guess, is_close, unmask
from selfee_cli.tiny.tasks import Task

NEEDED = f" {SUPPLIED_VERDICT}"
NOT_NEEDED = " Revision is not needed."
Items = tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class ChainMix:
    """The chances by which a chain is built, and the weights of its loss.

    ``overruled``: that right answers are sent back at least once, for the task families and
    for ``other``; ``times`` are the counts to choose from. ``spoilt``: that an answer holds
    an error, for lists and for sums. ``new_errors``: that a revision goes wrong without loss.
    ``own_wrong``: the share of its weight that a wrong sum has which the model wrote itself.
    ``guessed``: that a question out of reach is answered as a task, without loss; what is almost a
    task is always answered so, and its lead learnt.
    ``missed``: that a feedback overlooks an error without loss. ``cut``: that the chain ends
    after its first revision. ``history``: that earlier questions stand before the question.
    ``longest``: revisions after which a chain ends at the latest.
    """

    overruled: float = 0.3
    overruled_other: float = 0.7
    times: tuple[int, ...] = (1, 1, 1, 1, 2, 2, 2, 3, 3, 6)
    spoilt: float = 0.75
    spoilt_sum: float = 0.55
    new_errors: float = 0.2
    own_wrong: float = 0.0
    guessed: float = 0.0
    missed: float = 0.07
    cut: float = 0.0
    history: float = 0.05
    longest: int = 9
    weights: Weights = field(default_factory=Weights)


@dataclass(frozen=True, kw_only=True)
class Own:
    """A task with the texts the model itself wrote for it: the answer, then its revisions."""

    task: Task
    turns: tuple[Items, ...]


def build(rng: random.Random, task: Task, mix: ChainMix, own: Own | None = None) -> list[Segment]:
    """Return one chain on ``task``, from the prompt to the last verdict (no end token).

    With ``own`` the first turns are the model's own, without loss where they are wrong.
    """
    return _Chain(rng, task, mix, own).write()


def first_answer(rng: random.Random, task: Task, mix: ChainMix) -> list[Segment]:
    """Return the beginning of a chain on ``task``, to where its first feedback is to stand."""
    return _Chain(rng, task, mix, None).begin()


def with_history(rng: random.Random, task: Task, mix: ChainMix) -> str:
    """Return the prompt of ``task``, now and then after earlier questions and their answers."""
    history = []
    if rng.random() < mix.history:
        for _ in range(rng.choice((1, 1, 2))):
            earlier = tasks.draw(rng, rng.choice(tasks.FAMILIES))
            history.append(Exchange(instruction=earlier.question, answer=earlier.answer))
    return render_prompt(task.question, history=history)


class _Chain:
    """One chain while it is written."""

    def __init__(self, rng: random.Random, task: Task, mix: ChainMix, own: Own | None) -> None:
        self.rng, self.task, self.mix = rng, task, mix
        self.own = list(own.turns) if own else []
        self.segments: list[Segment] = []
        overruled = mix.overruled_other if task.family == "other" else mix.overruled
        self.overrule = rng.choice(mix.times) if rng.random() < overruled else 0
        if self.own:
            self.overrule = max(self.overrule, len(self.own) - 1)
        self.cut = rng.random() < mix.cut

    def begin(self) -> list[Segment]:
        self._first()
        return [*self.segments, (TurnId(TurnKind.FEEDBACK, 1).header, 1.0)]

    def write(self) -> list[Segment]:
        items = self._first()
        for k in range(1, self.mix.longest + 1):
            self.segments.append((TurnId(TurnKind.FEEDBACK, k).header, 1.0))
            needed = self._feedback(items, last=k == self.mix.longest)
            if not needed or (self.cut and k == 2):
                break
            self.segments.append((TurnId(TurnKind.REVISION, k).header, 1.0))
            items = self._revision(items, last=k + 1 == self.mix.longest)
        return self.segments

    def _first(self) -> Items:
        self.segments.append((with_history(self.rng, self.task, self.mix), 0.0))
        return self._answer()

    def _answer(self) -> Items:
        task, rng = self.task, self.rng
        if self.own:
            items = self.own.pop(0)
            wrong = self.mix.own_wrong if task.is_sum else 0.0
            self._items(items, 1.0 if items == task.items else 0.0, wrong)
            return items
        if task.family == "other":
            return self._decline_or_guess()
        items = task.items
        spoilt = self.mix.spoilt_sum if task.is_sum else self.mix.spoilt
        if items and rng.random() < spoilt:
            items = spoil_some(rng, task, items, 0.5)
        wrong = rng.uniform(0.13, 0.33) if task.is_sum else rng.uniform(0.08, 0.2)
        self._items(items, 1.0, wrong)
        return items

    def _decline_or_guess(self) -> Items:
        """Write the honest answer, or a guess, which is then the one item.

        What is almost a task is always taken for one, so that no task is declined: its check tells.
        """
        task, rng, weights = self.task, self.rng, self.mix.weights
        close = is_close(task)
        if close or rng.random() < self.mix.guessed:
            taken = guess(rng, task)
            item = rng.uniform(0.13, 0.33) * weights.answer * heavy_for(taken) if close else 0.0
            self.segments.append((taken.lead, weights.lead if close else 0.0))
            self.segments.append((taken.answer[len(taken.lead) :], item))
            return (taken.answer,)
        first, rest = task.lead[:1], task.lead[1:]  # "I" alone tells it from a task
        self.segments += [(first, weights.lead), (rest, 1.0)]
        return ()

    def _items(self, items: Items, right: float, wrong: float) -> None:
        """Write the first answer's text, with these shares of the weight of an item."""
        task, lead, number = self.task, self.mix.weights.lead, self.mix.weights.number
        weight = self.mix.weights.answer * heavy_for(task)
        self.segments.append((task.lead, lead))
        for at, item in enumerate(items):
            if not task.is_sum:
                self.segments.append((f" {at + 1}.", number))
            share = right if item == task.items[at] else wrong
            self.segments.append((f" {item}", weight * share))
        self.segments.append((".", number))

    def _feedback(self, items: Items, *, last: bool) -> bool:
        """Write a feedback; return whether a revision follows."""
        task, rng, weights = self.task, self.rng, self.mix.weights
        if task.family == "other":
            wrong = len(items)
            self.segments += unmask(task, items[0], weights) if wrong else praise(rng, weights)
        else:
            bad = [i for i, item in enumerate(items) if item != task.items[i]]
            missed = []
            if bad and not last and rng.random() < self.mix.missed:
                missed = [i for i in bad if rng.random() < 0.7] or bad[:1]
            self.segments += check(task, items, weights, missed=missed)
            wrong = len(bad) - len(missed)
            self.segments += close(task, wrong, weights)
            if missed and not wrong:
                self.overrule = max(self.overrule, 1)
        if wrong:
            self.segments.append((NEEDED, 0.0 if last else weights.verdict))
            return True
        if self.overrule and not last:
            self.overrule -= 1
            self.segments.append((NEEDED, 0.0))
            return True
        self.segments.append((NOT_NEEDED, weights.verdict))
        return False

    def _revision(self, items: Items, *, last: bool) -> Items:
        """Write a revision; the last one is right."""
        task, rng = self.task, self.rng
        if task.family == "other":
            self.segments.append((task.lead, 1.0))
            return ()
        if self.own:
            revised = self.own.pop(0)
            self.segments += rewrite(task, items, revised, self.mix.weights)
            return revised
        revised = task.items
        if not last and rng.random() < self.mix.new_errors:
            if items != revised and rng.random() < 0.5:
                revised = _partly(rng, task, items)
            else:
                at = rng.randrange(len(revised))
                revised = (*revised[:at], spoil(rng, task, at), *revised[at + 1 :])
        self.segments += rewrite(task, items, revised, self.mix.weights)
        return revised


def _partly(rng: random.Random, task: Task, items: Items) -> Items:
    """Correct some of the wrong items only."""
    return tuple(
        true if rng.random() < 0.6 else item for item, true in zip(items, task.items, strict=True)
    )
