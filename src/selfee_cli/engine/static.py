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
from typing import Any

import torch

WIDTHS = (1, 2, 4, 8, 16, 32, 64)
"""Tokens of a pass."""
_LEAST_SPAN = 256
_WARM_UPS = 2  # runs before a capture: kernels choose their algorithms, libraries their memory

Compute = Callable[[torch.Tensor, torch.Tensor, int], torch.Tensor]
"""Tokens (width,), their positions (width,) and a span of the cache to logits (width, vocab)."""


class StaticPasses:
    """Runs passes of up to 64 tokens by ``compute``, captured on CUDA.

    The cache that ``compute`` reads and writes must stay where it is and hold the whole context.
    """

    def __init__(self, compute: Compute, device: torch.device, context_length: int) -> None:
        self._compute, self._device = compute, device
        self._context_length = context_length
        self._passes: dict[tuple[int, int], _Pass] = {}
        self._pool = torch.cuda.graph_pool_handle() if device.type == "cuda" else None

    def takes(self, past: int, count: int) -> bool:
        """Whether ``count`` tokens after ``past`` fit into a width, padding included."""
        return count <= WIDTHS[-1] and past + _width(count) <= self._context_length

    def __call__(self, ids: Sequence[int], past: int) -> torch.Tensor:
        """Return the logits of each of ``ids``, which follow ``past`` cached tokens."""
        width = _width(len(ids))
        span = self._span(past + width)
        if (width, span) not in self._passes:
            self._passes[width, span] = _Pass(self._compute, width, span, self._device, self._pool)
        return self._passes[width, span](ids, past)

    def _span(self, needed: int) -> int:
        """The least span of powers of two that holds ``needed`` tokens."""
        span = _LEAST_SPAN
        while span < needed:
            span *= 2
        return min(span, self._context_length)


class _Pass:
    """One width and span."""

    def __init__(
        self,
        compute: Compute,
        width: int,
        span: int,
        device: torch.device,
        pool: Any,
    ) -> None:
        self._compute, self._span, self._pool = compute, span, pool
        self._input = torch.zeros(2, width, dtype=torch.long, device=device)
        self._graph: torch.cuda.CUDAGraph | None = None
        self._logits: torch.Tensor | None = None

    def __call__(self, ids: Sequence[int], past: int) -> torch.Tensor:
        width = self._input.shape[1]
        # Padding lies after the tokens: none of them looks at it, and what it writes into the
        # cache is written over before it is looked at.
        padded = [*ids, *[0] * (width - len(ids))]
        self._input.copy_(torch.tensor([padded, list(range(past, past + width))]))
        if self._pool is None:
            return self._run()[: len(ids)]
        if self._graph is None:
            self._capture(self._pool)
        else:
            self._graph.replay()
        assert self._logits is not None
        return self._logits[: len(ids)]

    def _run(self) -> torch.Tensor:
        return self._compute(self._input[0], self._input[1], self._span)

    def _capture(self, pool: Any) -> None:
        """Compute what lies in the buffers, and record how."""
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(_WARM_UPS):
                self._run()
        torch.cuda.current_stream().wait_stream(side)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph, pool=pool):
            self._logits = self._run()
        self._graph.replay()


def _width(count: int) -> int:
    return WIDTHS[bisect_left(WIDTHS, count)]
