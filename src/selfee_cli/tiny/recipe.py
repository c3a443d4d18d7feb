"""What a stage of the small model's training is, and the texts that it draws."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field

from selfee_cli.tiny import chains, drills, tasks
from selfee_cli.tiny.chains import ChainMix, Own
from selfee_cli.tiny.checks import Segment
from selfee_cli.tiny.phrasings import TRAINED, Asking


@dataclass(frozen=True, kw_only=True)
class Shape:
    """The sizes of the network (a plain LLaMA)."""

    hidden: int = 128
    layers: int = 6
    heads: int = 4
    mlp: int = 384
    context: int = 2048


SHARES = {
    "addition": 0.24,
    "subtraction": 0.24,
    "counting": 0.26,
    "sequence": 0.16,
    "other": 0.10,
}
"""How often each family occurs among chains."""


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A stretch of training.

    ``tokens`` is its length in millions of tokens, padding not counted; ``rate`` the learning
    rate at its start and end; ``batch`` the padded tokens of a batch. ``mix`` gives the share
    of each kind of text: ``names``, ``comparisons``, ``corrected names``, ``corrections``,
    ``facts``, ``leads``, ``limits``, ``body``, ``plain``, ``answer``, ``chain`` and ``own``.
    ``redraw`` is how many million tokens the model's own answers are used for. With ``until`` the
    stage ends as soon as a reading predicts that percentage of a part
    (see :func:`~selfee_cli.tiny.evaluate.drilled`).
    ``shares`` says how often each family occurs among chains, ``asking`` how their questions are
    typed, ``cut`` from which share of chains to which, over the stage, end after one revision.
    ``warm_up`` is the share of the stage in which the rate rises from zero.
    """

    name: str
    tokens: float
    rate: tuple[float, float]
    batch: int
    mix: dict[str, float]
    chain: ChainMix = field(default_factory=ChainMix)
    cut: tuple[float, float] = (0.0, 0.0)
    redraw: float = 0.8
    until: tuple[str, float] | None = None
    warm_up: float = 0.0
    shares: dict[str, float] = field(default_factory=lambda: SHARES)
    asking: Asking = TRAINED


def draw_task(rng: random.Random, stage: Stage) -> tasks.Task:
    """Return a task of the training part, as ``stage`` has them."""
    family = rng.choices(list(stage.shares), list(stage.shares.values()))[0]
    return tasks.draw(rng, family, asking=stage.asking)


def text(
    rng: random.Random, stage: Stage, mix: ChainMix, own: Sequence[Own]
) -> tuple[list[Segment], float]:
    """Return one weighted text of ``stage`` and the weight of its end token."""
    kind = rng.choices(list(stage.mix), list(stage.mix.values()))[0]
    if kind in ("names", "comparisons"):
        return drills.comparisons(rng, numbers=kind == "comparisons"), 0.0
    if kind == "facts":
        return drills.facts(rng), 0.0
    if kind == "leads":
        return drills.leads(rng), 0.0
    if kind == "limits":
        return drills.limits(rng), 0.0
    if kind == "body":
        return drills.body(rng, mix.weights), 0.5
    if kind in ("corrected names", "corrections"):
        return drills.corrections(rng, numbers=kind == "corrections"), 0.0
    if kind == "plain":
        return drills.plain(rng, rng.choice(tasks.FAMILIES)), 1.0
    chosen = rng.choice(own) if kind == "own" and own else None
    task = chosen.task if chosen else draw_task(rng, stage)
    if kind == "answer":
        return chains.first_answer(rng, task, mix), 0.0
    segments = chains.build(rng, task, mix, chosen)
    whole = segments[-1][0] == chains.NOT_NEEDED  # a chain cut short does not end there
    return segments, mix.weights.verdict if whole else 0.0
