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
        self._body.add_rows(rows[:, : self._grouped])
        if self._grouped < rows.shape[1]:
            for at, row in enumerate(rows[:, self._grouped :], self._seen):
                if at < self._rows - self._rows % _LANES:
                    self._lanes[at % _LANES].add(row)
                else:
                    self._late.append(row.copy())
        self._seen += len(rows)

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

    def add_rows(self, rows: Floats) -> None:
        """Take rows; whole steps at once, since numpy adds along axis 0 one row after the other."""
        step, at = 1 << self._power, 0
        while at < len(rows):
            if self._seen % step == 0 and at + step <= len(rows):
                self._sums[0] += np.add.reduce(rows[at : at + step], axis=0)
                self._seen += step
                self._spill()
                at += step
            else:
                self.add(rows[at])
                at += 1

    def add(self, row: Floats) -> None:
        self._sums[0] += row
        self._seen += 1
        self._spill()

    def _spill(self) -> None:
        """Move full accumulators into the next ones."""
        sums = self._sums
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
