"""Questions that look like the small model's tasks and are none.

Numbers just beyond its own, a third term, a count too long or downwards, what comes before a day;
and whatever merely holds a sign, a number or a name: code, lists, pasted parts of a chain.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from string import Formatter

from selfee_cli.tiny import likenesses, phrasings, snippets
from selfee_cli.tiny.phrasings import Asking
from selfee_cli.tiny.words import DAYS, LETTERS, MONTHS, NUMBER_WORDS, SERIES, topic


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A question that is no task.

    Where it is almost one, ``values`` say of what kind and with what: ``sum`` or ``difference`` and
    the numbers; ``count`` or ``down``, start, step and the count as it was asked for; ``row``, the
    kind of its names, the first one and the count; ``letters``, the same, where they run past the
    last; ``before``, kind and name. ``about`` is what was put into its phrasing.
    """

    text: str
    values: tuple[str, ...] = ()
    about: tuple[str, ...] = ()

    @property
    def content(self) -> str:
        """What it is about, however it is asked and in whatever order; else the words of its text.

        A number in words is the number. Of counts only start and step are their content, as they
        are of those that are tasks.
        """
        kind, *values = self.values or ("", *self.about)
        if kind in ("count", "down"):
            values = values[:2]
        about = {str(_NUMBERS.get(value, value)) for value in values}
        return " ".join(
            ("other", *(sorted(about) or _WORD.findall(self.text.lower()) or self.text))
        )


_MANY = ("eleven", "twelve", "twenty", "fifty", "a hundred")
_NUMBERS = {word: number for number, word in enumerate(NUMBER_WORDS)}
_WORD = re.compile(r"\w+")
_Draw = Callable[[random.Random, Asking], Asked]


def question(rng: random.Random, asking: Asking) -> Asked:
    """Return one question that looks like a task, or holds what tasks hold, and is none."""
    kinds, chances = zip(*_KINDS, strict=True)
    draw: _Draw = rng.choices(kinds, chances)[0]
    return draw(rng, asking)


def fill(template: str, **values: object) -> Asked:
    """Put ``values`` into a phrasing that none of the tasks has."""
    used = {name for _, name, *_ in Formatter().parse(template) if name} - {"kind"}
    text = template.format(**values)
    return Asked(text=text, about=tuple(str(values[name]) for name in used) or (text,))


def _ask(
    rng: random.Random,
    templates: tuple[str, ...],
    asking: Asking,
    near: tuple[str, ...] = (),
    **more: object,
) -> Asked:
    """Fill in one of ``templates``; what ``more`` does not give is drawn.

    ``near`` names the kind of task that it is almost, and which of the values that has.
    """
    kind = rng.choice(tuple(SERIES))
    values: dict[str, object] = {
        "a": rng.randint(1, rng.choice((9, 99, 99, 99))),
        "b": rng.randint(1, rng.choice((9, 99, 99, 99))),
        "c": rng.randint(1, rng.choice((9, 9, 99))),
        "d": rng.randint(2, rng.choice((9, 9, 99))),
        "n": phrasings.number(rng, rng.randint(2, 9)),
        "v": _worded(rng),
        "w": _worded(rng),
        "t": topic(rng),
        "u": topic(rng),
        "kind": kind,
        "start": rng.choice(SERIES[kind]),
        "day": rng.choice(DAYS),
        "month": rng.choice(MONTHS),
    }
    values.update(more)
    asked = fill(phrasings.choose(rng, templates, asking), **values)
    return replace(
        asked,
        text=phrasings.roughen(rng, asked.text, asking),
        values=(*near[:1], *(str(values[name]) for name in near[1:])),
    )


def _worded(rng: random.Random) -> str:
    """A number in words, or a single letter where a number is due."""
    chance = rng.random()
    if chance < 0.25:
        return rng.choice(("x", "y", "a", "b", "n", "z"))
    if chance < 0.5:
        return rng.choice(NUMBER_WORDS)
    word = rng.choice(likenesses.LARGER)
    if word.endswith("ty") and chance < 0.8:
        word += f"-{rng.choice(NUMBER_WORDS[1:10])}"
    return word


def _large(rng: random.Random, asking: Asking) -> Asked:
    """A sum or a difference with a number of 100 or more."""
    spans = ((100, 199), (100, 199), (100, 199), (200, 999), (1000, 99999))
    big = rng.randint(*rng.choice(spans))
    if rng.random() < 0.2:
        big = round(big, -2) or 100
    small = rng.randint(*rng.choice(((1, 99), (1, 99), (1, 99), (100, 199), (100, 999))))
    if rng.random() < 0.55:
        a, b = rng.choice(((big, small), (small, big)))
        return _ask(rng, likenesses.SUMS, asking, ("sum", "a", "b"), a=a, b=b)
    return _difference(rng, asking, big, small)


def _below_zero(rng: random.Random, asking: Asking) -> Asked:
    a = rng.randint(1, 98)
    near = rng.random() < 0.3
    return _difference(rng, asking, a, rng.randint(a + 1, min(a + 12, 99) if near else 99))


def _difference(rng: random.Random, asking: Asking, a: int, b: int) -> Asked:
    return _ask(rng, likenesses.DIFFERENCES, asking, ("difference", "a", "b"), a=a, b=b)


def _long_count(rng: random.Random, asking: Asking) -> Asked:
    """A count from 100 on, of more than five numbers, or in very large steps."""
    start, step, n = rng.randint(1, 99), rng.randint(2, 9), rng.randint(2, 9)
    chance = rng.random()
    if chance < 0.4:
        start = rng.randint(*rng.choice(((100, 199), (100, 199), (200, 999), (1000, 9999))))
    elif chance < 0.55:
        step = rng.randint(100, 999)
    else:
        n = rng.randint(6, 10)
    count = phrasings.number(rng, n)
    if chance > 0.8:
        count = rng.choice((*_MANY, str(n + 5), str(n * n)))
    near = ("count", "start", "step", "n")
    return _ask(rng, phrasings.COUNTING, asking, near, start=start, step=step, n=count)


def _down(rng: random.Random, asking: Asking) -> Asked:
    start, step = rng.randint(1, 99), rng.randint(2, rng.choice((9, 9, 99)))
    count = phrasings.number(rng, rng.randint(2, 6))
    near = ("down", "start", "step", "n")
    return _ask(rng, likenesses.DOWN, asking, near, start=start, step=step, n=count)


def _long_row(rng: random.Random, asking: Asking) -> Asked:
    """More than five days, months or letters, or letters past the last."""
    kind = rng.choice(tuple(SERIES))
    start, n = rng.choice(SERIES[kind]), rng.randint(6, 10)
    if kind == "letter" and rng.random() < 0.5:
        n = rng.randint(1, 5)
        start = LETTERS[-rng.randint(1, n)]
    count = phrasings.number(rng, n)
    if n > 5 and rng.random() < 0.3:
        count = rng.choice((*_MANY, str(n * 3)))
    templates = phrasings.SEQUENCE if n > 1 else phrasings.SEQUENCE_ONE
    near = ("row" if n > 5 else "letters", "kind", "start", "n")
    return _ask(rng, templates, asking, near, kind=kind, start=start, n=count)


def _before(rng: random.Random, asking: Asking) -> Asked:
    count = phrasings.number(rng, rng.randint(2, 6))
    return _ask(rng, likenesses.BEFORE, asking, ("before", "kind", "start"), n=count)


def _apart(rng: random.Random, asking: Asking) -> Asked:
    return _ask(rng, likenesses.APART, asking, n=phrasings.number(rng, rng.randint(2, 6)))


def _pasted(rng: random.Random, asking: Asking) -> Asked:
    """Parts of a chain, with the headers of its turns or without."""
    parts = []
    for _ in range(rng.randint(1, 3)):
        if rng.random() < 0.6:
            parts.append(rng.choice(likenesses.HEADERS).format(c=rng.randint(1, 9)))
        parts.append(_ask(rng, likenesses.PASTED, Asking(rough=0.3)).text)
    return Asked(text=rng.choice(("", "", "Say: ", "Please write ")) + "\n".join(parts))


def _from(templates: tuple[str, ...]) -> _Draw:
    return lambda rng, asking: _ask(rng, templates, asking)


def _code(rng: random.Random, _: Asking) -> Asked:
    return Asked(text=snippets.snippet(rng))


_KINDS: tuple[tuple[_Draw, float], ...] = (
    (_large, 0.16),
    (_below_zero, 0.14),
    (_from(likenesses.TERMS), 0.08),
    (_from(likenesses.NOT_WHOLE), 0.07),
    (_long_count, 0.09),
    (_down, 0.05),
    (_from(likenesses.COUNTS), 0.03),
    (_long_row, 0.07),
    (_before, 0.04),
    (_apart, 0.03),
    (_from(likenesses.ROWS), 0.05),
    (_code, 0.09),
    (_from(likenesses.WORDED), 0.06),
    (_from(likenesses.BARE), 0.03),
    (_pasted, 0.04),
)
