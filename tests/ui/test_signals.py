"""What signals do while a session runs."""

from __future__ import annotations

import os
import signal
import sys
import termios
from pathlib import Path

import pexpect
import pytest

from selfee_cli.ui.signals import interrupts, orderly_end


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT])
def test_a_signal_that_ends_the_process_does_so_as_an_exit(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with pytest.raises(SystemExit) as end, orderly_end():
        os.kill(os.getpid(), number)
    assert end.value.code == 128 + number
    assert signal.getsignal(number) == before


def test_one_that_is_ignored_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with orderly_end():
            os.kill(os.getpid(), signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)


def test_ctrl_c_is_raised_or_nothing() -> None:
    before = signal.getsignal(signal.SIGINT)
    with interrupts(raised=False):
        os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(KeyboardInterrupt), interrupts(raised=True):
            os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) == before


STRUCK = """
import os, signal, tty
from selfee_cli.ui.signals import orderly_end
with orderly_end():
    tty.setraw(0)
    os.kill(os.getpid(), signal.{number})
"""


@pytest.mark.parametrize("number", ["SIGTERM", "SIGHUP", "SIGQUIT"])
def test_a_terminal_has_its_modes_again_wherever_a_signal_strikes(number: str) -> None:
    child = pexpect.spawn(sys.executable, ["-c", STRUCK.format(number=number)], timeout=60)
    before = termios.tcgetattr(child.child_fd)
    child.expect(pexpect.EOF)
    after = termios.tcgetattr(child.child_fd)
    child.close()
    assert child.exitstatus == 128 + getattr(signal, number)
    assert after == before


STRUCK_WHILE_IT_LOADS = """
import os, signal, sys
from pathlib import Path
from selfee_cli.ui.entry_history import EntryHistory
from selfee_cli.ui.loading import Loading
from selfee_cli.ui.prompt import PromptEntries
from selfee_cli.ui.signals import orderly_end

def strike(self):
    os.kill(os.getpid(), signal.{number})
    return []

EntryHistory.load_history_strings = strike
loading = Loading(lambda *_: None)
with orderly_end():
    PromptEntries(
        loading=loading, history=Path(sys.argv[1]), vi=False, color=False,
        words=lambda _: (), fold=lambda: None,
    ).next()
"""


@pytest.mark.parametrize("number", ["SIGTERM", "SIGHUP", "SIGQUIT"])
def test_a_signal_is_not_caught_by_what_it_strikes_within_the_prompt(
    tmp_path: Path, number: str
) -> None:
    script = STRUCK_WHILE_IT_LOADS.format(number=number)
    child = pexpect.spawn(
        sys.executable, ["-c", script, str(tmp_path / "history")], timeout=30, encoding="utf-8"
    )
    before = termios.tcgetattr(child.child_fd)
    child.expect(pexpect.EOF)
    after = termios.tcgetattr(child.child_fd)
    child.close()
    assert "Loading history failed" not in child.before
    assert "Traceback" not in child.before
    assert child.exitstatus == 128 + getattr(signal, number)
    assert after == before
