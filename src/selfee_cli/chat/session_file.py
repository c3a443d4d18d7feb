"""A session on disk: one JSON record a line, only ever appended to.

::

    {"type": "session", "schema": "selfee.session/1", "id": …, "model": {…}, "settings": {…}}
    {"type": "question", "text": …, "input": …, "replaces": 0}
    {"type": "turn", …}      the fields of a turn in `ask --json`, as each turn ends
    {"type": "chain", "final": …, "stop_reason": …, "usage": {…}}
    {"type": "set" | "accept" | "undo", …}

A turn takes its place in the last question's chain, and a complete one ends what stood after it;
so a chain that was revised again needs no record of its own. A file that was cut off at any byte
is a session up to its last whole line.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from selfee_cli.chat.conversation import Conversation
from selfee_cli.errors import NotFoundError, SelfeeError, UsageError
from selfee_cli.protocol.chain import Chain, StopReason, Turn
from selfee_cli.protocol.grammar import TurnId, TurnKind
from selfee_cli.protocol.records import read_records, read_turn_json

SCHEMA = "selfee.session/1"


@dataclass(kw_only=True)
class Saved:
    """A session as it was read back."""

    id: str
    conversation: Conversation = field(default_factory=Conversation)
    settings: dict[str, str] = field(default_factory=dict)
    """What ``/set`` last said, by name."""
    model: Mapping[str, Any] = field(default_factory=dict)
    damaged: int = 0
    """Lines that could not be read."""


class SessionFile:
    """The file of a running session, locked against a second one."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self._descriptor = descriptor

    @property
    def id(self) -> str:
        """The session's name."""
        return self.path.stem

    @staticmethod
    def create(folder: Path, model: Mapping[str, Any], settings: Mapping[str, Any]) -> SessionFile:
        """Begin a session in ``folder``, which is made where it is missing.

        Raises:
            OSError: it cannot be written.
        """
        _make_private(folder)
        file = SessionFile.open(folder / f"{new_id()}.jsonl", new=True)
        header = {"type": "session", "schema": SCHEMA, "id": file.id}
        made = time.strftime("%Y-%m-%dT%H:%M:%S%z")
        file.write(header | {"created": made, "model": dict(model), "settings": dict(settings)})
        return file

    @staticmethod
    def open(path: Path, *, new: bool = False) -> SessionFile:
        """Open a session to add to it.

        Raises:
            BlockingIOError: another process has it open.
            OSError: it cannot be written.
        """
        flags = os.O_RDWR | os.O_APPEND | os.O_CLOEXEC | (os.O_CREAT | os.O_EXCL if new else 0)
        descriptor = os.open(path, flags, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            size = os.fstat(descriptor).st_size
            if size and os.pread(descriptor, 1, size - 1) != b"\n":
                os.write(descriptor, b"\n")  # what was torn off stays a line of its own
        except BaseException:
            os.close(descriptor)
            raise
        return SessionFile(path, descriptor)

    def copy(self, chains: Sequence[Chain]) -> None:
        """Write the records of what was said elsewhere."""
        for each in chains:
            self.write(question(each.instruction, each.input))
            for part in each.turns:
                self.write(turn(part))
            self.write(chain(each))
            if each.accepted is not None:
                self.write(accept(each.accepted))
        self.sync()

    def write(self, record: Mapping[str, Any]) -> None:
        """Add a record, in one write."""
        data = json.dumps(record, ensure_ascii=False).encode("utf-8", "replace") + b"\n"
        while data:  # a full disk and a signal write less
            data = data[os.write(self._descriptor, data) :]

    def sync(self) -> None:
        """Make what was written outlive a power cut."""
        os.fsync(self._descriptor)

    def close(self) -> None:
        """Give the session free for others."""
        os.close(self._descriptor)


def new_id() -> str:
    """Return the name of a session that begins now."""
    return f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}"


# -- records ---------------------------------------------------------------------------------


def question(instruction: str, input: str | None, replaces: int = 0) -> dict[str, Any]:
    """Return the record of a question that takes the place of the last ``replaces``."""
    record: dict[str, Any] = {"type": "question", "text": instruction, "input": input}
    return record | ({"replaces": replaces} if replaces else {})


def turn(turn: Turn) -> dict[str, Any]:
    """Return the record of a turn."""
    return {"type": "turn", **turn.to_json()}


def chain(chain: Chain) -> dict[str, Any]:
    """Return the record of a chain's end; its turns have theirs."""
    whole = chain.to_json()
    kept = ("final", "final_turn", "stop_reason", "usage", "timing", "sampling")
    return {"type": "chain", **{name: whole[name] for name in kept}}


def accept(id: TurnId) -> dict[str, Any]:
    """Return the record of a choice of the result."""
    return {"type": "accept", "kind": id.kind.value, "index": id.index}


# -- reading ---------------------------------------------------------------------------------


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
    """Whether a file is a session, damaged or not: one of its first lines says so."""
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
    saved = Saved(id=id)
    for line in data.split(b"\n"):
        if not line.strip():
            continue
        try:
            _take(saved, json.loads(line.decode("utf-8")))
        except (KeyError, TypeError, ValueError, AttributeError, UsageError, RecursionError):
            saved.damaged += 1
    _close_last(saved.conversation)
    return saved


def _take(saved: Saved, record: Mapping[str, Any]) -> None:
    """Do again what a record says was done."""
    talk = saved.conversation
    match record.get("type"):
        case "session":
            saved.model = dict(record["model"])
        case "question":
            _close_last(talk)
            input = record.get("input")
            if not isinstance(record["text"], str) or not isinstance(input, str | None):
                raise TypeError("a question is text")
            replaces = min(int(record.get("replaces", 0)), len(talk.chains))
            talk.begin(record["text"], input, replaces=max(0, replaces))
        case "turn":
            talk.add(read_turn_json(record))
        case "chain":
            stop = record["stop_reason"]
            ended = Chain(
                instruction="",
                turns=talk.last.turns,
                stop_reason=StopReason(stop) if stop else None,
                usage=dict(record["usage"]),
                timing=dict(record["timing"]),
                sampling=dict(record["sampling"]),
                model=saved.model,
            )
            talk.end(ended)
        case "accept":
            kind = TurnKind(record["kind"])
            talk.accept(TurnId(kind, int(record["index"])).index)
        case "undo":
            talk.undo(int(record["count"]))
        case "set":
            saved.settings[str(record["key"])] = str(record["value"])


def _close_last(talk: Conversation) -> None:
    """End a chain whose end was never written: the process was killed meanwhile."""
    if talk.chains and talk.last.stop_reason is None:
        talk.end(Chain(instruction="", turns=talk.last.turns, stop_reason=StopReason.INTERRUPTED))


# -- many ------------------------------------------------------------------------------------


def find(name: str, folder: Path) -> Path:
    """Return the file of a session: a path, an id, or an id's beginning that only one has.

    Raises:
        NotFoundError: there is none.
        UsageError: there are several.
    """
    path = Path(name).expanduser()
    if path.suffix and path.is_file():
        return path
    matches = sorted(folder.glob("*.jsonl")) if folder.is_dir() else []
    matches = [each for each in matches if each.stem.startswith(name)]
    if not matches:
        raise NotFoundError(f"no session {name}", hint="selfee chat --sessions lists them")
    exact = [each for each in matches if each.stem == name]
    if len(exact or matches) > 1:
        raise UsageError(f"{len(matches)} sessions begin with {name}", hint="give more of the id")
    return (exact or matches)[0]


def newest(folder: Path) -> list[Path]:
    """Return the session files, the one written to last first."""
    if not folder.is_dir():
        return []
    dated = [(path.stat().st_mtime_ns, path.name, path) for path in folder.glob("*.jsonl")]
    return [path for *_, path in sorted(dated, reverse=True)]


def _make_private(folder: Path) -> None:
    """Make a folder and what is missing above it, for its owner alone."""
    missing = [each for each in (folder, *folder.parents) if not each.exists()]
    for each in reversed(missing):
        each.mkdir(mode=0o700, exist_ok=True)
