"""Damaged checkpoints by the hundred: refused with one line, or read as everybody reads them."""

from __future__ import annotations

import os
import random
import re
import shutil
from collections import Counter
from pathlib import Path

import damage
import numpy as np
import pytest
import torch
from makers import SMALL, oracle, random_tensors, raw, write_checkpoint
from safetensors.torch import load_file

from selfee_cli.errors import SelfeeError
from selfee_cli.weights.checkpoint import open_checkpoint
from selfee_cli.weights.delta import apply_delta, plan_delta

LAYOUTS = [("safetensors", 1), ("safetensors", 2), ("bin", 1), ("bin", 2), ("meta", 1), ("meta", 2)]
ROUNDS = int(os.environ.get("SELFEE_DAMAGE_ROUNDS", "60"))  # of each layout
SEED = int(os.environ.get("SELFEE_DAMAGE_SEED", "0"))
CLEAR, STATUS = Path("/proc/self/clear_refs"), Path("/proc/self/status")
GROWTH = 128  # MiB of memory that a damaged file of a few kB may cost


@pytest.fixture(scope="module", params=LAYOUTS, ids=lambda p: f"{p[0]}-{p[1]}")
def sound(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sound pair whose base has the layout; and what comes of it."""
    layout, shards = request.param
    folder = tmp_path_factory.mktemp("sound") / f"{layout}-{shards}"
    base = random_tensors(SMALL, seed=1)
    delta = random_tensors(SMALL, seed=2, delta=True, rows_more=1, dtype="float32")
    write_checkpoint(folder / "base", base, SMALL, layout, shards=shards)
    other = "safetensors" if layout == "meta" else layout
    write_checkpoint(folder / "delta", delta, SMALL, other, shards=shards, rows_more=1)
    return folder


def independent(path: Path) -> dict[str, torch.Tensor] | None:
    """What the format's own library reads in a directory of Hugging Face's layouts."""
    tensors: dict[str, torch.Tensor] = {}
    for file in damage.weight_files(path):
        if file.suffix == ".safetensors":
            tensors |= load_file(file)
        elif file.suffix == ".bin":
            tensors |= torch.load(file, weights_only=True)
        else:
            return None
    return tensors


def result(folder: Path) -> dict[str, np.ndarray]:
    with open_checkpoint(folder / "out") as made:
        return {name: made.read(name) for name in made.tensors}


def same(found: dict[str, np.ndarray], wanted: dict[str, torch.Tensor]) -> bool:
    return found.keys() == wanted.keys() and all(
        np.array_equal(found[name], raw(tensor)) for name, tensor in wanted.items()
    )


def forget_peak() -> None:
    """Let the peak of this process's memory begin anew (Linux; elsewhere it stays)."""
    if CLEAR.exists():
        CLEAR.write_text("5")


def peak() -> float:
    """The peak of this process's memory, in MiB; 0 where the system does not tell."""
    found = re.search(r"VmHWM:\s+(\d+) kB", STATUS.read_text()) if STATUS.exists() else None
    return int(found[1]) / 1024 if found else 0.0


def test_the_peak_can_begin_anew() -> None:
    if not CLEAR.exists():
        pytest.skip("only Linux tells")
    bytearray(300 << 20)
    high = peak()
    forget_peak()
    before = peak()
    assert before < high - 200
    bytearray(300 << 20)
    assert peak() > before + 200


def test_damage_is_refused_or_harmless(sound: Path, tmp_path: Path) -> None:
    base = random_tensors(SMALL, seed=1)
    delta = random_tensors(SMALL, seed=2, delta=True, rows_more=1, dtype="float32")
    untouched = oracle(base, delta, "float16")
    rng = random.Random(f"{sound.name} {SEED}")
    forget_peak()
    before = peak()
    outcomes: Counter[str] = Counter()
    for number in range(ROUNDS):
        folder = tmp_path / str(number)
        shutil.copytree(sound, folder)
        side = folder / rng.choice(["base", "base", "delta"])
        how = rng.choice(damage.DAMAGES)
        how(side, rng)
        try:
            apply_delta(plan_delta(folder / "base", folder / "delta"), folder / "out")
        except SelfeeError as error:
            outcomes[type(error).__name__] += 1
            assert "\n" not in error.message, error.message
            left = {path.name for path in folder.iterdir()}
            assert left == {"base", "delta"}, f"{how.__name__} left {left}"
        else:
            outcomes["accepted"] += 1
            if not same(result(folder), untouched):
                read = independent(folder / "base"), independent(folder / "delta")
                assert None not in read, f"{how.__name__}: a wrong result was accepted"
                assert same(result(folder), oracle(*read, "float16")), how.__name__
        shutil.rmtree(folder)
    assert peak() - before < GROWTH
    print(sound.name, dict(outcomes))
    assert outcomes["accepted"] < 0.5 * ROUNDS, outcomes
