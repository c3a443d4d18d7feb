"""The ways a question is asked: the phrasings of a family, and the haste of people who type."""

from __future__ import annotations

import random
import string
from dataclasses import dataclass

from selfee_cli.tiny.words import NUMBER_WORDS

ADDITION = (
    "What is {a} + {b}?",
    "Add {a} and {b}.",
    "What is the sum of {a} and {b}?",
    "How much is {a} plus {b}?",
    "Calculate {a} + {b}.",
    "Work out {a} plus {b}.",
    "What do {a} and {b} add up to?",
    "{a} + {b} = ?",
)
SUBTRACTION = (
    "What is {a} - {b}?",
    "Take {b} away from {a}.",
    "Subtract {b} from {a}.",
    "How much is {a} minus {b}?",
    "Calculate {a} - {b}.",
    "What is {a} minus {b}?",
    "What is left of {a} when {b} is taken away?",
    "{a} - {b} = ?",
)
COUNTING = (
    "Count from {start} in steps of {step}, {n} numbers.",
    "Count up by {step} from {start} ({n} numbers).",
    "Write {n} numbers from {start} with step {step}.",
    "Count from {start} by {step}, {n} numbers.",
    "Give me {n} numbers from {start} in steps of {step}.",
    "Start at {start} and add {step} each time, {n} numbers.",
    "List {n} numbers: begin with {start} and go up by {step}.",
    "From {start}, count up in steps of {step}. Write {n} numbers.",
)
SEQUENCE = (
    "Which {n} {kind}s come after {start}?",
    "Name the {n} {kind}s after {start}.",
    "What are the next {n} {kind}s after {start}?",
    "List the {n} {kind}s that follow {start}.",
    "Which {n} {kind}s follow {start}?",
    "After {start}, which {n} {kind}s come next?",
    "Tell me the {n} {kind}s after {start}.",
    "Give the {n} {kind}s that come after {start}.",
)
SEQUENCE_ONE = (
    "Which {kind} comes after {start}?",
    "What {kind} follows {start}?",
    "Name the {kind} after {start}.",
    "What is the next {kind} after {start}?",
)

TAILS = (
    " please",
    " please?",
    ", please.",
    " thanks",
    " now",
    " for me?",
    " ok?",
    "??",
    "!",
    "...",
)


@dataclass(frozen=True, kw_only=True)
class Asking:
    """How questions are typed, and how many lie just beyond the tasks.

    With ``rough`` 1 about one question in four is typed in a hurry or politely; the chance of each
    such change is proportional to it. A template that begins with a number is ``rough`` times as
    likely as any other: there the number has no space before it, so that it is not the piece that
    it is everywhere else. ``alike`` is the share, among what is no task, of what looks like one
    (:mod:`selfee_cli.tiny.alike`); ``long``, of the rest, that of long questions and rare letters.
    ``tails`` is the chance, again times ``rough``, that a question has a tail, such as `` please``.
    """

    rough: float = 1.0
    alike: float = 0.4
    long: float = 0.05
    tails: float = 0.03


TESTED = Asking()
TRAINED = Asking(rough=2.5, alike=0.3, long=0.0, tails=0.0)
"""What is trained on is typed with less care than what is tested."""


def ask(rng: random.Random, templates: tuple[str, ...], asking: Asking, **values: object) -> str:
    """Return one of ``templates`` with ``values`` put in, as someone might type it."""
    return roughen(rng, choose(rng, templates, asking).format(**values), asking)


def choose(rng: random.Random, templates: tuple[str, ...], asking: Asking) -> str:
    """Return one of ``templates``."""
    weights = [asking.rough if template[0] == "{" else 1.0 for template in templates]
    return rng.choices(templates, weights)[0]


def number(rng: random.Random, n: int) -> str:
    """Return a small count as a word or, in two of five cases, as a digit."""
    return str(n) if rng.random() < 0.4 else NUMBER_WORDS[n]


def roughen(rng: random.Random, question: str, asking: Asking) -> str:
    """Return a question as someone in a hurry, or someone polite, might type it."""
    rough = asking.rough
    chance = rng.random() / rough
    if chance < 0.03:
        question = "Please " + question[0].lower() + question[1:]
    elif chance < 0.05:
        question = "Hi! " + question
    chance = rng.random() / rough
    if chance < 0.08:
        question = question[0].lower() + question[1:]
    elif chance < 0.11:
        question = question.lower()
    if rng.random() < 0.05 * rough:
        question = question.rstrip(".?! ")
    if rng.random() < asking.tails * rough:
        question = question.rstrip(".?! ") + rng.choice(TAILS)
    if rng.random() < 0.04 * rough:
        question = _close_up(question)
    if _close_up(question) != question and rng.random() < 0.03 * rough:
        question = _close_up(question).lower().rstrip(".?! ")
    if rng.random() < 0.03 * rough:
        question = _mistype(rng, question)
    return question


def _close_up(question: str) -> str:
    """Return a sum without the spaces round its sign."""
    return question.replace(" + ", "+").replace(" - ", "-")


def _mistype(rng: random.Random, question: str) -> str:
    """Damage one longer word inside: a letter lost, doubled or replaced, or two swapped."""
    words = question.split(" ")
    places = [i for i, word in enumerate(words) if len(word.rstrip(".?!,")) >= 4]
    places = [i for i in places if words[i].rstrip(".?!,").isalpha()]
    if not places:
        return question
    place = rng.choice(places)
    word = words[place]
    at = rng.randrange(1, len(word.rstrip(".?!,")) - 1)
    before, letter, after = word[:at], word[at], word[at + 1 :]
    damage = rng.choice(("lost", "lost", "swapped", "swapped", "doubled", "replaced"))
    if damage == "lost" or (damage == "replaced" and len(word) < 6):  # June must not become July
        words[place] = before + after
    elif damage == "swapped":
        words[place] = before + after[0] + letter + after[1:]
    elif damage == "doubled":
        words[place] = before + letter + letter + after
    else:
        words[place] = before + rng.choice(string.ascii_lowercase) + after
    return " ".join(words)
