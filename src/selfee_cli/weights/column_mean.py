"""The mean of rows in float32 with the very bits of ``torch.mean(0)`` on a CPU, in one pass.

SelFee's training added the ``[PAD]`` row as the mean of the other rows, computed by torch in
float32. Float addition depends on its order, so the order is kept: torch sums each column down the
rows into the lowest of four accumulators, which spills into the next one every ``2**power`` rows,
that one likewise, and at the end adds the four and divides. It takes 32 columns at a time (4 of a
matrix narrower than one vector); what is left over it sums in four interleaved lanes, each such a
cascade, and adds the lanes. A single column, which torch sums in yet another way, is not covered.
"""

from __future__ import annotations

import numpy as np

from selfee_cli.weights.dtypes import Floats

_LEVELS = 4
_VECTOR = 8  # columns
_LANES = 4


class ColumnMean:
    """Takes ``rows`` rows of ``columns`` float32 values, in order; gives each column's mean."""

    def __init__(self, rows: int, columns: int) -> None:
        self._rows = rows
        group = 4 * _VECTOR if columns >= _VECTOR else 4
        self._grouped = columns - columns % group
        self._body = _Cascade(rows, self._grouped)
        self._lanes = [_Cascade(rows // _LANES, columns - self._grouped) for _ in range(_LANES)]
        self._late: list[Floats] = []  # rows past the last whole round of lanes
        self._seen = 0

    def add(self, rows: Floats) -> None:
        """Take the next rows, of shape (n, columns)."""
        has_tail = self._grouped < rows.shape[1]
        for row in rows:
            self._body.add(row[: self._grouped])
            if has_tail and self._seen < self._rows - self._rows % _LANES:
                self._lanes[self._seen % _LANES].add(row[self._grouped :])
            elif has_tail:
                self._late.append(row[self._grouped :].copy())
            self._seen += 1

    def mean(self) -> Floats:
        """Give the mean, of shape (columns,), once every row was added."""
        if self._seen != self._rows:
            raise ValueError(f"{self._seen} of {self._rows} rows were added")
        first, *others = [lane.total() for lane in self._lanes]
        for row in self._late:
            first += row
        for other in others:
            first += other
        sums = np.concatenate([self._body.total(), first])
        mean: Floats = np.divide(sums, np.float32(self._rows), dtype=np.float32)
        return mean


class _Cascade:
    def __init__(self, rows: int, columns: int) -> None:
        bits = max(rows - 1, 0).bit_length()  # ceil(log2(rows))
        self._power = max(4, bits // _LEVELS)
        self._sums = np.zeros((_LEVELS, columns), np.float32)
        self._seen = 0

    def add(self, row: Floats) -> None:
        sums = self._sums
        sums[0] += row
        self._seen += 1
        step_mask = (1 << self._power) - 1
        if self._seen & step_mask:
            return
        for level in range(1, _LEVELS):
            sums[level] += sums[level - 1]
            sums[level - 1] = 0
            if self._seen & (step_mask << (level * self._power)):
                break

    def total(self) -> Floats:
        total: Floats = self._sums[0].copy()
        for level in range(1, _LEVELS):
            total += self._sums[level]
        return total
