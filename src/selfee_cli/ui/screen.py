"""Where the parts of a session are written: it depends on which ends are terminals."""

from __future__ import annotations

from enum import StrEnum

from selfee_cli.ui.console import Console, Style, printable


class Mode(StrEnum):
    """What a session talks through."""

    FULL = "full"
    """A terminal at both ends."""
    PLAIN = "plain"
    """No colour, no cursor codes."""
    SCRIPT = "script"
    """Entries come from a file or a pipe."""


class Screen:
    """Standard output is data: where it is no terminal, a reader looks at standard error."""

    def __init__(self, console: Console, mode: Mode) -> None:
        self.console = console
        self.mode = mode
        self.results_apart = mode is Mode.SCRIPT or not console.out.isatty()
        """Whether final answers go to standard output alone, and the chain elsewhere."""
        self.stream = console.err if self.results_apart else console.out
        """What a reader looks at."""
        seen = console.style(self.stream)
        self.style = Style(color=mode is Mode.FULL and seen.color, unicode=seen.unicode)

    def chain(self, text: str) -> None:
        """Write a part of a chain."""
        if self.results_apart:
            self.console.tell(text)
        else:
            self.console.write(text)

    def output(self, text: str) -> None:
        """Write what a command prints, which in a script is data."""
        if self.mode is Mode.SCRIPT:
            self.console.write(text)
        else:
            self.chain(text)

    def result(self, text: str) -> None:
        """Write a final answer, where answers go apart."""
        if self.results_apart:
            self.console.line(printable(text))
