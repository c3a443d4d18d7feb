"""How the small model is trained: the stages in order, as data.

Comparisons and facts come first (base), whole chains after them (tuned), and in the last
stage part of the chains begin with what the model itself writes. All loss weights are those
of the end from the start.

The bundled weights come from these stages, but for one thing: in the first four the drills
weighed an eighth of what they weigh now, and comparing was learned in ``tuned-3`` alone.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field

from selfee_cli.tiny import chains, drills, tasks
from selfee_cli.tiny.chains import ChainMix, Own
from selfee_cli.tiny.checks import Segment


@dataclass(frozen=True, kw_only=True)
class Shape:
    """The sizes of the network (a plain LLaMA)."""

    hidden: int = 128
    layers: int = 6
    heads: int = 4
    mlp: int = 384
    context: int = 2048


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A stretch of training.

    ``tokens`` is its length in millions of tokens, padding not counted; ``rate`` the learning
    rate at its start and end; ``batch`` the padded tokens of a batch. ``mix`` gives the share
    of each kind of text: ``comparisons``, ``facts``, ``body``, ``copy``, ``plain``, ``chain``
    and ``own``. ``redraw`` is how many million tokens the model's own answers are used for.
    """

    name: str
    tokens: float
    rate: tuple[float, float]
    batch: int
    mix: dict[str, float]
    chain: ChainMix = field(default_factory=ChainMix)
    cut: tuple[float, float] = (0.0, 0.0)
    redraw: float = 0.8
    warm_up: float = 0.0


_BASE = {"comparisons": 0.25, "facts": 0.20, "body": 0.35, "copy": 0.06, "plain": 0.14}
_BASE_LATE = {"comparisons": 0.08, "facts": 0.07, "body": 0.67, "copy": 0.06, "plain": 0.12}

STAGES = (
    Stage(name="base-1", tokens=0.5, rate=(0.006, 0.006), batch=1536, mix=_BASE, warm_up=0.05),
    Stage(name="base-2", tokens=0.8, rate=(0.006, 0.002), batch=1536, mix=_BASE_LATE),
    Stage(
        name="tuned-1",
        tokens=1.0,
        rate=(0.005, 0.005),
        batch=2048,
        mix={"chain": 0.80, "body": 0.12, "facts": 0.04, "comparisons": 0.04},
        cut=(0.6, 0.2),
        warm_up=0.05,
    ),
    Stage(
        name="tuned-2",
        tokens=2.0,
        rate=(0.005, 0.005),
        batch=2048,
        mix={"chain": 0.82, "body": 0.10, "facts": 0.08},
        cut=(0.2, 0.0),
    ),
    # Comparing and copying again, now that the form of a chain is there.
    Stage(
        name="tuned-3",
        tokens=1.5,
        rate=(0.006, 0.006),
        batch=1536,
        mix={"comparisons": 0.35, "facts": 0.20, "copy": 0.10, "body": 0.35},
    ),
    Stage(
        name="tuned-4",
        tokens=3.2,
        rate=(0.005, 0.005),
        batch=2048,
        mix={"chain": 0.58, "body": 0.26, "facts": 0.06, "comparisons": 0.06, "copy": 0.04},
    ),
    Stage(
        name="tuned-5",
        tokens=2.2,
        rate=(0.005, 0.003),
        batch=2048,
        mix={"chain": 0.66, "body": 0.22, "facts": 0.06, "comparisons": 0.03, "copy": 0.03},
    ),
    Stage(
        name="tuned-6",
        tokens=2.2,
        rate=(0.003, 0.0001),
        batch=2048,
        mix={"chain": 0.60, "own": 0.20, "body": 0.14, "facts": 0.06},
        redraw=2.2,
    ),
)

SHARES = {
    "addition": 0.23,
    "subtraction": 0.23,
    "counting": 0.20,
    "sequence": 0.14,
    "reverse": 0.10,
    "other": 0.10,
}
"""How often each family occurs among chains."""


def draw_task(rng: random.Random) -> tasks.Task:
    """Return a task of the training part, families as in :data:`SHARES`."""
    return tasks.draw(rng, rng.choices(list(SHARES), list(SHARES.values()))[0])


def text(
    rng: random.Random, stage: Stage, mix: ChainMix, own: Sequence[Own]
) -> tuple[list[Segment], float]:
    """Return one weighted text of ``stage`` and the weight of its end token."""
    kind = rng.choices(list(stage.mix), list(stage.mix.values()))[0]
    if kind == "comparisons":
        return drills.comparisons(rng), 0.0
    if kind == "facts":
        return drills.facts(rng), 0.0
    if kind == "body":
        return drills.body(rng, mix.weights), 0.5
    if kind == "copy":
        return drills.copy(rng), 0.0
    if kind == "plain":
        return drills.plain(rng, rng.choice(tasks.FAMILIES)), 1.0
    chosen = rng.choice(own) if kind == "own" and own else None
    task = chosen.task if chosen else draw_task(rng)
    segments = chains.build(rng, task, mix, chosen)
    whole = segments[-1][0] == chains.NOT_NEEDED  # a chain cut short does not end there
    return segments, mix.weights.verdict if whole else 0.0
