"""Ask a model every question of the plainest phrasings.

python tests/every.py                 # all but the study's, greedily: minutes
python tests/every.py --study         # these as well: for a model that is chosen
python tests/every.py days months     # some of the kinds below

There are 8,100 sums and 4,005 differences above zero of two-digit numbers, 1,440 lists of numbers
(from 1 to 60 in steps of 2 to 9), and the days and months after each; three to five items a list.
Just beyond lie the differences below zero (``below``), 4,005 again, and the 9,000 sums of a number
from 100 to 199 and one of two digits (``above``): right is to say so. Chains are autonomous, of at
most four revisions. Counts the right final answers of chains that ended, among all questions and
among those whose content was never trained on.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from models import load_plainly

from selfee_cli.api import resolve_model
from selfee_cli.engine.tokenizer import Tokenizer
from selfee_cli.tiny import tasks
from selfee_cli.tiny.alike import Asked
from selfee_cli.tiny.decode import write_chains
from selfee_cli.tiny.tasks import Part, Task
from selfee_cli.tiny.words import NUMBER_WORDS, SERIES
from selfee_cli.tiny.written import Plan

COUNTS = (3, 4, 5)


def sums() -> Iterator[Task]:
    """Yield ``What is A + B?``."""
    for a in range(10, 100):
        for b in range(10, 100):
            yield tasks.addition(f"What is {a} + {b}?", a, b)


def differences() -> Iterator[Task]:
    """Yield ``What is A - B?``."""
    for a in range(11, 100):
        for b in range(10, a):
            yield tasks.subtraction(f"What is {a} - {b}?", a, b)


def lists() -> Iterator[Task]:
    """Yield ``Count from A in steps of D, K numbers.``."""
    for start in range(1, 61):
        for step in range(2, 10):
            for n in COUNTS:
                question = f"Count from {start} in steps of {step}, {NUMBER_WORDS[n]} numbers."
                yield tasks.counting(question, start, step, n)


def names(kind: str) -> Iterator[Task]:
    """Yield ``Which K days come after D?``, or months."""
    for start in SERIES[kind]:
        for n in COUNTS:
            question = f"Which {NUMBER_WORDS[n]} {kind}s come after {start}?"
            yield tasks.sequence(question, kind, start, n)


def below() -> Iterator[Task]:
    """Yield ``What is A - B?`` where it lies below zero."""
    for a in range(10, 99):
        for b in range(a + 1, 100):
            values = ("difference", str(a), str(b))
            yield tasks.outside(Asked(text=f"What is {a} - {b}?", values=values))


def above() -> Iterator[Task]:
    """Yield ``What is A + B?`` with a number of three digits."""
    for a in range(100, 200):
        for b in range(10, 100):
            values = ("sum", str(a), str(b))
            yield tasks.outside(Asked(text=f"What is {a} + {b}?", values=values))


KINDS: dict[str, Callable[[], Iterator[Task]]] = {
    "sums": sums,
    "differences": differences,
    "lists": lists,
    "days": lambda: names("day"),
    "months": lambda: names("month"),
    "below": below,
    "above": above,
}


def right(
    network: Any, tokenizer: Tokenizer, chosen: Sequence[Task], temperature: float, seed: int
) -> list[Task]:
    """Return those of the tasks whose final answer is right."""
    plan = Plan(temperature=temperature, seed=seed)
    chains = write_chains(network, tokenizer, [task.question for task in chosen], plan)
    return [
        task
        for task, chain in zip(chosen, chains, strict=True)
        if list(chain.needed[-1:]) == [False] and task.grade(chain.answers[-1])
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """Ask, and print how many were answered right."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("kinds", nargs="*", metavar="KIND", help=f"some of: {', '.join(KINDS)}")
    parser.add_argument("--model", default="tiny", help="default: the bundled one")
    parser.add_argument("--temperature", type=float, default=0.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--study", action="store_true", help="also ask what is the study's")
    options = parser.parse_args(arguments)
    if unknown := set(options.kinds) - set(KINDS):
        parser.error(f"no such kind: {', '.join(sorted(unknown))}")
    path = resolve_model(options.model)
    network, tokenizer = load_plainly(path)
    for kind in options.kinds or KINDS:
        chosen = [
            task
            for task in KINDS[kind]()
            if options.study or tasks.part_of(task.content) is not Part.STUDY
        ]
        good = right(network, tokenizer, chosen, options.temperature, options.seed)
        sys.stdout.write(f"{kind}: {_told(good, chosen)} right{_unseen(good, chosen)}\n")
        sys.stdout.flush()
    return 0


def _unseen(good: Sequence[Task], chosen: Sequence[Task]) -> str:
    parts = [
        [task for task in part if tasks.part_of(task.content) is not Part.TRAINING]
        for part in (good, chosen)
    ]
    return f", of them never trained on: {_told(*parts)}"


def _told(good: Sequence[Task], chosen: Sequence[Task]) -> str:
    return f"{len(good)} of {len(chosen)}"


if __name__ == "__main__":
    raise SystemExit(main())
