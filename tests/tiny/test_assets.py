"""The bundled files: size, layout, base + delta, and that the model does what it is for."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import models
import pytest
import torch

from selfee_cli.protocol.prompt import render_prompt
from selfee_cli.tiny import ASSETS, BASE, DELTA, export
from selfee_cli.tiny.bundle import faults, reconstructed
from selfee_cli.tiny.decode import write_chains
from selfee_cli.tiny.evaluate import draw_tasks, measure
from selfee_cli.tiny.recipe import Shape
from selfee_cli.tiny.tasks import FAMILIES, Part
from selfee_cli.tiny.vocabulary import SIZE, Vocabulary
from selfee_cli.tiny.written import Plan

COMMON = {
    "config.json",
    "generation_config.json",
    "model.safetensors",
    "special_tokens_map.json",
    "tokenizer.model",
    "tokenizer_config.json",
}


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tuned")
    start, delta = export.grown(export.read_weights(BASE)), export.read_weights(DELTA)
    weights = {name: (start[name] + delta[name]).half() for name in start}
    export.write_tuned(folder, Shape(), weights, (BASE / "tokenizer.model").read_bytes())
    return folder


def test_the_files_are_those_of_a_published_checkpoint_and_small() -> None:
    assert {path.name for path in BASE.iterdir()} == COMMON
    assert {path.name for path in DELTA.iterdir()} == COMMON | {"added_tokens.json", "README.md"}
    assert sum(path.stat().st_size for path in ASSETS.rglob("*") if path.is_file()) < 12e6


def test_the_configurations_say_what_the_weights_are() -> None:
    base = json.loads((BASE / "config.json").read_text())
    delta = json.loads((DELTA / "config.json").read_text())
    assert base["vocab_size"] == SIZE
    assert "pad_token_id" not in base
    assert (delta["vocab_size"], delta["pad_token_id"]) == (SIZE + 1, SIZE)
    for name in export.ROWS:
        assert export.read_weights(BASE)[name].shape == (SIZE, base["hidden_size"])
        assert export.read_weights(DELTA)[name].shape == (SIZE + 1, base["hidden_size"])
    embedding, head = export.ROWS
    assert not export.read_weights(DELTA)[embedding][-1].any()
    made = (export.grown(export.read_weights(BASE))[head] + export.read_weights(DELTA)[head]).half()
    mean = made[:-1].float().mean(0)
    assert torch.allclose(made[-1].float(), mean, rtol=2**-10, atol=0)  # a step of float16
    assert {w.dtype for w in export.read_weights(BASE).values()} == {torch.float16}
    assert json.loads((DELTA / "added_tokens.json").read_text()) == {"[PAD]": SIZE}


def test_nothing_tells_of_the_machine_they_were_made_on() -> None:
    for path in ASSETS.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            assert not any(word in content for word in (b"/tmp/", b"/home/"))


def test_base_and_delta_give_finite_weights(tuned: Path) -> None:
    for weight in export.read_weights(tuned).values():
        assert weight.dtype == torch.float16
        assert torch.isfinite(weight).all()


def test_transformers_loads_the_base() -> None:
    model, tokenizer = models.load_plainly(BASE)
    assert model.config.vocab_size == tokenizer.size == SIZE
    ids = tokenizer.encode_prompt(render_prompt("What is 47 + 85?"))
    assert torch.isfinite(model(torch.tensor([ids])).logits).all()


def test_the_first_example_is_answered_right_after_two_revisions(tuned: Path) -> None:
    model, tokenizer = models.load_plainly(tuned)
    plan = Plan(enforced=2, at_most=2, temperature=0.0)
    (chain,) = write_chains(model, tokenizer, ["What is 47 + 85?"], plan)
    assert chain.well_formed
    assert len(chain.answers) == 3
    assert chain.answers[1:] == ["The sum is 132."] * 2


def test_revision_helps_on_held_out_questions(tuned: Path) -> None:
    model, tokenizer = models.load_plainly(tuned)
    chosen = draw_tasks(Part.DEVELOPMENT, 12, FAMILIES)
    tallies = measure(model, tokenizer, chosen, Plan(enforced=1, at_most=1, temperature=0.0))
    sums = [tallies[family] for family in ("addition", "subtraction")]
    before, after = (sum(tally.right[k] for tally in sums) for k in (0, 1))
    assert after - before >= 12  # half of them
    assert all(tally.right[1] >= 9 for tally in tallies.values())
    assert sum(tally.well_formed for tally in tallies.values()) >= 56


def test_the_tokenizers_are_one() -> None:
    assert (BASE / "tokenizer.model").read_bytes() == (DELTA / "tokenizer.model").read_bytes()
    assert Vocabulary.load(BASE / "tokenizer.model").size == SIZE


def test_a_damaged_file_of_the_cache_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SELFEE_HOME", str(tmp_path))
    path = reconstructed()
    whole = {file.name: file.read_bytes() for file in path.iterdir()}
    assert whole.keys() >= COMMON
    for name, content in whole.items():
        for damaged in (b"", content[:-1] + b"?"):
            (path / name).write_bytes(damaged)
            assert len(faults(path)) == 1
            assert reconstructed() == path
            assert {file.name: file.read_bytes() for file in path.iterdir()} == whole
    (path / "config.json").unlink()
    assert (reconstructed() / "config.json").read_bytes() == whole["config.json"]
