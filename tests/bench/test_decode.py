"""The decode figures: what is measured, that it adds up, and that nothing is claimed besides."""

from __future__ import annotations

import json

import pytest
import torch
from cli import fails, selfee

from selfee_cli.bench.decode import bandwidth
from selfee_cli.bench.random_weights import SHAPES, RandomCheckpoint, load_random, random_peer
from selfee_cli.tiny.bundle import DELTA


def test_the_bundled_model(tmp_path) -> None:
    done = selfee("bench", "decode", "--tokens", "8", "--rounds", "1", "--json", "-q")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["schema"] == "selfee.bench-decode/1"
    shape = json.loads((DELTA / "config.json").read_text("utf-8"))
    embedding = shape["vocab_size"] * shape["hidden_size"]  # of which a token reads one row
    assert found["weight_bytes"] == pytest.approx(4 * (found["parameters"] - embedding), rel=1e-3)
    assert found["limit"] == pytest.approx(found["bandwidth"] / found["weight_bytes"])
    assert found["share_of_limit"] == pytest.approx(found["plain"] / found["limit"])
    assert found["ratio_to_peer"] == pytest.approx(found["plain"] / found["peer"])
    assert found["lookup"]["tokens_per_pass"] > 1
    assert found["lookup"]["tokens"] > 100  # an answer and three revisions


def test_a_table_of_random_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SHAPES, "small", (2, 64, 96, 4, 2, 300))
    engine = load_random("small", device="cpu", dtype="float32", quant="none", context=None)
    assert engine.parameters == RandomCheckpoint("small").parameters
    assert torch.isfinite(engine.forward(list(range(20)))).all()
    peer = random_peer("small", "cpu", "float32")
    assert peer.num_parameters() == engine.parameters


def test_the_true_shapes_are_those_of_selfee() -> None:
    parameters = {name: RandomCheckpoint(name).parameters for name in SHAPES}
    assert parameters["7b"] == 6_738_423_808
    assert parameters["13b"] == 13_015_874_560


def test_reading_memory_takes_time() -> None:
    assert 1e8 < bandwidth(torch.device("cpu")) < 1e12


def test_what_cannot_be_meant() -> None:
    assert "--random 9b" in fails(2, "bench", "decode", "--random", "9b")
    fails(4, "bench", "decode", "--model", "nowhere")
