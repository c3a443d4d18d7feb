"""Keeps a session as it goes on; a disk that fails is told once and costs no question."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from selfee_cli.chat import session_file
from selfee_cli.chat.session_file import SessionFile
from selfee_cli.chat.session_reader import Saved
from selfee_cli.protocol.chain import Chain, Turn


@dataclass(frozen=True, kw_only=True)
class Beginning:
    """What a session begins with."""

    model: Mapping[str, Any]
    settings: Mapping[str, Any]
    """All of them, in its first line."""
    set: Mapping[str, str]
    """Those that a reader set, which hold again when the session goes on."""


class Journal:
    """Writes the records of one session after the other.

    A file is made at its first record, so a session in which nothing was asked leaves none.
    """

    def __init__(
        self,
        folder: Path | None,
        *,
        begin: Callable[[], Beginning],
        complain: Callable[[str], None],
    ) -> None:
        """Prepare.

        Args:
            folder: Where the sessions lie; None: nothing is kept.
            begin: Gives what a session begins with when its file is made.
            complain: Told once why nothing is kept.
        """
        self._folder = folder
        self._begin = begin
        self._complain = complain
        self._file: SessionFile | None = None
        self._elsewhere: Sequence[Chain] = ()
        """What was said in a session that this one goes on from, in a file of its own."""
        self._cut_off = False
        """Whether the file's last chain still has to be ended."""

    @property
    def id(self) -> str | None:
        """The id of the session; None where it is not kept, or nothing was."""
        return self._file.id if self._file else None

    def resume(self, path: Path, saved: Saved, told: Callable[[str], None]) -> None:
        """Go on in the session at ``path``, which was read as ``saved``.

        Where it is open elsewhere, or no file of the sessions, the next record begins a copy.
        """
        self.close()
        if self._folder is None:
            return
        try:
            if path.parent.resolve() == self._folder.resolve():
                self._file = SessionFile.open(path)
                self._cut_off = saved.cut_off
                return
        except BlockingIOError:
            told(f"{path.stem} is open elsewhere: going on in a copy")
        except OSError as error:
            self._give_up(error)
            return
        self._elsewhere = tuple(saved.conversation.chains)

    def question(self, instruction: str, input: str | None, replaces: int = 0) -> None:
        """A question was asked in place of the last ``replaces``."""
        self._write(session_file.question(instruction, input, replaces))

    def turn(self, turn: Turn) -> None:
        """A turn has ended."""
        self._write(session_file.turn(turn))

    def chain(self, chain: Chain) -> None:
        """A chain has ended."""
        self._write(session_file.chain(chain), sync=True)

    def withdraw(self) -> None:
        """The last question was withdrawn: nothing of its chain is complete."""
        self._write(session_file.no_chain(), sync=True)

    def accept(self, turn: Turn) -> None:
        """The reader chose a result."""
        self._write(session_file.accept(turn.id), sync=True)

    def undo(self, count: int) -> None:
        """The last ``count`` questions were dropped."""
        self._write(session_file.undo(count), sync=True)

    def set(self, key: str, value: str) -> None:
        """A setting was changed. Before the first record it is part of the beginning."""
        if self._file is not None:
            self._write(session_file.setting(key, value))

    def close(self) -> None:
        """End the session; the next record begins another."""
        self._elsewhere, self._cut_off = (), False
        if self._file is not None:
            self._file.close()
            self._file = None

    def _write(self, record: Mapping[str, Any], *, sync: bool = False) -> None:
        if self._folder is None:
            return
        try:
            file = self._file or self._make(self._folder)
            if self._cut_off:
                self._cut_off = False
                file.write(session_file.no_chain())
            file.write(record)
            if sync:
                file.sync()
        except OSError as error:
            self._give_up(error)

    def _make(self, folder: Path) -> SessionFile:
        beginning = self._begin()
        self._file = file = SessionFile.create(folder, beginning.model, beginning.settings)
        for key, value in beginning.set.items():
            file.write(session_file.setting(key, value))
        file.copy(self._elsewhere)
        return file

    def _give_up(self, error: OSError) -> None:
        self._complain(f"this session is not kept: {error.strerror or error}")
        self.close()
        self._folder = None
