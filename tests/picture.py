"""Draws a real chat with the bundled model, as it stands on a terminal's screen.

    python tests/picture.py docs/chat.svg

The text is the same every time, but for the tokens a second, which are this machine's.
"""

from __future__ import annotations

import io
import os
import re
import sys
import tempfile
from itertools import groupby
from pathlib import Path

from pyte.screens import Char
from rich.console import Console
from rich.style import Style
from rich.text import Text
from terminal import CTRL_D, ENTER, Terminal

COLUMNS = 105
ENTRIES = ("What is 47 + 85?", "/diff", "/fold", "Add 68 and 57.")


def main(path: Path) -> None:
    """Run the chat and write its picture to ``path``."""
    with tempfile.TemporaryDirectory() as home:
        os.environ["SELFEE_HOME"] = home
        screen = chat()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(picture(screen), "utf-8")


def chat() -> list[list[Char]]:
    """Return the lines that stand on the screen in the end."""
    arguments = ("chat", "--model", "tiny", "--seed", "4", "--no-save")
    with Terminal(*arguments, columns=COLUMNS, rows=60, NO_COLOR="") as terminal:
        feed = terminal.write
        # Screens of pyte know no dim text, but a colour that may stand for it.
        terminal.write = lambda text: feed(text.replace("\x1b[2m", "\x1b[90m"))  # type: ignore[method-assign]
        for entry in ENTRIES:
            terminal.prompt()
            terminal.send(entry, ENTER)
        terminal.prompt()
        rows = [[row[x] for x in range(COLUMNS)] for row in terminal.rows]
        terminal.send(CTRL_D)
        assert terminal.end() == 0
    while all(char.data == " " for char in rows[-1]):
        rows.pop()
    return rows


def picture(rows: list[list[Char]]) -> str:
    """Return the lines as SVG that needs nothing from elsewhere."""
    console = Console(
        record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True, color_system="standard"
    )
    for row in rows:
        line = Text()
        for style, chars in groupby(row, style_of):
            line.append("".join(char.data for char in chars), style)
        line.rstrip()
        console.print(line, soft_wrap=True)
    svg = console.export_svg(title="selfee chat", unique_id="chat")
    return re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL)


def style_of(char: Char) -> Style:
    if char.fg == "brightblack":
        return Style(dim=True)
    color = {"default": None, "brown": "yellow"}.get(char.fg, char.fg)
    return Style(color=color, bold=char.bold)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
