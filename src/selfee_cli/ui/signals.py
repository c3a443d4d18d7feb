"""What the signals do that a terminal, its window and other processes send."""

from __future__ import annotations

import os
import signal
import termios
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress


@contextmanager
def interrupts(*, raised: bool) -> Iterator[None]:
    """Let Ctrl-C raise KeyboardInterrupt meanwhile, or do nothing: idle sessions outlive it."""
    handler = signal.default_int_handler if raised else lambda number, frame: None
    previous = signal.signal(signal.SIGINT, handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)


@contextmanager
def orderly_end() -> Iterator[None]:
    """Let the signals that end a process end it as an exit does: the terminal is given back.

    Ctrl-\\ sends one of them. One that is ignored, as ``nohup`` has it, stays ignored.
    """

    def leave(end: SystemExit) -> None:
        raise end

    with ended_by(leave), _modes_kept(0):
        yield


@contextmanager
def ended_by(leave: Callable[[SystemExit], None]) -> Iterator[None]:
    """Let the signals that end a process call ``leave`` meanwhile, with the exit that is due."""

    def struck(number: int, _: object) -> None:
        leave(SystemExit(128 + number))

    all_of_them = (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
    ending = [each for each in all_of_them if signal.getsignal(each) != signal.SIG_IGN]
    before = {each: signal.signal(each, struck) for each in ending}
    try:
        yield
    finally:
        for each, previous in before.items():
            signal.signal(each, previous)


@contextmanager
def _modes_kept(descriptor: int) -> Iterator[None]:
    """Leave a terminal's modes as they were found, wherever in a change of them a signal struck.

    A background process leaves them alone: they are the shell's by then, and it would be stopped.
    """
    try:
        before = termios.tcgetattr(descriptor)
    except (OSError, termios.error):  # no terminal
        yield
        return
    try:
        yield
    finally:
        with suppress(OSError, termios.error):  # it may be gone
            if os.tcgetpgrp(descriptor) == os.getpgrp():
                termios.tcsetattr(descriptor, termios.TCSANOW, before)
