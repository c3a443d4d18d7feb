"""Training, for real but very small: it learns, saves, goes on and exports what it has."""

from __future__ import annotations

import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from selfee_cli.tiny import export, tasks
from selfee_cli.tiny.network import gradients, new_model, twin
from selfee_cli.tiny.optimizer import MuonAdamW, orthogonal
from selfee_cli.tiny.recipe import Shape
from selfee_cli.tiny.stages import STAGES
from selfee_cli.tiny.train import Options, Training, batches, rate_at
from selfee_cli.tiny.vocabulary import Vocabulary

SMALL = Shape(hidden=32, layers=2, heads=2, mlp=48)
SHORT = (
    replace(STAGES[0], tokens=0.004, batch=512),
    replace(STAGES[1], tokens=0.002, batch=512),
    replace(STAGES[-1], tokens=0.004, batch=1024),
)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def options(folder: Path, vocabulary: Vocabulary) -> Options:
    (folder / "work").mkdir(exist_ok=True)
    (folder / "work" / "tokenizer.model").write_bytes(vocabulary.model)
    return Options(out=folder, own_answers=2, own_chains=1, check=0, pool=20)


def test_a_run_learns_saves_resumes_and_exports(tmp_path: Path, vocabulary: Vocabulary) -> None:
    lines: list[str] = []
    given = options(tmp_path, vocabulary)
    first = Training(given, SMALL, SHORT[:1], lines.append)
    before = [p.detach().clone() for p in first.model.parameters()]
    first.run()
    losses = [float(line.split("loss ")[1].split()[0]) for line in lines if "loss" in line]
    assert losses[-1] < losses[0]
    assert not any(torch.equal(a, b) for a, b in zip(before, first.model.parameters(), strict=True))

    lines.clear()
    again = Training(given, SMALL, SHORT, lines.append)
    assert lines == [f"resumed at step {first.steps}"]
    assert again.at == 1
    again.run()
    assert again.all_tokens > first.all_tokens
    base = export.read_weights(tmp_path / "base")
    delta = export.read_weights(tmp_path / "delta")
    tuned = export.read_weights(tmp_path / "tuned")
    start = export.grown(base)
    for name, weight in tuned.items():
        assert torch.equal((start[name] + delta[name]).half(), weight)


def test_the_part_for_the_study_is_left_alone(
    tmp_path: Path, vocabulary: Vocabulary, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = set()
    real = tasks.draw

    def spy(*given, **more):
        task = real(*given, **more)
        seen.add(tasks.part_of(task.content))
        return task

    monkeypatch.setattr(tasks, "draw", spy)
    lines: list[str] = []
    given = replace(options(tmp_path, vocabulary), check=1)
    Training(given, SMALL, SHORT[1:], lines.append).run()
    assert any(line.startswith("check") for line in lines)
    assert seen == {tasks.Part.TRAINING, tasks.Part.DEVELOPMENT}


def test_two_lanes_make_the_gradients_of_one(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = new_model(SMALL)
    other = twin(model, SMALL)
    batch = [([1, 5, 6, 7, 2], [0.0, 1.0, 0.0, 2.0, 1.0]), ([1, 9, 2], [0.0, 0.5, 3.0])]
    whole = gradients(model, batch, 7.5)
    expected = [p.grad.clone() for p in model.parameters()]
    model.zero_grad()
    parts = gradients(model, batch[:1], 7.5) + gradients(other, batch[1:], 7.5)
    assert parts == pytest.approx(whole, rel=1e-5)
    for wanted, a, b in zip(expected, model.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(a.grad + b.grad, wanted)
        assert a.data_ptr() == b.data_ptr()


def test_muon_steps_are_near_orthogonal() -> None:
    torch.manual_seed(0)
    for shape in ((3, 16, 16), (2, 24, 8), (2, 8, 24)):
        values = torch.linalg.svdvals(orthogonal(torch.randn(shape)))
        assert values.min() > 0.3
        assert values.max() < 1.3


def test_the_optimiser_moves_every_parameter_and_its_state_is_kept() -> None:
    torch.manual_seed(0)
    model = new_model(SMALL)
    optimizer = MuonAdamW(model, lanes=2)
    before = [p.detach().clone() for p in model.parameters()]
    gradients(model, [([1, 5, 6, 2], [0.0, 1.0, 1.0, 1.0])], 3.0)
    with ThreadPoolExecutor(2) as pool:
        optimizer.step(0.01, pool)
    assert all(p.grad is None for p in model.parameters())
    assert not any(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    fresh = MuonAdamW(model, lanes=2)
    fresh.load_state_dict(optimizer.state_dict())
    assert all(map(torch.equal, fresh.velocity, optimizer.velocity))


def test_batches_hold_every_text_once_and_keep_to_their_size() -> None:
    texts = [([1] * n, [1.0] * n) for n in range(5, 60)]
    made = batches(random.Random(0), texts, 200)
    assert sorted(len(ids) for batch in made for ids, _ in batch) == list(range(5, 60))
    assert all(len(batch) * max(len(ids) for ids, _ in batch) <= 200 for batch in made)


def test_the_rate_warms_up_and_ends_where_it_should() -> None:
    stage = replace(STAGES[0], rate=(0.01, 0.002), warm_up=0.1)
    assert rate_at(stage, 0.0) < 0.001
    assert rate_at(stage, 0.5) == pytest.approx(0.006)
    assert rate_at(stage, 1.0) == pytest.approx(0.002)


def test_a_time_limit_ends_a_run(tmp_path: Path, vocabulary: Vocabulary) -> None:
    given = replace(options(tmp_path, vocabulary), limit=1e-6)
    run = Training(given, SMALL, STAGES, lambda line: None)
    run.run()
    assert run.at == len(STAGES)
    assert run.all_tokens < 20_000
