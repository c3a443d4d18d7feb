"""Any model may be studied: the bundled one, in other clothes, writes the same chains."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from cli import selfee
from models import load_plainly

from selfee_cli.api import resolve_model
from selfee_cli.engine.loading import LoadOptions, load_model
from selfee_cli.engine.session import Session
from selfee_cli.errors import ResourceError
from selfee_cli.tiny.decode import write_chains
from selfee_cli.tiny.evaluate import draw_tasks
from selfee_cli.tiny.pace import write_alone
from selfee_cli.tiny.rows import agrees
from selfee_cli.tiny.subject import prepare
from selfee_cli.tiny.tasks import FAMILIES, Part
from selfee_cli.tiny.written import Plan, Written

TASKS = draw_tasks(Part.DEVELOPMENT, 2, FAMILIES)
QUESTIONS = [task.question for task in TASKS]
PLANS = [
    Plan(enforced=2, at_most=2, temperature=0.7, seed=1),
    Plan(temperature=0.7, seed=1),
    Plan(enforced=1, at_most=1, temperature=0.0),
    Plan(at_most=0, temperature=0.7),
]


@pytest.fixture(scope="module")
def tuned() -> Path:
    return resolve_model("tiny")


@pytest.fixture(scope="module")
def expected(tuned: Path) -> list[list[Written]]:
    model = load_plainly(tuned)
    return [write_chains(*model, QUESTIONS, plan) for plan in PLANS]


def test_a_chain_of_a_batch_is_the_one_that_is_written_alone(
    tuned: Path, expected: list[list[Written]]
) -> None:
    for plan, chains in zip(PLANS, expected, strict=True):
        assert write_alone(Session(load_model(tuned)), QUESTIONS, plan) == chains
    assert all(chain.well_formed for chains in expected for chain in chains)


def as_json_only(tuned: Path, path: Path) -> None:
    shutil.copytree(tuned, path)
    (path / "tokenizer.model").unlink()


def as_qwen2(tuned: Path, path: Path) -> None:
    """The same network by another name: its layers have biases, which are zero."""
    from safetensors.torch import load_file, save_file

    as_json_only(tuned, path)
    config = json.loads((path / "config.json").read_text("utf-8"))
    tensors = load_file(path / "model.safetensors")
    for layer in range(config["num_hidden_layers"]):
        for name in ("q_proj", "k_proj", "v_proj"):
            zeros = torch.zeros(config["hidden_size"], dtype=torch.float16)
            tensors[f"model.layers.{layer}.self_attn.{name}.bias"] = zeros
    save_file(tensors, path / "model.safetensors", metadata={"format": "pt"})
    config |= {"model_type": "qwen2", "architectures": ["Qwen2ForCausalLM"]}
    (path / "config.json").write_text(json.dumps(config))


def as_meta(tuned: Path, path: Path) -> None:
    import makers
    from safetensors.torch import load_file

    shape = replace(makers.SMALL, hidden=128, heads=4, layers=6)
    makers.write_meta(path, load_file(tuned / "model.safetensors"), shape)
    shutil.copy(tuned / "tokenizer.model", path)


@pytest.mark.parametrize("disguise", [as_json_only, as_qwen2, as_meta])
@pytest.mark.parametrize("engine", ["auto", "transformers"])
def test_another_layout_or_architecture_writes_the_same(
    disguise: Callable[[Path, Path], None],
    engine: str,
    tuned: Path,
    expected: list[list[Written]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "weights")
    disguise(tuned, tmp_path / "model")
    options = LoadOptions(engine=engine)
    said: list[str] = []
    threads = torch.get_num_threads()
    torch.set_num_threads(2)  # loading a small model may set it to one

    def load() -> Session:
        return Session(load_model(tmp_path / "model", options))

    paces, write = prepare(load, TASKS[:1], (0.0,), batch=4, say=said.append)
    assert torch.get_num_threads() == 2
    torch.set_num_threads(threads)
    assert paces[0.0].chains == 1
    assert said == ["timing a few chains, one at a time"]
    assert write.func is write_chains
    assert [write(QUESTIONS, plan) for plan in PLANS] == expected


def test_what_is_not_read_in_batches_writes_alone(tuned: Path, tmp_path: Path) -> None:
    from transformers import BloomConfig, BloomForCausalLM

    torch.manual_seed(0)
    shape = {"vocab_size": 1281, "hidden_size": 32, "n_layer": 1, "n_head": 2}
    BloomForCausalLM(BloomConfig(**shape)).save_pretrained(tmp_path)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(tuned / name, tmp_path)
    command = ("bench", "revisions", "--model", tmp_path, "--questions", "1", "--temperature", "0")
    done = selfee(*command, "--json")
    assert done.returncode == 0, done.stderr
    assert "one chain at a time, not in batches: this architecture is not read" in done.stderr
    assert json.loads(done.stdout)["temperatures"]["0.0"]["all"]["after"]["6"]["value"] == 0


def test_what_transformers_does_not_take_writes_alone(tuned: Path, tmp_path: Path) -> None:
    model = shutil.copytree(tuned, tmp_path / "model")
    config = json.loads((model / "config.json").read_text("utf-8"))
    (model / "config.json").write_text(json.dumps({**config, "attention_dropout": "none"}))
    said: list[str] = []
    _, write = prepare(
        lambda: Session(load_model(model)), TASKS[:1], (0.0,), batch=4, say=said.append
    )
    assert "not in batches: transformers cannot load" in said[-1]
    assert [chain.well_formed for chain in write(QUESTIONS[:2], PLANS[0])] == [True, True]


def test_one_at_a_time_where_that_is_asked() -> None:
    def figures(*flags: str) -> dict[str, Any]:
        command = ("bench", "revisions", "--questions", "1", "--seeds", "1", "--temperature", "0")
        done = selfee(*command, "--part", "development", "--json", *flags)
        assert done.returncode == 0, done.stderr
        found: dict[str, Any] = json.loads(done.stdout)["temperatures"]["0.0"]
        return found

    batched = figures()
    assert figures("--batch", "0") == figures("--engine", "native") == batched
    assert figures("--quant", "int8")["all"]["after"]["3"]["value"] >= 0.8


def test_fewer_bits_are_read_in_rows_too(tuned: Path) -> None:
    network, _ = load_plainly(tuned)
    for dtype in (torch.bfloat16, torch.float16):
        assert agrees(network.to(dtype))


def test_memory_that_runs_out_is_told(tuned: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network, tokenizer = load_plainly(tuned)

    def full(*_: object, **__: object) -> object:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate")

    monkeypatch.setattr(type(network.lm_head), "forward", full)
    with pytest.raises(ResourceError, match=r"the memory of cpu ran out with \d+ chains") as told:
        write_chains(network, tokenizer, QUESTIONS, PLANS[0])
    assert told.value.hint == "--batch takes fewer at once"
