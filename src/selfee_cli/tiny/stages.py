"""How the small model is trained: the stages in order, as data.

Comparisons and facts come first (base), whole chains after them (tuned), and in the later
stages part of the chains begin with what the model itself writes. First answers alone are as few
tokens as they are because they are short: a batch holds texts of one length, so theirs teach
nothing but what the question was taken for and that a number follows, which is lost in a chain.
"""

from __future__ import annotations

from dataclasses import replace

from selfee_cli.tiny.chains import ChainMix
from selfee_cli.tiny.checks import Weights
from selfee_cli.tiny.phrasings import Asking
from selfee_cli.tiny.recipe import Stage
from selfee_cli.tiny.tasks import FAMILIES


def _shares(*percent: int) -> dict[str, float]:
    """Return how often addition, subtraction, counting, sequence and other occur."""
    return {family: part / 100 for family, part in zip(FAMILIES, percent, strict=True)}


_LIST_SHARES = _shares(15, 15, 37, 24, 9)
_LAST_SHARES = _shares(23, 22, 21, 24, 10)
_WHOLE_SHARES = _shares(19, 19, 25, 22, 15)
_EDGE_SHARES = _shares(20, 19, 22, 21, 18)
_ALIKE_SHARES = _shares(19, 18, 17, 19, 27)
_LISTED_SHARES = _shares(16, 15, 22, 24, 23)

_LISTS = ChainMix(weights=Weights(number=4.0, true_beside_wrong=6.0))
_SENT_BACK = ChainMix(overruled=0.65, times=(1, 2, 2, 3, 3, 4, 6), weights=_LISTS.weights)
_WHOLE = ChainMix(overruled=0.4, times=(1, 1, 2, 2, 3, 6), weights=_LISTS.weights)
_BEYOND = replace(_WHOLE, guessed=0.3, overruled_other=0.35, own_wrong=0.3)

STAGES = (
    # Alone and first, on few contents. To see that two contents are equal takes ten times as long
    # to learn among other texts, and three times as long where there are 200 numbers as well.
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
        mix={"chain": 0.70, "answer": 0.10, "body": 0.08, "facts": 0.08, "comparisons": 0.04},
        cut=(0.6, 0.2),
        warm_up=0.05,
    ),
    Stage(
        name="tuned-2",
        tokens=2.2,
        rate=(0.005, 0.004),
        batch=2048,
        mix={"chain": 0.72, "answer": 0.10, "body": 0.08, "facts": 0.07, "comparisons": 0.03},
        cut=(0.2, 0.0),
    ),
    # The model's own answers come late: the first ones are nearly all wrong, and a model that
    # reads only those says "wrong" without looking.
    Stage(
        name="tuned-3",
        tokens=1.0,
        rate=(0.004, 0.002),
        batch=2048,
        mix={"chain": 0.45, "answer": 0.10, "own": 0.30, "body": 0.08, "facts": 0.07},
        redraw=0.6,
    ),
    # Sums are good by now: lists, their lengths and the true item beside a wrong one are not.
    Stage(
        name="tuned-4",
        tokens=1.15,
        rate=(0.003, 0.0023),
        batch=2048,
        mix={"chain": 0.52, "answer": 0.10, "own": 0.22, "body": 0.09, "facts": 0.07},
        chain=_LISTS,
        redraw=1.4,
        shares=_LIST_SHARES,
    ),
    Stage(
        name="tuned-5",
        tokens=2.8,
        rate=(0.0023, 0.0001),
        batch=2048,
        mix={"chain": 0.48, "answer": 0.10, "own": 0.24, "body": 0.10, "facts": 0.08},
        chain=_LISTS,
        redraw=1.4,
        shares=_LIST_SHARES,
    ),
    # Five words in a row, and numbers near a hundred, were rare till now; sums had fallen back.
    Stage(
        name="tuned-6",
        tokens=1.6,
        rate=(0.0015, 0.00005),
        batch=2048,
        mix={"chain": 0.50, "answer": 0.10, "own": 0.24, "body": 0.09, "facts": 0.07},
        chain=_LISTS,
        redraw=0.8,
        warm_up=0.04,
        shares=_LAST_SHARES,
    ),
    # Right answers that are sent back again and again must stay as they are.
    Stage(
        name="tuned-7",
        tokens=1.0,
        rate=(0.0006, 0.00003),
        batch=2048,
        mix={"chain": 0.58, "answer": 0.10, "own": 0.20, "body": 0.07, "facts": 0.05},
        chain=_SENT_BACK,
        redraw=0.5,
        shares=_LAST_SHARES,
    ),
    # By now a wrong chain is mostly a misread question: many more of them, from a high rate down.
    Stage(
        name="tuned-8",
        tokens=4.0,
        rate=(0.003, 0.00003),
        batch=2048,
        mix={"chain": 0.51, "answer": 0.10, "own": 0.25, "body": 0.08, "facts": 0.06},
        chain=_WHOLE,
        cut=(0.35, 0.0),
        redraw=1.2,
        warm_up=0.02,
        shares=_WHOLE_SHARES,
    ),
    # Names that end a question without a mark, and what is just beyond its tasks, were rare.
    Stage(
        name="tuned-9",
        tokens=5.5,
        rate=(0.003, 0.00002),
        batch=2048,
        mix={
            "chain": 0.49,
            "answer": 0.10,
            "own": 0.20,
            "body": 0.07,
            "facts": 0.06,
            "limits": 0.08,
        },
        chain=_BEYOND,
        cut=(0.5, 0.1),
        redraw=1.3,
        warm_up=0.02,
        shares=_EDGE_SHARES,
        asking=Asking(rough=4.0, alike=0.6, long=0.0, tails=0.0),
    ),
    # A name at the end of a line was known by heart, together with the count before it, where it
    # should have been read; and too many sums were taken for sums beyond.
    Stage(
        name="tuned-10",
        tokens=4.5,
        rate=(0.003, 0.00002),
        batch=2048,
        mix={
            "chain": 0.37,
            "answer": 0.10,
            "own": 0.18,
            "body": 0.06,
            "facts": 0.05,
            "leads": 0.16,
            "limits": 0.08,
        },
        chain=_BEYOND,
        cut=(0.4, 0.0),
        redraw=1.3,
        warm_up=0.02,
        shares=_EDGE_SHARES,
        asking=Asking(rough=3.0, alike=0.5, long=0.0),
    ),
    # What only looks like a task was taken for one, and called right; long questions, and letters
    # of other scripts, had been too rare for them to be answered as all that it does not know.
    Stage(
        name="tuned-11",
        tokens=10.0,
        rate=(0.0025, 0.00001),
        batch=2048,
        mix={
            "chain": 0.41,
            "answer": 0.12,
            "own": 0.24,
            "body": 0.06,
            "facts": 0.03,
            "leads": 0.02,
            "limits": 0.12,
        },
        chain=_BEYOND,
        redraw=1.3,
        warm_up=0.02,
        shares=_ALIKE_SHARES,
        asking=Asking(rough=3.0, alike=0.65, long=0.1),
    ),
    # Names and lengths of lists were misread at times, where a word beside them was mistyped.
    Stage(
        name="tuned-12",
        tokens=3.6,
        rate=(0.0018, 0.00001),
        batch=2048,
        mix={
            "chain": 0.45,
            "answer": 0.12,
            "own": 0.24,
            "body": 0.06,
            "facts": 0.03,
            "leads": 0.02,
            "limits": 0.08,
        },
        chain=_BEYOND,
        redraw=1.2,
        warm_up=0.02,
        shares=_LISTED_SHARES,
        asking=Asking(rough=3.5, alike=0.6, long=0.1),
    ),
)
