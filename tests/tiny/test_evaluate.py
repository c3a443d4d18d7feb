"""Counting what chains did."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest
import torch

from selfee_cli.tiny import tasks
from selfee_cli.tiny.decode import write_chains
from selfee_cli.tiny.evaluate import Tally, draw_tasks, measure
from selfee_cli.tiny.network import new_model
from selfee_cli.tiny.recipe import Shape
from selfee_cli.tiny.tasks import Part
from selfee_cli.tiny.vocabulary import Vocabulary
from selfee_cli.tiny.written import Plan, Written


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_a_tally_counts_alarms_misses_and_flips() -> None:
    task = tasks.draw(random.Random(0), "addition")
    wrong = task.write(("1",))
    tally = Tally()
    tally.add(
        task,
        Written(
            ids=[1, 2],
            answers=[wrong, task.answer, wrong, wrong],
            needed=[True, True, False, None],
        ),
    )
    assert tally.right == [0, 1, 0, 0]
    assert tally.well_formed == 1
    assert (tally.alarms, tally.judged_right) == (1, 1)
    assert (tally.misses, tally.judged_wrong) == (1, 3)
    assert (tally.flips, tally.kept) == (1, 1)
    found = tally.to_json()
    assert (found["false_alarms"], found["flips"], found["well_formed"]) == (1, 1, 1)
    assert (found["misses"], found["judged_wrong"]) == (pytest.approx(1 / 3), 3)
    assert Tally().to_json()["misses"] == 0


def test_a_feedback_without_a_verdict_is_an_alarm_but_no_miss() -> None:
    task = tasks.draw(random.Random(0), "addition")
    tally = Tally()
    for answer in (task.answer, task.write(("1",))):
        tally.add(task, Written(ids=[1], answers=[answer], needed=[None]))
    assert (tally.alarms, tally.judged_right) == (1, 1)
    assert (tally.misses, tally.judged_wrong) == (0, 1)


def test_a_chain_in_form_may_answer_another_question() -> None:
    task = tasks.draw(random.Random(0), "addition")
    tally = Tally()
    for answer, formed in ((task.answer, True), (task.answer, False), ("After a: 1. b.", True)):
        tally.add(task, Written(ids=[1], answers=[answer], formed=[formed]))
    assert (tally.in_form, tally.well_formed, tally.chains) == (2, 1, 3)


@pytest.mark.parametrize("part", Part)
def test_questions_of_a_part_are_the_same_each_time(part: Part) -> None:
    chosen = draw_tasks(part, 3, tasks.FAMILIES)
    assert chosen == draw_tasks(part, 3, tasks.FAMILIES)
    assert {tasks.part_of(task.content) for task in chosen} == {part}


def test_a_model_that_ends_no_answer_is_graded_on_what_there_is(vocabulary: Vocabulary) -> None:
    torch.manual_seed(3)
    model = new_model(Shape(hidden=32, layers=2, heads=2, mlp=48)).eval()
    plan = Plan(enforced=2, at_most=2, turn_tokens=4)
    chosen = draw_tasks(Part.DEVELOPMENT, 1, tasks.FAMILIES)
    chains = write_chains(model, vocabulary, [task.question for task in chosen], plan)
    for chain in chains:
        assert chain.tokens - chain.prompt_tokens == plan.max_new_tokens == 20
        assert len(chain.answers) == 1
        assert chain.answers[0] == vocabulary.decode(chain.ids[chain.prompt_tokens :]).strip()
    tally = measure(model, vocabulary, chosen, plan)["addition"]
    assert (tally.right, tally.in_form, tally.kept) == ([0], 0, 0)
