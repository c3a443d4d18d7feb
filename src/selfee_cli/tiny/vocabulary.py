"""The tokenizer: 1,280 SentencePiece pieces, trained on what the model will read and write.

Every content is one piece: each letter, number below 200 and name, in small letters too. Then an
item is copied as one token, and two items are equal where two tokens are.
"""

from __future__ import annotations

import io
import random
import re
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from itertools import accumulate
from pathlib import Path

import sentencepiece

from selfee_cli.engine.tokenizer import SentencePiece, Tokenizer
from selfee_cli.tiny import chains, drills, tasks
from selfee_cli.tiny.checks import Segment
from selfee_cli.tiny.words import DAYS, LETTERS, MONTHS

SIZE = 1280
UNK, BOS, EOS = 0, 1, 2
_ASCII = "".join(chr(code) for code in range(33, 127))
NUMBERS = 200
"""Numbers below it are pieces."""
_PART = re.compile(r" ?[^\W\d_]+| 1?\d?\d(?!\d)| ?\d| ?(?:[^\w\s]|_)+|\s+")


def train_vocabulary(seed: int = 0, texts: int = 3_000) -> bytes:
    """Return a SentencePiece model file trained on about ``texts`` generated texts.

    The dummy prefix is off in training, since text after a line break has no leading space,
    and is switched on in the file afterwards, as LLaMA's own tokenizer has it.
    """
    target = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=_lines(random.Random(f"vocabulary {seed}"), texts),
        model_writer=target,
        model_type="bpe",
        vocab_size=SIZE,
        byte_fallback=True,
        normalization_rule_name="identity",
        add_dummy_prefix=False,
        remove_extra_whitespaces=False,
        split_digits=False,
        required_chars=_ASCII,
        character_coverage=1.0,
        unk_id=UNK,
        bos_id=BOS,
        eos_id=EOS,
        pad_id=-1,
        num_threads=1,
        minloglevel=2,
    )
    return with_dummy_prefix(target.getvalue())


def with_dummy_prefix(model: bytes) -> bytes:
    """Return a SentencePiece model file with ``normalizer_spec.add_dummy_prefix`` switched on.

    The flag is field 3 (a boolean) of the message in field 3 of the model.
    """
    start, end = _field(model, 0, len(model), 3)
    flag, _ = _field(model, start, end, 3)
    return model[:flag] + b"\x01" + model[flag + 1 :]


def _field(data: bytes, at: int, end: int, wanted: int) -> tuple[int, int]:
    """Return where the value of a protocol buffer field lies between ``at`` and ``end``."""
    while at < end:
        key, at = _varint(data, at)
        number, kind = key >> 3, key & 7
        if kind == 0:
            after = _varint(data, at)[1]
        elif kind == 2:
            length, at = _varint(data, at)
            after = at + length
        else:
            after = at + {1: 8, 5: 4}[kind]
        if number == wanted:
            return at, after
        at = after
    raise ValueError(f"the tokenizer model has no field {wanted}")


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            return value, at


def _lines(rng: random.Random, texts: int) -> Iterator[str]:
    """Yield the training text in parts: no piece joins a word or number to its neighbour."""
    mix = chains.ChainMix(history=0.0, overruled_other=0.0)
    for at in range(texts):
        task = tasks.draw(rng, tasks.FAMILIES[at % len(tasks.FAMILIES)])
        yield from _parts("".join(part for part, _ in chains.build(rng, task, mix)))
    for _ in range(texts // 20):
        yield from _parts("".join(part for part, _ in drills.facts(rng)))
    names = (*DAYS, *MONTHS)
    whole = (*names, *map(str.lower, names), *LETTERS, "right", "wrong")
    for word in (*whole, *map(str, range(NUMBERS))):
        for _ in range(120):
            yield f" {word}"


def _parts(text: str) -> Iterator[str]:
    for line in text.split("\n"):
        yield from _PART.findall(line)


class Vocabulary(Tokenizer):
    """A loaded tokenizer that also says which loss weight each token has."""

    def __init__(self, model: bytes) -> None:
        super().__init__(SentencePiece(model), bos=BOS, ends=[EOS])
        self.model = model

    @classmethod
    def load(cls, path: Path) -> Vocabulary:
        """Read a ``tokenizer.model``."""
        return cls(path.read_bytes())

    def weigh(self, segments: Sequence[Segment], *, end: float) -> tuple[list[int], list[float]]:
        """Return ids and their loss weights: BOS, the text, and EOS with the weight ``end``.

        A token has the weight of the segment in which its last byte lies.
        """
        ids = self.encode_prompt("".join(text for text, _ in segments))
        ends = list(accumulate(len(text.encode()) for text, _ in segments))
        weights = [0.0]
        at = -1  # the dummy prefix stands before the text's first byte
        for index in ids[1:]:
            at += len(self.token_bytes(index))
            place = bisect_left(ends, at) if at > 0 else 0
            weights.append(segments[place][1])
        return [*ids, EOS], [*weights, end]
