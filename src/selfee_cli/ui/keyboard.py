"""The keyboard while a chain runs: what stops it, what folds, and what is typed ahead.

There is no thread: the terminal is looked at whenever the chain asks whether to go on, which is
before every token and between the layers of a long pass.
"""

from __future__ import annotations

import codecs
import os
import select
import signal
import sys
import termios
import time
from collections.abc import Callable
from contextlib import suppress
from types import FrameType, TracebackType
from typing import Any

from selfee_cli.chat.command_table import resolve
from selfee_cli.errors import UsageError

LEAVE_WITHIN = 2.0  # seconds between two presses of Ctrl-C
_ESCAPE_ALONE = 0.05  # seconds; the bytes of a key's sequence come together
_REST_OF_PASTE = 0.1  # seconds; a terminal hands over a long paste in parts
_ESCAPE, _FOLD = "\x1b", "\x0f"
_ERASE, _KILL = ("\x7f", "\x08"), "\x15"


class ChainKeys:
    """Reads the keys that are pressed while a chain runs. A context manager.

    ``typed`` is the text that waits for the next prompt; ``leave`` whether Ctrl-C was pressed
    twice. Where standard input is no terminal only Ctrl-C counts.
    """

    def __init__(self, fold: Callable[[], None] = lambda: None) -> None:
        self.typed = ""
        self.leave = False
        self._fold = fold
        self.last_press = float("-inf")
        """When Ctrl-C was pressed last."""
        self._finish = False
        self._last_key = float("-inf")
        self._keys = KeyReader()
        self._terminal: _QuietTerminal | None = None

    @property
    def stopped(self) -> bool:
        """Whether Ctrl-C was pressed."""
        return self.last_press > float("-inf")

    def cancelled(self) -> bool:
        """Whether the chain must stop at once; looks at the keyboard."""
        self._poll()
        return self.stopped

    def finishing(self) -> bool:
        """Whether the chain must stop with the turn being written; looks at the keyboard."""
        self._poll()
        return self._finish

    def press(self, *_: object) -> None:
        """Take a Ctrl-C."""
        now = time.monotonic()
        self.leave = self.leave or now - self.last_press < LEAVE_WITHIN
        self.last_press = now

    def _poll(self, wait: float = 0.0) -> None:
        """Take the keys that were pressed; wait up to ``wait`` seconds for the first."""
        data = self._terminal.read(wait) if self._terminal else b""
        now = time.monotonic()
        if data:
            self._last_key = now
        for key in self._keys.feed(data, now):
            self.take(key)

    def take(self, key: str) -> None:
        """Take one key: a character, or Esc."""
        if key == _ESCAPE:
            self._finish = True
        elif key == _FOLD:
            self._fold()
        elif key in _ERASE:
            self.typed = self.typed[:-1]
        elif key == _KILL:
            self.typed = ""
        elif key in "\r\n":
            before, _, line = self.typed.rpartition("\n")
            if _is_stop(line.strip()):
                self.typed, self._finish = before, True
            else:
                self.typed += "\n"
        elif key.isprintable() or key == "\t":
            self.typed += key

    def __enter__(self) -> ChainKeys:
        self._previous = signal.signal(signal.SIGINT, self.press)
        if sys.stdin is not None and sys.stdin.isatty():
            self._terminal = _QuietTerminal(sys.stdin.fileno())
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._terminal is not None:
            self._poll()
            # The rest of a paste must not reach the prompt, where the end of a line sends it.
            while time.monotonic() - self._last_key < _REST_OF_PASTE:
                self._poll(_REST_OF_PASTE)
            for key in self._keys.feed(b"", float("inf")):  # nothing will follow
                self.take(key)
            self._terminal.restore()
        signal.signal(signal.SIGINT, self._previous)


def _is_stop(line: str) -> bool:
    """Whether a line is the command to stop: any other waits."""
    with suppress(UsageError):
        return line.startswith("/") and resolve(line).name == "stop"
    return False


class KeyReader:
    """Bytes of a terminal as keys: characters, a lone Esc; other sequences are swallowed."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._pending = ""
        self._since = 0.0

    def feed(self, data: bytes, now: float) -> list[str]:
        """Take what was read at ``now`` (seconds); return the keys that are complete."""
        keys = self._take(now)  # what came long after an Esc does not belong to it
        if data:
            self._pending += self._decoder.decode(data)
            self._since = now
            keys += self._take(now)
        return keys

    def _take(self, now: float) -> list[str]:
        keys: list[str] = []
        while self._pending:
            length = _sequence_length(self._pending)
            if length is None:
                if now - self._since < _ESCAPE_ALONE:
                    break
                length = 1  # nothing followed: it was the key itself
            key, self._pending = self._pending[:length], self._pending[length:]
            if len(key) == 1:
                keys.append(key)
            elif len(key) == 2 and key[1] in "\r\n":  # Alt-Enter
                keys.append("\n")
        return keys


def _sequence_length(text: str) -> int | None:
    """How many characters the first key takes; None where it may not be complete."""
    if text[0] != _ESCAPE:
        return 1
    if len(text) == 1:
        return None
    if text[1] == "O":
        return 3 if len(text) > 2 else None
    if text[1] != "[":
        return 1 if text[1] == _ESCAPE else 2
    for at, char in enumerate(text[2:], 2):
        if "@" <= char <= "~":
            return at + 1
    return None


class _QuietTerminal:
    """A terminal that does not echo and gives every key at once; Ctrl-C and Ctrl-Z still work."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._before = termios.tcgetattr(descriptor)
        self._suspend: Any = signal.getsignal(signal.SIGTSTP)
        if self._suspend != signal.SIG_IGN:  # nobody would wake it up again
            signal.signal(signal.SIGTSTP, self._on_suspend)
        self._quiet()

    def _quiet(self) -> None:
        mode = termios.tcgetattr(self._descriptor)
        mode[3] &= ~(termios.ICANON | termios.ECHO | termios.IEXTEN)
        mode[3] |= termios.NOFLSH  # Ctrl-C must not throw away what was typed
        termios.tcsetattr(self._descriptor, termios.TCSADRAIN, mode)

    def _on_suspend(self, number: int, _: FrameType | None) -> None:
        """Give the terminal back while the process is stopped."""
        termios.tcsetattr(self._descriptor, termios.TCSADRAIN, self._before)
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
        signal.signal(number, self._on_suspend)  # the process goes on here
        self._quiet()

    def read(self, wait: float = 0.0) -> bytes:
        """Return what was typed since the last time, after ``wait`` seconds at the latest."""
        data = b""
        with suppress(OSError):  # a terminal that has gone gives nothing
            while select.select([self._descriptor], [], [], 0.0 if data else wait)[0]:
                more = os.read(self._descriptor, 4096)
                if not more:
                    break
                data += more
        return data

    def restore(self) -> None:
        """Leave the terminal as it was found."""
        signal.signal(signal.SIGTSTP, self._suspend or signal.SIG_DFL)
        with suppress(termios.error):  # it may be gone
            termios.tcsetattr(self._descriptor, termios.TCSADRAIN, self._before)
