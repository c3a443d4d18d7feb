"""Reads a session back, whatever happened to its file.

A line that is damaged costs what it said and nothing else; records of an unknown type, which a
later version may write, are passed over in silence.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from selfee_cli.chat.conversation import Conversation
from selfee_cli.errors import NotFoundError, SelfeeError, UsageError
from selfee_cli.protocol.chain import Chain, StopReason
from selfee_cli.protocol.grammar import ANSWER, TurnId, TurnKind
from selfee_cli.protocol.records import read_records, read_turn_json

_UNNAMED = "tiny"
"""What ``--model`` stands for where nothing names one."""

_BEGINNING = b'{"type": "session", '
_UNREADABLE = (
    AttributeError,
    KeyError,
    OverflowError,
    RecursionError,
    TypeError,
    UsageError,
    ValueError,
)
"""What a line that is no record, or one that makes no sense where it stands, may raise."""


@dataclass(kw_only=True)
class Saved:
    """A session as it was read back."""

    id: str
    conversation: Conversation = field(default_factory=Conversation)
    settings: dict[str, str] = field(default_factory=dict)
    """What ``/set`` last said, by name."""
    model: Mapping[str, Any] = field(default_factory=dict)
    model_name: str | None = None
    """What ``--model`` was when it began; None: its file does not say."""
    damaged: int = 0
    """Lines that could not be read."""
    cut_off: bool = False
    """Whether the end of the last chain was never written: the process was killed meanwhile."""

    @property
    def notice(self) -> str | None:
        """What a reader should be told of its state."""
        if not self.damaged:
            return None
        return f"{self.damaged} damaged line{'s were' if self.damaged > 1 else ' was'} skipped"

    def notices(self, model: str | None) -> list[str]:
        """Return what a reader should be told who goes on with ``model``, a ``--model`` or none."""
        count = len(self.conversation.chains)
        so_far = f"{count} question{'s' * (count != 1)} so far"
        return [*([self.notice] if self.notice else []), so_far, *self._other_model(model)]

    def _other_model(self, model: str | None) -> list[str]:
        held, now = self.model_name, model or _UNNAMED
        if held is None or Path(held).expanduser() == Path(now).expanduser():
            return []
        return [f"it was held with --model {shlex.quote(held)} and goes on with another"]


def read(path: Path) -> Saved:
    """Read a session, or chains that were saved as JSON.

    Raises:
        NotFoundError: there is no such file.
        SelfeeError: it cannot be read, or holds neither.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise NotFoundError(f"no session {path}", hint="selfee chat --sessions") from error
    except OSError as error:
        raise SelfeeError(f"cannot read {path}: {error.strerror}") from error
    if is_session(data):
        return parse(data, path.stem)
    records = read_records(data.decode("utf-8", "replace"), source=str(path))
    return Saved(id=path.stem, conversation=Conversation([each.chain for each in records]))


def is_session(data: bytes) -> bool:
    """Whether a file is a session, damaged or not: one of its first lines says so.

    Of a file that was cut off there may be less than a line, or nothing.
    """
    if _BEGINNING.startswith(data[: len(_BEGINNING)]):
        return True
    for line in data.split(b"\n", 8)[:8]:
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(record, dict) and record.get("type") in ("session", "question"):
            return True
    return False


def parse(data: bytes, id: str) -> Saved:
    """Return the session that ``data`` records; damaged lines are counted and skipped."""
    reader = _Reader(Saved(id=id))
    for line in data.split(b"\n"):
        if not line.strip():
            continue
        try:
            reader.take(json.loads(line.decode("utf-8")))
        except _UNREADABLE:
            reader.saved.damaged += 1
    reader.saved.cut_off = reader.close()
    return reader.saved


class _Reader:
    """Does again what the records say was done."""

    def __init__(self, saved: Saved) -> None:
        self.saved = saved
        self._talk = saved.conversation
        self._lost = False
        """Whether the records belong to a question whose line is damaged."""

    def take(self, record: Mapping[str, Any]) -> None:
        """Take a record; raise one of ``_UNREADABLE`` where it makes no sense."""
        kind = record.get("type")
        if self._lost and kind in ("turn", "chain", "accept"):
            raise UsageError("its question is lost")
        match kind:
            case "session":
                self.saved.model = dict(record["model"])
                self.saved.model_name = _model_name(record.get("settings"))
            case "question":
                self._question(record)
            case "turn":
                self._turn(record)
            case "chain":
                self._talk.end(self._end(record))
            case "accept":
                kind = TurnKind(record["kind"])
                self._talk.accept(TurnId(kind, int(record["index"])).index)
            case "undo":
                count = int(record["count"]) - self._lost
                self._lost = False
                self._talk.undo(count)
            case "set":
                self.saved.settings[_text(record["key"])] = _text(record["value"])

    def _question(self, record: Mapping[str, Any]) -> None:
        text = _text(record["text"])
        input = None if record.get("input") is None else _text(record["input"])
        replaces = int(record.get("replaces", 0)) - self._lost
        self._lost = False
        self.close()
        replaces = max(0, min(replaces, len(self._talk.chains)))
        self._talk.begin(text, input, replaces=replaces)

    def _turn(self, record: Mapping[str, Any]) -> None:
        turn = read_turn_json(record)
        if turn.id == ANSWER and self._talk.last.turns:  # a chain has one answer
            self._lost = True
            raise UsageError("its question is lost")
        self._talk.add(turn)

    def _end(self, record: Mapping[str, Any]) -> Chain:
        stop = record["stop_reason"]
        return Chain(
            instruction="",
            turns=self._talk.last.turns,
            stop_reason=StopReason(stop) if stop else None,
            usage=dict(record["usage"]),
            timing=dict(record.get("timing", {})),
            sampling=dict(record.get("sampling", {})),
            model=dict(record.get("model") or self.saved.model),
        )

    def close(self) -> bool:
        """End a chain whose end was never written; whether there was one."""
        if not self._talk.chains or self._talk.last.stop_reason is not None:
            return False
        last = self._talk.last
        ended = Chain(
            instruction="",
            turns=last.turns,
            stop_reason=StopReason.INTERRUPTED,
            model=last.model or self.saved.model,
        )
        self._talk.end(ended)
        return True


def _model_name(settings: object) -> str | None:
    """Return what ``--model`` was by the settings of a session's first line."""
    if not isinstance(settings, Mapping) or "model" not in settings:
        return None
    return _text(settings["model"] or _UNNAMED)


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is no text")
    return value
