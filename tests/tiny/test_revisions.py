"""The study of revisions: its sums on made-up chains, and a whole run of a small network."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from xml.etree import ElementTree

import pytest
import torch
from cli import fails, selfee

from selfee_cli.engine.loading import load_model
from selfee_cli.engine.session import Session
from selfee_cli.tiny import export
from selfee_cli.tiny.decode import write_chains
from selfee_cli.tiny.evaluate import draw_tasks
from selfee_cli.tiny.network import new_model
from selfee_cli.tiny.pace import pace
from selfee_cli.tiny.plot import plot
from selfee_cli.tiny.recipe import Shape
from selfee_cli.tiny.revisions import AFTER, Group, Share, Study, Write, effective_size, run
from selfee_cli.tiny.tasks import FAMILIES, Part, Task, part_of
from selfee_cli.tiny.vocabulary import Vocabulary
from selfee_cli.tiny.written import Plan, Written


def network() -> object:
    torch.manual_seed(3)
    return new_model(Shape(hidden=32, layers=1, heads=2, mlp=48)).eval()


def written(folder: Path, vocabulary: Vocabulary) -> Path:
    model = folder / "model"
    model.mkdir()
    weights = export.halve(network().state_dict())
    shape = Shape(hidden=32, layers=1, heads=2, mlp=48)
    export.write_base(model, shape, weights, vocabulary.model)
    return model


@pytest.mark.parametrize(
    ("hits", "of", "low", "high"),
    [(50, 100, 0.4038, 0.5962), (0, 20, 0.0, 0.1611), (20, 20, 0.8389, 1.0)],
)
def test_intervals_are_wilsons(hits: int, of: int, low: float, high: float) -> None:
    share = Share.of([1.0] * hits + [0.0] * (of - hits))
    assert share.value == hits / of
    assert (share.low, share.high) == (pytest.approx(low, abs=1e-4), pytest.approx(high, abs=1e-4))


def test_questions_of_one_content_count_as_one() -> None:
    assert effective_size(["a", "b", "c"]) == 3
    assert effective_size(["a", "a", "a", "b", "b", "b"]) == 2
    assert effective_size(["a"] * 9 + ["b"]) == pytest.approx(100 / 82)
    alone = Group(contents=["a", "b", "c", "d"]).share([1, 1, 0, 0])
    twice = Group(contents=["a", "b", "c", "d"] * 2).share([1, 1, 0, 0] * 2)
    assert alone == twice


def test_a_run_grades_every_question(vocabulary: Vocabulary) -> None:
    told: list[str] = []
    families = ("addition", "other")
    study = Study(questions=2, chains=2, temperatures=(0.7, 0.0), families=families)
    found = run(partial(write_chains, network(), vocabulary, batch=8), study, told.append)
    for temperature, chains in ((0.7, 2), (0.0, 1)):
        groups = found[temperature]
        assert list(groups) == [*families, "all"]
        whole = groups["all"]
        assert list(whole.after) == list(AFTER)
        assert {len(values) for values in whole.after.values()} == {2 * len(families)}
        assert whole.enforced.chains == whole.free.chains == 2 * len(families) * chains
        assert len(whole.same_cost[3]) == (2 * len(families) if temperature else 0)
        assert json.loads(json.dumps(whole.to_json()))["questions"] == 2 * len(families)
    assert whole.answers_for[3] >= 4
    assert told == [
        "temperature 0.7: 6 revisions enforced",
        "temperature 0.7: as the model decides",
        f"temperature 0.7: {found[0.7]['all'].answers_for[3]} answers alone, 2 times",
        "temperature 0: 6 revisions enforced",
        "temperature 0: as the model decides",
    ]


def scripted(chains: dict[str, list[str]]) -> Write:
    """Let chains be written as told: for each question its answer, then its revisions.

    A feedback asks for revision where the next answer differs.
    """

    def write(questions: Sequence[str], plan: Plan) -> list[Written]:
        found = []
        for question in questions:
            texts = (chains[question] + chains[question][-1:] * 6)[:7]
            needed = [a != b for a, b in itertools.pairwise(texts)]
            revisions = plan.policy.maximum
            if not plan.enforced and revisions:
                revisions = needed.index(False)
            turns = 2 * revisions + 1 + (not plan.enforced and revisions < plan.at_most)
            found.append(
                Written(
                    ids=[0] * (10 + 3 * turns),
                    prompt_tokens=10,
                    answers=texts[: revisions + 1],
                    needed=needed[: turns // 2],
                    formed=[True] * turns,
                    ends=[13 + 3 * turn for turn in range(turns)],
                )
            )
        return found

    return write


def test_revisions_count_from_the_verdict_that_nothing_is_needed() -> None:
    first, second = draw_tasks(Part.STUDY, 2, ("addition",))
    chains = {
        first.question: [first.write(("1",)), first.answer],  # mended at once
        second.question: [second.answer, second.answer, second.write(("1",))],  # spoilt later
    }
    study = Study(questions=2, chains=3, temperatures=(0.7,), families=("addition",))
    group = run(scripted(chains), study)[0.7]["addition"]
    assert group.after == {0: [0, 1], 1: [1, 1], 2: [1, 0], 3: [1, 0], 6: [1, 0]}
    assert group.autonomous == [1, 1]  # the second ends before it is spoilt
    assert (group.free.alarms, group.free.judged_right) == (0, 6)
    assert (group.free.misses, group.free.judged_wrong) == (0, 3)
    assert (group.enforced.alarms, group.enforced.judged_right) == (3, 3 * 5 + 3 * 2)
    assert (group.enforced.misses, group.enforced.judged_wrong) == (3 * 4, 3 + 3 * 4)
    assert (group.enforced.flips, group.free.flips) == (3, 0)
    assert [group.mean_tokens(k) for k in AFTER] == [3, 9, 15, 21, 39]
    assert group.answers_for == {1: 3, 3: 7}  # 9 and 21 tokens at 3 an answer
    assert group.same_cost == {1: [0, 1], 3: [0, 1]}
    assert group.to_json()["autonomous"]["revisions"] == 0.5


@pytest.mark.parametrize("part", [Part.STUDY, Part.DEVELOPMENT])
def test_a_study_asks_its_part_and_no_other(
    part: Part, vocabulary: Vocabulary, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Task] = []
    real = Task.grade

    def spy(task: Task, text: str) -> bool:
        asked.append(task)
        return real(task, text)

    monkeypatch.setattr(Task, "grade", spy)
    study = Study(questions=3, chains=1, temperatures=(0.0,), part=part)
    run(partial(write_chains, network(), vocabulary), study)
    assert {task.family for task in asked} == set(FAMILIES)
    assert {part_of(task.content) for task in asked} == {part}


def test_a_pace_is_counted_over_all_chains(tmp_path: Path, vocabulary: Vocabulary) -> None:
    session = Session(load_model(written(tmp_path, vocabulary)))
    found = pace(session, draw_tasks(Part.STUDY, 1, ("addition", "other")), 0.7, revisions=1)
    assert (found.chains, found.revisions) == (2, 1)
    assert 1 <= found.tokens_a_pass <= found.tokens == 2 * 3 * Plan.turn_tokens
    assert found.to_json()["seconds_a_chain"] == found.seconds / 2 > 0


def test_the_picture_is_svg() -> None:
    contents = [str(question) for question in range(10)]
    after = {k: [0.2 * (k > 0) + 0.5] * 10 for k in AFTER}
    group = Group(contents=contents, after=after)
    group.same_cost = {1: [0.5] * 10, 3: [0.6] * 10}
    text = plot({0.7: {"all": group}, 0.0: {"all": Group(contents=contents, after=after)}}, "a < b")
    root = ElementTree.fromstring(text)
    lines = [e for e in root.iter() if e.tag.endswith("polyline")]
    assert len(lines) == 3  # two temperatures and one control
    assert "a < b" in "".join(root.itertext())


def test_the_command(tmp_path: Path, vocabulary: Vocabulary) -> None:
    model = written(tmp_path, vocabulary)
    command = ("bench", "revisions", "--model", str(model), "--questions", "1", "--seeds", "1")
    picture = tmp_path / "picture.svg"
    done = selfee(*command, "--json", "--svg", str(picture))
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["schema"] == "selfee.bench-revisions/1"
    assert found["part"] == "study"
    assert set(found["temperatures"]) == set(found["one_at_a_time"]) == {"0.7", "0.0"}
    assert found["temperatures"]["0.7"]["all"]["after"]["6"]["value"] == 0
    assert found["one_at_a_time"]["0.7"]["chains"] == len(FAMILIES)
    assert picture.read_text("utf-8").startswith("<svg")
    table = selfee(*command, "--temperature", "0")
    assert "after 6" in table.stdout
    assert "no control" in table.stdout
    assert "tokens a forward pass" in table.stdout
    fails(4, "bench", "revisions", "--model", "nowhere")
    fails(2, "bench", "revisions", "--part", "tenth")


def test_a_picture_that_cannot_be_written_is_refused_before_any_work(tmp_path: Path) -> None:
    for code, picture, told in (
        (2, tmp_path, "is a directory"),
        (4, tmp_path / "none" / "picture.svg", "there is no directory"),
    ):
        said = fails(code, "bench", "revisions", "--questions", "1", "--svg", picture)
        assert told in said
        assert "hint: " in said
        assert "timing" not in said


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no disk here is always full")
def test_the_figures_outlive_their_picture(tmp_path: Path, vocabulary: Vocabulary) -> None:
    command = ("bench", "revisions", "--model", written(tmp_path, vocabulary), "--questions", "1")
    done = selfee(*command, "--seeds", "1", "--temperature", "0", "--json", "--svg", "/dev/full")
    assert done.returncode != 0
    assert "cannot write /dev/full" in done.stderr
    assert "0.0" in json.loads(done.stdout)["temperatures"]
