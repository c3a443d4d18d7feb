"""A SentencePiece model (``tokenizer.model``) as the ``tokenizer.json`` of the tokenizers library.

Both must give the same ids for every text. The order of merges decides that: SentencePiece joins
the neighbours whose join has the best score, the leftmost first where scores are equal. Ordered
by id, as transformers orders them itself, runs of spaces come out wrong in LLaMA, whose pieces of
spaces have the least score of all, and all the same one.

The file is a protocol buffer. The sentencepiece package does not tell how the model normalises
text without the protobuf package, so it is read here.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from selfee_cli.errors import SelfeeError

__all__ = ["Piece", "PieceKind", "SentencePieceModel", "read_sentencepiece", "tokenizer_json"]

_SPACE = "\u2581"  # what stands for a space in pieces
_BPE = 2  # the kind of model


class PieceKind(IntEnum):
    """What a piece is for, by the numbers of the file."""

    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5
    BYTE = 6


@dataclass(frozen=True, kw_only=True, slots=True)
class Piece:
    """A row of the vocabulary; its id is its place."""

    text: str
    score: float
    kind: PieceKind


@dataclass(frozen=True, kw_only=True)
class SentencePieceModel:
    """What a byte-pair-encoding SentencePiece model says."""

    pieces: tuple[Piece, ...]
    names: Mapping[str, str]
    """What the pieces of the roles ``unk``, ``bos``, ``eos`` and ``pad`` are called."""
    byte_fallback: bool
    """A character that is no piece becomes its UTF-8 bytes."""
    dummy_prefix: bool
    """A space is put before every text."""
    trims_spaces: bool
    """Spaces at both ends are dropped, and runs of spaces become one."""

    def id_of(self, role: str) -> int | None:
        """Give the id of ``unk``, ``bos``, ``eos`` or ``pad``; None where the model has none."""
        kind = PieceKind.UNKNOWN if role == "unk" else PieceKind.CONTROL
        for id, piece in enumerate(self.pieces):
            if piece.kind is kind and piece.text == self.names[role]:
                return id
        return None


def read_sentencepiece(data: bytes) -> SentencePieceModel:
    """Read the content of a ``tokenizer.model``.

    Raises:
        SelfeeError: It is no SentencePiece model, or one that a ``tokenizer.json`` cannot equal.
    """
    try:
        pieces = []
        settings: dict[int, bytes] = {}
        for field, value in _fields(data):
            if field == 1:
                pieces.append(_piece(_message(value)))
            else:
                settings[field] = _message(value)
        trainer = dict(_fields(settings[2]))
        normalizer = dict(_fields(settings[3]))
        model = SentencePieceModel(
            pieces=tuple(pieces),
            names={
                role: _message(trainer.get(field, name)).decode() for field, role, name in _ROLES
            },
            byte_fallback=bool(trainer.get(35, False)),
            dummy_prefix=bool(normalizer.get(3, True)),
            trims_spaces=bool(normalizer.get(4, True)),
        )
    except (ValueError, KeyError, IndexError, struct.error) as error:
        raise SelfeeError(
            "it is not a SentencePiece model", hint="download it again; it may be cut short"
        ) from error
    _check(model, trainer, normalizer)
    return model


_ROLES = (45, "unk", b"<unk>"), (46, "bos", b"<s>"), (47, "eos", b"</s>"), (48, "pad", b"<pad>")
"""The trainer's fields that name special pieces, and what the names are where they say nothing."""


def _piece(data: bytes) -> Piece:
    fields = dict(_fields(data))
    (score,) = struct.unpack("<f", _message(fields.get(2, bytes(4))))
    kind = PieceKind(int(fields.get(3, PieceKind.NORMAL)))
    return Piece(text=_message(fields[1]).decode(), score=score, kind=kind)


def _message(value: int | bytes) -> bytes:
    if isinstance(value, int):
        raise ValueError("a number where bytes should be")
    return value


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Give the fields of a protocol buffer message: number, and an integer or raw bytes."""
    at, end = 0, len(data)
    while at < end:
        tag, at = _varint(data, at)
        kind = tag & 7
        if kind == 0:
            value, at = _varint(data, at)
            yield tag >> 3, value
            continue
        if kind == 2:
            size, at = _varint(data, at)
        elif kind in (1, 5):
            size = 8 if kind == 1 else 4
        else:
            raise ValueError(f"no such kind of field: {kind}")
        if at + size > end:
            raise ValueError("a field is cut short")
        yield tag >> 3, data[at : at + size]
        at += size


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
        if shift > 63:
            raise ValueError("a number is too long")


def _check(
    model: SentencePieceModel, trainer: Mapping[int, object], normalizer: Mapping[int, object]
) -> None:
    """Refuse what would tokenise differently in the other form."""
    kinds = {piece.kind for piece in model.pieces}
    scores = {p.text: p.score for p in model.pieces if p.kind is PieceKind.NORMAL}
    faults = {
        "is not a byte pair encoding": trainer.get(3, 1) != _BPE,
        "has no piece for the unknown": model.id_of("unk") is None,
        "has pieces defined by a user": PieceKind.USER_DEFINED in kinds,
        "has pieces that are not used": PieceKind.UNUSED in kinds,
        "normalises characters": bool(normalizer.get(2)),
        "does not mark spaces": not normalizer.get(5, True),
        "marks spaces behind words": bool(trainer.get(24, False)),
        "has pieces of characters it does not know": not scores.keys() >= set("".join(scores)),
        "has different pieces of one score": _ties(scores),
    }
    for fault, is_so in faults.items():
        if is_so:
            raise SelfeeError(f"it {fault}, which has no exact equal in tokenizer.json")


def _ties(scores: Mapping[str, float]) -> bool:
    """Whether pieces that are not runs of one same character have the same score."""
    by_score: dict[float, set[str]] = {}
    for text, score in scores.items():
        by_score.setdefault(score, set()).add(text if len(set(text)) > 1 else text[0])
    return any(len(texts) > 1 for texts in by_score.values())


def tokenizer_json(
    model: SentencePieceModel, added: Mapping[str, int], begin: int | None
) -> dict[str, Any]:
    """Give the ``tokenizer.json`` that has the same ids as ``model`` for every text.

    Special tokens that stand in a text are found as such, which SentencePiece does not do.

    Args:
        model: What :func:`read_sentencepiece` gave.
        added: Special tokens beyond the model's pieces, with their ids.
        begin: The id of the piece that stands before every text; None for none.
    """
    unknown = model.id_of("unk")
    assert unknown is not None
    special = {
        piece.text: id
        for id, piece in enumerate(model.pieces)
        if piece.kind in (PieceKind.UNKNOWN, PieceKind.CONTROL)
    }
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [_added(text, id) for text, id in (special | dict(added)).items()],
        "normalizer": _normalizer(model),
        "pre_tokenizer": None,
        "post_processor": None if begin is None else _template(model.pieces[begin].text, begin),
        "decoder": _decoder(model),
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": model.pieces[unknown].text,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": True,
            "byte_fallback": model.byte_fallback,
            "ignore_merges": False,
            "vocab": {piece.text: id for id, piece in enumerate(model.pieces)},
            "merges": _merges(model),
        },
    }


def _merges(model: SentencePieceModel) -> list[str]:
    """List every pair that joins to a piece, the best first.

    Where scores are equal, SentencePiece goes from left to right: a piece that has begun grows to
    its end before the next begins. Longer pieces first, longer left parts first do the same.
    """
    scores = {p.text: p.score for p in model.pieces if p.kind is PieceKind.NORMAL}
    return [
        f"{text[:at]} {text[at:]}"
        for text in sorted(scores, key=lambda text: (-scores[text], -len(text)))
        for at in range(len(text) - 1, 0, -1)
        if text[:at] in scores and text[at:] in scores
    ]


def _normalizer(model: SentencePieceModel) -> dict[str, Any]:
    steps: list[dict[str, Any]] = []
    if model.trims_spaces:
        # a marker that was typed counts as a space at the end, but not at the beginning
        steps += [
            _replace({"Regex": r"\A +"}, ""),
            _replace({"Regex": " {2,}"}, " "),
            _replace({"Regex": rf"[ {_SPACE}]+\z"}, ""),
        ]
    if model.dummy_prefix:
        steps.append({"type": "Prepend", "prepend": _SPACE})
    steps.append(_replace({"String": " "}, _SPACE))
    return {"type": "Sequence", "normalizers": steps}


def _decoder(model: SentencePieceModel) -> dict[str, Any]:
    steps = [_replace({"String": _SPACE}, " "), {"type": "ByteFallback"}, {"type": "Fuse"}]
    if model.dummy_prefix or model.trims_spaces:
        steps.append({"type": "Strip", "content": " ", "start": 1, "stop": 0})
    return {"type": "Sequence", "decoders": steps}


def _replace(pattern: dict[str, str], content: str) -> dict[str, Any]:
    return {"type": "Replace", "pattern": pattern, "content": content}


def _added(text: str, id: int) -> dict[str, Any]:
    return {
        "id": id,
        "content": text,
        "single_word": False,
        "lstrip": False,
        "rstrip": False,
        "normalized": False,  # found in the text as it was typed
        "special": True,
    }


def _template(begin: str, id: int) -> dict[str, Any]:
    """Put the begin-of-text token before every text."""

    def special(type_id: int) -> dict[str, Any]:
        return {"SpecialToken": {"id": begin, "type_id": type_id}}

    first, second = ({"Sequence": {"id": name, "type_id": n}} for n, name in enumerate("AB"))
    return {
        "type": "TemplateProcessing",
        "single": [special(0), first],
        "pair": [special(0), first, special(1), second],
        "special_tokens": {begin: {"id": begin, "ids": [id], "tokens": [begin]}},
    }
