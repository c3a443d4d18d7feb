"""The batched decoder against a plain loop: one sequence, no cache, a token at a time.

Networks with random weights and a vocabulary of twelve pieces run into everything that can
happen to a turn; that they do is checked as well.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM

from selfee_cli.engine.sampling import Sampling, sample
from selfee_cli.tiny import decode
from selfee_cli.tiny.chains import NEEDED, NOT_NEEDED
from selfee_cli.tiny.decode import (
    Plan,
    Written,
    chain_seed,
    until_satisfied,
    write_answers,
    write_chains,
)
from selfee_cli.tiny.rows import Rows
from selfee_cli.tiny.vocabulary import BOS, EOS, UNK

PIECES = 12
TAILS = {NEEDED: [5, 3], NOT_NEEDED: [5, 4, 3]}
PROMPTS = [f"{a}{b}{'x' * (a % 3)}" for a in range(6) for b in range(6)]


class Pieces:
    """Verdicts that begin alike, headers that differ by their number, and a row that pads."""

    def __len__(self) -> int:
        return PIECES - 1

    def encode(self, text: str) -> list[int]:
        return [BOS, *(3 + ord(c) % 9 for c in text)]

    def decode(self, ids: Sequence[int]) -> str:
        assert max(ids, default=0) < len(self)
        return "".join("" if id == EOS else chr(97 + id) for id in ids)

    def tail(self, text: str) -> list[int]:
        kind = 6 if "Feedback" in text else 7
        return TAILS.get(text) or [kind, 8 + sum(int(c) for c in text if c.isdigit()) % 2]


VOCABULARY: Any = Pieces()
FOLLOW = {
    (5, 4): 0.4,
    (5, 3): 0.4,
    (4, 3): 0.6,
    (6, 8): 0.3,
    (6, 9): 0.3,
    (10, 5): 0.2,
    (11, 6): 0.2,
}
"""How much likelier a piece becomes after another, so that stops are completed now and then."""


def network(seed: int, kind: Any = LlamaForCausalLM, config: Any = LlamaConfig) -> Any:
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
    }
    model = kind(config(**shape))
    with torch.no_grad():
        read = model.model.embed_tokens.weight.normal_()
        head = model.lm_head.weight.normal_(std=0.3)
        for (piece, follower), strength in FOLLOW.items():
            head[follower] += strength * read[piece]
    return model.eval()


@pytest.fixture(scope="module")
def networks() -> list[Any]:
    return [network(seed) for seed in range(8)]


@pytest.fixture(autouse=True)
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    before, asked = torch.get_num_threads(), getattr(request, "param", 1)
    torch.set_num_threads(asked)
    yield asked
    torch.set_num_threads(before)


class Plain:
    """Writes one chain, and counts how its turns ended."""

    def __init__(self, model: Any, prompt: str, plan: Plan, seed: int) -> None:
        self.model, self.plan = model, plan
        self.sampling = Sampling(temperature=plan.temperature, seed=seed)
        self.chain = Written(ids=VOCABULARY.encode(prompt))
        self.chain.prompt_tokens = len(self.chain.ids)
        self.ends: Counter[str] = Counter()

    def turn(self, stops: dict[str, list[int]]) -> tuple[str, str]:
        """Write a turn's text into the chain; return it and how it ended."""
        ids, new = self.chain.ids, list[int]()
        end = ""
        while not end:
            with torch.inference_mode():
                logits = self.model(torch.tensor([ids + new])).logits[0, -1:]
            new += sample(logits, self.sampling, position=len(ids) + len(new))
            found = [name for name, stop in stops.items() if new[-len(stop) :] == stop]
            if found:
                end = found[0]
                new = new[: -len(stops[end])]
            elif new[-1] == EOS:
                end, new = "end token", new[:-1]
            elif len(new) == self.plan.turn_tokens:
                end = "limit"
        ids += new
        self.chain.ends.append(len(ids))
        self.chain.formed.append(end in stops)
        self.ends["padding"] += len(VOCABULARY) in new
        return VOCABULARY.decode([id if id < len(VOCABULARY) else UNK for id in new]), end

    def write(self) -> Written:
        chain, plan = self.chain, self.plan
        for k in range(1, 100):
            header = VOCABULARY.tail(f"\n\n### Feedback {k}:\n")
            text, end = self.turn({"header": header})
            self.ends[f"answer: {end}"] += 1
            chain.answers.append(text)
            chain.ids += header
            if k > plan.enforced and k > plan.at_most:
                break
            text, end = self.turn(TAILS)
            chain.feedbacks.append(text)
            chain.needed.append({NEEDED: True, NOT_NEEDED: False}.get(end))
            go_on = k <= plan.enforced or end == NEEDED
            self.ends[f"feedback: {end}, {'goes on' if go_on else 'ends'}"] += 1
            chain.ids += TAILS[NEEDED if go_on else NOT_NEEDED]
            if not go_on:
                chain.ended = True
                break
            chain.ids += VOCABULARY.tail(f"\n\n### Revision {k}:\n")
        return chain


def plainly(model: Any, prompts: Sequence[str], plan: Plan) -> tuple[list[Written], Counter[str]]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # two are far slower where others are at work
    ends: Counter[str] = Counter()
    chains = []
    for index, prompt in enumerate(prompts):
        plain = Plain(model, prompt, plan, chain_seed(plan, index))
        chains.append(plain.write())
        ends += plain.ends
    torch.set_num_threads(threads)
    return chains, ends


@pytest.mark.parametrize(("temperature", "threads"), [(0.0, 2), (0.7, 1)], indirect=["threads"])
def test_chains_are_those_of_a_plain_loop(networks: list[Any], temperature: float) -> None:
    plan = Plan(enforced=2, at_most=4, temperature=temperature, seed=3, batch=3, turn_tokens=12)
    ends: Counter[str] = Counter()
    for model in networks:
        expected, found = plainly(model, PROMPTS[:8], plan)
        assert write_chains(model, VOCABULARY, PROMPTS[:8], plan) == expected
        ends += found
    assert set(ends) == {
        "answer: header",
        "answer: end token",
        "answer: limit",
        f"feedback: {NEEDED}, goes on",
        f"feedback: {NOT_NEEDED}, goes on",
        f"feedback: {NOT_NEEDED}, ends",
        "feedback: end token, goes on",
        "feedback: end token, ends",
        "feedback: limit, goes on",
        "feedback: limit, ends",
        "padding",
    }


def test_another_network_of_transformers_will_do() -> None:
    model = network(0, Qwen2ForCausalLM, Qwen2Config)
    plan = Plan(enforced=1, at_most=1, temperature=0.7, turn_tokens=12)
    assert (
        write_chains(model, VOCABULARY, PROMPTS[:8], plan) == plainly(model, PROMPTS[:8], plan)[0]
    )


@pytest.mark.parametrize("threads", [1, 2], indirect=True)
def test_answers_to_one_prompt_are_independent_and_share_a_row(networks: list[Any]) -> None:
    plan = Plan(temperature=0.7, seed=4, batch=3, turn_tokens=18)
    prompts = [prompt for prompt in PROMPTS[:8] for _ in range(5)]
    expected, _ = plainly(networks[0], prompts, replace(plan, at_most=0))
    written = write_answers(networks[0], VOCABULARY, prompts, plan)
    assert written == expected
    assert len({tuple(chain.ids) for chain in written}) > 2 * len(set(prompts))


@pytest.mark.parametrize("temperature", [0.0, 0.7])
def test_an_autonomous_chain_begins_an_enforced_one(
    networks: list[Any], temperature: float
) -> None:
    settings: Any = {"temperature": temperature, "seed": 5, "turn_tokens": 18}
    prompts, ended = PROMPTS[:12], set()
    for model in networks:
        whole = write_chains(model, VOCABULARY, prompts, Plan(enforced=4, at_most=4, **settings))
        for at_most in (1, 3):
            free = write_chains(model, VOCABULARY, prompts, Plan(at_most=at_most, **settings))
            assert [until_satisfied(chain, VOCABULARY, at_most) for chain in whole] == free
            ended |= {(chain.ended, len(chain.answers)) for chain in free}
    assert ended >= {(True, 1), (True, 2), (False, 2), (False, 4)}


def test_a_chain_costs_what_was_written_after_its_prompt(networks: list[Any]) -> None:
    plan = Plan(enforced=1, at_most=1, temperature=0.0, turn_tokens=5)
    (chain,) = write_chains(networks[0], VOCABULARY, PROMPTS[:1], plan)
    header = len(VOCABULARY.tail("\n\n### Feedback 2:\n"))
    assert chain.cost(1) == chain.tokens - chain.prompt_tokens - header
    assert 0 <= chain.cost(0) <= plan.turn_tokens < chain.cost(1)


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
    plan = Plan(enforced=6, at_most=6, batch=2)
    with pytest.raises(RuntimeError, match="broken"):
        write_chains(networks[0], VOCABULARY, PROMPTS, plan)
    assert Broken.passes < 500  # of thousands
    assert torch.get_num_threads() == threads
