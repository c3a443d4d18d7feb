"""A progress bar that knows bytes, speed and time left; on a terminal only."""

from __future__ import annotations

import os
import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING, TextIO

from selfee_cli.ui.console import console, write_talk
from selfee_cli.ui.units import byte_text, time_text

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

_PLAIN_EVERY = 15.0  # seconds between lines where there is no terminal
_BAR_AFTER = 0.5  # seconds; what is done by then needs no bar, and no import of rich


class ByteProgress:
    """Shows how much of a number of bytes is done, on standard error.

    On a terminal it is a bar, which disappears at the end. Elsewhere, and where none may be
    ``drawn``, it is a plain line now and then. What is done in a moment shows nothing. A context
    manager.
    """

    def __init__(
        self,
        label: str,
        *,
        enabled: bool = True,
        drawn: bool = True,
        stream: TextIO | None = None,
    ) -> None:
        self._label = label
        self._enabled = enabled
        self._stream = stream or sys.stderr
        self._drawn = drawn and self._stream.isatty() and os.environ.get("TERM") != "dumb"
        self._total = 0
        self._done = 0
        self._began = self._told = time.monotonic()
        self._bar: Progress | None = None
        self._task: TaskID | None = None

    def start(self, total: int) -> None:
        """Begin, with the bytes there are in all."""
        self._total, self._done = total, 0
        self._began = self._told = time.monotonic()

    def advance(self, count: int) -> None:
        """Tell that ``count`` more bytes are done."""
        self._done += count
        if not self._enabled:
            return
        if self._drawn:
            if self._bar is None and time.monotonic() - self._began >= _BAR_AFTER:
                self._start_bar()
            if self._bar is not None and self._task is not None:
                self._bar.update(self._task, completed=self._done)
        elif time.monotonic() - self._told >= _PLAIN_EVERY:
            self._tell()

    def _start_bar(self) -> None:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            DownloadColumn,
            Progress,
            TextColumn,
            TimeRemainingColumn,
            TransferSpeedColumn,
        )

        color = console.style(self._stream).color
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            DownloadColumn(),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
            console=Console(
                file=self._stream,
                color_system="standard" if color else None,
                no_color=not color,
            ),
            transient=True,
        )
        self._task = self._bar.add_task(self._label, total=self._total, completed=self._done)
        self._bar.start()

    def _tell(self) -> None:
        self._told = time.monotonic()
        speed = self._done / max(self._told - self._began, 1e-9)
        left = (self._total - self._done) / speed if speed else 0.0
        share = 100 * self._done / max(self._total, 1)
        write_talk(
            self._stream,
            f"{self._label}: {share:.0f} % of {byte_text(self._total)}, "
            f"{byte_text(speed)}/s, {time_text(left)} left\n",
        )

    def __enter__(self) -> ByteProgress:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
