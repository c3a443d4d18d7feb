"""Passes of fixed shape over buffers that stay in place: what a CUDA graph can replay.

On a fast GPU, launching the thousand kernels of a pass one by one takes longer than running them.
A captured graph launches them as one, but only with the shapes and the memory it was captured
with. So tokens and positions are copied into buffers, narrow passes are padded to the next of a
few widths, and attention looks at the next of a few spans of the cache, masked. Elsewhere than on
CUDA the same passes are computed anew each time; that is how they are tested.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence

import torch

WIDTHS = (1, 2, 4, 8, 16, 32, 64)
"""Tokens of a pass."""
_LEAST_SPAN = 256
_WARM_UPS = 2  # runs before a capture: kernels choose their algorithms, libraries their memory

Compute = Callable[[torch.Tensor, torch.Tensor, int], torch.Tensor]
"""Tokens (width,), their positions (width,) and a span of the cache to logits (width, vocab)."""


class StaticPasses:
    """Runs passes of up to 64 tokens, captured on CUDA.

    The cache that ``compute`` reads and writes must stay where it is and hold the whole context.
    ``compute`` is the same at each call and is not kept: the engine whose method it is would own
    itself, and its memory would not be free as soon as nobody uses it.
    """

    def __init__(self, device: torch.device, context_length: int) -> None:
        self._device, self._context_length = device, context_length
        self._passes: dict[tuple[int, int], _Pass] = {}
        self._recorder = _Recorder(device) if device.type == "cuda" else None

    def takes(self, past: int, count: int) -> bool:
        """Whether ``count`` tokens after ``past`` fit into a width, padding included."""
        return count <= WIDTHS[-1] and past + _width(count) <= self._context_length

    def __call__(self, compute: Compute, ids: Sequence[int], past: int) -> torch.Tensor:
        """Return the logits of each of ``ids``, which follow ``past`` cached tokens."""
        width = _width(len(ids))
        span = self._span(past + width)
        if (width, span) not in self._passes:
            self._passes[width, span] = _Pass(width, span, self._device, self._recorder)
        return self._passes[width, span](compute, ids, past)

    def _span(self, needed: int) -> int:
        """The least span of powers of two that holds ``needed`` tokens."""
        span = _LEAST_SPAN
        while span < needed:
            span *= 2
        return min(span, self._context_length)


class _Pass:
    """One width and span."""

    def __init__(
        self, width: int, span: int, device: torch.device, recorder: _Recorder | None
    ) -> None:
        self._span, self._recorder = span, recorder
        self._input = torch.zeros(2, width, dtype=torch.long, device=device)
        self._recorded: tuple[torch.cuda.CUDAGraph, torch.Tensor] | None = None

    def __call__(self, compute: Compute, ids: Sequence[int], past: int) -> torch.Tensor:
        width = self._input.shape[1]
        # Padding lies after the tokens: none of them looks at it, and what it writes into the
        # cache is written over before it is looked at.
        padded = [*ids, *[0] * (width - len(ids))]
        self._input.copy_(torch.tensor([padded, list(range(past, past + width))]))

        def run() -> torch.Tensor:
            return compute(self._input[0], self._input[1], self._span)

        if self._recorder is None:
            return run()[: len(ids)]
        # Streams and graphs belong to the current device, which need not be the model's.
        with torch.cuda.device(self._input.device):
            if self._recorded is None:
                self._recorded = self._recorder.record(run)
            graph, logits = self._recorded
            graph.replay()
        return logits[: len(ids)]


class _Recorder:
    """Captures passes of one device, which share their memory and so the stream."""

    def __init__(self, device: torch.device) -> None:
        self._pool = torch.cuda.graph_pool_handle()
        self._stream = torch.cuda.Stream(device)

    def record(self, run: Callable[[], torch.Tensor]) -> tuple[torch.cuda.CUDAGraph, torch.Tensor]:
        """Return a graph that does what ``run`` does, and where it puts what ``run`` returns."""
        graph = torch.cuda.CUDAGraph()
        self._stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._stream):
            for _ in range(_WARM_UPS):
                run()
            with torch.cuda.graph(graph, pool=self._pool, stream=self._stream):
                logits = run()
        torch.cuda.current_stream().wait_stream(self._stream)
        return graph, logits


def _width(count: int) -> int:
    return WIDTHS[bisect_left(WIDTHS, count)]
