"""The interface every engine has: new ids in, logits out, and a way back."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from selfee_cli.errors import ResourceError

if TYPE_CHECKING:
    import torch


class Cancelled(Exception):  # noqa: N818  (it is a wish, not an error)
    """A pass was given up because ``Engine.cancelled`` said so."""


def _never() -> bool:
    return False


class Engine(ABC):
    """A causal model with a key/value cache.

    ``ids`` are the tokens that the cache holds, in order. Rolling back is cheap: ``truncate``
    sets a length, and the next ``forward`` writes over what lies beyond it.
    """

    name: str
    context_length: int
    """The most tokens that the cache may hold."""
    vocab_size: int
    device: str
    dtype: str
    quant: str = "none"
    """How its weights are held, by the name that ``--quant`` has for it."""
    weight_bytes: int
    """Read for a token: the weights of all layers and of the head."""
    parameters: int
    reader: object = None
    """Who keeps the cache in step with a sequence. Whoever finds another there looks anew."""

    def __init__(self) -> None:
        self.ids: list[int] = []
        self.cancelled: Callable[[], bool] = _never
        """Asked now and then within a long pass, which may take many seconds on a CPU."""

    @property
    def form(self) -> str:
        """What its weights are held in, for people: ``int8 and float32``."""
        return self.dtype if self.quant == "none" else f"{self.quant} and {self.dtype}"

    def forward(self, ids: Sequence[int], *, last: int = 1) -> torch.Tensor:
        """Add ``ids`` to the cache and return the logits of the last ``last`` of them.

        Returns:
            float tensor of shape (last, vocab_size), on the engine's device.

        Raises:
            ValueError: no ids, an id outside the vocabulary, or more than the context holds.
                These are checked here because on a GPU they would end the process.
            ResourceError: memory ran out; the cache holds what it held before.
            Cancelled: the pass was given up; the cache holds what it held before.
        """
        if not ids or not 0 < last <= len(ids):
            raise ValueError(f"{len(ids)} ids, logits of the last {last} asked for")
        if len(self.ids) + len(ids) > self.context_length:
            raise ValueError(f"{len(self.ids)} + {len(ids)} ids exceed {self.context_length}")
        if min(ids) < 0 or max(ids) >= self.vocab_size:
            raise ValueError(f"an id lies outside the vocabulary of {self.vocab_size}")
        try:
            logits = self._forward(ids, last)
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            raise ResourceError(
                f"the memory of {self.device} ran out at {len(self.ids) + len(ids)} tokens",
                hint="begin anew, ask for less, or load with a shorter --context",
            ) from error
        self.ids.extend(ids)
        return logits

    def truncate(self, length: int) -> None:
        """Keep only the first ``length`` tokens in the cache."""
        if not 0 <= length <= len(self.ids):
            raise ValueError(f"cannot cut a cache of {len(self.ids)} tokens to {length}")
        if length < len(self.ids):
            self._truncate(length)
            del self.ids[length:]

    def forget(self) -> None:
        """Empty the cache, and clear what lies beyond its tokens.

        It is for when the model computed values that are not numbers: those would lie there
        until they are written over, and may be met before.
        """
        self.truncate(0)
        self._forget()

    def _check(self) -> None:
        """Give the pass up where that is wished.

        Raises:
            Cancelled: it is.
        """
        if self.cancelled():
            raise Cancelled

    @abstractmethod
    def _forward(self, ids: Sequence[int], last: int) -> torch.Tensor: ...

    @abstractmethod
    def _truncate(self, length: int) -> None: ...

    def _forget(self) -> None:  # noqa: B027  (there is nothing beyond where tensors are cut)
        pass


def is_out_of_memory(error: Exception) -> bool:
    """Whether memory ran out: torch has a class for it on GPUs, elsewhere there is a message."""
    messages = (
        "out of memory",
        "can't allocate memory",
        "not enough memory",
        "CUBLAS_STATUS_ALLOC_FAILED",
    )
    return isinstance(error, MemoryError) or any(words in str(error) for words in messages)
