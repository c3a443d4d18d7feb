"""The keyboard while a chain runs: keys come whole, however their bytes come."""

from __future__ import annotations

import os
import pty
import signal
import sys
import termios
import time
from collections.abc import Iterator

import pytest

from selfee_cli.ui import keyboard
from selfee_cli.ui.keyboard import LEAVE_WITHIN, ChainKeys, KeyReader

SEQUENCES = [
    (b"abc", ["a", "b", "c"]),
    ("é数🙂".encode(), ["é", "数", "🙂"]),
    (b"\x1b[A\x1b[Bx", ["x"]),
    (b"\x1b[1;5Cx", ["x"]),
    (b"\x1b[200~a\nb\x1b[201~", ["a", "\n", "b"]),
    (b"\x1bOPx\x1bOQ", ["x"]),
    (b"\x1b\r\x1b\n", ["\n", "\n"]),
    (b"\x1bfx", ["x"]),
    (b"\x0fa\x7f\x15\r", ["\x0f", "a", "\x7f", "\x15", "\r"]),
    (b"\xffa", ["�", "a"]),
]


@pytest.mark.parametrize(("data", "keys"), SEQUENCES)
def test_keys_come_whole_however_they_are_split(data: bytes, keys: list[str]) -> None:
    for first in range(len(data) + 1):
        for second in range(first, len(data) + 1):
            reader = KeyReader()
            found = []
            for part in (data[:first], data[first:second], data[second:]):
                found += reader.feed(part, now=1.0)
            assert found == keys, (first, second)


def test_an_escape_that_nothing_follows_is_the_key() -> None:
    reader = KeyReader()
    assert reader.feed(b"\x1b", 1.0) == []
    assert reader.feed(b"", 1.04) == []
    assert reader.feed(b"", 1.06) == ["\x1b"]
    assert reader.feed(b"\x1b\x1b", 2.0) == ["\x1b"]
    assert reader.feed(b"", 2.1) == ["\x1b"]
    assert reader.feed(b"\x1b", 3.0) == []
    assert reader.feed(b"hello", 3.5) == ["\x1b", *"hello"], "typed long after it"
    assert reader.feed(b"\x1b[", 4.0) == []
    assert reader.feed(b"", 4.1) == ["\x1b", "["]


def test_what_is_typed_waits() -> None:
    keys = ChainKeys()
    for key in "hallo\x7f\x7flo数\x00\x01\tx":
        keys.take(key)
    assert keys.typed == "hallo数\tx"
    keys.take("\x15")
    assert keys.typed == ""


@pytest.mark.parametrize("word", ["/stop", "/sto", "/st"])
def test_stop_may_be_typed(word: str) -> None:
    keys = ChainKeys()
    for key in f"a question\n {word} \n":
        keys.take(key)
    assert keys.finishing()
    assert keys.typed == "a question"
    assert not keys.cancelled()
    keys = ChainKeys()
    for key in "why /stop\nstop\n//stop\n/\n/s\n/undo\n/stopp\nnot /stop":
        keys.take(key)
    assert not keys.finishing()


def test_ctrl_c_twice_leaves() -> None:
    keys = ChainKeys()
    assert not keys.stopped
    keys.press()
    assert keys.cancelled()
    assert not keys.leave
    keys.last_press -= LEAVE_WITHIN
    keys.press()
    assert not keys.leave
    keys.press()
    assert keys.leave


def test_ctrl_o_folds() -> None:
    folds = []
    keys = ChainKeys(lambda: folds.append(1))
    keys.take("\x0f")
    assert folds == [1]


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """Standard input as a terminal; the other end's descriptor."""
    master, slave = pty.openpty()
    with os.fdopen(slave, encoding="utf-8") as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        yield master
    os.close(master)


def test_the_terminal_is_quiet_meanwhile_and_as_before_after(terminal: int) -> None:
    before = termios.tcgetattr(sys.stdin)
    handlers = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTSTP)]
    with ChainKeys() as keys:
        local = termios.tcgetattr(sys.stdin)[3]
        assert not local & (termios.ECHO | termios.ICANON)
        assert local & termios.ISIG
        os.write(terminal, "数 now\x1b".encode())
        deadline = time.monotonic() + 10
        while not keys.finishing() and time.monotonic() < deadline:
            time.sleep(0.01)
        assert keys.finishing()
        assert keys.typed == "数 now"
        os.kill(os.getpid(), signal.SIGINT)
        assert keys.cancelled()
    assert termios.tcgetattr(sys.stdin) == before
    assert [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTSTP)] == handlers


def test_the_end_of_a_long_paste_is_waited_for(
    terminal: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keyboard, "_REST_OF_PASTE", 1.0)
    pasted = ("x" * 70 + "\n") * 300  # far more than a terminal holds at once
    sender = os.fork()
    if not sender:
        data = pasted.encode()
        while data:
            data = data[os.write(terminal, data[:1000]) :]
        os._exit(0)
    with ChainKeys() as keys:
        deadline = time.monotonic() + 60
        while not keys.typed:
            assert time.monotonic() < deadline
            keys.cancelled()
    os.waitpid(sender, 0)
    assert keys.typed == pasted


def test_an_escape_at_the_very_end_counts(terminal: int) -> None:
    with ChainKeys() as keys:
        os.write(terminal, b"\x1b")
        time.sleep(0.01)
    assert keys.finishing()
