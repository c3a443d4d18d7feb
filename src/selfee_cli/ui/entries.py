"""Where a session's entries come from: an edited prompt, a plain terminal, a script."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import Protocol, TextIO

from selfee_cli.ui.console import printable
from selfee_cli.ui.signals import interrupts

PROMPT, CONTINUATION, FENCE = ">>> ", "... ", '"""'
_LONGEST_LINE = 4095  # bytes that a terminal passes on of a line


class Cleared(KeyboardInterrupt):
    """Ctrl-C at a prompt, where ``text`` stood."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text


class Entries(Protocol):
    """A source of entries."""

    def next(self, beginning: str = "") -> str | None:
        """Return the next entry; None where there will be no more.

        ``beginning`` stands in the prompt already, where there is one.

        Raises:
            Cleared: Ctrl-C.
        """
        ...


class ScriptEntries:
    """Standard input that is no terminal: an entry a line, or several between fences."""

    def __init__(self) -> None:
        self._blocks = _blocks(_without_mark(iter(_read_line, None)))

    def next(self, beginning: str = "") -> str | None:
        """Return the next line or block; a beginning is what a script cannot edit."""
        try:
            with interrupts(raised=True):
                return next(self._blocks, None)
        except KeyboardInterrupt:
            raise Cleared("") from None


class PlainEntries:
    """A terminal without cursor codes: a prompt, and the line as the terminal edits it."""

    def __init__(self, screen: TextIO, say: Callable[[str], None]) -> None:
        self._screen = screen
        self._say = say
        self._prompt = PROMPT

    def next(self, beginning: str = "") -> str | None:
        """Return the next line or block, added to the ``beginning``, which may have fences."""
        stands = "\n".join(line for line in beginning.split("\n") if line.strip() != FENCE)
        try:
            with interrupts(raised=True):
                block = self._block(stands)
                while block is None and stands and sys.stdin.isatty():  # the line is not empty
                    block = self._block(stands)
        except KeyboardInterrupt:
            self._screen.write("\n")
            raise Cleared(beginning) from None
        return None if block is None else stands + block

    def _block(self, stands: str) -> str | None:
        self._prompt = PROMPT + printable(stands).replace("\n", f"\n{CONTINUATION}")
        return next(_blocks(iter(self._line, None)), None)

    def _line(self) -> str | None:
        self._screen.write(self._prompt)
        self._screen.flush()
        self._prompt = CONTINUATION
        line = _read_line()
        if line is None:
            self._screen.write("\n")
        elif len(line.encode()) >= _LONGEST_LINE:
            self._say(f"the terminal cuts lines at {_LONGEST_LINE} bytes: some may be missing")
        return line


def _read_line() -> str | None:
    raw = sys.stdin.buffer.readline()
    return raw.decode("utf-8", "replace").rstrip("\r\n") if raw else None


def _without_mark(lines: Iterator[str]) -> Iterator[str]:
    """Yield the lines without the byte order mark that some editors begin a file with."""
    for first in lines:
        yield first.removeprefix("\ufeff")
        yield from lines


def _blocks(lines: Iterator[str]) -> Iterator[str]:
    """Join the lines between two fences; an open fence ends with the input."""
    block: list[str] | None = None
    for line in lines:
        if line.strip() == FENCE:
            if block is not None:
                yield "\n".join(block)
            block = [] if block is None else None
        elif block is not None:
            block.append(line)
        else:
            yield line
    if block:
        yield "\n".join(block)
