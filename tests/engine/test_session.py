"""Whole chains over real engines: against ``generate``, and against one teacher-forced pass."""

from __future__ import annotations

from itertools import count, islice
from pathlib import Path

import models
import pytest
import torch

from selfee_cli.engine.decoder import Decoder
from selfee_cli.engine.loading import LoadOptions, load_model
from selfee_cli.engine.options import AskOptions
from selfee_cli.engine.sampling import Sampling, sample
from selfee_cli.engine.session import Session
from selfee_cli.errors import NotFoundError, SelfeeError, UsageError
from selfee_cli.protocol.chain import Chain, ChainEnded, HistoryDropped, StopReason, TurnStarted
from selfee_cli.protocol.prompt import render_prompt
from selfee_cli.tiny.bundle import BASE, DELTA, reconstructed

QUESTIONS = ["What is 47 + 85?", "Spell s t o n e backwards.", "Hello there!", "数 🙂 </s>?"]


@pytest.fixture(scope="module")
def tiny() -> Path:
    return reconstructed()


def ask(session: Session, question: str, **settings: object) -> Chain:
    options = AskOptions.make(**settings)
    *_, last = session.ask(question, options=options)
    assert isinstance(last, ChainEnded)
    return last.chain


def test_greedy_autonomous_text_is_generates(tiny: Path) -> None:
    from transformers import AutoModelForCausalLM

    oracle = AutoModelForCausalLM.from_pretrained(tiny, dtype=torch.float32)
    model = load_model(tiny)
    for question in QUESTIONS:
        chain = ask(Session(model), question, temperature=0)
        prompt = torch.tensor([chain.token_ids.prompt])
        ids = oracle.generate(
            prompt,
            attention_mask=torch.ones_like(prompt),
            do_sample=False,
            max_new_tokens=600,
            pad_token_id=0,
        )[0, prompt.shape[1] :]
        assert list(chain.token_ids.generated) == ids.tolist()
        assert chain.token_ids.forced == ()


@pytest.mark.parametrize(
    ("engine", "minimums"), [("native", (0, 1, 2, 5)), ("transformers", (0, 2))]
)
@pytest.mark.parametrize("temperature", [0.0, 0.7])
def test_one_plain_pass_explains_every_sampled_token(
    tiny: Path, engine: str, minimums: tuple[int, ...], temperature: float
) -> None:
    model = load_model(tiny, LoadOptions(engine=engine))
    for question in QUESTIONS:
        for minimum in minimums:
            settings = Sampling(temperature=temperature, seed=minimum)
            chain = ask(
                Session(model),
                question,
                min_revisions=minimum,
                temperature=temperature,
                seed=minimum,
            )
            assert chain.revisions >= minimum
            assert chain.stop_reason in (StopReason.NOT_NEEDED, StopReason.END)
            explain(model, chain, settings)


def explain(model, chain: Chain, sampling: Sampling) -> None:
    """Every id outside the forced spans is what a pass over the whole sequence gives there."""
    ids = chain.token_ids
    whole = [*ids.prompt, *ids.generated]
    model.engine.truncate(0)
    logits = model.engine.forward(whole, last=len(ids.generated) + 1)[:-1]
    expected = sample(logits, sampling, position=len(ids.prompt))
    forced = {at for start, end in ids.forced for at in range(start, end)}
    sampled = [at for at in range(len(ids.generated)) if at not in forced]
    assert [expected[at] for at in sampled] == [ids.generated[at] for at in sampled]
    supplied = model.tokenizer.decode(id for at in sorted(forced) for id in [ids.generated[at]])
    assert supplied.count("### ") == len(ids.forced)


def test_the_same_seed_gives_the_same_chain(tiny: Path) -> None:
    session = Session(load_model(tiny))
    first = ask(session, "What is 47 + 85?", seed=1, min_revisions=2)
    session.history.clear()
    second = ask(session, "What is 47 + 85?", seed=1, min_revisions=2)
    assert first.token_ids == second.token_ids
    assert [turn.text for turn in first.turns] == [turn.text for turn in second.turns]
    session.history.clear()
    others = {ask(Session(session.model), "What is 47 + 85?", seed=n).raw for n in range(2, 8)}
    assert len(others) > 1


def test_history_is_what_a_fresh_session_would_see(tiny: Path) -> None:
    session = Session(load_model(tiny))
    first = ask(session, "What is 47 + 85?", temperature=0)
    second = ask(session, "Add 48 and 57.", temperature=0)
    wanted = render_prompt("Add 48 and 57.", history=session.history[:1])
    assert list(second.token_ids.prompt) == session.model.tokenizer.encode_prompt(wanted)
    assert session.history[0].answer == first.final
    fresh = Session(load_model(tiny))
    fresh.history = session.history[:1]
    again = ask(fresh, "Add 48 and 57.", temperature=0)
    assert again.token_ids == second.token_ids
    assert second.usage["forward_passes"] <= again.usage["forward_passes"]


def test_oldest_exchanges_are_dropped_and_said(tiny: Path) -> None:
    session = Session(load_model(tiny, LoadOptions(context_length=400)))
    dropped = remembered = 0
    for _ in range(12):
        for event in session.ask("Hello there!", options=AskOptions.make(temperature=0)):
            if isinstance(event, HistoryDropped):
                dropped += event.exchanges
        remembered += event.chain.final_turn.complete
    assert dropped
    assert len(session.history) + dropped == remembered


def test_a_refused_question_costs_no_history(tiny: Path) -> None:
    session = Session(load_model(tiny, LoadOptions(context_length=400)))
    ask(session, "Hello there!", temperature=0)
    before = list(session.history)
    assert before
    with pytest.raises(UsageError, match="context holds 400"):
        ask(session, "word " * 400)
    assert session.history == before


def test_cancelled_and_cut_chains(tiny: Path) -> None:
    session = Session(load_model(tiny))
    ticks = iter([False] * 120)
    *_, last = session.ask("Add 48 and 57.", cancelled=lambda: next(ticks, True))
    assert last.chain.stop_reason is StopReason.INTERRUPTED
    *_, last = session.ask("Add 48 and 57.", cancelled=lambda: True)
    assert last.chain.stop_reason is StopReason.INTERRUPTED
    assert last.chain.final == ""
    before = len(session.history)
    chain = ask(session, "Add 48 and 57.", max_new_tokens=3)
    assert chain.stop_reason is StopReason.MAX_NEW_TOKENS
    assert not chain.final_turn.complete
    assert len(session.history) == before
    assert ask(session, "Add 48 and 57.").turns[0].complete, "the engine goes on after a cut"


def test_a_pass_given_up_ends_the_chain_though_it_is_not_said_again(tiny: Path) -> None:
    session = Session(load_model(tiny))
    for said in range(1, 9):  # before a token or between two layers
        asked = 0

        def cancelled(when: int = said) -> bool:
            nonlocal asked
            asked += 1
            return asked == when

        *_, last = session.ask("Add 48 and 57.", cancelled=cancelled)
        assert last.chain.stop_reason is StopReason.INTERRUPTED


def test_two_sessions_may_take_turns_on_one_model(tiny: Path) -> None:
    model = load_model(tiny)
    questions = ("What is 47 + 85?", "Which three days come after Tuesday?")
    options = AskOptions.make(seed=4, min_revisions=2)
    alone = [
        list(Session(model).ask(question, options=options))[-1].chain.token_ids
        for question in questions
    ]
    running = [Session(model).ask(question, options=options) for question in questions]
    ended = {}
    while len(ended) < 2:
        for at, chain in enumerate(running):
            for event in islice(chain, 3):
                if isinstance(event, ChainEnded):
                    ended[at] = event.chain.token_ids
    assert [ended[0], ended[1]] == alone


def test_limits_are_checked_however_options_are_made() -> None:
    with pytest.raises(UsageError, match="--max-new-tokens is 0"):
        AskOptions(max_new_tokens=0)


def test_a_question_with_half_a_character_is_mended_when_written_on(tiny: Path) -> None:
    session = Session(load_model(tiny))
    *_, last = session.extend((), instruction="\ud800 hi")
    assert last.chain.turns[0].complete
    assert last.chain.instruction == "\ufffd hi"


@pytest.mark.parametrize("engine", ["native", "transformers"])
def test_a_long_pass_is_given_up_between_layers(tiny: Path, engine: str) -> None:
    session = Session(load_model(tiny, LoadOptions(engine=engine)))
    first = ask(session, "Add 48 and 57.", seed=1)
    session.history.clear()
    ticks = iter([False] * 3)
    *_, last = session.ask("word " * 150, cancelled=lambda: next(ticks, True))
    assert last.chain.stop_reason is StopReason.INTERRUPTED
    assert last.chain.token_ids.generated == ()
    assert last.chain.usage["forward_passes"] == 0
    assert ask(session, "Add 48 and 57.", seed=1).token_ids == first.token_ids


@pytest.mark.parametrize("seed", range(4))
def test_writing_on_is_what_one_longer_chain_would_have_been(tiny: Path, seed: int) -> None:
    model = load_model(tiny)
    question = "Add 48 and 57."
    whole = ask(Session(model), question, seed=seed, min_revisions=3, max_revisions=3)
    session = Session(model)
    options = AskOptions.make(seed=seed, min_revisions=3, max_revisions=3)
    for cut in range(1, len(whole.turns)):
        session.history.clear()
        *events, last = session.extend(whole.turns[:cut], instruction=question, options=options)
        again = last.chain
        assert again.raw == whole.raw
        assert [(t.id, t.text) for t in again.turns] == [(t.id, t.text) for t in whole.turns]
        ids = again.token_ids
        assert [*ids.prompt, *ids.generated] == [
            *whole.token_ids.prompt,
            *whole.token_ids.generated,
        ]
        assert events[0] == TurnStarted(whole.turns[cut].id)
        assert session.history[0].answer == whole.final


@pytest.mark.parametrize("enough", range(1, 60, 7))
def test_finishing_ends_with_the_turn(tiny: Path, enough: int) -> None:
    tokens = count()
    *_, last = Session(load_model(tiny)).ask(
        "Add 48 and 57.",
        options=AskOptions.make(min_revisions=3, seed=enough),
        cancelled=lambda: next(tokens) < 0,
        finishing=lambda: next(tokens) > enough,
    )
    assert last.chain.stop_reason is StopReason.INTERRUPTED
    assert all(turn.complete for turn in last.chain.turns)
    assert last.chain.final_turn.complete


def test_the_context_is_a_limit(tiny: Path) -> None:
    session = Session(load_model(tiny, LoadOptions(context_length=200)))
    chain = ask(session, "Add 48 and 57.", min_revisions=9)
    assert chain.stop_reason is StopReason.CONTEXT
    assert len(chain.token_ids.prompt) + len(chain.token_ids.generated) <= 200
    assert chain.final_turn.complete
    with pytest.raises(UsageError, match=r"question takes \d+ tokens; the context holds 200"):
        ask(session, "word " * 300)


def test_what_cannot_be_loaded(tmp_path: Path, llama_dir: Path) -> None:
    with pytest.raises(NotFoundError):
        load_model(tmp_path / "nowhere")
    with pytest.raises(SelfeeError, match="is a delta, not a model"):
        load_model(DELTA)
    with pytest.raises(UsageError, match="--engine"):
        load_model(llama_dir, LoadOptions(engine="vllm"))
    with pytest.raises(UsageError, match="--dtype"):
        load_model(llama_dir, LoadOptions(dtype="float8"))
    with pytest.raises(UsageError, match="--device"):
        load_model(llama_dir, LoadOptions(device="tpu!"))
    if not torch.cuda.is_available():
        with pytest.raises(SelfeeError, match="cuda"):
            load_model(llama_dir, LoadOptions(device="cuda"))
    assert load_model(BASE).engine.parameters > 1_000_000


def test_a_model_that_computes_no_numbers(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    path = models.make_model(tmp_path / "m")
    tensors = load_file(path / "model.safetensors")
    tensors["model.norm.weight"][3] = float("nan")
    save_file(tensors, path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(SelfeeError, match="not numbers"):
        ask(Session(load_model(path)), "Hi?")


def test_the_decoder_reads_a_shared_beginning_once(llama_dir: Path) -> None:
    engine = load_model(llama_dir).engine
    greedy = Sampling(temperature=0)
    first = Decoder(engine, greedy, [1, 5, 6, 7])
    first.sample()
    kept = Decoder(engine, greedy, [1, 5, 6, 9, 9])
    assert engine.ids == [1, 5, 6]
    kept.sample()
    assert engine.ids == [1, 5, 6, 9, 9]
    kept.rewrite(0, [3, 4])
    assert engine.ids == [1, 5, 6, 9]
    kept.sample()
    assert engine.ids == [1, 5, 6, 9, 9, 3, 4]
