"""The drafter against a slow oracle, and chains written with and without it."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from selfee_cli.api import load
from selfee_cli.engine.decoder import Decoder
from selfee_cli.engine.draft_length import WIDTHS, DraftLength
from selfee_cli.engine.loading import LoadOptions, load_model
from selfee_cli.engine.lookup import Drafter, LookupMemory
from selfee_cli.engine.native import NativeEngine
from selfee_cli.engine.options import AskOptions
from selfee_cli.engine.sampling import Sampling
from selfee_cli.engine.session import Session
from selfee_cli.protocol.chain import Chain, ChainEnded
from selfee_cli.protocol.grammar import TurnId, TurnKind
from selfee_cli.weights.checkpoint import open_checkpoint

KINDS = {TurnKind.FEEDBACK: 90, TurnKind.REVISION: 91}


def headers(turn: TurnId) -> list[int]:
    """A header of three ids that nothing else holds."""
    return [KINDS[turn.kind], 100 + turn.index, 92]


def no_headers(turn: TurnId) -> list[int]:
    return []


def longest_match(ids: list[int]) -> tuple[int, list[int]]:
    """How many last ids stand earlier too, at most 64, and every place that follows such ids."""
    best, places = 0, []
    for end in range(1, len(ids)):
        length = 0
        while length < min(end, 64) and ids[end - 1 - length] == ids[-1 - length]:
            length += 1
        if length > best:
            best, places = length, []
        if length == best and best:
            places.append(end)
    return best, places


@pytest.mark.parametrize("memory", [[], [1, 2, 3, 4, 1, 2]])
def test_drafts_follow_the_last_of_the_longest_matches(memory: list[int]) -> None:
    rng = random.Random(3)
    ids = [rng.randrange(4) for _ in range(5)]
    drafter = Drafter(ids, no_headers, memory)
    for step in range(400):
        match, places = longest_match([*memory, *ids])
        draft = drafter.draft(7)
        assert draft.match == match
        assert draft.ids == ([*memory, *ids][places[-1] :][:7] if match else [])
        if step % 17 == 16:
            del ids[rng.randrange(1, len(ids)) :]
            drafter.cut(len(ids))
        else:
            ids.append(rng.randrange(4))
            drafter.append(ids[-1])
        assert len(drafter) == len(ids)


def feed(drafter: Drafter, ids: list[int]) -> None:
    for id in ids:
        drafter.append(id)


def test_a_turn_begins_as_the_last_of_its_kind_and_headers_have_the_due_number() -> None:
    answer, feedback, revision = [1, 2, 3, 4, 5], [11, 12, 13], [1, 2, 7, 4, 5]
    drafter = Drafter([50, 51], headers)
    feed(drafter, answer)
    feed(drafter, [*headers(TurnId(TurnKind.FEEDBACK, 1)), *feedback])
    feed(drafter, headers(TurnId(TurnKind.REVISION, 1)))
    # The answer again, then what followed it, with the number that is due now.
    assert drafter.draft(11).ids == [*answer, *headers(TurnId(TurnKind.FEEDBACK, 2)), *feedback]
    feed(drafter, [*revision, *headers(TurnId(TurnKind.FEEDBACK, 2))])
    assert drafter.draft(4).ids == [*feedback, KINDS[TurnKind.REVISION]]
    drafter.cut(2 + len(answer) + 3 + len(feedback) + 3)
    assert drafter.draft(5).ids == answer


def test_equal_matches_are_told_apart_by_where_the_last_turn_has_come_to() -> None:
    """A list repeats its marks; the copy must go on with the item that is due."""
    answer = [8, 21, 8, 22, 8, 23, 8, 24]
    drafter = Drafter([50], headers)
    feed(drafter, [*answer, *headers(TurnId(TurnKind.FEEDBACK, 1)), 60])
    feed(drafter, headers(TurnId(TurnKind.REVISION, 1)))
    feed(drafter, [8, 21, 8, 99, 8])  # the second item was corrected
    assert drafter.draft(3).ids == [23, 8, 24]


def test_a_header_in_the_prompt_is_no_turn() -> None:
    drafter = Drafter([1, *headers(TurnId(TurnKind.FEEDBACK, 1)), 2, 3], headers)
    feed(drafter, [4, *headers(TurnId(TurnKind.FEEDBACK, 1))])
    assert drafter.draft(2).ids == [2, 3]  # by the match alone
    assert drafter.draft(2).match == 3


def test_a_session_remembers_the_newest_text() -> None:
    memory = LookupMemory()
    memory.remember(range(16_000))
    memory.remember(range(1_000))
    assert len(memory.ids) == 16_384
    assert memory.ids[-1_000:] == list(range(1_000))


# How much is drafted.


def test_more_is_drafted_after_longer_matches_and_where_width_is_cheap() -> None:
    gpu, cpu = DraftLength("cuda:0"), DraftLength("cpu")
    assert gpu.choose(1, 63) == gpu.choose(9, 63) == 63
    lengths = [cpu.choose(match, 63) for match in (0, 1, 2, 4, 8)]
    assert lengths == sorted(lengths)
    assert lengths[0] == 0
    assert lengths[-1] > 10
    assert cpu.choose(8, 5) <= 5
    assert cpu.choose(8, 0) == 0


def test_what_passes_cost_is_learned() -> None:
    length = DraftLength("cpu")
    for width in WIDTHS:
        for _ in range(3):
            length.learn(width, 0.01 * width)  # nothing is gained by a wider pass
    assert [length.choose(match, 63) for match in (1, 2, 4)] == [0, 0, 0]
    assert length.choose(8, 63) <= 1
    for width in WIDTHS:
        for _ in range(60):
            length.learn(width, 0.01)
    assert length.choose(1, 63) == 63
    length.learn(10_000, 1.0)  # a prompt says nothing
    costs = DraftLength("cpu")
    costs.learn(1, 0.5)
    assert costs.costs()[0] == 0.5
    assert costs.costs()[-1] == pytest.approx(0.5 * 4.2)  # a guess, in the same unit


def test_what_must_be_read_counts_for_the_width() -> None:
    gpu, cpu = DraftLength("cuda:0"), DraftLength("cpu")
    assert gpu.choose(8, 49, 15) == 49  # a pass of 64
    assert gpu.choose(8, 48, 15) == 33  # of 48: the next width is out of reach
    assert gpu.choose(8, 0, 64) == 0
    assert cpu.choose(1, 1, 5) == 1  # a pass over 5 costs as much as one over 6
    assert cpu.choose(1, 1, 4) == 0  # a step wider would be one over 6 as well


@pytest.mark.parametrize(
    ("device", "dtype", "quant"),
    [
        ("cuda:0", "float32", "none"),
        ("cuda:0+cuda:1", "float16", "none"),
        ("mps", "float32", "none"),
        ("cpu", "bfloat16", "none"),
        ("cpu", "float32", "int8"),
    ],
)
def test_costs_are_fixed_where_the_width_may_change_the_chain(
    device: str, dtype: str, quant: str
) -> None:
    length = DraftLength(device, dtype, quant)
    chosen = [length.choose(match, 63) for match in range(12)]
    assert chosen[-1] > 0
    for width in WIDTHS:
        length.learn(width, float(width))
    assert [length.choose(match, 63) for match in range(12)] == chosen


class Watched(NativeEngine):
    """Notes how wide each pass is."""

    widths: tuple[int, ...] = ()

    def forward(self, ids, *, last=1):
        self.widths = (*self.widths, len(ids))
        return super().forward(ids, last=last)


def watched(path: Path, dtype: torch.dtype = torch.float32) -> Watched:
    with open_checkpoint(path) as checkpoint:
        return Watched(checkpoint, device=torch.device("cpu"), dtype=dtype)


TEXT = list(range(5, 205))


def widths_by(path: Path, dtype: torch.dtype, seconds: Callable[[int], int]) -> tuple[int, ...]:
    """Supply now something new, now a copy, by a clock on which a width takes ``seconds``."""
    engine, kept = watched(path, dtype), 0
    decoder = Decoder(
        engine,
        Sampling(temperature=0),
        TEXT,
        drafter=Drafter(TEXT, no_headers),
        clock=lambda: float(sum(map(seconds, engine.widths))),
    )
    decoder.sample()
    for step in range(10):
        for ids in (range(210 + 3 * step, 211 + 3 * step + step % 3), TEXT[:8]):
            decoder.rewrite(kept, list(ids))
            decoder.sample()
            kept += len(ids)
    assert decoder.stats.drafted_tokens > 0
    return engine.widths


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_widths_depend_on_time_only_in_float32(llama_dir: Path, dtype: torch.dtype) -> None:
    flat = widths_by(llama_dir, dtype, lambda width: 1)
    steep = widths_by(llama_dir, dtype, lambda width: width**2)
    assert (flat == steep) == (dtype is torch.bfloat16)


def test_passes_stay_narrow_where_much_was_supplied(llama_dir: Path) -> None:
    engine = watched(llama_dir)
    drafter = Drafter(TEXT, no_headers)
    decoder = Decoder(engine, Sampling(temperature=0), TEXT, drafter=drafter)
    decoder.sample()
    for supplied in (20, 80):
        decoder.rewrite(0, TEXT[:supplied])
        decoder.sample()
    # The second is wider than any narrow pass, so nothing is drafted.
    assert engine.widths == (len(TEXT), WIDTHS[-1], 81)


# Whole chains.


def ask(session: Session, question: str = "Name 3 colours.", **settings: object) -> Chain:
    options = AskOptions.make(**settings)
    *_, last = session.ask(question, options=options)
    assert isinstance(last, ChainEnded)
    return last.chain


@pytest.mark.parametrize("engine", ["native", "transformers"])
@pytest.mark.parametrize("settings", [{"temperature": 0.0}, {"temperature": 0.7, "top_p": 0.9}])
@pytest.mark.parametrize("revisions", [0, 3])
def test_on_is_off(llama_dir: Path, engine: str, settings: dict, revisions: int) -> None:
    """A random network repeats itself at temperature 0: long matches, and wrong ones."""
    model = load_model(llama_dir, LoadOptions(engine=engine))
    for seed in range(3):
        chosen = {**settings, "min_revisions": revisions, "seed": seed, "max_new_tokens": 150}
        without = ask(Session(model), lookup=False, **chosen)
        session = Session(model)
        first, again = (ask(session, lookup=True, **chosen) for _ in range(2))
        assert first.token_ids == without.token_ids
        assert [t.text for t in first.turns] == [t.text for t in without.turns]
        assert without.usage["drafted_tokens"] == 0
        passes = [chain.usage["forward_passes"] for chain in (first, without)]
        assert passes[0] <= passes[1]
        assert first.usage["accepted_tokens"] <= first.usage["drafted_tokens"]
        assert again.token_ids.generated  # with a history, and a memory of the first


@pytest.mark.parametrize("temperature", [0.0, 0.7])
def test_on_is_off_where_revisions_copy(temperature: float) -> None:
    """The bundled model repeats what it revises, so that many drafts hold."""
    model, accepted = load("tiny").model, 0
    chosen = {"temperature": temperature, "min_revisions": 3, "max_revisions": 3, "seed": 1}
    session = Session(model)  # its memory is of all questions before
    for question in ("What is 47 + 85?", "Which four days come after Monday?", "Tell me a joke"):
        session.history.clear()
        with_lookup = ask(session, question, lookup=True, **chosen)
        without = ask(Session(model), question, lookup=False, **chosen)
        assert with_lookup.token_ids == without.token_ids
        assert without.usage["drafted_tokens"] == 0
        accepted += with_lookup.usage["accepted_tokens"]
    assert accepted > 50


def test_drafts_stay_inside_the_context(llama_dir: Path) -> None:
    engine = load_model(llama_dir, LoadOptions(context_length=128)).engine
    prompt = [5, 6, 7, 8] * 30
    drafter = Drafter(prompt, no_headers)
    decoder = Decoder(engine, Sampling(temperature=0), prompt, drafter=drafter)
    made = 0
    while made < decoder.capacity:
        made += len(decoder.sample())
        assert len(engine.ids) <= engine.context_length
    assert decoder.stats.drafted_tokens > 0
