"""Measures on this machine, each figure beside its limit or its peer, in one run.

python tests/bench.py                 # everything
python tests/bench.py help demo       # some of: help, ask, demo, layouts, dry-run
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

HERE = Path(__file__).parent
INSTALLED = Path(sys.executable).with_name("selfee")
SELFEE = [str(INSTALLED)] if INSTALLED.exists() else [sys.executable, "-m", "selfee_cli"]
# A user's files are left alone: the bundled model is reconstructed in a folder of our own.
os.environ["SELFEE_HOME"] = tempfile.mkdtemp(prefix="selfee-bench-")


def timed(command: list[str]) -> float:
    began = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - began


def median(measure: Callable[[], float], rounds: int = 5) -> float:
    return statistics.median(measure() for _ in range(rounds))


def bench_help() -> Iterator[str]:
    """``selfee --help`` beside a bare Python."""
    timed([*SELFEE, "--help"])
    ours = median(lambda: timed([*SELFEE, "--help"]), 9)
    bare = median(lambda: timed([sys.executable, "-c", "pass"]), 9)
    yield f"selfee --help {ours:.3f} s, bare Python {bare:.3f} s: {ours - bare:.3f} s over it"


def bench_ask() -> Iterator[str]:
    """From pressing enter to the first piece of text, beside importing torch."""
    command = [*SELFEE, "ask", "Add 48 and 57.", "--jsonl", "--quiet", "--seed", "1"]
    subprocess.run(command, check=True, capture_output=True)  # reconstructs the bundled model

    def first_text() -> float:
        began = time.perf_counter()
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            for line in process.stdout:
                if json.loads(line)["type"] == "text":
                    passed = time.perf_counter() - began
                    break
            process.stdout.read()
        return passed

    ours = median(first_text)
    torch = median(lambda: timed([sys.executable, "-c", "import torch"]))
    yield f"first text of selfee ask {ours:.2f} s, import torch alone {torch:.2f} s"


def bench_demo() -> Iterator[str]:
    """The whole demo, the bundled model reconstructed."""
    yield f"selfee demo {median(lambda: timed([*SELFEE, 'demo']), 3):.2f} s"


def bench_layouts() -> Iterator[str]:
    """Peak memory of ``apply-delta`` by the layout of its inputs."""
    sys.path.insert(0, str(HERE / "weights"))
    import makers

    from selfee_cli.bench.process import run_measured

    shape = makers.Shape(vocabulary=32_000, hidden=1024, mlp=2752, layers=6, heads=8, kv_heads=8)
    base = makers.random_tensors(shape, seed=1)
    delta = makers.random_tensors(shape, seed=2, delta=True, rows_more=1, dtype="float32")
    for layout in ("safetensors", "bin", "meta"):
        other = "bin" if layout == "meta" else layout  # a delta of Meta's layout there is none
        with tempfile.TemporaryDirectory() as folder:
            places = [Path(folder) / name for name in ("base", "delta", "out")]
            makers.write_checkpoint(places[0], base, shape, layout, shards=2)
            makers.write_checkpoint(places[1], delta, shape, other, shards=2, rows_more=1)
            flags = zip(("--base", "--delta", "--out"), map(str, places), strict=True)
            run = run_measured([*SELFEE, "apply-delta", *(part for pair in flags for part in pair)])
            yield f"{layout} base, {other} delta: peak {run.peak_bytes / (1 << 20):.0f} MiB"


def bench_dry_run() -> Iterator[str]:
    """``apply-delta --dry-run`` on the shapes of SelFee-13B, in files that take hardly any disk."""
    sys.path.insert(0, str(HERE / "weights"))
    import makers

    with tempfile.TemporaryDirectory() as folder:
        base = makers.write_sparse(Path(folder) / "base", makers.SELFEE_13B)
        delta = makers.write_sparse(Path(folder) / "delta", makers.SELFEE_13B, delta=True)
        pair = ["--base", str(base), "--delta", str(delta), "--out", str(Path(folder) / "out")]
        seconds = median(lambda: timed([*SELFEE, "apply-delta", *pair, "--dry-run"]))
        yield f"selfee apply-delta --dry-run, 13B: {seconds:.2f} s"


BENCHES = {
    "help": bench_help,
    "ask": bench_ask,
    "demo": bench_demo,
    "layouts": bench_layouts,
    "dry-run": bench_dry_run,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", choices=[*BENCHES, []], metavar="NAME")
    sys.path.insert(0, str(HERE))
    for name in parser.parse_args().names or BENCHES:
        for line in BENCHES[name]():
            print(line, flush=True)


if __name__ == "__main__":
    main()
