"""Measure a model on held-out questions: answers, revisions and verdicts, family by family.

``python -m selfee_cli.tiny.evaluate --model DIR`` prints a table.
"""

from __future__ import annotations

import argparse
import itertools
import random
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, fields
from functools import partial
from pathlib import Path
from typing import Any

import torch

from selfee_cli.protocol.prompt import render_prompt
from selfee_cli.tiny import drills, tasks
from selfee_cli.tiny.checks import SUM, Segment, Weights
from selfee_cli.tiny.decode import Plan, Written, write_chains
from selfee_cli.tiny.tasks import Task
from selfee_cli.tiny.vocabulary import Vocabulary

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

    ``right[k]`` counts right answers after k revisions, ``final`` right answers at the end.
    An alarm is the verdict that a right answer needs revision, a miss that a wrong one needs
    none, a flip a right answer made wrong by the next revision.
    """

    chains: int = 0
    right: list[int] = field(default_factory=list)
    final: int = 0
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
        self.final += graded[-1]
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


def held_out_tasks(count: int, families: Iterable[str], seed: int = 1) -> list[Task]:
    """Return ``count`` held-out tasks of each family."""
    rng = random.Random(f"held out {seed}")
    return [tasks.draw(rng, family, held=True) for family in families for _ in range(count)]


def measure(
    model: Any, vocabulary: Vocabulary, chosen: Sequence[Task], plan: Plan
) -> dict[str, Tally]:
    """Return the tally of each family over chains on the ``chosen`` tasks."""
    prompts = [render_prompt(task.question) for task in chosen]
    tallies: dict[str, Tally] = {}
    chains = write_chains(model, vocabulary, prompts, plan)
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


def share(part: int, whole: int) -> str:
    """Return a percentage, or a dash where there is nothing to count."""
    return f"{100 * part / whole:.1f}" if whole else "-"


def table(forced: dict[str, Tally], free: dict[str, Tally]) -> str:
    """Return a Markdown table of enforced and autonomous chains by family."""
    families = list(forced)
    for tallies in (forced, free):
        total = Tally()
        for family in families:
            total.merge(tallies[family])
        tallies["all"] = total
    revisions = range(len(forced["all"].right))
    head = [
        "family",
        *(f"after {k}" for k in revisions),
        "autonomous",
        "false alarms",
        "misses",
        "flips",
        "well-formed",
        "longest",
    ]
    lines = [head, ["---"] * len(head)]
    for family in [*families, "all"]:
        a, b = forced[family], free[family]
        both = Tally()
        both.merge(a)
        both.merge(b)
        lines.append(
            [
                family,
                *(share(a.right[k], a.chains) for k in revisions),
                share(b.final, b.chains),
                f"{share(both.alarms, both.judged_right)} of {both.judged_right}",
                f"{share(both.misses, both.judged_wrong)} of {both.judged_wrong}",
                f"{share(both.flips, both.kept)} of {both.kept}",
                share(both.well_formed, both.chains),
                str(both.longest),
            ]
        )
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def load(folder: Path) -> tuple[Any, Vocabulary]:
    """Load a model folder in float32."""
    from transformers import LlamaForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()
    model = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32)
    return model.eval(), Vocabulary.load(folder / "tokenizer.model")


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point of ``python -m selfee_cli.tiny.evaluate``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True, help="a folder of tuned weights")
    parser.add_argument("--count", type=int, default=60, help="held-out questions a family")
    parser.add_argument("--enforced", type=int, default=3, help="revisions at least")
    parser.add_argument("--temperature", type=float, nargs="+", default=[0.7, 0.0])
    parser.add_argument("--families", nargs="+", default=list(tasks.FAMILIES))
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    model, vocabulary = load(options.model)
    chosen = held_out_tasks(options.count, options.families, options.seed)
    for temperature in options.temperature:
        free = Plan(temperature=temperature, seed=options.seed)
        forced = Plan(
            temperature=temperature,
            seed=options.seed + 1,
            enforced=options.enforced,
            at_most=options.enforced,
        )
        text = table(
            measure(model, vocabulary, chosen, forced), measure(model, vocabulary, chosen, free)
        )
        sys.stdout.write(
            f"temperature {temperature}, {options.count} questions a family, percent\n{text}\n\n"
        )
        sys.stdout.flush()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
