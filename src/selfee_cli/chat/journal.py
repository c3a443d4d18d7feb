"""Keeps a session as it goes on; a disk that fails is told once and costs no question."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
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
        self._owed: list[Mapping[str, Any]] = []
        """What its file still lacks, written before the next record: what was said in a session
        that this one goes on from, how the last chain ended, which settings hold."""

    @property
    def id(self) -> str | None:
        """The id of the session; None where it is not kept, or nothing was."""
        return self._file.id if self._file else None

    @property
    def awaits_file(self) -> bool:
        """Whether the next record makes a file."""
        return self._folder is not None and self._file is None

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
                self._owed = [*_cured(saved)]
                return
        except BlockingIOError:
            told(f"{path.stem} is open elsewhere: going on in a copy")
        except OSError as error:
            self._give_up(error)
            return
        self._owed = [*session_file.copied(saved.conversation.chains)]

    def question(self, instruction: str, input: str | None, replaces: int = 0) -> None:
        """A question was asked in place of the last ``replaces``."""
        self._write(session_file.question(instruction, input, replaces))

    def turn(self, turn: Turn, sampling: Mapping[str, Any]) -> None:
        """A turn has ended that was sampled so."""
        self._write(session_file.turn(turn, sampling))

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

    def carry(self, values: Mapping[str, str]) -> None:
        """Settings hold that were made in another session: with the next record they are told.

        A file that is yet to be made has them in its beginning.
        """
        if self._file is not None:
            self._owed += [session_file.setting(key, value) for key, value in values.items()]

    def close(self) -> None:
        """End the session; the next record begins another."""
        self._owed = []
        if self._file is not None:
            self._file.close()
            self._file = None

    def _write(self, record: Mapping[str, Any], *, sync: bool = False) -> None:
        if self._folder is None:
            return
        try:
            file = self._file or self._make(self._folder)
            owed, self._owed = self._owed, []
            for each in (*owed, record):
                file.write(each)
            if sync or owed:
                file.sync()
        except OSError as error:
            self._give_up(error)

    def _make(self, folder: Path) -> SessionFile:
        beginning = self._begin()
        self._file = file = SessionFile.create(folder, beginning.model, beginning.settings)
        for key, value in beginning.set.items():
            file.write(session_file.setting(key, value))
        return file

    def _give_up(self, error: OSError) -> None:
        self._complain(f"this session is not kept: {error.strerror or error}")
        self.close()
        self._folder = None


def _cured(saved: Saved) -> Iterator[Mapping[str, Any]]:
    """Yield the records that make a file say what was read from it, whatever had happened to it."""
    if saved.cut_off:
        yield session_file.no_chain()
    if saved.mending is not None:
        yield session_file.undo(saved.mending.undo)
        yield from session_file.copied(saved.mending.chains)
