"""The batched decoder against a plain loop: one sequence, no cache, a token at a time.

Networks with random weights and a vocabulary of a few pieces run into everything that can happen
to a chain; that they do is checked as well.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from transformers import (
    BloomConfig,
    BloomForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from selfee_cli.engine.sampling import Sampling, sample
from selfee_cli.protocol.chain import ChainEnded, StopReason
from selfee_cli.protocol.driver import ChainDriver
from selfee_cli.protocol.prompt import split_prompt
from selfee_cli.tiny import decode
from selfee_cli.tiny.decode import write_chains
from selfee_cli.tiny.rows import Rows, agrees
from selfee_cli.tiny.written import Plan, Written

BOS, EOS = 1, 2
NUMBERS = [f"{k}:\n" for k in range(1, 6)]
TEXTS = [
    *("", "", ""),  # unknown, begin, end
    *(" Revision is", " needed.", " not", "a"),
    *("\n\n### Feedback ", "\n\n### Revision ", "\n### Feedback "),
    *NUMBERS,
    *("Revision is", *"12345:"),  # of which the rest of a piece is written
]
PIECES = len(TEXTS) + 1  # and a row that pads
QUESTIONS = [f"{a}{b}{'x' * (a % 3)}" for a in range(6) for b in range(6)]


class Pieces:
    """What chains need of a tokenizer."""

    def token_bytes(self, id: int) -> bytes:
        return TEXTS[id].encode() if id < len(TEXTS) else b""

    def is_end(self, id: int) -> bool:
        return id == EOS

    def encode_prompt(self, text: str) -> list[int]:
        question, _, _ = split_prompt(text) or pytest.fail(text)
        return [BOS, *(3 + ord(c) % (PIECES - 4) for c in question)]

    def encode_continuation(self, text: str) -> list[int]:
        ids = []
        while text:
            ids.append(next(id for id in range(3, len(TEXTS)) if text.startswith(TEXTS[id])))
            text = text.removeprefix(TEXTS[ids[-1]])
        return ids


VOCABULARY: Any = Pieces()
FOLLOW = {
    (" Revision is", " needed."): 0.7,
    (" Revision is", " not"): 0.7,
    (" not", " needed."): 1.0,
    **{(header, number): 0.7 for header in TEXTS[7:10] for number in NUMBERS[:3]},
    **{(number, " Revision is"): 0.4 for number in NUMBERS},
    (" needed.", "\n\n### Revision "): 0.6,
    (" needed.", ""): 0.6,  # the end
    ("a", "\n\n### Feedback "): 0.6,
}
"""How much likelier a piece becomes after another, so that turns end now and then."""


def network(
    seed: int, kind: Any = LlamaForCausalLM, config: Any = LlamaConfig, **changes: object
) -> Any:
    """A network whose next piece hangs on the last one most, and on the others too."""
    torch.manual_seed(seed)
    shape = {
        "vocab_size": PIECES,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "initializer_range": 0.3,
        "tie_word_embeddings": False,
        "bos_token_id": BOS,
        "eos_token_id": EOS,
        "pad_token_id": None,
        **changes,
    }
    model = kind(config(**shape))
    with torch.no_grad():
        read = model.get_input_embeddings().weight.normal_()
        head = model.lm_head.weight.normal_(std=0.3)
        for (piece, follower), strength in FOLLOW.items():
            head[TEXTS.index(follower) if follower else EOS] += strength * read[TEXTS.index(piece)]
    return model.eval()


@pytest.fixture(scope="module")
def networks() -> list[Any]:
    return [network(seed) for seed in (0, 3, 4, 6, 12, 13)]


@pytest.fixture(autouse=True)
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    before, asked = torch.get_num_threads(), getattr(request, "param", 1)
    torch.set_num_threads(asked)
    yield asked
    torch.set_num_threads(before)


class Plain:
    """A sequence that is read anew for every token."""

    def __init__(self, model: Any, prompt: Sequence[int], sampling: Sampling, context: int) -> None:
        self._model, self._sampling = model, sampling
        self._ids, self._prompt = list(prompt), len(prompt)
        self.capacity = context - len(prompt)

    def sample(self) -> list[int]:
        with torch.inference_mode():
            logits = self._model(torch.tensor([self._ids])).logits[0, -1:]
        found = sample(logits, self._sampling, position=len(self._ids))
        self._ids += found
        return found

    def rewrite(self, keep: int, ids: Sequence[int]) -> None:
        self._ids[self._prompt + keep :] = ids


def plainly(
    model: Any, questions: Sequence[str], plan: Plan, context: int = 2048
) -> tuple[list[Written], Counter[str]]:
    """Write chains; also say what happened in them."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # two are far slower where others are at work
    chains, met = [], Counter[str]()
    for index, question in enumerate(questions):
        prompt = VOCABULARY.encode_prompt(decode.render_prompt(question))
        sampling = Sampling(temperature=plan.temperature, seed=plan.seed_of(index))
        source = Plain(model, prompt, sampling, context)
        driver = ChainDriver(source, VOCABULARY, plan.policy, max_new_tokens=plan.max_new_tokens)
        *_, last = driver.run(source.sample)
        assert isinstance(last, ChainEnded)
        chain, ids = last.chain, last.chain.token_ids
        assert ids is not None
        chain = replace(chain, token_ids=replace(ids, prompt=prompt))
        chains.append(Written.of(chain))
        met[str(chain.stop_reason)] += 1
        met["padding"] += len(TEXTS) in ids.generated
        for turn, formed in zip(chain.turns, chains[-1].formed, strict=True):
            met[f"{turn.id.kind}, {'formed' if formed else 'not formed'}"] += 1
            met[f"overruled: {turn.overruled}"] += turn.enforced
    torch.set_num_threads(threads)
    return chains, +met


@pytest.mark.parametrize(("temperature", "threads"), [(0.0, 2), (0.7, 1)], indirect=["threads"])
def test_chains_are_those_of_a_plain_loop(networks: list[Any], temperature: float) -> None:
    met: Counter[str] = Counter()
    for enforced, at_most in ((0, 2), (1, 2)):
        plan = Plan(
            enforced=enforced, at_most=at_most, temperature=temperature, seed=3, turn_tokens=20
        )
        for model in networks:
            expected, found = plainly(model, QUESTIONS[:16], plan)
            assert write_chains(model, VOCABULARY, QUESTIONS[:16], plan, batch=5) == expected
            met += found
    assert set(met) == {
        *(f"{kind}, {how}" for kind in ("answer", "feedback", "revision") for how in FORMS),
        *("overruled: not_needed", "overruled: None", "padding"),
        *(reason for reason in StopReason if reason not in ("context", "interrupted")),
    }


FORMS = ("formed", "not formed")


def test_a_chain_ends_with_its_context(networks: list[Any]) -> None:
    plan = Plan(enforced=2, at_most=4, seed=3, turn_tokens=12)
    for context in (3, 20):
        expected, met = plainly(networks[0], QUESTIONS[:8], plan, context)
        assert (
            write_chains(networks[0], VOCABULARY, QUESTIONS[:8], plan, context=context) == expected
        )
        assert met["context"] > 0
        assert max(chain.tokens for chain in expected) <= max(context, 5)


def test_a_chain_ends_where_a_window_would_slide() -> None:
    model = network(0, MistralForCausalLM, MistralConfig, sliding_window=20)
    plan = Plan(enforced=2, at_most=4, seed=3, turn_tokens=12)
    expected, _ = plainly(model, QUESTIONS[:8], plan, context=20)
    assert write_chains(model, VOCABULARY, QUESTIONS[:8], plan) == expected


def test_other_networks_of_transformers_will_do() -> None:
    for model in (
        network(0, Qwen2ForCausalLM, Qwen2Config),
        network(0, GPT2LMHeadModel, GPT2Config),
    ):
        assert agrees(model)
        plan = Plan(enforced=1, at_most=1, temperature=0.7, turn_tokens=12)
        expected, _ = plainly(model, QUESTIONS[:8], plan)
        assert write_chains(model, VOCABULARY, QUESTIONS[:8], plan) == expected


def test_a_network_that_is_not_read_in_rows_is_told() -> None:
    assert not agrees(network(0, BloomForCausalLM, BloomConfig))  # its biases count from the mask


@pytest.mark.parametrize("threads", [1, 2], indirect=True)
def test_answers_to_one_question_are_independent_and_share_a_row(networks: list[Any]) -> None:
    plan = Plan(at_most=0, temperature=0.7, seed=4, turn_tokens=18)
    questions = [question for question in QUESTIONS[:8] for _ in range(5)]
    expected, _ = plainly(networks[0], questions, plan)
    written = write_chains(networks[0], VOCABULARY, questions, plan)
    assert written == expected
    assert len({tuple(chain.ids) for chain in written}) > 2 * len(set(questions))


def test_a_chain_costs_what_was_written_after_its_prompt(networks: list[Any]) -> None:
    plan = Plan(enforced=1, at_most=1, temperature=0.0, turn_tokens=9)
    chains = write_chains(networks[0], VOCABULARY, QUESTIONS, plan)
    whole = next(chain for chain in chains if len(chain.answers) == 2)
    assert whole.cost(1) == whole.tokens - whole.prompt_tokens
    assert 0 <= whole.cost(0) < whole.cost(1) == whole.cost(2)
    cut = next(chain for chain in chains if len(chain.answers) == 1)
    assert cut.cost(1) == cut.tokens - cut.prompt_tokens
    assert cut.standing(0) == cut.standing(1) == cut.answers[0]
    assert not cut.well_formed


@pytest.mark.parametrize("threads", [2], indirect=True)
def test_an_error_in_one_thread_ends_them_all(
    networks: list[Any], threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Broken(Rows):
        passes = 0

        def read(self, ids: Sequence[Sequence[int]], starts: Sequence[int]) -> torch.Tensor:
            Broken.passes += 1
            if Broken.passes == 5:
                raise RuntimeError("broken")
            return super().read(ids, starts)

    monkeypatch.setattr(decode, "Rows", Broken)
    plan = Plan(enforced=6, at_most=6)
    with pytest.raises(RuntimeError, match="broken"):
        write_chains(networks[0], VOCABULARY, QUESTIONS, plan, batch=2)
    assert Broken.passes < 500  # of thousands
    assert torch.get_num_threads() == threads
