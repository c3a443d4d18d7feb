"""Text to ids and back, by the checkpoint's own tokenizer files.

``tokenizer.model`` is read by SentencePiece itself (transformers' conversion of it tokenises runs
of spaces differently), ``tokenizer.json`` by the tokenizers library. User text is encoded without
special tokens: ``</s>`` typed by a user is four characters. Which tokens begin and end a text is
taken from the checkpoint's files, never assumed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any, Protocol

from selfee_cli.errors import NotFoundError, SelfeeError


class _Codec(Protocol):
    """What differs between the two tokenizer formats."""

    def encode(self, text: str) -> list[int]: ...

    def token_bytes(self, id: int) -> bytes: ...

    def id_of(self, token: str) -> int | None: ...

    bos: int | None
    eos: int | None
    size: int


# Texts after which a continuation may be encoded so that the ids before it stay what they are.
_ANCHORS = ("\n", "a", ".", "\n\n", " a")


class Tokenizer:
    """A checkpoint's tokenizer. It is a :class:`selfee_cli.protocol.text.Vocabulary`."""

    def __init__(self, codec: _Codec, *, bos: int | None, ends: Iterable[int]) -> None:
        self._codec = codec
        self.bos = bos
        self.ends = frozenset(ends)
        self.size = codec.size
        """Pieces of the vocabulary, those added later not counted."""
        self.token_bytes = cache(codec.token_bytes)

    def encode(self, text: str) -> list[int]:
        """Return the ids of a whole text, without special tokens."""
        return self._codec.encode(text)

    def encode_prompt(self, text: str) -> list[int]:
        """Return the ids of a prompt, which begins with the begin-of-text token if there is one."""
        begin = [] if self.bos is None else [self.bos]
        return begin + self.encode(text)

    def encode_continuation(self, text: str) -> list[int]:
        """Return the ids of ``text`` as it stands in the middle of a longer text.

        A text encoded alone may begin with a space that is not there; encoded after an anchor
        that does not merge with it, it begins as it would in the middle.
        """
        if not text:
            return []
        wanted = text.encode()
        for anchor in _ANCHORS:
            before, both = self.encode(anchor), self.encode(anchor + text)
            ids = both[len(before) :]
            if both[: len(before)] == before and self._bytes(ids) == wanted:
                return ids
        ids = self.encode(text)
        if self._bytes(ids) != wanted:
            raise SelfeeError(
                f"this tokenizer cannot write {text!r} in the middle of a text",
                hint="SelFee models need their own tokenizer files beside the weights",
            )
        return ids

    def is_end(self, id: int) -> bool:
        """Whether the token ends a text."""
        return id in self.ends

    def decode(self, ids: Iterable[int]) -> str:
        """Return the text that ``ids`` stand for inside a longer text."""
        return self._bytes(ids).decode("utf-8", "replace")

    def _bytes(self, ids: Iterable[int]) -> bytes:
        return b"".join(map(self.token_bytes, ids))


class SentencePiece:
    """A ``tokenizer.model``."""

    def __init__(self, data: bytes) -> None:
        from sentencepiece import SentencePieceProcessor

        self._processor = SentencePieceProcessor()
        self._processor.LoadFromSerializedProto(data)
        self.bos = _real(self._processor.bos_id())
        self.eos = _real(self._processor.eos_id())
        self.size = int(self._processor.vocab_size())

    def encode(self, text: str) -> list[int]:
        """Return the ids of a whole text, without special tokens."""
        ids: list[int] = self._processor.Encode(text)
        return ids

    def token_bytes(self, id: int) -> bytes:
        """Return what a piece stands for; nothing where it is no piece, or no text."""
        processor = self._processor
        if id >= processor.vocab_size() or processor.IsControl(id) or processor.IsUnknown(id):
            return b""
        piece: str = processor.IdToPiece(id)
        return _sentencepiece_bytes(piece)

    def id_of(self, token: str) -> int | None:
        """Return the id of a piece by its name."""
        id = self._processor.PieceToId(token)
        return id if self._processor.IdToPiece(id) == token else None


class _TokenizersJson:
    """A ``tokenizer.json``."""

    def __init__(self, text: str) -> None:
        from tokenizers import Tokenizer as Library

        self._library = Library.from_str(text)
        self._library.encode_special_tokens = True
        self._library.no_truncation()
        self._library.no_padding()
        spec = json.loads(text)
        added = spec.get("added_tokens", [])
        self._special = {token["id"] for token in added if token["special"]}
        self._literal: dict[int, str] = {
            token["id"]: token["content"] for token in added if not token["special"]
        }
        self._byte_level = "ByteLevel" in json.dumps(spec.get("decoder"))
        self.bos = self._first_special(spec)
        self.eos: int | None = None
        self.size = int(self._library.get_vocab_size(with_added_tokens=False))

    def _first_special(self, spec: dict[str, Any]) -> int | None:
        """The token that the file's own post-processor puts before every text."""
        if not spec.get("post_processor"):
            return None
        plain = self._library.encode("a", add_special_tokens=False).ids
        whole = self._library.encode("a", add_special_tokens=True).ids
        begins = whole[0] != plain[0] and whole[0] in self._special
        return whole[0] if begins else None

    def encode(self, text: str) -> list[int]:
        ids: list[int] = self._library.encode(text, add_special_tokens=False).ids
        return ids

    def token_bytes(self, id: int) -> bytes:
        piece = None if id in self._special else self._library.id_to_token(id)
        if piece is None:
            return b""
        if self._byte_level:
            if id in self._literal:  # not spelt in the table's letters, as the others are
                return self._literal[id].encode()
            table = _byte_level_table()
            return bytes(table[char] for char in piece if char in table)
        return _sentencepiece_bytes(piece)

    def id_of(self, token: str) -> int | None:
        id: int | None = self._library.token_to_id(token)
        return id


def _real(id: int) -> int | None:
    return id if id >= 0 else None


def _sentencepiece_bytes(piece: str) -> bytes:
    if re.fullmatch(r"<0x[0-9A-F]{2}>", piece):
        return bytes([int(piece[3:5], 16)])
    return piece.replace("\u2581", " ").encode()


@cache
def _byte_level_table() -> dict[str, int]:
    """The alphabet of byte-level BPE (GPT-2): printable bytes are themselves, the rest shifted."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    table = {chr(byte): byte for byte in printable}
    shifted = (byte for byte in range(256) if chr(byte) not in table)
    table.update({chr(0x100 + place): byte for place, byte in enumerate(list(shifted))})
    return table


def load_tokenizer(path: Path) -> Tokenizer:
    """Load the tokenizer of the checkpoint directory ``path``.

    Raises:
        NotFoundError: the directory has neither ``tokenizer.model`` nor ``tokenizer.json``.
        SelfeeError: a file is damaged.
    """
    codec = _load_codec(path)
    files = {name: _read_json(path / f"{name}.json") for name in _SETTINGS}
    bos = _begin(codec, files)
    if files["tokenizer_config"].get("add_bos_token") is False:
        bos = None
    ends = _ends(codec, files)
    if not ends:
        raise SelfeeError(
            f"nothing in {path} says which token ends a text",
            hint="config.json or generation_config.json should give eos_token_id",
        )
    return Tokenizer(codec, bos=bos, ends=ends)


_SETTINGS = ("tokenizer_config", "special_tokens_map", "generation_config", "config")


def _load_codec(path: Path) -> _Codec:
    model, fast = path / "tokenizer.model", path / "tokenizer.json"
    if model.is_file():
        try:
            return SentencePiece(model.read_bytes())
        except RuntimeError as error:
            if not fast.is_file():  # some models ship another format by the same name
                raise SelfeeError(
                    f"{model} is not a SentencePiece model",
                    hint="download it again; `selfee verify` tells whether it is whole",
                ) from error
    if fast.is_file():
        try:
            return _TokenizersJson(fast.read_text("utf-8"))
        except Exception as error:  # the library raises bare Exception
            raise SelfeeError(f"{fast} is damaged: {error}", hint="download it again") from error
    raise NotFoundError(
        f"{path} has no tokenizer.model and no tokenizer.json",
        hint="copy the tokenizer files from the model's delta or base directory",
    )


def _read_json(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise SelfeeError(f"{path} is not valid JSON: {error}", hint="download it again") from error
    return data if isinstance(data, dict) else {}


def _special(codec: _Codec, files: dict[str, dict[str, Any]], role: str) -> int | None:
    """The id of ``bos_token`` or ``eos_token`` as the tokenizer's own settings name it."""
    for name in ("tokenizer_config", "special_tokens_map"):
        token = files[name].get(role)
        if isinstance(token, dict):
            token = token.get("content")
        if isinstance(token, str) and token:
            id = codec.id_of(token)
            if id is not None:
                return id
    return None


def _begin(codec: _Codec, files: dict[str, dict[str, Any]]) -> int | None:
    if isinstance(codec, _TokenizersJson):
        return codec.bos
    named = _special(codec, files, "bos_token")
    return codec.bos if named is None else named


def _ends(codec: _Codec, files: dict[str, dict[str, Any]]) -> set[int]:
    ends: set[int] = set()
    for name in ("generation_config", "config"):
        value = files[name].get("eos_token_id")
        given = value if isinstance(value, list) else [] if value is None else [value]
        if not all(isinstance(id, int) for id in given):
            raise SelfeeError(
                f"eos_token_id in {name}.json is {value!r:.80}, not a token's number",
                hint="download it again",
            )
        ends.update(given)
    named = _special(codec, files, "eos_token")
    return ends | {id for id in (named, codec.eos) if id is not None}
