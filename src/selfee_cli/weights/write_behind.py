"""Writing on a second thread: while one chunk is hashed and written, the next is computed."""

from __future__ import annotations

import queue
import threading
from types import TracebackType

import numpy as np

from selfee_cli.weights.dtypes import Raw
from selfee_cli.weights.writer import ShardWriter

DEPTH = 4
"""Chunks in flight."""


class WriteBehind:
    """A few reusable buffers before a :class:`~selfee_cli.weights.writer.ShardWriter`.

    A context manager. :meth:`buffer` gives space, :meth:`write` hands it over. An error of the
    writer comes out of the next call, or on leaving.
    """

    def __init__(self, writer: ShardWriter, capacity: int) -> None:
        self._writer = writer
        self._capacity = capacity  # bytes
        self._free: queue.SimpleQueue[Raw] = queue.SimpleQueue()
        self._work: queue.SimpleQueue[tuple[str, Raw, Raw] | None] = queue.SimpleQueue()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="shard-writer", daemon=True)
        self._held: Raw | None = None
        for _ in range(DEPTH):
            self._free.put(np.empty(capacity, np.uint8))

    def buffer(self, size: int, dtype: np.dtype[np.generic]) -> Raw:
        """Give a buffer of ``size`` elements, waiting for one where all are in flight."""
        self._raise()
        if self._held is None:
            self._held = self._free.get()
        return self._held[: size * dtype.itemsize].view(dtype)

    def write(self, name: str, data: Raw) -> None:
        """Hand over the buffer that :meth:`buffer` gave last, filled."""
        assert self._held is not None
        self._work.put((name, data, self._held))
        self._held = None

    def _run(self) -> None:
        while (item := self._work.get()) is not None:
            name, data, buffer = item
            if self._error is None:
                try:
                    self._writer.write(name, data)
                except BaseException as error:  # it is raised in the other thread
                    self._error = error
            self._free.put(buffer)

    def _raise(self) -> None:
        if self._error is not None:
            raise self._error

    def __enter__(self) -> WriteBehind:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is not None and self._error is None:
            self._error = error  # what is still queued is not worth writing
        self._work.put(None)
        self._thread.join()
        if error is None:
            self._raise()
