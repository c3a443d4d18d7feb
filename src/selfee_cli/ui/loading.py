"""A model that loads while the user may type already."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from selfee_cli.ui.progress import ByteProgress
from selfee_cli.ui.units import byte_text, time_text

if TYPE_CHECKING:
    from selfee_cli.engine.session import Session

_LOOK_EVERY = 0.1  # seconds
Load = Callable[[Callable[[int], None], Callable[[int], None]], "Session"]
"""Loads a model; told of the bytes in all, and of each step's."""


class Loading:
    """Loads in a thread. ``result`` waits for it."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._session: Session | None = None
        self.error: BaseException | None = None
        """What went wrong, once it did."""
        self._total = self._done = 0
        self._began = time.monotonic()
        self._thread = threading.Thread(target=self._run, name="loading", daemon=True)
        self._thread.start()

    @property
    def is_over(self) -> bool:
        """Whether the model is there, or will not be."""
        return not self._thread.is_alive()

    def _run(self) -> None:
        try:
            self._session = self._load(self._start, self._advance)
        except BaseException as error:  # told by whoever waits
            self.error = error

    def _start(self, total: int) -> None:
        self._total, self._began = total, time.monotonic()

    def _advance(self, count: int) -> None:
        self._done += count

    def status(self) -> str:
        """Return a line about how far it is: bytes, speed, time left."""
        if not self._total:
            return "loading the model"
        seconds = max(time.monotonic() - self._began, 1e-9)
        speed = self._done / seconds
        left = (self._total - self._done) / speed if speed else 0.0
        return (
            f"loading {byte_text(self._done)} of {byte_text(self._total)}, "
            f"{byte_text(speed)}/s, {time_text(left)} left"
        )

    def result(
        self, *, quiet: bool, drawn: bool = True, cancelled: Callable[[], bool] = lambda: False
    ) -> Session:
        """Wait for the model, with a bar, or lines where none may be ``drawn``.

        Raises:
            SelfeeError: it could not be loaded.
            KeyboardInterrupt: the user would not wait.
        """
        told: int | None = None
        with ByteProgress("loading", enabled=not quiet, drawn=drawn) as bar:
            while self._thread.is_alive():
                self._thread.join(_LOOK_EVERY)
                if cancelled():
                    raise KeyboardInterrupt
                if self._total and told is None:
                    bar.start(self._total)
                    told = 0
                if told is not None:
                    bar.advance(self._done - told)
                    told = self._done
        if self.error is not None:
            raise self.error
        assert self._session is not None
        return self._session
