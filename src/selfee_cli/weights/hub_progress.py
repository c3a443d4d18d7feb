"""How ``huggingface_hub`` behaves at a terminal: its bars, its remarks, and Ctrl-C."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from logging import ERROR
from types import FrameType
from typing import Any

from selfee_cli.errors import Interrupted
from selfee_cli.weights.hub_errors import RUN_AGAIN


@contextmanager
def library_talk(quiet: bool) -> Iterator[None]:
    """Let the library draw its bars on a terminal only, and remark on nothing where quiet."""
    from huggingface_hub import logging

    before = logging.get_verbosity()
    if quiet:
        logging.set_verbosity(ERROR)
    try:
        if not quiet and sys.stderr is not None and sys.stderr.isatty():
            yield
        else:
            with no_bars():
                yield
    finally:
        logging.set_verbosity(before)


@contextmanager
def no_bars() -> Iterator[None]:
    """Switch the library's bars off for the block."""
    from huggingface_hub.constants import HF_HUB_DISABLE_PROGRESS_BARS
    from huggingface_hub.utils.tqdm import (
        are_progress_bars_disabled,
        disable_progress_bars,
        enable_progress_bars,
    )

    # The user's own word in the environment stands above ours.
    if HF_HUB_DISABLE_PROGRESS_BARS is not None or are_progress_bars_disabled():
        yield
        return
    disable_progress_bars()
    try:
        yield
    finally:
        enable_progress_bars()


@contextmanager
def stoppable_bars() -> Iterator[type[Any]]:
    """Give the library's class of bars, such that Ctrl-C in the block stops its threads too.

    They would finish their files first, which may take an hour; but each tells its bar of every
    chunk, shown or not.
    """
    from huggingface_hub.utils.tqdm import tqdm as library_bar

    stopped = threading.Event()

    class Bar(library_bar):
        def update(self, n: float | None = 1) -> bool | None:
            if stopped.is_set():
                raise Interrupted(f"interrupted: {RUN_AGAIN}")
            shown: bool | None = super().update(n)
            return shown

    def stop(number: int, frame: FrameType | None) -> None:
        stopped.set()
        raise KeyboardInterrupt

    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or before is None:
        yield Bar  # no other thread may handle signals
        return
    signal.signal(signal.SIGINT, stop)
    try:
        yield Bar
    finally:
        signal.signal(signal.SIGINT, before)
