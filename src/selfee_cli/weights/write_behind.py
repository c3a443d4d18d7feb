"""Writing on a second thread: while chunks are hashed and written, the next ones are computed."""

from __future__ import annotations

import queue
import threading
from dataclasses import dataclass
from types import TracebackType

import numpy as np

from selfee_cli.weights.dtypes import Raw
from selfee_cli.weights.writer import ShardWriter

DEPTH = 3
"""Batches in flight."""
BATCH = 1 << 22
"""Bytes handed over at once: chunks fit the cache, but to wake a thread for each costs more."""


@dataclass
class _Batch:
    """A buffer and what lies at its front: data of the tensor ``name``."""

    buffer: Raw
    name: str = ""
    data: Raw | None = None

    @property
    def filled(self) -> int:
        """Bytes."""
        return 0 if self.data is None else self.data.nbytes


class WriteBehind:
    """A few reusable buffers before a :class:`~selfee_cli.weights.writer.ShardWriter`.

    A context manager. :meth:`buffer` gives space, :meth:`write` takes it over, :meth:`flush` ends
    a tensor. An error of the second thread comes out of a later call, or on leaving.

    Args:
        writer: Gets the chunks in order.
        capacity: Elements of the largest chunk, which has four bytes each at most.
    """

    def __init__(self, writer: ShardWriter, capacity: int) -> None:
        self._writer = writer
        self._free: queue.SimpleQueue[Raw] = queue.SimpleQueue()
        self._work: queue.SimpleQueue[_Batch | None] = queue.SimpleQueue()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="shard-writer", daemon=True)
        self._batch: _Batch | None = None
        for _ in range(DEPTH):
            self._free.put(np.empty(self._batch_bytes(capacity), np.uint8))

    @staticmethod
    def _batch_bytes(capacity: int) -> int:
        return max(BATCH, 4 * capacity)

    @staticmethod
    def scratch_bytes(capacity: int) -> int:
        """Give the bytes for chunks of up to ``capacity`` elements."""
        return DEPTH * WriteBehind._batch_bytes(capacity)

    def buffer(self, size: int, dtype: np.dtype[np.generic]) -> Raw:
        """Give a buffer of ``size`` elements, waiting for one where all are in flight."""
        self._raise()
        nbytes = size * dtype.itemsize
        if self._batch is not None and self._batch.filled + nbytes > self._batch.buffer.nbytes:
            self.flush()
        if self._batch is None:
            self._batch = _Batch(self._free.get())
        start = self._batch.filled
        return self._batch.buffer[start : start + nbytes].view(dtype)

    def write(self, name: str, data: Raw) -> None:
        """Take over the buffer that :meth:`buffer` gave last, filled with more of a tensor."""
        batch = self._batch
        assert batch is not None and batch.name in ("", name)
        batch.name = name
        batch.data = batch.buffer[: batch.filled + data.nbytes].view(data.dtype)

    def flush(self) -> None:
        """Hand over what was taken; to be called at a tensor's end."""
        if self._batch is not None and self._batch.filled:
            self._work.put(self._batch)
            self._batch = None

    def _run(self) -> None:
        while (batch := self._work.get()) is not None:
            try:
                if self._error is None and batch.data is not None:
                    self._writer.write(batch.name, batch.data)
            except BaseException as error:  # it is raised in the other thread
                self._error = error
            self._free.put(batch.buffer)

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
        self._work.put(None)  # what was handed over is still written: it may complete a file
        self._thread.join()
        if error is None:
            self._raise()
