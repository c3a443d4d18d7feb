"""Do revisions help? A study of chains on held-out questions, beside a control.

The control answers anew instead of revising: the majority of independent answers, as many as a
chain has (one more than its revisions), and as many as its tokens would pay for. A model that only
answers twice gains what the control gains; one that finds its mistakes gains more.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from selfee_cli.protocol.prompt import render_prompt
from selfee_cli.tiny.decode import Plan, Written, write_answers, write_chains
from selfee_cli.tiny.evaluate import Tally, held_out_tasks
from selfee_cli.tiny.tasks import FAMILIES, Task
from selfee_cli.tiny.vocabulary import Vocabulary

AFTER = (0, 1, 2, 3, 6)
"""Revisions after which the current answer is graded."""
_CONTROLS = (1, 3)  # revisions that a control stands beside
_MOST = max(AFTER)
_MOST_ANSWERS = 48


@dataclass(frozen=True, kw_only=True)
class Study:
    """What is measured: ``questions`` of each family, once for each seed and temperature."""

    questions: int = 200
    temperatures: tuple[float, ...] = (0.7, 0.0)
    seeds: tuple[int, ...] = (1, 2, 3)
    families: tuple[str, ...] = FAMILIES
    batch: int = 96


@dataclass(frozen=True, kw_only=True)
class Share:
    """A share of questions with its 95% interval (Wilson 1927).

    Several seeds of a question are averaged first and count as one, so the interval is never too
    narrow.
    """

    value: float
    low: float
    high: float

    @staticmethod
    def of(values: Sequence[float]) -> Share:
        """Return the mean of ``values``, each between 0 and 1."""
        n, z = len(values), 1.959964
        mean = sum(values) / n
        centre = (mean + z * z / (2 * n)) / (1 + z * z / n)
        spread = z / (1 + z * z / n) * math.sqrt(mean * (1 - mean) / n + z * z / (4 * n * n))
        return Share(value=mean, low=max(0.0, centre - spread), high=min(1.0, centre + spread))


@dataclass(kw_only=True)
class Group:
    """The chains of one family, or of all, at one temperature.

    Shares are collected by question: ``after[k][q]`` is the share of seeds for which question
    ``q`` stood right after ``k`` revisions.
    """

    after: dict[int, list[float]] = field(default_factory=lambda: {k: [] for k in AFTER})
    autonomous: list[float] = field(default_factory=list)
    same_count: dict[int, list[float]] = field(default_factory=lambda: {k: [] for k in _CONTROLS})
    same_cost: dict[int, list[float]] = field(default_factory=lambda: {k: [] for k in _CONTROLS})
    answers_for: dict[int, int] = field(default_factory=dict)
    """How many answers the tokens of a chain with so many revisions pay for."""
    revisions: int = 0
    """Made in autonomous chains."""
    tally: Tally = field(default_factory=Tally)

    def merge(self, other: Group) -> None:
        """Add another family."""
        for mine, theirs in (
            (self.after, other.after),
            (self.same_count, other.same_count),
            (self.same_cost, other.same_cost),
        ):
            for key, values in theirs.items():
                mine[key] += values
        self.autonomous += other.autonomous
        self.revisions += other.revisions
        self.tally.merge(other.tally)

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form; shares lie between 0 and 1."""

        def share(values: Sequence[float]) -> dict[str, float] | None:
            return vars(Share.of(values)) if values else None

        tally = self.tally
        chains = max(1, tally.chains)
        return {
            "questions": len(self.autonomous),
            "after": {str(k): share(values) for k, values in self.after.items()},
            "autonomous": share(self.autonomous),
            "mean_revisions": 2 * self.revisions / chains,  # half of the chains are autonomous
            "false_alarms": tally.alarms / max(1, tally.judged_right),
            "judged_right": tally.judged_right,
            "misses": tally.misses / max(1, tally.judged_wrong),
            "judged_wrong": tally.judged_wrong,
            "flips": tally.flips / max(1, tally.kept),
            "well_formed": tally.well_formed / chains,
            "longest": tally.longest,
            "majority_of_as_many": {str(k): share(v) for k, v in self.same_count.items()},
            "majority_at_same_cost": {str(k): share(v) for k, v in self.same_cost.items()},
            "answers_at_same_cost": {str(k): v for k, v in self.answers_for.items()},
        }


Groups = dict[str, Group]
"""By family, and ``all`` at the end."""


def run(
    model: Any,
    vocabulary: Vocabulary,
    study: Study,
    progress: Callable[[str], None] = lambda _: None,
) -> dict[float, Groups]:
    """Return the groups of each temperature; ``progress`` is told what is under way."""
    chosen = held_out_tasks(study.questions, study.families)
    return {
        temperature: _Measurement(model, vocabulary, chosen, study, progress).at(temperature)
        for temperature in study.temperatures
    }


class _Measurement:
    def __init__(
        self,
        model: Any,
        vocabulary: Vocabulary,
        chosen: Sequence[Task],
        study: Study,
        progress: Callable[[str], None],
    ) -> None:
        self.model, self.vocabulary, self.study, self.progress = model, vocabulary, study, progress
        self.chosen = chosen
        self.prompts = [render_prompt(task.question) for task in chosen]

    def at(self, temperature: float) -> Groups:
        """Return the groups of one temperature."""
        # Greedy chains are the same for all seeds, and greedy answers too.
        seeds = self.study.seeds if temperature else self.study.seeds[:1]
        plan = Plan(temperature=temperature, batch=self.study.batch)
        forced = [self._write(replace(plan, seed=s, enforced=_MOST, at_most=_MOST)) for s in seeds]
        free = [self._write(replace(plan, seed=s + 1000)) for s in seeds]
        pay = {k: _answers_for(self.vocabulary, forced[0], k) for k in _CONTROLS}
        drawn = [self._draw(replace(plan, seed=s + 2000), max(pay.values())) for s in seeds]
        groups: Groups = {}
        for q, task in enumerate(self.chosen):
            group = groups.setdefault(task.family, Group(answers_for=pay))
            _grade(group, task, [c[q] for c in forced], [c[q] for c in free])
            if temperature:
                _control(group, task, [answers[q] for answers in drawn])
        whole = Group(answers_for=pay)
        for group in groups.values():
            whole.merge(group)
        return {**groups, "all": whole}

    def _write(self, plan: Plan) -> list[Written]:
        kind = f"{plan.enforced} revisions enforced" if plan.enforced else "autonomous"
        self.progress(f"temperature {plan.temperature}, seed {plan.seed % 1000}: {kind}")
        return write_chains(self.model, self.vocabulary, self.prompts, plan)

    def _draw(self, plan: Plan, count: int) -> list[list[Written]]:
        """Draw ``count`` independent answers to each question; greedy ones are all the same."""
        if not plan.temperature:
            return []
        self.progress(f"temperature {plan.temperature}, seed {plan.seed % 1000}: answers alone")
        many = [prompt for prompt in self.prompts for _ in range(count)]
        plan = replace(plan, batch=4 * plan.batch)
        answers = write_answers(self.model, self.vocabulary, many, plan)
        return [answers[at : at + count] for at in range(0, len(answers), count)]


def _grade(group: Group, task: Task, forced: list[Written], free: list[Written]) -> None:
    for k, values in group.after.items():
        values.append(_mean(task.grade(chain.answers[k]) for chain in forced))
    group.autonomous.append(_mean(task.grade(chain.answers[-1]) for chain in free))
    group.revisions += sum(len(chain.answers) - 1 for chain in free)
    for chain in (*forced, *free):
        group.tally.add(task, chain)


def _control(group: Group, task: Task, drawn: list[list[Written]]) -> None:
    for k in _CONTROLS:
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


def _answers_for(vocabulary: Vocabulary, chains: Sequence[Written], revisions: int) -> int:
    """How many answers cost as many tokens as a chain with so many revisions."""

    def tokens(texts: Sequence[str]) -> int:
        return sum(len(vocabulary.tail(text)) for text in texts)

    answers = sum(tokens(chain.answers[:1]) for chain in chains)
    whole = sum(
        tokens(chain.answers[: revisions + 1]) + tokens(chain.feedbacks[:revisions])
        for chain in chains
    )
    return max(revisions + 1, min(_MOST_ANSWERS, round(whole / max(1, answers))))
