"""Measures on this machine, each figure beside its limit or its peer, in one run.

python tests/bench.py                 # everything
python tests/bench.py help delta      # some of: help, ask, demo, delta, decode
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
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


def bench_delta(gigabytes: float = 1.6) -> Iterator[str]:
    """``apply-delta`` on generated pairs, beside copying the same bytes."""
    peaks = []
    for size in (gigabytes / 4, gigabytes):
        with tempfile.TemporaryDirectory() as folder:
            line, peak = _apply(Path(folder), size)
            peaks.append(peak)
            yield line
    yield f"peak memory of the larger over the smaller: {peaks[1] / peaks[0]:.2f}"


def _apply(folder: Path, gigabytes: float) -> tuple[str, float]:
    maker = [sys.executable, str(HERE / "weights" / "makers.py")]
    subprocess.run([*maker, "--out", str(folder), "--gigabytes", str(gigabytes)], check=True)
    base, delta, out = folder / "base", folder / "delta", folder / "out"
    arguments = ["--base", str(base), "--delta", str(delta), "--out", str(out)]
    code = (
        "import json, resource, sys\n"
        "from selfee_cli.cli import main\n"
        "try: main()\n"
        "finally: print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, file=sys.stderr)"
    )
    command = [sys.executable, "-c", code, "apply-delta", *arguments, "--json", "--quiet"]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    figures = json.loads(done.stdout)
    peak = int(done.stderr.split()[-1]) / 1024  # MiB
    read, written = figures["bytes_read"], figures["bytes_written"]
    copied = _copy(folder, [base, delta], out)
    seconds = figures["seconds"]
    return (
        f"apply-delta of {figures['parameters'] / 1e6:.0f} M parameters: read {read / 1e9:.2f} GB, "
        f"wrote {written / 1e9:.2f} GB in {seconds:.2f} s, "
        f"{(read + written) / seconds / 1e9:.2f} GB/s, peak {peak:.0f} MiB; "
        f"reading the inputs and copying the output {copied:.2f} s, ratio {seconds / copied:.2f}"
    ), peak


def _copy(folder: Path, inputs: list[Path], output: Path) -> float:
    """Seconds to read the inputs and to copy the output, synced: what any way must spend."""
    began = time.perf_counter()
    buffer = bytearray(1 << 20)
    for directory in inputs:
        for path in directory.glob("*.safetensors"):
            with path.open("rb", buffering=0) as file:
                while file.readinto(buffer):
                    pass
    for path in output.glob("*.safetensors"):
        shutil.copyfile(path, folder / "copy")
        with (folder / "copy").open("rb+") as file:
            os.fsync(file.fileno())
    return time.perf_counter() - began


def bench_decode() -> Iterator[str]:
    """Plain greedy decoding beside transformers' ``generate`` on the same model."""
    import models

    from selfee_cli.tiny.bundle import reconstructed

    yield _decode("tiny (1.5 M)", reconstructed(), 200)
    with tempfile.TemporaryDirectory() as folder:
        path = models.make_model(
            Path(folder) / "m",
            hidden_size=576,
            intermediate_size=1536,
            num_hidden_layers=30,
            num_attention_heads=9,
            num_key_value_heads=3,
            vocab_size=49_152,
            tie_word_embeddings=True,
            max_position_embeddings=2048,
            eos_token_id=49_151,
        )
        yield _decode("random weights (135 M)", path, 64)


def _decode(name: str, path: Path, tokens: int) -> str:
    import torch
    from transformers import AutoModelForCausalLM

    from selfee_cli.engine.decoder import Decoder
    from selfee_cli.engine.loading import load_model
    from selfee_cli.engine.sampling import Sampling

    threads = torch.get_num_threads()
    engine = load_model(path).engine
    prompt = list(range(5, 45))

    def ours() -> float:
        engine.truncate(0)
        decoder = Decoder(engine, Sampling(temperature=0), prompt)
        began = time.perf_counter()
        for _ in range(tokens):
            decoder.sample()
        return tokens / (time.perf_counter() - began)

    fast = median(ours, 3)
    torch.set_num_threads(threads)
    peer = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32)
    ids = torch.tensor([prompt])
    settings = {"do_sample": False, "min_new_tokens": tokens, "max_new_tokens": tokens}

    def generate() -> float:
        began = time.perf_counter()
        peer.generate(ids, attention_mask=torch.ones_like(ids), pad_token_id=0, **settings)
        return tokens / (time.perf_counter() - began)

    slow = median(generate, 3)
    return f"{name}: {fast:.0f} tokens/s, generate {slow:.0f}, ratio {fast / slow:.2f}"


BENCHES = {
    "help": bench_help,
    "ask": bench_ask,
    "demo": bench_demo,
    "delta": bench_delta,
    "decode": bench_decode,
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
