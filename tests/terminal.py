"""A terminal to sit at: a second process behind a pseudo-terminal, and what its screen shows.

Each process is forked from one that has imported torch already, so that it starts in a moment.
"""

from __future__ import annotations

import codecs
import fcntl
import multiprocessing
import os
import pty
import re
import signal
import struct
import sys
import termios
import time
from pathlib import Path
from typing import Any

import pyte
from cli import no_defect
from pexpect import TIMEOUT as TIMED_OUT
from pexpect import fdpexpect

TIMEOUT = 60
CTRL_C, CTRL_D, CTRL_G, CTRL_L, CTRL_O, CTRL_R = "\x03\x04\x07\x0c\x0f\x12"
CTRL_BACKSLASH = "\x1c"
ESC, ENTER, UP = "\x1b", "\r", "\x1b[A"
PASTE, PASTED = "\x1b[200~", "\x1b[201~"

_processes = multiprocessing.get_context("forkserver")
_processes.set_forkserver_preload(
    [
        "torch",
        "pyte",
        "selfee_cli.cli",
        "selfee_cli.api",
        "selfee_cli.commands.chat",
        "selfee_cli.commands.ask",
        "selfee_cli.engine.loading",
        "selfee_cli.engine.native",
        "selfee_cli.engine.session",
        "selfee_cli.tiny.bundle",
        "selfee_cli.ui.repl",
        "selfee_cli.ui.prompt",
    ]
)


class Terminal:
    """A process at a terminal of its own. A context manager."""

    def __init__(
        self,
        *arguments: str,
        model: dict[str, Any] | None = None,
        columns: int = 80,
        rows: int = 24,
        out: Path | None = None,
        input: Path | None = None,
        **environment: str,
    ) -> None:
        """Run ``selfee ARGUMENTS`` there.

        Args:
            arguments: The command line.
            model: What the scripted model is like; None: the command's own model.
            columns: How wide the terminal is.
            rows: How high.
            out: A file for standard output.
            input: A file for standard input.
            environment: What is different from the test's own; empty: not set.
        """
        self.master, slave = pty.openpty()
        self.name = os.ttyname(slave)
        self.resize(columns, rows)
        self.before = termios.tcgetattr(slave)
        self._slave = slave  # held open, so that what is written last can be read
        defaults = {"TERM": "xterm", "NO_COLOR": "1", "EDITOR": "true", "VISUAL": ""}
        named = {**os.environ, **defaults, **environment}
        self._process = _processes.Process(
            target=_run,
            args=(
                self.name,
                model,
                arguments,
                {name: value for name, value in named.items() if value},
                out and str(out),
                input and str(input),
            ),
            daemon=True,
        )
        self._process.start()
        self._watch()

    def _watch(self) -> None:
        self.child = fdpexpect.fdspawn(
            self.master, encoding="utf-8", codec_errors="replace", timeout=TIMEOUT
        )
        self.child.logfile_read = self

    # What pexpect reads is written to the screen.

    def write(self, text: str) -> None:
        self.stream.feed(text)

    def flush(self) -> None:
        pass

    def resize(self, columns: int, rows: int) -> None:
        if not hasattr(self, "screen"):
            self.screen = pyte.HistoryScreen(columns, rows, history=10_000, ratio=0.5)
            self.stream = pyte.Stream(self.screen)
        self.screen.resize(rows, columns)
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    @property
    def pid(self) -> int:
        pid = self._process.pid
        assert pid is not None
        return pid

    @property
    def rows(self) -> list[Any]:
        """The characters that stand on the screen, and above it."""
        return [
            *self.screen.history.top,
            *(self.screen.buffer[y] for y in range(self.screen.lines)),
        ]

    @property
    def lines(self) -> list[str]:
        """The text of the rows."""
        columns = range(self.screen.columns)
        return ["".join(row[x].data for x in columns).rstrip() for row in self.rows]

    @property
    def text(self) -> str:
        return "\n".join(self.lines).rstrip()

    def expect(self, *patterns: str, timeout: float = TIMEOUT) -> re.Match[str]:
        """Wait for one text after the other; return the last one's match."""
        for pattern in patterns:
            self.child.expect(pattern, timeout=timeout)
        return self.child.match

    def until(self, pattern: str, timeout: float = TIMEOUT) -> str:
        """Wait until the screen shows something; return all of it."""
        deadline = time.monotonic() + timeout
        while not re.search(pattern, self.text, re.MULTILINE):
            assert time.monotonic() < deadline, self.text
            self.child.expect([TIMED_OUT, ".+"], timeout=0.1)
        return self.text

    def prompt(self) -> None:
        """Wait until entries are read."""
        self.expect(r"\x1b\[\?2004h.*?>>> ")

    def send(self, *keys: str) -> None:
        for key in keys:
            data = key.encode("utf-8", "surrogateescape")
            while data:
                data = data[os.write(self.master, data) :]

    def enter(self, entry: str) -> None:
        self.prompt()
        self.send(entry, ENTER)

    def signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def end(self) -> int:
        """Wait until the process has ended; return its code, or a signal's number, negative."""
        self._process.join(TIMEOUT)
        code = self._process.exitcode
        assert code is not None, self.text
        self.drain()
        no_defect(self.text)
        return code

    def drain(self) -> str:
        """Read what was written last."""
        os.set_blocking(self.master, False)
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        text = ""
        while True:
            try:
                data = os.read(self.master, 65536)
            except OSError:
                break
            text += decoder.decode(data)
        os.set_blocking(self.master, True)
        self.write(text)
        return text

    @property
    def restored(self) -> bool:
        """Whether the terminal is as it was found."""
        return termios.tcgetattr(self._slave) == self.before

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.is_alive():
            self._process.kill()
            self._process.join(TIMEOUT)
        os.close(self._slave)
        self.child.close()


def _run(
    terminal: str,
    model: dict[str, Any] | None,
    arguments: tuple[str, ...],
    environment: dict[str, str],
    out: str | None,
    input: str | None,
) -> None:
    """Be the process at the terminal."""
    os.setsid()
    for number in (0, 1, 2):  # the first terminal that a session's leader opens controls it
        descriptor = os.open(terminal, os.O_RDWR)
        os.dup2(descriptor, number)
        os.close(descriptor)
    for name, number, flags in ((input, 0, os.O_RDONLY), (out, 1, os.O_WRONLY | os.O_CREAT)):
        if name is not None:
            os.dup2(os.open(name, flags, 0o600), number)
    os.environ.clear()
    os.environ.update(environment)
    sys.stdin = open(0, encoding="utf-8", errors="surrogateescape", closefd=False)  # noqa: SIM115
    sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115
    import torch

    from selfee_cli import cli
    from selfee_cli.ui.console import console

    torch.set_num_threads(1)  # many processes share the cores, and threads that wait spin
    console.out, console.err = sys.stdout, sys.stderr
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if model is None:
        sys.argv = ["selfee", *arguments]
        cli.main()
    else:
        import slow_chat

        slow_chat.run(model, list(arguments))
