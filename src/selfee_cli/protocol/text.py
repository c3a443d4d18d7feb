"""From token ids to text, token by token, with the way back.

A token is bytes, not characters: an emoji may take four tokens. The stream keeps, for every
token, how many characters it completed and which bytes it left open, so that any number of
tokens can be withdrawn again and the text before them stands exactly as it stood.
"""

from __future__ import annotations

import codecs
from collections.abc import Sequence
from typing import Protocol


class Vocabulary(Protocol):
    """What the chain needs of a tokenizer."""

    def token_bytes(self, id: int) -> bytes:
        """Return the bytes that the token stands for inside a text (none for special tokens)."""
        ...

    def is_end(self, id: int) -> bool:
        """Whether the token ends a text."""
        ...

    def encode_continuation(self, text: str) -> list[int]:
        """Return the ids of ``text`` as it stands in the middle of a longer text."""
        ...


class TokenText:
    """The generated tokens as text."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._pieces: list[str] = []
        self._open_bytes: list[bytes] = []

    def __len__(self) -> int:
        return len(self._pieces)

    def push(self, id: int) -> str:
        """Add a token; return the text it completed, which may be empty."""
        piece = self._decoder.decode(self._vocabulary.token_bytes(id))
        self._pieces.append(piece)
        self._open_bytes.append(self._decoder.getstate()[0])
        return piece

    def close(self) -> str:
        """Return what the bytes left open come to when nothing follows them."""
        rest = self._decoder.decode(b"", final=True)
        if self._pieces:
            self._pieces[-1] += rest
            self._open_bytes[-1] = b""
        return rest

    def before(self, characters: int) -> tuple[int, str]:
        """Return how many tokens end at least ``characters`` before the end of the text.

        The second value is the text between those tokens and that place: what a token that
        straddles it held before it, nearly always nothing. Those tokens then end with a whole
        character, so that the text can be written there again.
        """
        tokens, passed = len(self._pieces), 0
        while tokens and passed < characters:
            tokens -= 1
            passed += len(self._pieces[tokens])
        while passed > characters and tokens and self._open_bytes[tokens - 1]:
            tokens -= 1
            passed += len(self._pieces[tokens])
        straddled = "".join(self._pieces[tokens:])[: passed - characters]
        return tokens, straddled

    def cut(self, tokens: int) -> None:
        """Withdraw all but the first ``tokens`` tokens."""
        del self._pieces[tokens:], self._open_bytes[tokens:]
        self._decoder.setstate((self._open_bytes[-1] if tokens else b"", 0))

    def __str__(self) -> str:
        return "".join(self._pieces)


def well_formed(text: str) -> str:
    """Return ``text`` with lone surrogates, which no tokenizer takes, as U+FFFD.

    They come from bytes on a command line that are not UTF-8, and from broken JSON.
    """
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def decode(vocabulary: Vocabulary, ids: Sequence[int]) -> str:
    """Return the text of ``ids`` as it stands inside a longer text."""
    data = b"".join(map(vocabulary.token_bytes, ids))
    return data.decode("utf-8", "replace")
