"""A chat at a real terminal: steered while a chain runs, ended in every way."""

from __future__ import annotations

import os
import re
import signal
import sys
import time
from pathlib import Path

import pexpect
import pytest
from terminal import (
    CTRL_BACKSLASH,
    CTRL_C,
    CTRL_D,
    CTRL_O,
    ENTER,
    ESC,
    PASTE,
    PASTED,
    Terminal,
)

from selfee_cli.chat import session_reader
from selfee_cli.chat.session_reader import Saved
from selfee_cli.protocol.chain import StopReason
from selfee_cli.ui.keyboard import LEAVE_WITHIN

CHAT = ("chat", "--model", "scripted")
ONE = ("--min-revisions", "1", "--max-revisions", "1", "--no-lookup")
THREE = ("--min-revisions", "3", "--max-revisions", "3", "--no-lookup")
SLACK = 0.5  # seconds that a busy machine may add to what takes a hundredth
HELD = 1.0  # seconds, to press something in


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SELFEE_HOME", str(tmp_path))
    return tmp_path


def saved(home: Path) -> Saved:
    (path,) = (home / "sessions").iterdir()
    return session_reader.read(path)


# -- stopping ----------------------------------------------------------------------------------

MOMENTS = {
    "the question is read": (1, r"── Answer\r\n", None),
    "an answer is written": (6, "Answer says 1, then", None),
    "its end is not sure yet": (15, "It ends.", None),
    "feedback begins": (20, r"── Feedback 1\r\n", "Answer says"),
    "feedback is written": (26, "Point 1 of 76 is 数", "Answer says"),
    "a verdict is not sure yet": (33, "5/10.", "Answer says"),
    "a revision begins": (36, r"── Revision 1\r\n", "Answer says"),
    "a revision is written": (42, "Revision 1 says 21, then", "Answer says"),
    "more feedback begins": (56, r"── Feedback 2\r\n", "Revision 1 says"),
}


@pytest.mark.parametrize("moment", MOMENTS)
def test_stopping_while(home: Path, moment: str) -> None:
    held, shown, final = MOMENTS[moment]
    with Terminal(*CHAT, *THREE, model={"hold": held}) as terminal:
        terminal.enter("Why?")
        terminal.expect(shown)
        began = time.monotonic()
        terminal.send(CTRL_C)
        terminal.prompt()
        assert time.monotonic() - began < 0.5 + SLACK
        if final is None:
            assert "stopped; nothing was complete: the question is withdrawn" in terminal.text
            terminal.until(r"^>>> Why\?\Z")
        else:
            assert " is the answer · interrupted · " in terminal.text
        assert "(unfinished)" in terminal.text
        terminal.send("\x15/exit", ENTER)
        assert terminal.end() == 0
        assert terminal.restored
    chains = saved(home).conversation.chains
    assert [chain.final.startswith(final or "") for chain in chains] == [True] * bool(final)
    assert all(chain.stop_reason is StopReason.INTERRUPTED for chain in chains)


@pytest.mark.parametrize("second", ["at once", "at the prompt", "at a refilled prompt"])
def test_twice_saves_and_leaves(home: Path, second: str) -> None:
    held = 6 if "refilled" in second else 26
    with Terminal(*CHAT, *THREE, model={"hold": held}) as terminal:
        terminal.enter("Why?")
        terminal.expect("Answer says 1, then" if held == 6 else "Point 1")
        terminal.send(CTRL_C)
        if "prompt" in second:
            terminal.prompt()
        else:
            time.sleep(0.05)
        terminal.send(CTRL_C)
        assert terminal.end() == 130
        assert terminal.restored
        assert "resume: selfee chat --resume " in terminal.text
    assert len(saved(home).conversation.chains) == int(held == 26)


def test_twice_but_slowly_does_not_leave() -> None:
    with Terminal(*CHAT, model={"hold": 26}) as terminal:
        terminal.enter("Why?")
        terminal.expect("Point 1")
        terminal.send(CTRL_C)
        terminal.prompt()
        time.sleep(LEAVE_WITHIN)
        terminal.send(CTRL_C)
        terminal.expect("Ctrl-D or /exit leaves")
        terminal.prompt()
        terminal.send(CTRL_D)
        assert terminal.end() == 0


def test_a_line_typed_after_a_stop_is_cleared_as_ever() -> None:
    with Terminal(*CHAT, model={"hold": 26}) as terminal:
        terminal.enter("Why?")
        terminal.expect("Point 1")
        terminal.send(CTRL_C)
        terminal.prompt()
        terminal.send("half a quest")
        terminal.until("half a quest")
        terminal.send(CTRL_C)
        terminal.prompt()
        terminal.send(CTRL_D)
        assert terminal.end() == 0


def test_escape_and_stop_finish_the_turn(home: Path) -> None:
    with Terminal(*CHAT, *THREE, model={"hold": 6, "held": HELD}) as terminal:
        terminal.enter("Why?")
        terminal.expect("Answer says 1, then")
        terminal.send(ESC)
        terminal.expect("It ends.", "= Answer is the answer · interrupted")
        terminal.prompt()
        terminal.send(CTRL_D)
        assert terminal.end() == 0
        assert "(unfinished)" not in terminal.text
    with Terminal(*CHAT, "-c", *THREE, model={"hold": 6, "held": HELD}) as terminal:
        terminal.enter("/continue")
        terminal.expect("Point 1")
        terminal.send("typed\n/stop", ENTER)
        terminal.expect("score", "= Answer is the answer · interrupted")
        terminal.until(r"^>>> typed\Z")
        terminal.send("\x15", CTRL_D)
        assert terminal.end() == 0
        assert "(unfinished)" not in terminal.text
    assert [turn.complete for turn in saved(home).conversation.last.turns] == [True, True]


# -- the keyboard meanwhile --------------------------------------------------------------------


def test_what_is_typed_waits_for_the_next_prompt(home: Path) -> None:
    with Terminal(*CHAT, *ONE, model={"hold": 6, "held": HELD}) as terminal:
        terminal.enter("Why?")
        terminal.expect("Answer says 1, then")
        terminal.send("And 数x\x7f?", CTRL_D, "\x1b[A", ENTER, PASTE, "pasted\n", PASTED)
        terminal.expect("is the answer")
        terminal.prompt()
        terminal.until(r"^>>> And 数\?\n\.\.\. pasted\Z")
        assert len(saved(home).conversation.chains) == 1, "nothing was sent"
        terminal.send(ENTER)
        terminal.expect("is the answer")
        terminal.prompt()
        terminal.send(CTRL_D)
        assert terminal.end() == 0
    assert saved(home).conversation.last.instruction == "And 数?\npasted"


def test_folding_meanwhile() -> None:
    with Terminal(*CHAT, *THREE, model={"hold": 26, "held": HELD}) as terminal:
        terminal.enter("Why?")
        terminal.expect("Point 1")
        terminal.send(CTRL_O)
        terminal.expect("── Feedback 2 · .*tokens · score", "is the answer")
        terminal.prompt()
        assert "Point 1" in terminal.text
        assert "Point 2" not in terminal.text
        terminal.send("/show chain", ENTER)
        terminal.expect("Point 2")
        terminal.prompt()
        terminal.send(CTRL_D)
        assert terminal.end() == 0


def test_nothing_typed_shows_and_nothing_is_redrawn() -> None:
    with Terminal(*CHAT, *ONE, model={"hold": 6, "held": HELD}) as terminal:
        terminal.enter("Why?")
        terminal.expect("Answer says 1, then")
        terminal.send("hidden")
        terminal.child.expect(r"(.*)= Revision 1 is the answer[^\n]*\n[^\n]*\n")
        written = terminal.child.match[0]
        assert "hidden" not in written
        assert "\x1b" not in written, "without colour there is no control sequence at all"


@pytest.mark.parametrize("columns", [40, 80, 200])
def test_only_the_terminal_wraps(columns: int) -> None:
    model = {"hold": 26, "held": HELD}
    with Terminal(*CHAT, *ONE, model=model, columns=columns) as terminal:
        terminal.enter("Why?")
        terminal.expect("Point 1")
        terminal.resize(columns - 7, 20)
        terminal.child.expect(r"── Revision 1(.*)= Revision 1 is the answer[^\n]*\n[^\n]*\n")
        lines = terminal.child.match[1].split("\r\n")
        assert re.fullmatch(r"Revision 1 says \d+, then \d+ more words\. It ends\.", lines[1])
        terminal.prompt()
        terminal.send(CTRL_D)
        assert terminal.end() == 0


# -- while the model loads ---------------------------------------------------------------------


def test_one_may_type_while_the_model_loads(home: Path) -> None:
    with Terminal(*CHAT, "--max-revisions", "0", model={"load_seconds": 2}) as terminal:
        terminal.prompt()
        terminal.until(r"^loading \d+\.\d [GM]B of 26\.0 GB, \d+\.\d [GM]B/s, \d+ s left\n>>>")
        terminal.send("Why?", ENTER)
        terminal.until(r"^>>> Why\?$")
        terminal.send("And then?")
        terminal.expect("is the answer")
        terminal.until(r"^>>> And then\?\Z")
        assert "GB/s, " not in terminal.text, "nothing of it stays"
        terminal.send(CTRL_C)
        terminal.prompt()
        terminal.send(CTRL_D)
        assert terminal.end() == 0
        assert terminal.restored
    assert saved(home).conversation.last.instruction == "Why?"


def test_one_need_not_wait() -> None:
    with Terminal(*CHAT, model={"load_seconds": 60}) as terminal:
        terminal.prompt()
        terminal.send(CTRL_C)
        terminal.expect("Ctrl-D or /exit leaves")
        terminal.prompt()
        terminal.send("Why?", ENTER)
        terminal.until(r"^>>> Why\?$")
        terminal.child.expect("loading")
        terminal.send(CTRL_C)
        terminal.prompt()
        terminal.until(r"^>>> Why\?\Z")
        terminal.send(CTRL_C)
        terminal.prompt()
        began = time.monotonic()
        terminal.send(CTRL_D)
        assert terminal.end() == 0
        assert time.monotonic() - began < 5
        assert terminal.restored


def test_what_would_not_wait_has_changed_nothing(home: Path) -> None:
    """Of a session that is open elsewhere a copy is made, and its first line has the model."""
    limits = ("--min-revisions", "1", "--max-revisions", "1")
    with Terminal(*CHAT, *limits, model={}) as first:
        first.enter("Why?")
        first.enter("And then?")
        first.prompt()
        (path,) = (home / "sessions").iterdir()
        with Terminal(*CHAT, "--resume", path.stem, model={"load_seconds": 60}) as terminal:
            for entry in ("/accept 0", "/undo"):
                terminal.enter(entry)
                terminal.child.expect("loading")
                terminal.send(CTRL_C)
                terminal.prompt()
                terminal.until(rf"^>>> {entry}\Z")
                terminal.send(CTRL_C)
            terminal.enter("/show chain")
            terminal.expect("= Revision 1 is the answer")
            terminal.enter("/edit")
            terminal.prompt()
            terminal.until(r"^>>> And then\?\Z")
            terminal.send(CTRL_C)
            terminal.prompt()
            terminal.send(CTRL_D)
            assert terminal.end() == 0
        assert [*(home / "sessions").iterdir()] == [path]
        first.send(CTRL_D)
        assert first.end() == 0


@pytest.mark.parametrize("entry", ["", "half a quest", f"Why?{ENTER}"])
def test_a_model_that_cannot_be_loaded_ends_it(entry: str) -> None:
    with Terminal(*CHAT, model={"load_seconds": 0.5, "load_error": True}) as terminal:
        terminal.prompt()
        terminal.send(entry)
        assert terminal.end() == 5
        assert terminal.restored
        assert "error: out of memory\nhint: close other programs" in terminal.text


# -- every exit --------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("mode", ["loading", "prompt", "chain", "plain prompt", "plain chain"])
def test_a_signal_ends_it_and_the_terminal_is_as_before(
    home: Path, number: signal.Signals, mode: str
) -> None:
    model = {"load_seconds": 60} if mode == "loading" else {"hold": 26}
    plain = ["--plain"] if "plain" in mode else []
    with Terminal(*CHAT, *plain, model=model) as terminal:
        terminal.expect(">>> ")
        if "chain" in mode:
            terminal.send("Why?", "\n" if plain else ENTER)
            terminal.expect("Point 1")
        terminal.signal(number)
        assert terminal.end() == 128 + number
        assert terminal.restored
        assert "Traceback" not in terminal.text
    if "chain" in mode:
        assert saved(home).conversation.last.final.startswith("Answer says")


@pytest.mark.parametrize("mode", ["loading", "chain", "plain loading", "plain chain"])
def test_ctrl_backslash_ends_it_and_the_terminal_is_as_before(home: Path, mode: str) -> None:
    model = {"load_seconds": 60} if "loading" in mode else {"hold": 26}
    plain = ["--plain"] if "plain" in mode else []
    with Terminal(*CHAT, *plain, "Why?", model=model) as terminal:
        terminal.expect("loading" if "loading" in mode else "Point 1")
        terminal.send(CTRL_BACKSLASH)
        assert terminal.end() == 128 + signal.SIGQUIT
        assert terminal.restored
        assert "Traceback" not in terminal.text
    if "chain" in mode:
        assert saved(home).conversation.last.final.startswith("Answer says")


def test_one_that_is_killed_goes_on_where_it_was(home: Path) -> None:
    with Terminal(*CHAT, *THREE, model={"hold": 26}) as terminal:
        terminal.enter("Why?")
        terminal.expect("Point 1")
        terminal.signal(signal.SIGKILL)
        assert terminal.end() == -signal.SIGKILL
    (path,) = (home / "sessions").iterdir()
    with Terminal(*CHAT, "--resume", path.stem[:-2], model={}) as terminal:
        terminal.expect(f"{path.stem}: 1 question so far")
        terminal.enter("/show chain")
        terminal.expect("── Answer", "= Answer is the answer · interrupted")
        terminal.enter("/continue")
        terminal.expect("── Feedback 1", "= Revision 3 is the answer · max_revisions")
        terminal.prompt()
        terminal.send(CTRL_D)
        assert terminal.end() == 0
        assert f"resume: selfee chat --resume {path.stem}" in terminal.text
    chain = saved(home).conversation.last
    assert chain.stop_reason is StopReason.MAX_REVISIONS
    assert chain.revisions == 3, "as many as it was to have"


def test_memory_that_runs_out_costs_a_chain_alone() -> None:
    with Terminal(*CHAT, "--no-lookup", model={"memory": 20}) as terminal:
        terminal.enter("Why?")
        terminal.expect("error: the memory of cpu ran out", "hint: ")
        terminal.enter("/continue")
        terminal.expect("is the answer · not_needed")
        terminal.prompt()
        terminal.send(CTRL_D)
        assert terminal.end() == 0


def test_suspending_gives_the_terminal_back(home: Path) -> None:
    script = Path(__file__).parents[1] / "slow_chat.py"
    shell = pexpect.spawn(
        "/bin/sh",
        env={**os.environ, "PS1": "$ ", "ENV": "", "TERM": "xterm", "NO_COLOR": "1"},
        dimensions=(24, 80),
        encoding="utf-8",
        timeout=60,
    )
    prompt = r"\x1b\[\?2004h.*?>>> "

    def modes() -> str:
        shell.sendline("stty -g; echo mode''s")
        shell.expect(r"([0-9a-f:]{20,})\s+modes\r\n")
        return shell.match[1]

    try:
        shell.sendline("set -m")
        before = modes()
        arguments = """'{"seconds": 0.05}' chat --model scripted --min-revisions 2"""
        shell.sendline(f"{sys.executable} {script} {arguments}")
        shell.expect(prompt)
        shell.send("Why?\r")
        shell.expect("Answer says")
        shell.send("\x1a")
        shell.expect("Stopped")
        assert modes() == before
        shell.sendline("fg")
        shell.expect("── Feedback 1")
        shell.send("\x03")
        shell.expect(prompt)
        shell.send("typed\x1a")
        shell.expect("Stopped")
        shell.sendline("fg")
        shell.expect(">>> .*typed")
        shell.send("\x15\x04")
        shell.expect("resume: selfee")
        assert modes() == before
    finally:
        shell.close(force=True)
