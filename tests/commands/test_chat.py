"""``selfee chat`` in a real terminal, and in a pipe."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pexpect
import pytest
from cli import selfee


@pytest.fixture
def terminal(tmp_path: Path):
    """A chat in a pseudo-terminal of 80 columns, without colour."""
    child = pexpect.spawn(
        sys.executable,
        ["-m", "selfee_cli", "chat", "--model", "tiny", "--seed", "1"],
        env={**os.environ, "NO_COLOR": "1", "TERM": "xterm", "PROMPT_TOOLKIT_NO_CPR": "1"},
        dimensions=(24, 80),
        encoding="utf-8",
        timeout=60,
    )
    yield child
    child.close(force=True)


def send(child: pexpect.spawn, text: str) -> None:
    child.expect(">>>")
    child.send(text + "\r")


def test_a_whole_session(terminal: pexpect.spawn) -> None:
    send(terminal, "Add 48 and 57.")
    terminal.expect("── Answer")
    terminal.expect("── Feedback 1")
    terminal.expect("is the answer")
    terminal.expect(r"context \d+/2048")
    send(terminal, "/nonsense")
    terminal.expect("unknown command /nonsense")
    send(terminal, "/he")
    terminal.expect("begin a new conversation")
    send(terminal, "And 12 and 13?")
    terminal.expect("is the answer")
    send(terminal, "/clear")
    terminal.expect("a new conversation")
    terminal.expect(">>>")
    terminal.sendcontrol("c")
    terminal.expect("Ctrl-D or /exit leaves")
    terminal.expect(">>>")
    terminal.sendcontrol("d")
    terminal.expect(pexpect.EOF)
    terminal.close()
    assert terminal.exitstatus == 0


def test_ctrl_c_stops_a_chain_and_not_the_session(tmp_path: Path) -> None:
    child = pexpect.spawn(
        sys.executable,
        ["-m", "selfee_cli", "chat", "--model", "tiny", "--min-revisions", "40"],
        env={**os.environ, "NO_COLOR": "1", "TERM": "xterm", "PROMPT_TOOLKIT_NO_CPR": "1"},
        dimensions=(24, 80),
        encoding="utf-8",
        timeout=60,
    )
    send(child, "Add 48 and 57.")
    child.expect("── Revision 2")
    child.sendcontrol("c")
    child.expect("stopped; Revision [0-9]+ is remembered")
    child.expect(">>>")
    child.send("/exit\r")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 0


def test_a_script_gets_final_answers_alone() -> None:
    script = 'Add 48 and 57.\n\n"""\nTake 18\naway from 32.\n"""\n/help\n'
    done = selfee("chat", "--model", "tiny", "-q", input=script)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert "###" not in done.stdout
    assert len(lines) == 2 + 4
    unknown = selfee("chat", "--model", "tiny", "-q", input="/nope\n")
    assert unknown.returncode == 2
    assert "unknown command /nope" in unknown.stderr
