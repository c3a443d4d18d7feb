"""Counting what chains did, and the batched decoder against a plain loop."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest
import torch

from selfee_cli.protocol.prompt import render_prompt
from selfee_cli.tiny import tasks
from selfee_cli.tiny.decode import Plan, Written, write_answers, write_chains
from selfee_cli.tiny.evaluate import Tally, held_out_tasks, measure
from selfee_cli.tiny.network import new_model
from selfee_cli.tiny.recipe import Shape
from selfee_cli.tiny.vocabulary import EOS, Vocabulary


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_a_tally_counts_alarms_misses_and_flips() -> None:
    task = tasks.draw(random.Random(0), "addition", held=True)
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
    assert (tally.final, tally.well_formed) == (0, 1)
    assert (tally.alarms, tally.judged_right) == (1, 1)
    assert (tally.misses, tally.judged_wrong) == (1, 3)
    assert (tally.flips, tally.kept) == (1, 1)


def test_held_out_questions_are_the_same_each_time() -> None:
    assert held_out_tasks(3, tasks.FAMILIES) == held_out_tasks(3, tasks.FAMILIES)
    assert all(tasks.held_out(task.content) for task in held_out_tasks(3, tasks.FAMILIES))


def test_the_batched_decoder_equals_a_plain_loop(vocabulary: Vocabulary) -> None:
    torch.manual_seed(3)
    model = new_model(Shape(hidden=32, layers=2, heads=2, mlp=48)).eval()
    prompts = [render_prompt(task.question) for task in held_out_tasks(2, tasks.FAMILIES)]
    plan = Plan(temperature=0.0, turn_tokens=12)
    for prompt, chain in zip(prompts, write_answers(model, vocabulary, prompts, plan), strict=True):
        ids = vocabulary.encode(prompt)
        new: list[int] = []
        with torch.inference_mode():
            while len(new) < 12 and EOS not in new:
                new.append(int(model(torch.tensor([ids + new])).logits[0, -1].argmax()))
        assert chain.answers == [vocabulary.decode(new).strip()]
        assert not chain.well_formed


def test_enforced_chains_go_on_as_long_as_asked(vocabulary: Vocabulary) -> None:
    torch.manual_seed(3)
    model = new_model(Shape(hidden=32, layers=2, heads=2, mlp=48)).eval()
    plan = Plan(enforced=2, at_most=2, turn_tokens=4)
    chosen = held_out_tasks(1, tasks.FAMILIES)
    chains = write_chains(
        model, vocabulary, [render_prompt(task.question) for task in chosen], plan
    )
    for chain in chains:
        assert len(chain.answers) == 3
        assert "\n\n### Revision 2:\n" in vocabulary.decode(chain.ids)
    assert measure(model, vocabulary, chosen, plan)["addition"].right == [0, 0, 0]
