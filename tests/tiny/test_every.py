"""Every question of the plainest phrasings."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import every
import models
import pytest
import torch

from selfee_cli.api import resolve_model
from selfee_cli.tiny import export, tasks
from selfee_cli.tiny.network import new_model
from selfee_cli.tiny.recipe import Shape
from selfee_cli.tiny.tasks import Part
from selfee_cli.tiny.vocabulary import Vocabulary
from selfee_cli.tiny.words import DAYS


def test_there_are_as_many_as_is_said() -> None:
    sizes = {kind: len({task.question for task in draw()}) for kind, draw in every.KINDS.items()}
    assert sizes == {
        "sums": 8100,
        "differences": 4005,
        "lists": 1440,
        "days": 21,
        "months": 36,
        "below": 4005,
        "above": 9000,
    }


def test_answers_are_true() -> None:
    for task in every.sums():
        a, b = re.fullmatch(r"What is (\d\d) \+ (\d\d)\?", task.question).groups()
        assert task.items == (str(int(a) + int(b)),)
    for task in every.differences():
        a, b = re.fullmatch(r"What is (\d\d) - (\d\d)\?", task.question).groups()
        assert task.items == (str(int(a) - int(b)),)
        assert int(task.items[0]) > 0
    for task in every.below():
        a, b = re.fullmatch(r"What is (\d\d) - (\d\d)\?", task.question).groups()
        assert a < b
        assert task.items == ()
    for task in every.above():
        assert re.fullmatch(r"What is 1\d\d \+ \d\d\?", task.question)
        assert task.items == ()
    for task in every.names("day"):
        word, day = re.fullmatch(r"Which (\w+) days come after (\w+)\?", task.question).groups()
        count = {"three": 3, "four": 4, "five": 5}[word]
        assert task.items == (DAYS * 2)[DAYS.index(day) + 1 :][:count]


def test_the_command(
    tmp_path: Path, vocabulary: Vocabulary, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.manual_seed(3)
    shape = Shape(hidden=32, layers=1, heads=2, mlp=48)
    weights = export.halve(new_model(shape).state_dict())
    export.write_base(tmp_path, shape, weights, vocabulary.model)
    parts = Counter(tasks.part_of(task.content) for task in every.names("day"))
    held = parts[Part.DEVELOPMENT]
    assert every.main(["days", "--model", str(tmp_path)]) == 0
    said = f"days: 0 of {21 - parts[Part.STUDY]} right, of them never trained on: 0 of {held}\n"
    assert capsys.readouterr().out == said
    held += parts[Part.STUDY]
    assert every.main(["days", "--model", str(tmp_path), "--study"]) == 0
    said = f"days: 0 of 21 right, of them never trained on: 0 of {held}\n"
    assert capsys.readouterr().out == said
    with pytest.raises(SystemExit):
        every.main(["weeks"])


def test_right_ones_are_counted() -> None:
    chosen = list(every.names("day"))
    found = every.right(*models.load_plainly(resolve_model("tiny")), chosen, 0.0, 0)
    assert len(found) >= 20
    assert set(found) <= set(chosen)
