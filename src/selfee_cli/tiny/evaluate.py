"""Counting what a model's chains on held-out questions did, family by family."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, fields
from functools import partial
from typing import Any

import torch

from selfee_cli.engine.tokenizer import Tokenizer
from selfee_cli.tiny import drills, phrasings, tasks
from selfee_cli.tiny.checks import SUM, Segment, Weights
from selfee_cli.tiny.decode import write_chains
from selfee_cli.tiny.tasks import Part, Task
from selfee_cli.tiny.vocabulary import Vocabulary
from selfee_cli.tiny.written import Plan, Written

DRILLS: dict[str, Callable[[random.Random], list[Segment]]] = {
    "names": partial(drills.comparisons, numbers=False),
    "comparisons": drills.comparisons,
    "facts": drills.facts,
    "corrected names": partial(drills.corrections, numbers=False),
    "corrections": drills.corrections,
}


@dataclass(kw_only=True)
class Tally:
    """Counts over the chains of one family.

    ``right[k]`` counts right answers after k revisions. A false alarm is any verdict but "not
    needed" on a right answer, none at all among them; a miss is "not needed" on a wrong one; a flip
    is a right answer that the next revision made wrong. ``in_form``: every turn ended as it should;
    ``well_formed``: and the last answer is an answer to the question, be it wrong.
    """

    chains: int = 0
    right: list[int] = field(default_factory=list)
    in_form: int = 0
    well_formed: int = 0
    judged_right: int = 0
    alarms: int = 0
    judged_wrong: int = 0
    misses: int = 0
    kept: int = 0
    flips: int = 0
    longest: int = 0

    def add(self, task: Task, chain: Written) -> None:
        """Count one chain."""
        graded = [task.grade(answer) for answer in chain.answers]
        self.chains += 1
        self.right += [0] * (len(graded) - len(self.right))
        for k, good in enumerate(graded):
            self.right[k] += good
        self.in_form += chain.well_formed
        self.well_formed += chain.well_formed and task.read(chain.answers[-1]) is not None
        self.longest = max(self.longest, chain.tokens)
        for good, needed in zip(graded, chain.needed, strict=False):
            if good:
                self.judged_right += 1
                self.alarms += needed is not False
            else:
                self.judged_wrong += 1
                self.misses += needed is False
        for before, after in itertools.pairwise(graded):
            self.kept += before
            self.flips += before and not after

    def merge(self, other: Tally) -> None:
        """Add the counts of another tally."""
        self.right += [0] * (len(other.right) - len(self.right))
        for k, count in enumerate(other.right):
            self.right[k] += count
        for name in vars(self):
            if name == "longest":
                self.longest = max(self.longest, other.longest)
            elif name != "right":
                setattr(self, name, getattr(self, name) + getattr(other, name))

    def to_json(self) -> dict[str, float]:
        """Return the rates, between 0 and 1, and what each is a share of."""
        return {
            "chains": self.chains,
            "in_form": self.in_form / max(1, self.chains),
            "well_formed": self.well_formed / max(1, self.chains),
            "false_alarms": self.alarms / max(1, self.judged_right),
            "judged_right": self.judged_right,
            "misses": self.misses / max(1, self.judged_wrong),
            "judged_wrong": self.judged_wrong,
            "flips": self.flips / max(1, self.kept),
            "kept": self.kept,
            "longest": self.longest,
        }


def draw_tasks(part: Part, count: int, families: Iterable[str], seed: int = 1) -> list[Task]:
    """Return ``count`` tasks of each family, the same ones each time; all asked as when tested."""
    rng = random.Random(f"{part} {seed}")
    return [
        tasks.draw(rng, family, part, asking=phrasings.TESTED)
        for family in families
        for _ in range(count)
    ]


def measure(
    model: Any, tokenizer: Tokenizer, chosen: Sequence[Task], plan: Plan
) -> dict[str, Tally]:
    """Return the tally of each family over chains on the ``chosen`` tasks."""
    tallies: dict[str, Tally] = {}
    chains = write_chains(model, tokenizer, [task.question for task in chosen], plan)
    for task, chain in zip(chosen, chains, strict=True):
        tallies.setdefault(task.family, Tally()).add(task, chain)
    return tallies


def drilled(model: Any, vocabulary: Vocabulary, count: int, seed: int = 0) -> dict[str, float]:
    """Return the percentage of tokens a model predicts in the parts of checks and drills.

    ``count`` checks of each family are read (teacher-forced) and as many drills of each kind.
    """
    rng = random.Random(f"drilled {seed}")
    parts = ("step", "true_beside_wrong", "word", "corrected")
    none = dict.fromkeys((f.name for f in fields(Weights)), 0.0)
    codes = Weights(**{**none, **{part: 10.0**at for at, part in enumerate(parts)}})
    found: dict[str, float] = {}
    for family in drills.CHECKED:
        texts = [drills.body(rng, codes, family) for _ in range(count)]
        hits = _hits(model, [vocabulary.weigh(text, end=0.0) for text in texts])
        for at, part in enumerate(parts):
            of_part = [hit for weight, hit in hits if weight in (10.0**at, SUM * 10.0**at)]
            if of_part:
                found[f"{family} {part}"] = 100 * sum(of_part) / len(of_part)
    for name, drill in DRILLS.items():
        hits = _hits(model, [vocabulary.weigh(drill(rng), end=0.0) for _ in range(count)])
        of_part = [hit for weight, hit in hits if weight > drills.WORD / 2]
        found[name] = 100 * sum(of_part) / len(of_part)
    return found


@torch.inference_mode()
def _hits(model: Any, texts: Sequence[tuple[list[int], list[float]]]) -> list[tuple[float, bool]]:
    """Return for each weighted token its weight and whether it is the likeliest one."""
    longest = max(len(ids) for ids, _ in texts)
    ids = torch.tensor([row + [0] * (longest - len(row)) for row, _ in texts])
    weights = torch.tensor([row + [0.0] * (longest - len(row)) for _, row in texts])[:, 1:]
    hits = model(input_ids=ids, use_cache=False).logits[:, :-1].argmax(-1) == ids[:, 1:]
    counted = weights > 0
    return list(zip(weights[counted].tolist(), hits[counted].tolist(), strict=True))
