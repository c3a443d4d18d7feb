"""Do revisions help? A study of chains on held-out questions, beside a control.

The control answers anew instead of revising: the majority of independent answers, as many as a
chain has (one more than its revisions), and as many as its tokens would pay for. A model that only
answers twice gains what the control gains; one that finds its mistakes gains more.

Autonomous chains are drawn with the noise of the enforced ones: up to the model's first verdict
that nothing is needed they are one text. So each share has the error of independent chains, while
the shares of one question go together.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from selfee_cli.tiny.evaluate import Tally, draw_tasks
from selfee_cli.tiny.tasks import FAMILIES, Part, Task
from selfee_cli.tiny.written import Plan, Written

Write = Callable[[Sequence[str], Plan], list[Written]]
"""Writes a chain for each question."""

AFTER = (0, 1, 2, 3, 6)
"""Revisions after which the current answer is graded."""
CONTROLS = (1, 3)
"""Revisions that a control stands beside."""
_MOST = max(AFTER)
_MOST_ANSWERS = 48
_CHAINS_SEED, _ANSWERS_SEED = 1, 2


@dataclass(frozen=True, kw_only=True)
class Study:
    """What is measured: ``chains`` on each of ``questions`` of a family, at each temperature."""

    questions: int = 200
    chains: int = 3
    temperatures: tuple[float, ...] = (0.7, 0.0)
    families: tuple[str, ...] = FAMILIES
    part: Part = Part.STUDY


@dataclass(frozen=True, kw_only=True)
class Share:
    """A share of questions with its 95% interval (Wilson 1927)."""

    value: float
    low: float
    high: float

    @staticmethod
    def of(values: Sequence[float], size: float | None = None) -> Share:
        """Return the mean of ``values``, each between 0 and 1, worth ``size`` independent ones."""
        n, z = size or len(values), 1.959964
        mean = sum(values) / len(values)
        centre = (mean + z * z / (2 * n)) / (1 + z * z / n)
        spread = z / (1 + z * z / n) * math.sqrt(mean * (1 - mean) / n + z * z / (4 * n * n))
        return Share(value=mean, low=max(0.0, centre - spread), high=min(1.0, centre + spread))


def effective_size(contents: Sequence[str]) -> float:
    """Return how many independent questions are worth those with these contents (Kish 1965).

    Questions of one content count as if they were all right or all wrong together, so that an
    interval is never too narrow.
    """
    sizes = Counter(contents).values()
    return sum(sizes) ** 2 / sum(size * size for size in sizes)


@dataclass(kw_only=True)
class Group:
    """The chains of one family, or of all, at one temperature.

    Shares are collected by question, whose several chains count as one: ``after[k][q]`` is the
    share of chains in which question ``q`` stood right after ``k`` revisions. ``free`` tallies the
    autonomous chains.
    """

    contents: list[str] = field(default_factory=list)
    after: dict[int, list[float]] = field(default_factory=lambda: {k: [] for k in AFTER})
    autonomous: list[float] = field(default_factory=list)
    same_count: dict[int, list[float]] = field(default_factory=lambda: {k: [] for k in CONTROLS})
    same_cost: dict[int, list[float]] = field(default_factory=lambda: {k: [] for k in CONTROLS})
    answers_for: dict[int, int] = field(default_factory=dict)
    """How many answers the tokens of a chain with so many revisions pay for."""
    tokens: Counter[int] = field(default_factory=Counter)
    """Written by all chains up to so many revisions."""
    free_tokens: int = 0
    free_revisions: int = 0
    enforced: Tally = field(default_factory=Tally)
    free: Tally = field(default_factory=Tally)

    def merge(self, other: Group) -> None:
        """Add another family."""
        self.contents += other.contents
        for mine, theirs in (
            (self.after, other.after),
            (self.same_count, other.same_count),
            (self.same_cost, other.same_cost),
        ):
            for key, values in theirs.items():
                mine[key] += values
        self.autonomous += other.autonomous
        self.tokens += other.tokens
        self.free_tokens += other.free_tokens
        self.free_revisions += other.free_revisions
        self.enforced.merge(other.enforced)
        self.free.merge(other.free)

    def share(self, values: Sequence[float]) -> Share:
        """Return the mean of what was collected, a value for each question."""
        return Share.of(values, effective_size(self.contents))

    def mean_tokens(self, revisions: int) -> float:
        """Return how many tokens a chain of so many revisions takes, its prompt not counted."""
        return self.tokens[revisions] / max(1, self.enforced.chains)

    @property
    def mean_free_tokens(self) -> float:
        """How many tokens an autonomous chain takes, its prompt not counted."""
        return self.free_tokens / max(1, self.free.chains)

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form; shares lie between 0 and 1."""

        def share(values: Sequence[float]) -> dict[str, float] | None:
            return vars(self.share(values)) if values else None

        return {
            "questions": len(self.contents),
            "independent_questions": effective_size(self.contents),
            "after": {str(k): share(values) for k, values in self.after.items()},
            "tokens": {str(k): self.mean_tokens(k) for k in AFTER},
            **self.enforced.to_json(),
            "autonomous": {
                "right": share(self.autonomous),
                "revisions": self.free_revisions / max(1, self.free.chains),
                "tokens": self.mean_free_tokens,
                **self.free.to_json(),
            },
            "majority_of_as_many": {str(k): share(v) for k, v in self.same_count.items()},
            "majority_at_same_cost": {str(k): share(v) for k, v in self.same_cost.items()},
            "answers_at_same_cost": {str(k): v for k, v in self.answers_for.items()},
        }


Groups = dict[str, Group]
"""By family, and ``all`` at the end."""


def run(
    write: Write, study: Study, progress: Callable[[str], None] = lambda _: None
) -> dict[float, Groups]:
    """Return the groups of each temperature; ``progress`` is told what is under way."""
    chosen = draw_tasks(study.part, study.questions, study.families)
    return {
        temperature: _Measurement(write, chosen, study, progress).at(temperature)
        for temperature in study.temperatures
    }


class _Measurement:
    def __init__(
        self,
        write: Write,
        chosen: Sequence[Task],
        study: Study,
        progress: Callable[[str], None],
    ) -> None:
        self.write, self.chosen, self.study, self.progress = write, chosen, study, progress

    def at(self, temperature: float) -> Groups:
        """Return the groups of one temperature."""
        count = self.study.chains if temperature else 1  # greedy ones are all the same
        alone = Plan(temperature=temperature, seed=_CHAINS_SEED)
        self.progress(f"temperature {temperature:g}: {_MOST} revisions enforced")
        forced = self._write(replace(alone, enforced=_MOST, at_most=_MOST), count)
        self.progress(f"temperature {temperature:g}: as the model decides")
        free = self._write(alone, count)
        pay = {k: _answers_for(forced, k) for k in CONTROLS}
        drawn = self._draw(temperature, count, max(pay.values())) if temperature else []
        groups: Groups = {}
        for q, task in enumerate(self.chosen):
            group = groups.setdefault(task.family, Group(answers_for=pay))
            _grade(group, task, forced[q], free[q])
            if temperature:
                _control(group, task, drawn[q])
        whole = Group(answers_for=pay)
        for group in groups.values():
            whole.merge(group)
        return {**groups, "all": whole}

    def _draw(self, temperature: float, count: int, answers: int) -> list[list[list[Written]]]:
        """Return for each question so many times so many independent answers."""
        self.progress(f"temperature {temperature:g}: {answers} answers alone, {count} times")
        plan = Plan(temperature=temperature, seed=_ANSWERS_SEED, at_most=0)
        drawn = self._write(plan, count * answers)
        return [[d[at : at + answers] for at in range(0, len(d), answers)] for d in drawn]

    def _write(self, plan: Plan, count: int) -> list[list[Written]]:
        """Return ``count`` chains for each question; those of a family are written together."""
        size = self.study.questions
        families = [range(at, at + size) for at in range(0, len(self.chosen), size)]
        order = [q for family in families for _ in range(count) for q in family]
        found: list[list[Written]] = [[] for _ in self.chosen]
        written = self.write([self.chosen[q].question for q in order], plan)
        for q, chain in zip(order, written, strict=True):
            found[q].append(chain)
        return found


def _grade(group: Group, task: Task, forced: list[Written], free: list[Written]) -> None:
    group.contents.append(task.content)
    for k, values in group.after.items():
        values.append(_mean(task.grade(chain.standing(k)) for chain in forced))
        group.tokens[k] += sum(chain.cost(k) for chain in forced)
    group.autonomous.append(_mean(task.grade(chain.answers[-1]) for chain in free))
    group.free_revisions += sum(len(chain.answers) - 1 for chain in free)
    group.free_tokens += sum(chain.tokens - chain.prompt_tokens for chain in free)
    for forced_chain, free_chain in zip(forced, free, strict=True):
        group.enforced.add(task, forced_chain)
        group.free.add(task, free_chain)


def _control(group: Group, task: Task, drawn: list[list[Written]]) -> None:
    for k in CONTROLS:
        group.same_count[k].append(_mean(_majority(task, d[: k + 1]) for d in drawn))
        paid = group.answers_for[k]
        group.same_cost[k].append(_mean(_majority(task, d[:paid]) for d in drawn))


def _mean(values: Iterable[bool]) -> float:
    listed = list(values)
    return sum(listed) / len(listed)


def _majority(task: Task, answers: Sequence[Written]) -> bool:
    """Whether the most frequent answer is right; of equals, the one that came first."""
    texts = Counter(answer.answers[0] for answer in answers)
    return task.grade(texts.most_common(1)[0][0])


def _answers_for(chains: Sequence[Sequence[Written]], revisions: int) -> int:
    """How many answers cost as many tokens as a chain with so many revisions."""
    answers = sum(chain.cost(0) for of_question in chains for chain in of_question)
    whole = sum(chain.cost(revisions) for of_question in chains for chain in of_question)
    return max(revisions + 1, min(_MOST_ANSWERS, round(whole / max(1, answers))))
