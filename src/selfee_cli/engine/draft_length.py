"""How many tokens to draft: as many as pay for the wider pass.

A pass over w tokens costs more than one over a single token: little on a GPU, and on a CPU by
steps that differ from machine to machine. How far a draft holds depends on how long the match is
that it is founded on.

What passes cost is learned while they are made, but only in float32 on a CPU. In fewer bits a
token's logits depend on how many others the pass reads, and now and then so does the token. Were
the widths chosen by the clock, the same seed would not give the same chain; by fixed costs they
depend on the text alone. On CUDA there is a second reason: the first pass of a width is captured,
which takes many times as long as the pass.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

_RUNS = (1, 2, 4, 8, 16, 32, 64)
_HOLDS = {
    1: (0.20, 0.10, 0.05, 0.025, 0.014, 0.01, 0.005),
    2: (0.53, 0.30, 0.145, 0.077, 0.05, 0.033, 0.02),
    3: (0.63, 0.45, 0.28, 0.21, 0.17, 0.11, 0.06),
    4: (0.77, 0.57, 0.47, 0.36, 0.31, 0.18, 0.10),
    8: (0.97, 0.95, 0.93, 0.90, 0.85, 0.72, 0.50),
}
"""Length of the match, from here on: chance that 1, 2, 4 ... drafted tokens in a row are right.

Counted on the published chains with three revisions.
"""

WIDTHS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)
"""Tokens of a pass that are considered: those that must be read, the others drafted."""

_CPU_COSTS = (1.0, 1.05, 1.11, 1.6, 1.85, 2.1, 2.15, 2.2, 2.4, 2.6, 3.4, 4.2)
_CPU_COSTS_IN_FEWER_BITS = (1.0, 1.45, 1.9, 2.35, 3.6, 4.8, 7.3, 9.7, 14.5, 19.4, 29.1, 38.8)
"""As int8 was measured. bfloat16 costs more where a CPU has no instructions for it, int4 less."""
_CUDA_COSTS = (1.0,) * len(WIDTHS)
_RENEWAL = 0.2  # weight of the newest pass of a width


class DraftLength:
    """Chooses, and learns from every pass where that leaves the chain as it is."""

    def __init__(self, device: str, dtype: str = "float32", quant: str = "none") -> None:
        """Begin with a guess. Device, format and quantisation are an engine's."""
        exact = dtype == "float32" and quant == "none"
        self._guess = _CUDA_COSTS if device.startswith("cuda") else _CPU_COSTS
        if device == "cpu" and not exact:
            self._guess = _CPU_COSTS_IN_FEWER_BITS
        self._learns = device == "cpu" and exact
        self._seconds: dict[int, float] = {}  # by place in WIDTHS

    def choose(self, match: int, most: int, unread: int = 1) -> int:
        """Return how many tokens to draft after a match of this length, at most ``most``.

        The pass reads ``unread`` tokens, at most the last of ``WIDTHS``, whatever is drafted.
        """
        if match < 1 or most < 1:
            return 0
        costs = self.costs()
        least = bisect_left(WIDTHS, unread)
        best, pays = 0, 1 / costs[least]
        for at in range(least, len(WIDTHS)):
            drafted = WIDTHS[at] - unread
            if drafted > most:
                break
            gain = (1 + _expected(match, drafted)) / costs[at]
            if gain > pays:
                best, pays = drafted, gain
        return best

    def learn(self, width: int, seconds: float) -> None:
        """Take note of what a pass over ``width`` tokens took."""
        at = bisect_left(WIDTHS, width)
        if at == len(WIDTHS) or not self._learns:
            return
        known = self._seconds.get(at)
        renewed = seconds if known is None else known + _RENEWAL * (seconds - known)
        self._seconds[at] = renewed

    def costs(self) -> Sequence[float]:
        """Return what a pass of each of ``WIDTHS`` costs, in one unit: measured where it was."""
        if not self._seconds:
            return self._guess
        # Guesses are scaled to what was measured, and no wider pass is cheaper than a narrower.
        ratios = sorted(s / self._guess[at] for at, s in self._seconds.items())
        scale = ratios[len(ratios) // 2]
        costs: list[float] = []
        for at, guess in enumerate(self._guess):
            costs.append(max([self._seconds.get(at, guess * scale), *costs[-1:]]))
        return costs


def _expected(match: int, drafted: int) -> float:
    """Return how many of ``drafted`` tokens hold on average."""
    holds = _HOLDS[max(least for least in _HOLDS if least <= match)]
    total, before = 0.0, 0
    for run, chance in zip(_RUNS, holds, strict=True):
        counted = min(run, drafted) - before
        if counted <= 0:
            break
        total += counted * chance
        before = run
    return total
