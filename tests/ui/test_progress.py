import io
import re
from pathlib import Path

import pytest

from selfee_cli.ui import progress
from selfee_cli.ui.console import console
from selfee_cli.ui.progress import ByteProgress


class Terminal(io.StringIO):
    def isatty(self):
        return True


def run(stream, *, enabled=True):
    with ByteProgress("reading", enabled=enabled, stream=stream) as bar:
        bar.start(2_000_000_000)
        bar.advance(500_000_000)
        bar.advance(500_000_000)
    return stream.getvalue()


def test_short_work_in_a_pipe_prints_nothing():
    assert run(io.StringIO()) == ""


def test_long_work_in_a_pipe_prints_plain_lines(monkeypatch):
    monkeypatch.setattr(progress, "_PLAIN_EVERY", 0.0)
    lines = run(io.StringIO()).splitlines()
    assert lines[1].startswith("reading: 50 % of 2.0 GB") and lines[1].endswith("s left")
    assert "\x1b" not in "".join(lines)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux's /dev/full")
def test_lines_that_nobody_takes_stop_no_work(monkeypatch):
    monkeypatch.setattr(progress, "_PLAIN_EVERY", 0.0)
    with Path("/dev/full").open("w") as stream, ByteProgress("reading", stream=stream) as bar:
        bar.start(2_000_000_000)
        bar.advance(500_000_000)
        bar.advance(500_000_000)


def test_a_terminal_has_a_bar_and_quiet_has_none(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    assert run(Terminal()) == "", "what is done in a moment needs no bar"
    monkeypatch.setattr(progress, "_BAR_AFTER", 0.0)
    assert "reading" in run(Terminal())
    assert run(Terminal(), enabled=False) == ""


def test_a_bar_has_sixteen_colours_or_none(monkeypatch):
    monkeypatch.setattr(progress, "_BAR_AFTER", 0.0)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLORTERM", "truecolor")
    coloured = run(Terminal())
    assert {*re.findall(r"\x1b\[([0-9;]*)m", coloured)} & {str(code) for code in range(30, 38)}
    assert "38;" not in coloured
    monkeypatch.setattr(console, "no_color", True)
    bare = run(Terminal())
    assert "reading" in bare
    assert not re.search(r"\x1b\[[0-9;]*m", bare)


def test_lines_where_nothing_may_be_drawn(monkeypatch):
    monkeypatch.setattr(progress, "_PLAIN_EVERY", 0.0)
    monkeypatch.setattr(progress, "_BAR_AFTER", 0.0)
    stream = Terminal()
    with ByteProgress("reading", drawn=False, stream=stream) as bar:
        bar.start(2_000_000_000)
        bar.advance(500_000_000)
    assert stream.getvalue().startswith("reading: 25 % of 2.0 GB, ")
    assert "\x1b" not in stream.getvalue()
    monkeypatch.setenv("TERM", "dumb")
    assert "\x1b" not in run(Terminal())
