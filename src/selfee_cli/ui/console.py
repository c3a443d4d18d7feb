"""The one sink: standard output is data, standard error is talk."""

from __future__ import annotations

import locale
import os
import sys
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

_CODES = {
    "bold": "1",
    "dim": "2",
    "red": "31",
    "green": "32",
    "yellow": "33",
    "blue": "34",
    "cyan": "36",
}


@dataclass(frozen=True)
class Style:
    """What a stream can show: colour or none, and which signs its encoding has."""

    color: bool
    unicode: bool

    def paint(self, text: str, *names: str) -> str:
        """Return ``text`` in the named styles; as it is where there is no colour."""
        if not self.color or not text:
            return text
        codes = ";".join(_CODES[name] for name in names)
        return f"\x1b[{codes}m{text}\x1b[0m"

    @property
    def rule(self) -> str:
        """What opens the line of a turn's title."""
        return "──" if self.unicode else "--"

    @property
    def dot(self) -> str:
        """What separates the parts of a status line."""
        return "·" if self.unicode else "-"


def _standard(name: str) -> TextIO:
    """Return a stream of ``sys``; where it is closed (``>&-``), nothing comes out of it."""
    if getattr(sys, name) is None:
        nowhere = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115  (to the end)
        setattr(sys, name, nowhere)
    stream: TextIO = getattr(sys, name)
    return stream


@dataclass
class Console:
    """Where output goes and how much of it there is."""

    out: TextIO = field(default_factory=lambda: _standard("stdout"))
    err: TextIO = field(default_factory=lambda: _standard("stderr"))
    quiet: bool = False
    verbose: bool = False
    debug: bool = False
    no_color: bool = False

    def style(self, stream: TextIO) -> Style:
        """Return what ``stream`` can show (https://no-color.org, https://force-color.org).

        Python writes UTF-8 in the C locale too, whose terminals need not know it.
        """
        knows_signs = _is_unicode(_encoding(stream)) and _is_unicode(locale.getencoding())
        return Style(color=self._color(stream), unicode=knows_signs)

    def _color(self, stream: TextIO) -> bool:
        if self.no_color or os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
            return False
        return bool(os.environ.get("FORCE_COLOR")) or stream.isatty()

    def write(self, text: str) -> None:
        """Write data, at once."""
        _write(self.out, text)

    def line(self, text: str) -> None:
        """Write one line of data."""
        self.write(text + "\n")

    def json(self, value: object) -> None:
        """Write one line of JSON, in ASCII where the stream's encoding does not have every sign."""
        import json

        text = json.dumps(value, ensure_ascii=not _is_unicode(_encoding(self.out)))
        self.line("".join(map(_json_escaped, text)) if not text.isprintable() else text)

    def tell(self, text: str) -> None:
        """Write talk as it is, unless the user asked for quiet."""
        if not self.quiet:
            write_talk(self.err, text)

    def say(self, text: str) -> None:
        """Tell the user something in a line, unless they asked for quiet."""
        self.tell(printable(text) + "\n")

    def explain(self, text: str) -> None:
        """Tell the user more than most want to know."""
        if self.verbose:
            self.say(text)

    def complain(self, message: str, hint: str | None) -> None:
        """Print an error: one line what is wrong, one line what to do."""
        style = self.style(self.err)
        write_talk(self.err, style.paint("error:", "bold", "red") + f" {printable(message)}\n")
        if hint:
            write_talk(self.err, style.paint("hint:", "bold", "cyan") + f" {printable(hint)}\n")


def write_talk(stream: TextIO, text: str) -> None:
    """Write what the work does not depend on: where the stream takes none, it is lost.

    Its disk may be full, or its reader gone. From then on nothing more comes out of it: what
    is left in its buffer would fail at the end of the process once more, and change its exit code.
    """
    try:
        _write(stream, text)
    except OSError:
        with suppress(OSError), Path(os.devnull).open("wb") as nowhere:
            os.dup2(nowhere.fileno(), stream.fileno())


def printable(text: str) -> str:
    """Return ``text`` with control characters other than newline and tab made visible."""
    if text.isprintable():
        return text
    return "".join(
        char if char in "\n\t" or not _is_control(char) else _visible(char) for char in text
    )


def _is_control(char: str) -> bool:
    code = ord(char)
    return code < 0x20 or 0x7F <= code < 0xA0


def _json_escaped(char: str) -> str:
    """Escape the control characters that JSON lets stand: delete, and those from 80 to 9f."""
    return f"\\u{ord(char):04x}" if _is_control(char) else char


def _visible(char: str) -> str:
    return f"\\x{ord(char):02x}"


def _encoding(stream: TextIO) -> str:
    return getattr(stream, "encoding", None) or "ascii"


def _is_unicode(encoding: str) -> bool:
    return encoding.lower().startswith("utf")


def _write(stream: TextIO, text: str) -> None:
    try:
        stream.write(text)
    except UnicodeEncodeError:
        encoding = _encoding(stream)
        stream.write(text.encode(encoding, "replace").decode(encoding))
    stream.flush()


console = Console()
"""The process's console; commands set its switches from their flags."""
