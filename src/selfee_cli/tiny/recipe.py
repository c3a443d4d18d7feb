"""How the small model is trained: the stages in order, as data.

Comparisons and facts come first (base), whole chains after them (tuned), and in the last
stages part of the chains begin with what the model itself writes.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field

from selfee_cli.tiny import chains, drills, tasks
from selfee_cli.tiny.chains import ChainMix, Own
from selfee_cli.tiny.checks import Segment, Weights


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

LIST_SHARES = {
    "addition": 0.15,
    "subtraction": 0.15,
    "counting": 0.37,
    "sequence": 0.24,
    "other": 0.09,
}
"""The same in the last stages."""

LAST_SHARES = {
    "addition": 0.23,
    "subtraction": 0.22,
    "counting": 0.21,
    "sequence": 0.24,
    "other": 0.10,
}
"""The same in the very last."""

_LISTS = ChainMix(weights=Weights(number=4.0, true_beside_wrong=6.0))

_SENT_BACK = ChainMix(overruled=0.65, times=(1, 2, 2, 3, 3, 4, 6), weights=_LISTS.weights)


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A stretch of training.

    ``tokens`` is its length in millions of tokens, padding not counted; ``rate`` the learning
    rate at its start and end; ``batch`` the padded tokens of a batch. ``mix`` gives the share
    of each kind of text: ``names``, ``comparisons``, ``corrected names``, ``corrections``,
    ``facts``, ``body``, ``plain``, ``chain`` and ``own``. ``redraw`` is how many million tokens
    the model's own answers are used for. With ``until`` the stage ends as soon as a reading
    predicts that percentage of a part (see :func:`~selfee_cli.tiny.evaluate.drilled`).
    ``shares`` says how often each family occurs among chains.
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


STAGES = (
    # Alone and first, on few contents: beside anything else, it takes ten times as long to see
    # that two are equal, and beside two hundred numbers three times.
    Stage(
        name="base-1",
        tokens=1.5,
        rate=(0.006, 0.006),
        batch=1024,
        mix={"names": 1.0},
        until=("names", 97.0),
        warm_up=0.02,
    ),
    Stage(
        name="base-2",
        tokens=1.5,
        rate=(0.006, 0.006),
        batch=1024,
        mix={"comparisons": 1.0},
        until=("comparisons", 97.0),
    ),
    # To look up what stands corrected, the same way.
    Stage(
        name="base-3",
        tokens=1.5,
        rate=(0.006, 0.006),
        batch=1024,
        mix={"corrected names": 0.9, "comparisons": 0.1},
        until=("corrected names", 90.0),
    ),
    Stage(
        name="base-4",
        tokens=1.5,
        rate=(0.006, 0.006),
        batch=1024,
        mix={"corrections": 0.9, "comparisons": 0.1},
        until=("corrections", 90.0),
    ),
    Stage(
        name="base-5",
        tokens=1.2,
        rate=(0.006, 0.006),
        batch=1536,
        mix={"facts": 0.60, "corrections": 0.20, "comparisons": 0.10, "plain": 0.10},
        until=("facts", 90.0),
    ),
    Stage(
        name="base-6",
        tokens=2.2,
        rate=(0.006, 0.003),
        batch=1536,
        mix={"body": 0.50, "facts": 0.27, "corrections": 0.08, "comparisons": 0.07, "plain": 0.08},
    ),
    Stage(
        name="tuned-1",
        tokens=0.6,
        rate=(0.005, 0.005),
        batch=2048,
        mix={"chain": 0.80, "body": 0.08, "facts": 0.08, "comparisons": 0.04},
        cut=(0.6, 0.2),
        warm_up=0.05,
    ),
    Stage(
        name="tuned-2",
        tokens=2.2,
        rate=(0.005, 0.004),
        batch=2048,
        mix={"chain": 0.82, "body": 0.08, "facts": 0.07, "comparisons": 0.03},
        cut=(0.2, 0.0),
    ),
    # The model's own answers come late: the first ones are nearly all wrong, and a model that
    # reads only those says "wrong" without looking.
    Stage(
        name="tuned-3",
        tokens=1.0,
        rate=(0.004, 0.002),
        batch=2048,
        mix={"chain": 0.55, "own": 0.30, "body": 0.08, "facts": 0.07},
        redraw=0.6,
    ),
    # Sums are good by now: lists, their lengths and the true item beside a wrong one are not.
    Stage(
        name="tuned-4",
        tokens=1.15,
        rate=(0.003, 0.0023),
        batch=2048,
        mix={"chain": 0.50, "own": 0.22, "plain": 0.12, "body": 0.09, "facts": 0.07},
        chain=_LISTS,
        redraw=1.4,
        shares=LIST_SHARES,
    ),
    Stage(
        name="tuned-5",
        tokens=2.8,
        rate=(0.0023, 0.0001),
        batch=2048,
        mix={"chain": 0.58, "own": 0.24, "body": 0.10, "facts": 0.08},
        chain=_LISTS,
        redraw=1.4,
        shares=LIST_SHARES,
    ),
    # Five words in a row, and numbers near a hundred, were rare till now; sums had fallen back.
    Stage(
        name="tuned-6",
        tokens=1.6,
        rate=(0.0015, 0.00005),
        batch=2048,
        mix={"chain": 0.60, "own": 0.24, "body": 0.09, "facts": 0.07},
        chain=_LISTS,
        redraw=0.8,
        warm_up=0.04,
        shares=LAST_SHARES,
    ),
    # Right answers that are sent back again and again must stay as they are.
    Stage(
        name="tuned-7",
        tokens=1.0,
        rate=(0.0006, 0.00003),
        batch=2048,
        mix={"chain": 0.68, "own": 0.20, "body": 0.07, "facts": 0.05},
        chain=_SENT_BACK,
        redraw=0.5,
        shares=LAST_SHARES,
    ),
)


def draw_task(rng: random.Random, shares: dict[str, float]) -> tasks.Task:
    """Return a task of the training part, families by ``shares``."""
    return tasks.draw(rng, rng.choices(list(shares), list(shares.values()))[0])


def text(
    rng: random.Random, stage: Stage, mix: ChainMix, own: Sequence[Own]
) -> tuple[list[Segment], float]:
    """Return one weighted text of ``stage`` and the weight of its end token."""
    kind = rng.choices(list(stage.mix), list(stage.mix.values()))[0]
    if kind in ("names", "comparisons"):
        return drills.comparisons(rng, numbers=kind == "comparisons"), 0.0
    if kind == "facts":
        return drills.facts(rng), 0.0
    if kind == "body":
        return drills.body(rng, mix.weights), 0.5
    if kind in ("corrected names", "corrections"):
        return drills.corrections(rng, numbers=kind == "corrections"), 0.0
    if kind == "plain":
        return drills.plain(rng, rng.choice(tasks.FAMILIES)), 1.0
    chosen = rng.choice(own) if kind == "own" and own else None
    task = chosen.task if chosen else draw_task(rng, stage.shares)
    segments = chains.build(rng, task, mix, chosen)
    whole = segments[-1][0] == chains.NOT_NEEDED  # a chain cut short does not end there
    return segments, mix.weights.verdict if whole else 0.0
