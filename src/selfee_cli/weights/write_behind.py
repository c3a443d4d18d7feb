"""Writing on a second thread: while one chunk is hashed and written, the next is computed.

The last step of computing a chunk, its rounding, is taken by the thread that has less to do.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from types import TracebackType

import numpy as np

from selfee_cli.weights.dtypes import Codec, Raw
from selfee_cli.weights.writer import ShardWriter

DEPTH = 4
"""Chunks in flight."""

Finish = Callable[[Codec, Raw], Raw]
"""Makes of a chunk, with a codec to use, what is written of it; may be in the same memory."""


class WriteBehind:
    """A few reusable buffers before a :class:`~selfee_cli.weights.writer.ShardWriter`.

    A context manager. :meth:`buffer` gives space, :meth:`write` hands it over. An error of the
    second thread comes out of the next call, or on leaving.

    Args:
        writer: Gets the chunks in order.
        capacity: Elements of the largest chunk, which has four bytes each at most.
    """

    def __init__(self, writer: ShardWriter, capacity: int) -> None:
        self._writer = writer
        self._free: queue.SimpleQueue[Raw] = queue.SimpleQueue()
        self._work: queue.SimpleQueue[tuple[str, Raw, Finish | None, Raw] | None] = (
            queue.SimpleQueue()
        )
        self._here, self._there = Codec(capacity), Codec(capacity)  # one for each thread
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="shard-writer", daemon=True)
        self._held: Raw | None = None
        for _ in range(DEPTH):
            self._free.put(np.empty(4 * capacity, np.uint8))

    def buffer(self, size: int, dtype: np.dtype[np.generic]) -> Raw:
        """Give a buffer of ``size`` elements, waiting for one where all are in flight."""
        self._raise()
        if self._held is None:
            self._held = self._free.get()
        return self._held[: size * dtype.itemsize].view(dtype)

    @staticmethod
    def scratch_bytes(capacity: int) -> int:
        """Give the bytes for chunks of up to ``capacity`` elements."""
        return DEPTH * 4 * capacity + 2 * Codec.scratch_bytes(capacity)

    def write(self, name: str, data: Raw, finish: Finish | None = None) -> None:
        """Hand over the buffer that :meth:`buffer` gave last, filled.

        ``finish`` is still to be done: here where other chunks wait for the second thread, else
        over there.
        """
        assert self._held is not None
        if finish is not None and not self._work.empty():
            data, finish = finish(self._here, data), None
        self._work.put((name, data, finish, self._held))
        self._held = None

    def _run(self) -> None:
        while (item := self._work.get()) is not None:
            name, data, finish, buffer = item
            if self._error is None:
                try:
                    self._writer.write(name, finish(self._there, data) if finish else data)
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
