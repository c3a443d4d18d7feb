"""A session on disk: one JSON record a line, only ever appended to.

::

    {"type": "session", "schema": "selfee.session/1", "id": …, "model": {…}, "settings": {…}}
    {"type": "question", "text": …, "input": …, "replaces": 0}
    {"type": "turn", …, "sampling": {…}}    a turn as in `ask --json`, when it has ended
    {"type": "chain", "final": …, "stop_reason": …, "usage": {…}, "model": {…}}
    {"type": "set" | "accept" | "undo", …}

The first line's settings are those that the session began with, for people and programs to read;
the ``set`` records are those that hold again when it goes on. A chain has the model that wrote it,
for a session may go on with another than it began with. A turn takes its place in the last
question's chain, and a complete one ends what stood after it; so a chain that was revised again
needs no record of its own. A turn says how it was sampled, for a process may be killed before the
chain's end does. A chain whose ``final`` is null was not brought to its end: where nothing of it
is complete, its question is withdrawn. A file that was cut off at any byte is a session up to its
last whole line.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from selfee_cli.folders import make_private
from selfee_cli.protocol.chain import Chain, StopReason, Turn
from selfee_cli.protocol.grammar import TurnId

SCHEMA = "selfee.session/1"


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
        make_private(folder)
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


def turn(turn: Turn, sampling: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return the record of a turn, and how it was sampled: its chain's end may not be written."""
    record = {"type": "turn", **turn.to_json()}
    return record | ({"sampling": dict(sampling)} if sampling else {})


def chain(chain: Chain) -> dict[str, Any]:
    """Return the record of a chain's end; its turns have theirs."""
    whole = chain.to_json()
    kept = ("final", "final_turn", "stop_reason", "usage", "timing", "sampling", "model")
    return {"type": "chain", **{name: whole[name] for name in kept}}


def no_chain() -> dict[str, Any]:
    """Return the record of a chain that ended before anything was complete, or was never ended.

    A question without anything complete is withdrawn.
    """
    stop = StopReason.INTERRUPTED.value
    return {"type": "chain", "final": None, "final_turn": None, "stop_reason": stop, "usage": {}}


def accept(id: TurnId) -> dict[str, Any]:
    """Return the record of a choice of the result."""
    return {"type": "accept", "kind": id.kind.value, "index": id.index}


def undo(count: int) -> dict[str, Any]:
    """Return the record that the last ``count`` questions were dropped."""
    return {"type": "undo", "count": count}


def copied(chains: Sequence[Chain]) -> Iterator[dict[str, Any]]:
    """Yield the records of chains that were written elsewhere."""
    for each in chains:
        yield question(each.instruction, each.input)
        yield from map(turn, each.turns)
        yield chain(each)
        if each.accepted is not None:
            yield accept(each.accepted)


def setting(key: str, value: str) -> dict[str, Any]:
    """Return the record of a changed setting."""
    return {"type": "set", "key": key, "value": value}
