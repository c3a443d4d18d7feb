"""A model that follows a script, and a vocabulary in which any string may be a token."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

END = "</s>"


class PieceVocabulary:
    """Any string may be a token; ids are given out as pieces come up. The end token is 0."""

    def __init__(self) -> None:
        self.pieces: list[bytes] = [b""]
        self._ids: dict[bytes, int] = {END.encode(): 0}

    def id(self, piece: str | bytes) -> int:
        data = piece.encode() if isinstance(piece, str) else piece
        if data not in self._ids:
            self._ids[data] = len(self.pieces)
            self.pieces.append(data)
        return self._ids[data]

    def token_bytes(self, id: int) -> bytes:
        return self.pieces[id]

    def is_end(self, id: int) -> bool:
        return id == 0

    def encode_continuation(self, text: str) -> list[int]:
        return [self.id(piece) for piece in split_words(text)]


def split_words(text: str) -> list[str]:
    """Pieces as a word-piece tokenizer makes them: a space belongs to the word after it."""
    return re.findall(r" ?\w+|\n| ?[^\w\s]+|\s", text)


class ScriptedSource:
    """A model that follows a script: at every rewrite it goes on with the next part."""

    def __init__(
        self,
        vocabulary: PieceVocabulary,
        parts: Sequence[Sequence[str | bytes]],
        *,
        batch: int = 1,
        capacity: int = 10_000,
    ) -> None:
        self._vocabulary = vocabulary
        self._parts: Iterator[Sequence[str | bytes]] = iter(parts)
        self._queue = list(next(self._parts))
        self._batch = batch
        self.capacity = capacity
        self.generated: list[int] = []

    def sample(self) -> list[int]:
        if not self._queue:
            self._queue = [END]
        taken, self._queue = self._queue[: self._batch], self._queue[self._batch :]
        ids = [self._vocabulary.id(piece) for piece in taken]
        self.generated += ids
        return ids

    def rewrite(self, keep: int, ids: Sequence[int]) -> None:
        assert keep <= len(self.generated)
        self.generated[keep:] = ids
        self._queue = list(next(self._parts, [END]))
