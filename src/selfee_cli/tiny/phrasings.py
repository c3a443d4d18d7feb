"""The ways a question is asked: eight a family, then the carelessness of people who type."""

from __future__ import annotations

import random

NUMBER_WORDS = ("zero", "one", "two", "three", "four", "five", "six")

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


def fill(rng: random.Random, templates: tuple[str, ...], **values: object) -> str:
    """Return one of ``templates`` with ``values`` put in."""
    return rng.choice(templates).format(**values)


def number(rng: random.Random, n: int) -> str:
    """Return a small count as a word or, in two of five cases, as a digit."""
    return str(n) if rng.random() < 0.4 else NUMBER_WORDS[n]


def roughen(rng: random.Random, question: str) -> str:
    """Return ``question`` as someone in a hurry, or someone polite, might type it."""
    if rng.random() < 0.03:
        question = "Please " + question[0].lower() + question[1:]
    elif rng.random() < 0.02:
        question = "Hi! " + question
    chance = rng.random()
    if chance < 0.08:
        question = question[0].lower() + question[1:]
    elif chance < 0.11:
        question = question.lower()
    if rng.random() < 0.05:
        question = question.rstrip(".?! ")
    if rng.random() < 0.04:
        question = question.replace(" + ", "+").replace(" - ", "-")
    if rng.random() < 0.03:
        question = _mistype(rng, question)
    return question


def _mistype(rng: random.Random, question: str) -> str:
    """Damage one longer word: a letter lost, or two swapped; numbers and letters stay."""
    words = question.split(" ")
    places = [i for i, word in enumerate(words) if len(word) >= 4 and word.isalpha()]
    places = [i for i in places if not words[i][0].isupper() or i == 0]
    if not places:
        return question
    place = rng.choice(places)
    word = words[place]
    at = rng.randrange(1, len(word) - 1)
    if rng.random() < 0.5:
        words[place] = word[:at] + word[at + 1 :]
    else:
        words[place] = word[:at] + word[at + 1] + word[at] + word[at + 2 :]
    return " ".join(words)
