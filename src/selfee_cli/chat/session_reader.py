"""Reads a session back, whatever happened to its file.

A line that is damaged costs what it said and nothing else; records of an unknown type, which a
later version may write, are passed over in silence.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from selfee_cli.chat.conversation import LIMITS, Conversation
from selfee_cli.errors import NotFoundError, SelfeeError, UsageError
from selfee_cli.paths import expanded
from selfee_cli.protocol.chain import Chain, StopReason
from selfee_cli.protocol.fields import choice, figures, optional, within
from selfee_cli.protocol.grammar import ANSWER, TurnId, TurnKind
from selfee_cli.protocol.records import read_records, read_turn_json

_UNNAMED = "tiny"
"""What ``--model`` stands for where nothing names one."""

_BEGINNING = b'{"type": "session", '
_FIRST = ("session", "question", "set")
"""The records that a session, or what follows its torn first line, begins with."""
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


@dataclass(frozen=True, kw_only=True)
class Mending:
    """What a file must be told before it is written on, where the line of a question is lost.

    Its later records would count that question with the others, as those before them do.
    """

    undo: int
    """How many questions there are, the first that is lost and all after it."""
    chains: tuple[Chain, ...]
    """Those of them that are not lost."""


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
    mending: Mending | None = None
    """None where no question is lost."""
    limits_set: bool = False
    """Whether one of ``LIMITS`` was set since the last chain."""

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
        if held is None or _same_path(held, now):
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
    if _BEGINNING.startswith(data[: len(_BEGINNING)].rstrip(b"\n")):
        return True
    for line in data.split(b"\n", 8)[:8]:
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(record, dict) and record.get("type") in _FIRST:
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
    reader.finish()
    return reader.saved


class _Reader:
    """Does again what the records say was done."""

    def __init__(self, saved: Saved) -> None:
        self.saved = saved
        self._talk = saved.conversation
        self._open = False
        """Whether the end of the last chain, or of what was added to it, is still to come."""
        self._sampling: dict[str, Any] = {}
        """How the turns after that end were sampled, as far as their records say."""

    @property
    def _lost(self) -> bool:
        """Whether the last question is one whose line, or whose answer's, is damaged.

        Without a turn it stands in the conversation till the end, for later records count it.
        """
        return bool(self._talk.chains) and not self._open and not self._talk.last.turns

    def take(self, record: Mapping[str, Any]) -> None:
        """Take a record; raise one of ``_UNREADABLE`` where it makes no sense."""
        match record.get("type"):
            case "session":
                self.saved.model = dict(record["model"])
                self.saved.model_name = _model_name(record.get("settings"))
            case "question":
                self._question(record)
            case "turn":
                self._turn(record)
            case "chain":
                self._chain(record)
            case "accept":
                self._accept(record)
            case "undo":
                count = int(record["count"])
                self.close()
                self._talk.undo(count)
            case "set":
                key, value = _text(record["key"]), _text(record["value"])
                self.saved.settings[key] = value
                self.saved.limits_set |= key in LIMITS

    def _question(self, record: Mapping[str, Any]) -> None:
        text = _text(record["text"])
        input = None if record.get("input") is None else _text(record["input"])
        replaces = int(record.get("replaces", 0))
        self.close()
        replaces = max(0, min(replaces, len(self._talk.chains)))
        self._talk.begin(text, input, replaces=replaces)
        self._open, self._sampling, self.saved.limits_set = True, {}, False

    def _turn(self, record: Mapping[str, Any]) -> None:
        turn, sampling = read_turn_json(record), _sampling(record)
        if turn.id == ANSWER and not self._awaits_answer:
            self.close()
            self._talk.begin("", None)
        if self._lost:
            raise UsageError("its question is lost")
        self._talk.add(turn)
        self._open, self._sampling = True, sampling or self._sampling
        self.saved.limits_set = False

    @property
    def _awaits_answer(self) -> bool:
        """Whether an answer may come: a chain has one."""
        return self._open and not self._talk.last.turns

    def _accept(self, record: Mapping[str, Any]) -> None:
        kind = TurnKind(record["kind"])
        if self._lost:
            raise UsageError("its question is lost")
        self._talk.accept(TurnId(kind, int(record["index"])).index)

    def _chain(self, record: Mapping[str, Any]) -> None:
        ended = Chain(
            instruction="",
            turns=(),
            stop_reason=choice(record, "stop_reason", StopReason),
            usage=figures(record, "usage", int),
            timing=figures(record, "timing", float),
            sampling=_sampling(record),
            model=optional(record, "model", dict) or {},
        )
        withdraws = record["final"] is None
        if self._lost:
            if withdraws:
                self._talk.withdraw()
            raise UsageError("its question is lost")
        if self._open and not withdraws and not self._talk.last.turns:
            self._open = False  # its answer is lost, and with it all that follows
        elif self._open or not withdraws:  # else it withdraws a question that is lost
            self._end(ended, cut_short=not withdraws)

    def _end(self, ended: Chain, *, cut_short: bool = False) -> None:
        sampling = ended.sampling or self._sampling
        model = ended.model or self._talk.last.model or self.saved.model
        self._open, self._sampling = False, {}
        self._talk.end(replace(ended, sampling=sampling, model=model), cut_short=cut_short)

    def close(self) -> bool:
        """End a chain whose end was never written; whether there was one."""
        was_open = self._open
        if was_open:
            self._end(Chain(instruction="", turns=(), stop_reason=StopReason.INTERRUPTED))
        return was_open

    def finish(self) -> None:
        """Take note of how the file ends, and let go of what is lost."""
        self.saved.cut_off = self.close()
        chains = self._talk.chains
        lost = [number for number, chain in enumerate(chains) if not chain.turns]
        if lost:
            after = tuple(chain for chain in chains[lost[0] :] if chain.turns)
            self.saved.mending = Mending(undo=len(chains) - lost[0], chains=after)
            kept = [chain for chain in chains if chain.turns]
            self.saved.conversation = Conversation(kept)


def _sampling(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return how a chain was sampled, as far as the record says."""
    sampling: dict[str, Any] = optional(record, "sampling", dict) or {}
    with within("sampling"):
        for name in ("seed", "min_revisions", "max_revisions"):
            optional(sampling, name, int)
    return sampling


def _same_path(one: str, other: str) -> bool:
    """Whether two values of ``--model`` name one place."""
    try:
        return expanded(Path(one)) == expanded(Path(other))
    except (NotFoundError, ValueError):
        return one == other


def _model_name(settings: object) -> str | None:
    """Return what ``--model`` was by the settings of a session's first line."""
    if not isinstance(settings, Mapping) or "model" not in settings:
        return None
    return _text(settings["model"] or _UNNAMED)


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is no text")
    return value
