import io

import pytest

from selfee_cli.ui.console import Console, Style
from selfee_cli.ui.table import Column, Table, drawn, plain, show_table

COLUMNS = [Column(title="way"), Column(title="time", number=True), Column(title="bits")]
TABLE = Table(
    title="sums, [warm]",
    columns=COLUMNS,
    rows=[["ours", "1.25 s", "-"], ["a peer, which is longer", "10.50 s", "yes"]],
    strong=[0],
    note="on a machine",
)


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_pipe_has_aligned_lines_with_numbers_at_the_right():
    assert plain(TABLE).splitlines() == [
        "sums, [warm]",
        "way                         time  bits",
        "ours                      1.25 s  -",
        "a peer, which is longer  10.50 s  yes",
        "on a machine",
    ]


def test_a_cell_is_one_line_without_control_codes():
    rows = [["a\nb \x1b[31mred", "", ""]]
    made = plain(Table(title="t", columns=COLUMNS, rows=rows))
    assert made.splitlines()[-1] == "a b \\x1b[31mred"
    shown = drawn(
        Table(title="t", columns=COLUMNS, rows=rows), Style(color=False, unicode=True), 80
    )
    assert "a b \\x1b[31mred" in shown


def test_a_row_has_a_cell_a_column():
    with pytest.raises(ValueError, match="2 cells in a table of 3"):
        Table(title="t", columns=COLUMNS, rows=[["a", "b"]])


def test_a_terminal_has_rules_and_colour_where_it_can():
    coloured = drawn(TABLE, Style(color=True, unicode=True), 80)
    assert "\x1b[" in coloured and "──" in coloured and "[warm]" in coloured
    bare = drawn(TABLE, Style(color=False, unicode=False), 80)
    assert "\x1b" not in bare and bare.isascii()
    assert "on a machine" in bare


def test_a_narrow_terminal_breaks_words_but_no_figures():
    lines = drawn(TABLE, Style(color=False, unicode=True), 36).splitlines()
    assert max(map(len, lines)) <= 36
    assert any("10.50 s" in line for line in lines)


@pytest.mark.parametrize(("stream", "term", "is_drawn"), [
    (io.StringIO, "xterm", False),
    (Terminal, "xterm", True),
    (Terminal, "dumb", False),
])  # fmt: skip
def test_the_form_fits_the_stream(monkeypatch, stream, term, is_drawn):
    monkeypatch.setenv("TERM", term)
    monkeypatch.setenv("COLUMNS", "100")
    console = Console(out=stream(), no_color=True)
    show_table(TABLE, console)
    shown = console.out.getvalue()
    assert (shown != plain(TABLE)) is is_drawn
    assert "a peer, which is longer" in shown
