"""``apply-delta`` measured on generated weights, beside a plain copy and the common ways.

Each way is a process of its own and ends when its files are on the disk. All start from files that
were just written, which the system still holds in memory where it has room: so the work is
measured, not the disk's reading. A round measures every way once, one after another, so that
whatever else the machine does falls on all alike.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from selfee_cli.bench.figures import Measured, Way
from selfee_cli.bench.process import Run, run_measured
from selfee_cli.bench.synthetic import INPUT_BYTES, PairShape, shape_for, write_pair
from selfee_cli.engine.memory import available_memory
from selfee_cli.errors import NotFoundError, ResourceError, SelfeeError, UsageError
from selfee_cli.weights.checkpoint import open_checkpoint
from selfee_cli.weights.digests import Advance, ignore_progress
from selfee_cli.weights.dtypes import byte_view
from selfee_cli.weights.storage import row_ranges

DEFAULT_GIGABYTES = 1.7
LEAST_GIGABYTES = 0.002
_MOST_GIGABYTES = 1_000_000  # more than any disk holds
_SLACK = 256 << 20  # bytes of disk left free
_HASH_ELEMENTS = 1 << 18


OURS = Way(name="apply-delta", title="selfee apply-delta")
COPY = Way(name="copy", title="plain copy of the same bytes")
PEERS = (
    Way(
        name="transformers",
        title="transformers, both models in memory",
        bytes_per_parameter=8.5,  # two models in float32, and some on the way
        bytes_besides=900 << 20,
    ),
    Way(
        name="mapped",
        title="memory-mapped safetensors, tensor by tensor",
        bytes_per_parameter=2.5,  # the whole sum in float16, and a tensor three times
        bytes_besides=500 << 20,
    ),
)


@dataclass(frozen=True, kw_only=True)
class DeltaBench:
    """What will be measured, decided before any work."""

    shape: PairShape
    rounds: int
    peers: bool
    directory: Path
    """Where the temporary directory is to be."""
    shrunk: bool
    """Whether the default size did not fit this machine."""
    warm: bool
    """Whether the inputs fit in the memory there is."""


@dataclass(frozen=True, kw_only=True)
class DeltaFigures:
    """Every way's figures; ours first, then the copy, then the peers."""

    bench: DeltaBench
    ways: tuple[Measured, ...]

    @property
    def bytes_moved(self) -> int:
        """Bytes that a way reads and writes."""
        return self.bench.shape.input_bytes + self.bench.shape.output_bytes

    def ratio(self, measured: Measured) -> float | None:
        """Give a way's time as a multiple of the copy's."""
        limit = next((m.median for m in self.ways if m.way is COPY), None)
        return measured.median / limit if measured.median and limit else None

    def rate(self, measured: Measured) -> float | None:
        """Give the bytes a second that a way reads and writes."""
        return self.bytes_moved / measured.median if measured.median else None


def plan_bench(
    *,
    gigabytes: float | None = None,
    rounds: int = 3,
    peers: bool = True,
    directory: Path | None = None,
) -> DeltaBench:
    """Choose the size: what is asked for, or the default, or what of it the machine holds.

    Args:
        gigabytes: Of base and delta together, in 10**9 bytes; None for the default.
        rounds: How often each way is measured.
        peers: Whether to measure the common ways too.
        directory: On which disk; None for the system's place of temporary files.

    Raises:
        UsageError: A size or a number of rounds that cannot be meant.
        NotFoundError: The directory is not there.
        ResourceError: The size asked for, or the smallest, does not fit on the disk.
    """
    directory = Path(tempfile.gettempdir()) if directory is None else directory
    if not directory.is_dir():
        raise NotFoundError(f"there is no directory {directory}", hint="make it first")
    if rounds < 1:
        raise UsageError(f"--rounds {rounds} measures nothing", hint="1 or more")
    if gigabytes is not None and not gigabytes >= LEAST_GIGABYTES:  # as what is not a number
        raise UsageError(
            f"--gigabytes {gigabytes:g} is too small or no size", hint=f"{LEAST_GIGABYTES} or more"
        )
    if gigabytes is not None and gigabytes > _MOST_GIGABYTES:
        raise UsageError(
            f"--gigabytes {gigabytes:g} is too large", hint=f"{_MOST_GIGABYTES:,} or less"
        )
    memory = available_memory()
    on_disk = (shutil.disk_usage(directory).free - _SLACK) * 3 / 4  # the output is a third more
    wanted = (gigabytes or DEFAULT_GIGABYTES) * 1e9
    fits = on_disk if gigabytes else min(on_disk, _fits_memory(memory, peers))
    if fits < wanted and (gigabytes or fits < LEAST_GIGABYTES * 1e9):
        raise ResourceError(
            f"{directory} has room for {max(0.0, on_disk) / 1e9:.3f} GB of inputs, "
            f"not for {wanted / 1e9:g}",
            hint="a smaller --gigabytes, or --dir on another disk",
        )
    shape = shape_for(min(wanted, fits))
    return DeltaBench(
        shape=shape,
        rounds=rounds,
        peers=peers,
        directory=directory,
        shrunk=fits < wanted,
        warm=memory is None or shape.input_bytes + shape.output_bytes < memory,
    )


def _fits_memory(memory: int | None, peers: bool) -> float:
    """Give the bytes of inputs with which every peer fits in memory, the smallest at least."""
    if memory is None or not peers:
        return float("inf")
    largest = max(PEERS, key=lambda way: way.bytes_per_parameter)
    parameters = (memory - largest.bytes_besides) / largest.bytes_per_parameter
    return max(LEAST_GIGABYTES * 1e9, parameters * INPUT_BYTES)


@contextmanager
def measuring(bench: DeltaBench) -> Iterator[DeltaRun]:
    """Give what measures, in a temporary directory that is gone when the block ends."""
    with tempfile.TemporaryDirectory(prefix="selfee-bench-", dir=bench.directory) as folder:
        yield DeltaRun(bench, Path(folder))


class _Failed(Exception):  # noqa: N818  (a way's, told in its row)
    def __init__(self, why: str, *, out_of_resources: bool = False) -> None:
        super().__init__(why)
        self.out_of_resources = out_of_resources


class DeltaRun:
    """Measures every way: call :meth:`warm_up`, :meth:`write_inputs` and :meth:`rounds`, in order.

    A peer that fails is told in its figures and not tried again. Where ``apply-delta`` or the copy
    fail they raise :class:`~selfee_cli.errors.SelfeeError`.
    """

    def __init__(self, bench: DeltaBench, folder: Path) -> None:
        self._bench = bench
        self._folder = folder
        self._inputs = folder, folder
        self._ways = [OURS, COPY, *(PEERS if bench.peers else ())]
        self._figures = {way: Measured(way=way) for way in self._ways}
        self._ours: dict[str, str] = {}

    def warm_up(self) -> None:
        """Let each way run on a few bytes, so that its libraries are read from the disk."""
        shape = shape_for(LEAST_GIGABYTES * 1e9)
        self._inputs = write_pair(self._folder / "few", shape)
        for way in self._ways:
            self._try(way, shape)
        self._ours = {}
        for way, figures in self._figures.items():
            self._figures[way] = Measured(way=way, failure=figures.failure)

    def write_inputs(self, progress: Advance = ignore_progress) -> None:
        """Write base and delta.

        ``progress`` is told how many more of ``bench.shape.input_bytes`` were written.
        """
        self._inputs = write_pair(self._folder / "pair", self._bench.shape, progress)

    def rounds(self) -> Iterator[str]:
        """Measure every way, round by round; yield a line about each run."""
        for number in range(1, self._bench.rounds + 1):
            for way in self._ways:
                if self._figures[way].failure is None:
                    outcome = self._try(way, self._bench.shape)
                    yield f"round {number} of {self._bench.rounds}: {way.title}: {outcome}"

    def figures(self) -> DeltaFigures:
        """Give what was measured."""
        return DeltaFigures(bench=self._bench, ways=tuple(self._figures.values()))

    def _try(self, way: Way, shape: PairShape) -> str:
        """Run a way once and give its time, or why it failed, as text."""
        try:
            return f"{self._measure(way, shape):.2f} s"
        except _Failed as failed:
            if way not in PEERS:
                kind = ResourceError if failed.out_of_resources else SelfeeError
                raise kind(f"{way.title} failed: {failed}") from None
            self._figures[way] = Measured(way=way, failure=str(failed))
            return str(failed)
        finally:
            shutil.rmtree(self._folder / "out", ignore_errors=True)

    def _measure(self, way: Way, shape: PairShape) -> float:
        memory, needed = available_memory(), way.memory(shape)
        if memory is not None and needed > memory:
            # It would push out, or end, whatever else is running.
            free = f"{memory / 1e9:.1f} GB are free"
            raise _Failed(f"not tried: needs {needed / 1e9:.1f} GB of memory, {free}")
        run = run_measured(self._command(way))
        if run.failure is not None:
            raise _Failed(run.failure, out_of_resources=run.exit_code in (5, -9))
        self._add(way, run)
        return run.seconds

    def _command(self, way: Way) -> list[str]:
        places = [str(path) for path in (*self._inputs, self._folder / "out")]
        if way is not OURS:
            return [sys.executable, "-m", "selfee_cli.bench.ways", way.name, *places]
        base, delta, out = places
        options = ["--base", base, "--delta", delta, "--out", out, "--json", "--quiet"]
        return [sys.executable, "-m", "selfee_cli", "apply-delta", *options]

    def _add(self, way: Way, run: Run) -> None:
        figures = self._figures[way]
        work = float(json.loads(run.out.splitlines()[-1])["seconds"])
        cpu = run.cpu_seconds
        peaks = [peak for peak in (figures.peak_bytes, run.peak_bytes) if peak is not None]
        figures = replace(
            figures,
            seconds=(*figures.seconds, run.seconds),
            work_seconds=(*figures.work_seconds, work),
            cpu_seconds=figures.cpu_seconds if cpu is None else (*figures.cpu_seconds, cpu),
            peak_bytes=max(peaks, default=None),
        )
        if way is not COPY:
            try:
                found = _tensor_digests(self._folder / "out")
            except SelfeeError as error:
                raise _Failed(f"what it wrote cannot be read: {error.message}") from None
            self._ours = self._ours or found
            names = self._ours.keys() | found.keys()
            different = sum(found.get(name) != self._ours.get(name) for name in names)
            different = max(different, figures.different or 0)
            figures = replace(figures, tensors=len(names), different=different)
        self._figures[way] = figures


def _tensor_digests(directory: Path) -> dict[str, str]:
    """Give type, shape and digest of the bytes of every tensor, from the files themselves."""
    found = {}
    with open_checkpoint(directory) as checkpoint:
        for name, info in checkpoint.tensors.items():
            digest = hashlib.sha256(f"{info.dtype.value} {info.shape}".encode())
            for start, stop in row_ranges(info, _HASH_ELEMENTS):
                digest.update(byte_view(checkpoint.read_rows(name, start, stop)))
            found[name] = digest.hexdigest()
    return found
