"""The decode figures: what is measured, that it adds up, and that nothing is claimed besides."""

from __future__ import annotations

import json
import subprocess
import sys
import weakref
from pathlib import Path

import models
import pytest
import torch
from cli import fails, selfee

from selfee_cli.api import load
from selfee_cli.bench import decode, random_weights
from selfee_cli.bench.bandwidth import bandwidth
from selfee_cli.bench.decode import measure_model, measure_random
from selfee_cli.bench.random_weights import SHAPES, RandomCheckpoint, load_random, random_peer
from selfee_cli.commands.bench_decode import _decode_table
from selfee_cli.engine import loading
from selfee_cli.errors import ResourceError, UsageError
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
    assert found["peer_fits"] is True


def test_a_table_of_random_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SHAPES, "small", (2, 64, 96, 4, 2, 300))
    engine = load_random("small", device="cpu", dtype="float32", quant="none", context=None)
    assert engine.parameters == RandomCheckpoint("small").parameters
    assert torch.isfinite(engine.forward(list(range(20)))).all()
    peer = random_peer("small", "cpu", "float32")
    assert peer.num_parameters() == engine.parameters


def test_the_peer_is_made_in_its_format(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SHAPES, "small", (2, 64, 96, 4, 2, 300))
    peer = random_peer("small", "cpu", "bfloat16")
    assert {parameter.dtype for parameter in peer.parameters()} == {torch.bfloat16}
    # What was made in float32 and converted would have converted this too.
    assert peer.model.rotary_emb.inv_freq.dtype is torch.float32
    assert torch.get_default_dtype() is torch.float32


def test_random_weights_need_room_as_a_model_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "free_memory", lambda device: 1 << 20)
    with pytest.raises(ResourceError, match=r"0\.0 GB free"):
        load_random("135m", device="cpu", dtype="float32", quant="none", context=None)


@pytest.mark.parametrize("fits", [True, False])
def test_the_peer_has_the_memory_of_random_weights(
    monkeypatch: pytest.MonkeyPatch, fits: bool
) -> None:
    monkeypatch.setitem(SHAPES, "small", (2, 64, 96, 4, 2, 300))
    engines = []

    def watched(name: str, **settings: object):
        engines.append(weakref.ref(engine := load_random(name, **settings)))
        return engine

    def peer(*shape: str):
        assert [engine() for engine in engines] == [None]
        if not fits:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB")
        return random_peer(*shape)

    monkeypatch.setattr(random_weights, "load_random", watched)
    monkeypatch.setattr(random_weights, "random_peer", peer)
    how = {"device": "cpu", "dtype": "float32", "quant": "none", "context": None}
    found = measure_random("small", tokens=2, rounds=1, peer=True, **how)
    assert found.peer_fits is fits
    assert (found.peer is None) is not fits
    assert found.plain > 0 < found.bandwidth
    shown = {row[0]: row[1] for row in _decode_table(found).rows}
    assert ("transformers generate: no memory for it" in shown) is not fits
    assert found.to_json()["ratio_to_peer"] is None or fits


def test_the_peer_has_the_memory_of_a_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, engines = models.make_model(tmp_path / "small"), []
    monkeypatch.setattr(decode, "_CHAIN", 40)
    load_peer = decode._load_peer

    def watched():
        session = load(path)
        engines.append(weakref.ref(session.model.engine))
        return session

    def peer(*made: object):
        assert [engine() for engine in engines] == [None]
        return load_peer(*made)

    monkeypatch.setattr(decode, "_load_peer", peer)
    found = measure_model(watched, tokens=2, rounds=1, question="Name 3 colours.", peer=True)
    assert found.peer_fits is True
    assert found.lookup is not None


def test_a_peer_that_cannot_load_the_model_is_a_row(tmp_path: Path) -> None:
    config = models.make_model(tmp_path) / "config.json"
    told = {**json.loads(config.read_text("utf-8")), "attention_dropout": "none"}
    config.write_text(json.dumps(told))  # which our own engine has no use for
    command = ("bench", "decode", "--model", tmp_path, "--tokens", "2", "--rounds", "1")
    done = selfee(*command, "--context", "256", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["plain"] > 0 < found["lookup"]["tokens"]
    assert "transformers cannot load" in found["peer_failure"]
    assert (found["peer"], found["peer_fits"], found["ratio_to_peer"]) == (None, None, None)
    table = selfee(*command, "--context", "256").stdout
    assert "transformers generate: cannot load it" in table


def test_as_many_tokens_as_the_context_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SHAPES, "small", (2, 64, 96, 4, 2, 300))
    how = {"device": "cpu", "dtype": "float32", "quant": "none", "context": 128}
    found = measure_random("small", tokens=64, rounds=1, peer=False, **how)
    assert found.plain > 0
    with pytest.raises(UsageError, match="exceed the context of 128") as refused:
        measure_random("small", tokens=65, rounds=1, peer=False, **how)
    assert refused.value.hint == "--tokens 64 is the most"
    command = ("bench", "decode", "--without-peers", "--rounds", "1")
    assert "--tokens 1984 is the most" in fails(2, *command, "--tokens", "2000")


def test_the_true_shapes_are_those_of_selfee() -> None:
    parameters = {name: RandomCheckpoint(name).parameters for name in SHAPES}
    assert parameters["7b"] == 6_738_423_808
    assert parameters["13b"] == 13_015_874_560


def test_reading_memory_takes_time() -> None:
    assert 1e8 < bandwidth(torch.device("cpu")) < 1e12


def test_memory_is_read_where_there_is_room() -> None:
    """In a process that may take 96 MB more, less than is read elsewhere."""
    code = (
        "import resource, torch\n"
        "from selfee_cli.bench.bandwidth import bandwidth\n"
        "from selfee_cli.engine import placement\n"
        "cpu = torch.device('cpu')\n"
        "torch.ones(1 << 20).sum().item()\n"  # threads and their stacks are there from now on
        "used = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize()\n"
        "resource.setrlimit(resource.RLIMIT_AS, (used + (96 << 20),) * 2)\n"
        "none = bandwidth(cpu)\n"
        "placement.free_memory = lambda device: 64 << 20\n"
        "print(none, bandwidth(cpu))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    none, some = map(float, done.stdout.split())
    assert none == 0
    assert some > 0


def test_what_cannot_be_meant() -> None:
    assert "--random 9b" in fails(2, "bench", "decode", "--random", "9b")
    fails(4, "bench", "decode", "--model", "nowhere")
