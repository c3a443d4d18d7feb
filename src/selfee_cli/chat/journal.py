"""Keeps a session as it goes on; a disk that fails is told once and costs no question."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from selfee_cli.chat import session_file
from selfee_cli.chat.session_file import SessionFile
from selfee_cli.protocol.chain import Chain, Turn


class Journal:
    """Writes the records of one session after the other.

    The file is made at the first record, so a session in which nothing was asked leaves none.
    """

    def __init__(
        self,
        folder: Path | None,
        *,
        header: Callable[[], tuple[Mapping[str, Any], Mapping[str, Any]]],
        complain: Callable[[str], None],
    ) -> None:
        """Prepare.

        Args:
            folder: Where the sessions lie; None: nothing is kept.
            header: Gives the model and the settings that the session begins with.
            complain: Told once why nothing is kept.
        """
        self._folder = folder
        self._header = header
        self._complain = complain
        self._file: SessionFile | None = None

    @property
    def id(self) -> str | None:
        """The id of the session; None where it is not kept, or nothing was."""
        return self._file.id if self._file else None

    def resume(self, path: Path, chains: Sequence[Chain], told: Callable[[str], None]) -> None:
        """Go on in the session at ``path``, which holds ``chains``.

        In a copy of it where it is open elsewhere, or no file of the sessions.
        """
        self.close()
        if self._folder is None:
            return
        try:
            if path.parent.resolve() == self._folder.resolve():
                try:
                    self._file = SessionFile.open(path)
                    return
                except BlockingIOError:
                    told(f"{path.stem} is open elsewhere: going on in a copy")
            self._file = SessionFile.create(self._folder, *self._header())
            self._file.copy(chains)
        except OSError as error:
            self._give_up(error)

    def question(self, instruction: str, input: str | None, replaces: int = 0) -> None:
        """A question was asked in place of the last ``replaces``."""
        self._write(session_file.question(instruction, input, replaces))

    def turn(self, turn: Turn) -> None:
        """A turn has ended."""
        self._write(session_file.turn(turn))

    def chain(self, chain: Chain) -> None:
        """A chain has ended."""
        self._write(session_file.chain(chain), sync=True)

    def accept(self, turn: Turn) -> None:
        """The reader chose a result."""
        self._write(session_file.accept(turn.id), sync=True)

    def undo(self, count: int) -> None:
        """The last ``count`` questions were dropped."""
        self._write({"type": "undo", "count": count}, sync=True)

    def set(self, key: str, value: str) -> None:
        """A setting was changed. Before the first question it is in the header's settings."""
        if self._file is not None:
            self._write({"type": "set", "key": key, "value": value})

    def close(self) -> None:
        """End the session; the next record begins another."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _write(self, record: Mapping[str, Any], *, sync: bool = False) -> None:
        if self._folder is None:
            return
        try:
            if self._file is None:
                self._file = SessionFile.create(self._folder, *self._header())
            self._file.write(record)
            if sync:
                self._file.sync()
        except OSError as error:
            self._give_up(error)

    def _give_up(self, error: OSError) -> None:
        self._complain(f"this session is not kept: {error.strerror or error}")
        self.close()
        self._folder = None
