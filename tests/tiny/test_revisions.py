"""The study of revisions: its sums on made-up chains, and a whole run of a small network."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest
import torch
from cli import fails, selfee

from selfee_cli.tiny import export
from selfee_cli.tiny.network import new_model
from selfee_cli.tiny.plot import plot
from selfee_cli.tiny.recipe import Shape
from selfee_cli.tiny.revisions import AFTER, Group, Share, Study, run
from selfee_cli.tiny.tasks import FAMILIES
from selfee_cli.tiny.vocabulary import Vocabulary


def network() -> object:
    torch.manual_seed(3)
    return new_model(Shape(hidden=32, layers=1, heads=2, mlp=48)).eval()


@pytest.mark.parametrize(
    ("hits", "of", "low", "high"),
    [(50, 100, 0.4038, 0.5962), (0, 20, 0.0, 0.1611), (20, 20, 0.8389, 1.0)],
)
def test_intervals_are_wilsons(hits: int, of: int, low: float, high: float) -> None:
    share = Share.of([1.0] * hits + [0.0] * (of - hits))
    assert share.value == hits / of
    assert (share.low, share.high) == (pytest.approx(low, abs=1e-4), pytest.approx(high, abs=1e-4))


def test_a_run_grades_every_question(vocabulary: Vocabulary) -> None:
    told: list[str] = []
    study = Study(questions=2, temperatures=(0.7, 0.0), seeds=(1, 2), batch=8)
    found = run(network(), vocabulary, study, told.append)
    for temperature, seeds in ((0.7, 2), (0.0, 1)):
        groups = found[temperature]
        assert list(groups) == [*FAMILIES, "all"]
        whole = groups["all"]
        assert list(whole.after) == list(AFTER)
        assert {len(values) for values in whole.after.values()} == {2 * len(FAMILIES)}
        assert whole.tally.chains == 2 * len(FAMILIES) * seeds * 2  # enforced and autonomous
        assert len(whole.same_cost[3]) == (2 * len(FAMILIES) if temperature else 0)
        assert json.loads(json.dumps(whole.to_json()))["questions"] == 2 * len(FAMILIES)
    assert whole.answers_for[3] >= 4
    assert told[0] == "temperature 0.7, seed 1: 6 revisions enforced"
    assert told[-1] == "temperature 0.0, seed 1: autonomous"


def test_the_picture_is_svg() -> None:
    group = Group(after={k: [0.2 * (k > 0) + 0.5] * 10 for k in AFTER})
    group.same_cost = {1: [0.5] * 10, 3: [0.6] * 10}
    text = plot({0.7: {"all": group}, 0.0: {"all": Group(after=group.after)}}, "a < b")
    root = ElementTree.fromstring(text)
    lines = [e for e in root.iter() if e.tag.endswith("polyline")]
    assert len(lines) == 3  # two temperatures and one control
    assert "a < b" in "".join(root.itertext())


def test_the_command(tmp_path: Path, vocabulary: Vocabulary) -> None:
    model = tmp_path / "model"
    model.mkdir()
    weights = export.halve(network().state_dict())
    shape = Shape(hidden=32, layers=1, heads=2, mlp=48)
    export.write_base(model, shape, weights, vocabulary.model)
    command = ("bench", "revisions", "--model", str(model), "--questions", "1", "--seeds", "1")
    picture = tmp_path / "picture.svg"
    done = selfee(*command, "--json", "--svg", str(picture))
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["schema"] == "selfee.bench-revisions/1"
    assert set(found["temperatures"]) == {"0.7", "0.0"}
    assert found["temperatures"]["0.7"]["all"]["after"]["6"]["value"] == 0
    assert picture.read_text("utf-8").startswith("<svg")
    table = selfee(*command, "--temperature", "0")
    assert "after 6" in table.stdout
    assert "no control" in table.stdout
    fails(4, "bench", "revisions", "--model", "nowhere")
