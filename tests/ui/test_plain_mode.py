"""A chat without colour and cursor codes, and one whose answers go elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from terminal import CTRL_C, CTRL_D, ENTER, Terminal

from selfee_cli.chat import session_reader

CHAT = ("chat", "--model", "scripted", "--min-revisions", "1", "--max-revisions", "1")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SELFEE_HOME", str(tmp_path))
    return tmp_path


def asked(home: Path) -> list[str]:
    (path,) = (home / "sessions").iterdir()
    return [chain.instruction for chain in session_reader.read(path).conversation.chains]


@pytest.mark.parametrize(
    ("flags", "environment"), [(["--plain"], {"NO_COLOR": ""}), ([], {"TERM": "dumb"})]
)
def test_no_colour_and_no_cursor_codes(
    home: Path, flags: list[str], environment: dict[str, str]
) -> None:
    seen: list[str] = []
    with Terminal(*CHAT, *flags, model={"load_seconds": 1}, **environment) as terminal:
        write = terminal.write
        terminal.write = lambda text: (seen.append(text), write(text))
        terminal.expect(">>> ")
        terminal.send("Why?\n")
        terminal.expect("── Answer", "── Feedback 1", "is the answer", ">>> ")
        terminal.send("/nonsense\n")
        terminal.expect("error: unknown command /nonsense", "hint: ", ">>> ")
        terminal.send('"""\n', "Two\n", "lines?\n", '"""\n')
        terminal.expect(r"\.\.\. ", "is the answer", ">>> ")
        terminal.send("half", CTRL_C)
        terminal.expect("Ctrl-D or /exit leaves", ">>> ")
        terminal.send(CTRL_D)
        assert terminal.end() == 0
        assert terminal.restored
    assert "\x1b" not in "".join(seen)
    assert asked(home) == ["Why?", "Two\nlines?"]
    assert not (home / "history").exists()


def test_a_line_longer_than_the_terminals_limit_is_warned_about(home: Path) -> None:
    with Terminal(*CHAT, "--plain", model={"context": 20_000}) as terminal:
        terminal.expect(">>> ")
        terminal.send("x" * 4000 + "\n")
        terminal.expect("is the answer", ">>> ")
        assert "cuts lines" not in terminal.text
        terminal.send("y" * 5000 + "\n")
        terminal.expect("the terminal cuts lines at 4095 bytes: some may be missing", ">>> ")
        terminal.send(CTRL_D)
        assert terminal.end() == 0
    assert asked(home) == ["x" * 4000, "y" * 4095]


def test_a_block_that_looks_like_a_command_is_asked_after_all(home: Path) -> None:
    with Terminal(*CHAT, "--plain", model={}) as terminal:
        terminal.expect(">>> ")
        terminal.send('"""\n', "/usr/bin/foo\n", "is broken\n", '"""\n')
        terminal.expect("unknown command /usr/bin/foo", "// alone asks it", ">>> ")
        terminal.send("//\n")
        terminal.expect("is the answer", ">>> ")
        terminal.send(CTRL_D)
        assert terminal.end() == 0
    assert asked(home) == ["/usr/bin/foo\nis broken"]


@contextmanager
def in_an_answer() -> Iterator[Terminal]:
    """A chat in which ``Why?`` was asked, and the answer is held half-way."""
    with Terminal(*CHAT, "--plain", "--no-lookup", model={"hold": 6, "held": 1}) as terminal:
        terminal.expect(">>> ")
        terminal.send("Why?\n")
        terminal.expect("Answer says 1, then")
        yield terminal


def test_a_withdrawn_question_is_asked_by_enter(home: Path) -> None:
    with in_an_answer() as terminal:
        terminal.send(CTRL_C)
        terminal.expect("the question is withdrawn", r">>> Why\?")
        terminal.send(" Now", ENTER)
        terminal.expect("is the answer", ">>> ")
        terminal.send(CTRL_D)
        assert terminal.end() == 0
    assert asked(home) == ["Why? Now"]


def test_ctrl_d_leaves_a_withdrawn_question_where_it_is(home: Path) -> None:
    with in_an_answer() as terminal:
        terminal.send(CTRL_C)
        terminal.expect("the question is withdrawn", r">>> Why\?")
        terminal.send(CTRL_D)
        terminal.expect(r">>> Why\?")
        terminal.send(ENTER)
        terminal.expect("is the answer", ">>> ")
        terminal.send(CTRL_D)
        assert terminal.end() == 0
    assert asked(home) == ["Why?"]


def test_a_block_that_is_typed_ahead(home: Path) -> None:
    with in_an_answer() as terminal:
        terminal.send('"""\n', "Two\n", "lines?\n", '"""\n')
        terminal.expect("is the answer", ">>> Two\r\n", r"\.\.\. lines\?")
        terminal.send(ENTER)
        terminal.expect("is the answer", ">>> ")
        terminal.send(CTRL_D)
        assert terminal.end() == 0
    assert asked(home) == ["Why?", "Two\nlines?"]


def test_answers_alone_go_to_standard_output(home: Path) -> None:
    out = home / "out.txt"
    with Terminal(*CHAT, "Zero?", model={}, out=out) as terminal:
        terminal.expect("── Answer", "── Feedback 1", "= Revision 1 is the answer", "context ")
        terminal.expect(">>> ")
        terminal.send("Why?\n")
        terminal.expect("= Revision 1 is the answer", ">>> ")
        terminal.send("/show info\n")
        terminal.expect("path .*scripted", ">>> ")
        terminal.send(CTRL_D)
        assert terminal.end() == 0
        assert "\x1b" not in terminal.text
    lines = out.read_text().splitlines()
    assert len(lines) == 2
    assert all(line.startswith("Revision 1 says") for line in lines)
