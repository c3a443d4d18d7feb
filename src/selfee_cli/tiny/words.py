"""The words that questions are made of: numbers, what comes in a row, things to ask about."""

from __future__ import annotations

import random
import string

NUMBER_WORDS = (
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
)

DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
MONTHS = (
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
)
LETTERS = tuple(string.ascii_lowercase)
SERIES = {"day": DAYS, "month": MONTHS, "letter": LETTERS}

TOPICS = (
    "gravity",
    "music",
    "the moon",
    "football",
    "bread",
    "democracy",
    "Paris",
    "cats",
    "the internet",
    "chess",
    "rain",
    "love",
    "computers",
    "the ocean",
    "history",
    "a horse",
    "climate change",
    "photosynthesis",
    "Python",
    "the brain",
    "coffee",
    "a rainbow",
    "tea",
    "Germany",
    "the human heart",
    "electricity",
    "machine learning",
    "time",
    "money",
    "cooking",
    "a good night's sleep",
    "Japan",
    "exercise",
    "black holes",
    "dinosaurs",
    "school",
    "space travel",
    "gardening",
    "robots",
    "the wheel",
    "art",
    "swimming",
    "language models",
    "my job interview",
    "evolution",
    "the Roman Empire",
    "salt",
    "healthy food",
    "birds",
    "volcanoes",
)
SYLLABLES = (
    "ba",
    "ce",
    "dor",
    "fi",
    "gal",
    "hu",
    "jin",
    "ko",
    "lem",
    "mar",
    "nos",
    "pi",
    "quo",
    "ra",
    "sil",
    "tun",
    "ver",
    "wo",
    "xa",
    "yel",
    "zin",
)


def topic(rng: random.Random) -> str:
    """Return something to ask about: a word that there is, or one that there is not."""
    if rng.random() < 0.6:
        return rng.choice(TOPICS)
    return "".join(rng.choice(SYLLABLES) for _ in range(rng.randint(2, 4)))
