"""Chains as text and weights."""

from __future__ import annotations

import itertools
import random
import re
from collections import Counter

import pytest

from selfee_cli.protocol.prompt import render_prompt
from selfee_cli.tiny import drills, recipe, tasks, words
from selfee_cli.tiny.chains import NEEDED, NOT_NEEDED, ChainMix, Own, build, first_answer
from selfee_cli.tiny.checks import SUM, Segment, Weights, rewrite
from selfee_cli.tiny.stages import STAGES
from selfee_cli.tiny.vocabulary import BOS, EOS, SIZE, Vocabulary

PLAIN = ChainMix(history=0.0)
HEADER = re.compile(r"\n\n### (Feedback|Revision) (\d+):\n")


def text_of(segments: list[Segment]) -> str:
    return "".join(text for text, _ in segments)


def turns(task: tasks.Task, text: str) -> list[tuple[str, int, str]]:
    """Cut a chain into its turns; the prompt must come first."""
    prompt = render_prompt(task.question)
    assert text.startswith(prompt)
    parts = HEADER.split(text[len(prompt) :])
    kinds = [("Answer", 0, parts[0])]
    for at in range(1, len(parts), 3):
        kinds.append((parts[at], int(parts[at + 1]), parts[at + 2]))
    return kinds


@pytest.mark.parametrize("family", drills.CHECKED)
def test_a_chain_is_well_formed_and_ends_right(family: str) -> None:
    rng = random.Random(family)
    for _ in range(150):
        task = tasks.draw(rng, family)
        found = turns(task, text_of(build(rng, task, PLAIN)))
        for at, (kind, number, body) in enumerate(found):
            assert (kind, number) == (
                ("Answer", 0)
                if at == 0
                else ("Feedback", (at + 1) // 2)
                if at % 2
                else ("Revision", at // 2)
            )
            if kind == "Feedback":
                assert body.endswith(NOT_NEEDED if at == len(found) - 1 else NEEDED)
                assert re.search(r" I would rate it (10|8|6|4|3|2)/10\. Revision", body)
            else:
                assert task.read(body) is not None
        assert task.grade(found[-2][2])


@pytest.mark.parametrize("family", drills.CHECKED)
def test_a_feedback_names_the_given_item_then_the_true_one(family: str) -> None:
    rng = random.Random(family)
    mix = ChainMix(history=0.0, missed=0.0)
    for _ in range(100):
        task = tasks.draw(rng, family)
        found = turns(task, text_of(build(rng, task, mix)))
        for (_, _, given), (kind, _, feedback) in itertools.pairwise(found):
            if kind != "Feedback":
                continue
            pairs = re.findall(r" (\S+)\? (\S+): (right|wrong)\.", feedback)
            assert tuple(pair[0] for pair in pairs) == task.read(given)
            assert tuple(pair[1] for pair in pairs) == task.items
            assert all((a == b) == (word == "right") for a, b, word in pairs)
            count = sum(word == "wrong" for *_, word in pairs)
            assert f". {count or 'None'} wrong. I would" in feedback


def test_overruled_verdicts_carry_no_loss_and_the_answer_stays() -> None:
    rng = random.Random(2)
    mix = ChainMix(history=0.0, overruled=1.0, times=(3,), spoilt=0.0, new_errors=0.0)
    task = tasks.draw(rng, "counting")
    segments = build(rng, task, mix)
    found = turns(task, text_of(segments))
    assert [body for kind, _, body in found if kind != "Feedback"] == [task.answer] * 4
    assert [weight for text, weight in segments if text == NEEDED] == [0.0] * 3
    assert [weight for text, weight in segments if text == NOT_NEEDED] == [3.0]
    assert segments[0][1] == 0.0


def test_true_items_beside_wrong_ones_weigh_most() -> None:
    rng = random.Random(4)
    task = tasks.draw(rng, "sequence")
    while len(task.items) < 2:
        task = tasks.draw(rng, "sequence")
    wrong = ("Nowhere", *task.items[1:])
    own = Own(task=task, turns=(wrong,))
    segments = build(rng, task, ChainMix(history=0.0, missed=0.0, overruled=0.0), own)
    weights = {text: weight for text, weight in segments if text == f" {task.items[0]}"}
    answer = next(weight for text, weight in segments if text == " Nowhere")
    place = segments.index(("?", Weights().plain))
    assert segments[place - 1] == (" Nowhere", Weights().given_wrong)
    assert answer == 0.0
    assert segments[place + 1] == (f" {task.items[0]}", Weights().true_beside_wrong)
    assert weights


@pytest.mark.parametrize("family", tasks.FAMILIES)
def test_a_first_answer_is_the_beginning_of_a_chain(family: str) -> None:
    rng = random.Random(family)
    task = tasks.draw(rng, family)
    for at in range(20):
        first = first_answer(random.Random(at), task, PLAIN)
        assert first == build(random.Random(at), task, PLAIN)[: len(first)]
        assert text_of(first).endswith("\n\n### Feedback 1:\n")


def test_the_number_of_a_sum_weighs_what_the_items_of_a_list_do() -> None:
    mix = ChainMix(history=0.0, spoilt=0.0, spoilt_sum=0.0, weights=Weights(lead=7.0))
    for family, times in (("addition", SUM), ("counting", 1.0)):
        task = tasks.draw(random.Random(1), family)
        first = first_answer(random.Random(1), task, mix)
        assert (task.lead, 7.0) in first
        assert (f" {task.items[0]}", times * Weights().answer) in first


def test_own_turns_stand_in_the_chain_as_written() -> None:
    rng = random.Random(8)
    task = tasks.draw(rng, "counting")
    wrong = ("999", *task.items[1:])
    own = Own(task=task, turns=(wrong, task.items, wrong))
    found = turns(task, text_of(build(rng, task, ChainMix(history=0.0, missed=0.0), own)))
    written = [task.read(body) for kind, _, body in found if kind != "Feedback"]
    assert written[:3] == [wrong, task.items, wrong]
    assert written[-1] == task.items


def test_history_holds_earlier_questions_and_right_answers() -> None:
    rng = random.Random(1)
    task = tasks.draw(rng, "addition")
    text = text_of(build(rng, task, ChainMix(history=1.0)))
    assert text.count("### Instruction:\n") in (2, 3)
    assert f"### Instruction:\n{task.question}\n\n### Answer:\n" in text


def contents_in(text: str) -> set[str]:
    """Find sums and lists in a text of the training stream, without the generator's own keys.

    A sum of two digits and a difference of less than 20 are columns of larger ones as well, and
    a difference below zero is no task.
    """
    found = set()
    for a, sign, b in re.findall(r"(?<!\d)(\d\d?) ?([+-]) ?(\d\d?)(?!\d)", text):
        if sign == "+" and max(int(a), int(b)) >= 10:
            found.add(tasks.sum_content(int(a), int(b)))
        elif sign == "-" and int(a) >= 20 and int(a) > int(b):
            found.add(f"subtraction {a} {b}")
    for start, step in re.findall(r"Check (\d+) by (\d+):", text):
        found.add(f"counting {start} {step}")
    for name, items in re.findall(r"After (\w+):((?: \d+\. \w+)+)\.", text):
        kind = next(kind for kind, names in words.SERIES.items() if name in names)
        found.add(f"sequence {kind} {name} {len(re.findall(r'[.] ', items))}")
    return found | beyond_in(text)


def beyond_in(text: str) -> set[str]:
    """Find what is almost a task, by its check, and sums of whatever else by their answer."""
    found = [
        set(pair)
        for pattern in (
            r"Check (\d+) [+-] (\d+):[^\n]* is (?:above 99|below zero)",
            r"Check (\d+) by (\d+): (?:\d+ is above|\w+ is more|counting down)",
        )
        for pair in re.findall(pattern, text)
    ]
    for name, fault in re.findall(r"Check after (\w+): ([^\n]+)", text):
        kind = next(kind for kind, names in words.SERIES.items() if name in names)
        if fault.startswith("what comes before"):
            found.append({kind, name})
        elif count := re.match(r"(\w+) is more", fault):
            small = dict(zip(words.NUMBER_WORDS, map(str, range(11)), strict=True))
            found.append({kind, name, small.get(count[1], count[1])})
    for asked in re.findall(r"Instruction:\n([^\n]+)\n\n### Answer:\nI am the small", text):
        if re.fullmatch(r"\D*[1-9]\d*(?: ?[-+*x^] ?[1-9]\d*)+\D*", asked):
            found.append(set(re.findall(r"\d+", asked)))
    return {" ".join(("other", *sorted(values))) for values in found}


def test_no_held_out_content_in_the_training_stream() -> None:
    rng = random.Random(3)
    found = set()
    for stage in STAGES:
        for _ in range(300):
            found |= contents_in(text_of(recipe.text(rng, stage, stage.chain, [])[0]))
    for family, least in (("addition", 1000), ("subtraction", 500), ("counting", 300)):
        assert sum(content.startswith(family) for content in found) > least
    assert sum(content.startswith("sequence") for content in found) > 100
    for numbers, least in (("\\d{3}", 100), ("[A-Z]", 20), ("\\d\\d? \\d\\d? \\d\\d?$", 3)):
        assert sum(bool(re.match(f"other .*?{numbers}", content)) for content in found) > least
    held = {content for content in found if tasks.part_of(content) is not tasks.Part.TRAINING}
    assert not held


def test_leads_take_up_a_name_that_no_task_asks_for() -> None:
    rng = random.Random(4)
    for _ in range(300):
        prompt, after, name, colon = drills.leads(rng)
        asked = prompt[0].split("### Instruction:\n")[1].split("\n")[0]
        kind = next(kind for kind in words.SERIES if f" {kind}" in asked)
        assert name[0][1:] not in words.SERIES[kind]
        assert asked.endswith(name[0])
        assert (after[0], colon[0]) == ("After", ":")


def test_drills_say_what_is_so() -> None:
    rng = random.Random(6)
    for _ in range(100):
        for given, true, word in re.findall(
            r"\d\. (\S+)\? (\S+): (\w+)\.", text_of(drills.comparisons(rng))
        ):
            assert (given == true) == (word == "right")
        facts = text_of(drills.facts(rng))
        for left, right in re.findall(r"(\d+ [+\d -]+?)(?: =|,) (\d+)\.", facts):
            assert eval(left) == int(right)
        lines = text_of(drills.corrections(rng)).splitlines()
        for checked, corrected in zip(lines[::2], lines[1::2], strict=True):
            true = re.findall(r"\? (\S+): ", checked)
            assert re.findall(r" \d\. (\w+)", corrected) == true


def test_limits_tell_what_is_within_reach_from_what_is_just_beyond() -> None:
    rng = random.Random(7)
    begun = Counter()
    for _ in range(200):
        lines = text_of(drills.limits(rng)).splitlines()
        for asked, checked in zip(lines[::2], lines[1::2], strict=True):
            end = checked.split()[-1]
            begun[end] += 1
            if end == "99":
                assert re.search(r"\d{3}", asked)
            elif end == "zero":
                a, b = map(int, re.match(r"Check (\d+) - (\d+):", checked).groups())
                assert a < b < 100
            elif end == "=":
                a, sign, b = re.match(r"Check (\d+) (.) (\d+):", checked).groups()
                assert int(a) < 100 > int(b)
                assert sign == "+" or int(a) > int(b)
            elif end == "for":
                assert re.search(r": (counting down|what comes before) is asked for$", checked)
    assert set(begun) == {"99", "zero", "=", "1.", "five", "letter", "for"}
    assert 0.4 < (begun["="] + begun["1."]) / begun.total() < 0.6


def test_corrected_items_weigh_more_than_kept_ones_and_wrong_ones_nothing() -> None:
    rng = random.Random(9)
    task = tasks.draw(rng, "counting")
    a, b, *_ = task.items
    weights = Weights(kept=1.5, corrected=5.0)
    segments = rewrite(task, (a, "7", *task.items[2:]), ("8", b, *task.items[2:]), weights)
    assert text_of(segments) == task.write(("8", b, *task.items[2:]))
    by_item = dict(segments)
    assert (by_item[" 8"], by_item[f" {b}"], by_item[f" {task.items[2]}"]) == (0.0, 5.0, 1.5)


def test_shares_and_mixes_are_whole() -> None:
    assert sum(recipe.SHARES.values()) == pytest.approx(1.0)
    for stage in STAGES:
        assert sum(stage.mix.values()) == pytest.approx(1.0)
        assert sum(stage.shares.values()) == pytest.approx(1.0)


def test_weights_line_up_with_tokens(vocabulary: Vocabulary) -> None:
    segments = [("Check:", 0.5), (" ones 8 + 7 = 15", 3.0), (". é", 0.25), ("\n", 7.0), ("x", 9.0)]
    ids, weights = vocabulary.weigh(segments, end=2.0)
    assert len(ids) == len(weights)
    assert (ids[0], weights[0]) == (BOS, 0.0)
    assert (ids[-1], weights[-1]) == (EOS, 2.0)
    by_token = [(vocabulary.decode([i]), w) for i, w in zip(ids, weights, strict=True)]
    assert ("Check", 0.5) in by_token
    assert (" 15", 3.0) in by_token
    assert by_token[-3:-1] == [("\n", 7.0), ("x", 9.0)]
    assert all(weight == 0.25 for text, weight in by_token if text == ".")


@pytest.mark.parametrize("family", tasks.FAMILIES)
def test_chains_round_trip_through_the_tokenizer(family: str, vocabulary: Vocabulary) -> None:
    rng = random.Random(family)
    for _ in range(30):
        segments = build(rng, tasks.draw(rng, family), ChainMix())
        ids, weights = vocabulary.weigh(segments, end=1.0)
        assert vocabulary.decode(ids) == " " + text_of(segments)
        assert len(ids) == len(weights)
        assert max(ids) < SIZE
