"""What ``selfee bench delta`` measures: a way's figures, without how they are come by."""

from __future__ import annotations

import statistics
from dataclasses import dataclass

from selfee_cli.bench.synthetic import PairShape


@dataclass(frozen=True, kw_only=True)
class Way:
    """A way to base + delta, with the memory it needs at least."""

    name: str
    title: str
    bytes_per_parameter: float = 0.0
    bytes_besides: int = 0

    def memory(self, shape: PairShape) -> int:
        """Bytes that cannot be given up while it works."""
        return int(self.bytes_per_parameter * shape.parameters) + self.bytes_besides


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One way's figures; empty where it failed."""

    way: Way
    seconds: tuple[float, ...] = ()
    """Of the whole process, a number a round."""
    work_seconds: tuple[float, ...] = ()
    """The same without starting Python, importing and planning."""
    cpu_seconds: tuple[float, ...] = ()
    """Of all threads: what other programs take away does not count. Empty where not told."""
    peak_bytes: int | None = None
    """Most memory resident in any round, mapped files included."""
    tensors: int = 0
    different: int | None = None
    """Tensors whose bits are not those of ours; None where there is nothing to compare."""
    failure: str | None = None

    @property
    def median(self) -> float | None:
        """Median seconds of the whole process."""
        return statistics.median(self.seconds) if self.seconds else None

    @property
    def cpu_median(self) -> float | None:
        """Median seconds of processor time."""
        return statistics.median(self.cpu_seconds) if self.cpu_seconds else None

    @property
    def start_median(self) -> float | None:
        """Median seconds until the work begins."""
        pairs = zip(self.seconds, self.work_seconds, strict=True)
        return statistics.median(whole - work for whole, work in pairs) if self.seconds else None
