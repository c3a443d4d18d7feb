"""Tables: drawn by rich on a terminal, aligned plain text in a pipe."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass

from selfee_cli.ui.console import Console, Style, printable

_GAP = "  "


@dataclass(frozen=True, kw_only=True)
class Column:
    """A column; numbers stand at its right edge, words at its left."""

    title: str
    number: bool = False


@dataclass(frozen=True, kw_only=True)
class Table:
    """Rows of text, a cell a column; ``strong`` rows are set off where there is colour."""

    title: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[str]]
    strong: Sequence[int] = ()
    note: str = ""
    """A line below."""

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.columns):
                raise ValueError(f"{len(row)} cells in a table of {len(self.columns)} columns")


def show_table(table: Table, console: Console) -> None:
    """Write a table to standard output, in the form that fits it."""
    if console.out.isatty() and os.environ.get("TERM") != "dumb":
        width = shutil.get_terminal_size().columns
        console.write(drawn(table, console.style(console.out), width))
    else:
        console.write(plain(table))


def plain(table: Table) -> str:
    """Give a table as lines: its title, its heads and its rows, without rules or colour."""
    heads = [column.title for column in table.columns]
    rows = [[_cell(text) for text in row] for row in (heads, *table.rows)]
    widths = [max(map(len, cells)) for cells in zip(*rows, strict=True)]
    lines = [_cell(table.title)]
    for row in rows:
        cells = [
            text.rjust(width) if column.number else text.ljust(width)
            for text, width, column in zip(row, widths, table.columns, strict=True)
        ]
        lines.append(_GAP.join(cells).rstrip())
    if table.note:
        lines.append(_cell(table.note))
    return "\n".join(lines) + "\n"


def drawn(table: Table, style: Style, width: int) -> str:
    """Give a table as rich draws it for a terminal ``width`` columns wide."""
    import io

    from rich import box
    from rich.console import Console as RichConsole
    from rich.table import Table as RichTable
    from rich.text import Text

    grid = RichTable(
        title=Text(_cell(table.title)),
        title_justify="left",
        title_style="bold",
        caption=Text(_cell(table.note)) if table.note else None,
        caption_justify="left",
        caption_style="dim",
        box=box.SIMPLE_HEAD if style.unicode else box.ASCII2,
    )
    for column in table.columns:
        # Figures are never broken; where the terminal is narrow, words take more lines.
        grid.add_column(
            Text(column.title),
            justify="right" if column.number else "left",
            no_wrap=column.number,
        )
    for number, row in enumerate(table.rows):
        cells = [Text(_cell(text)) for text in row]  # Text: brackets in it are no markup
        grid.add_row(*cells, style="bold" if number in table.strong else None)
    target = io.StringIO()
    RichConsole(
        file=target,
        width=width,
        force_terminal=style.color,
        color_system="standard" if style.color else None,
        no_color=not style.color,
        legacy_windows=False,
    ).print(grid)
    return target.getvalue()


def _cell(text: str) -> str:
    return printable(" ".join(text.split()))
