"""Replaying recorded chains through the drafter: how many tokens a pass would have given.

No model is needed: a pass gives the drafted tokens that the recorded chain goes on with, and one
more. What a pass costs is left out: it takes up to 64 tokens, as on a GPU they cost what one costs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from selfee_cli.engine.draft_length import WIDTHS
from selfee_cli.engine.lookup import Drafter, LookupMemory, common_prefix
from selfee_cli.engine.tokenizer import Tokenizer
from selfee_cli.protocol.chain import Chain
from selfee_cli.protocol.grammar import ANSWER
from selfee_cli.protocol.prompt import render_prompt

PEER = "transformers, prompt_lookup_num_tokens=10"


@dataclass
class Count:
    """Tokens, and the passes that gave them."""

    tokens: int = 0
    passes: int = 0
    drafted: int = 0

    @property
    def tokens_per_pass(self) -> float:
        """Return their ratio; 0 where there are none."""
        return self.tokens / self.passes if self.passes else 0.0

    def add(self, other: Count) -> None:
        """Add the counts of another."""
        self.tokens += other.tokens
        self.passes += other.passes
        self.drafted += other.drafted


@dataclass
class LookupFigures:
    """What replaying some chains has come to."""

    chains: int = 0
    session: Count = field(default_factory=Count)
    """With the memory of the chains before, as in one session."""
    alone: Count = field(default_factory=Count)
    """Each chain by itself."""
    peer: Count | None = None
    by_turn: dict[str, Count] = field(default_factory=dict)
    """Of ``session``, by the turn's name."""

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "schema": "selfee.bench-lookup/1",
            "chains": self.chains,
            "tokens": self.session.tokens,
            "tokens_per_pass": self.session.tokens_per_pass,
            "by_turn": {name: count.tokens_per_pass for name, count in self.by_turn.items()},
            "alone": self.alone.tokens_per_pass,
            "drafted_per_token": self.session.drafted / max(1, self.session.tokens),
            "peer": self.peer and {"name": PEER, "tokens_per_pass": self.peer.tokens_per_pass},
        }


def replay(
    chains: Iterable[Chain],
    tokenizer: Tokenizer,
    *,
    peer: bool = True,
    progress: Callable[[int], None] = lambda _: None,
) -> LookupFigures:
    """Replay ``chains`` one after the other; ``progress`` is told the characters of each."""
    figures, memory = LookupFigures(), LookupMemory()
    headers = cache(lambda turn: tokenizer.encode_continuation(turn.header))
    for chain in chains:
        prompt = tokenizer.encode_prompt(render_prompt(chain.instruction, input=chain.input))
        turns = _turns(chain, tokenizer)
        ids = [id for _, part in turns for id in part]
        drafter = Drafter(prompt, headers, memory.ids)
        for name, count in _by_turn(turns, drafter).items():
            figures.by_turn.setdefault(name, Count()).add(count)
            figures.session.add(count)
        figures.alone.add(_replay(ids, Drafter(prompt, headers)))
        if peer:
            figures.peer = figures.peer or Count()
            figures.peer.add(_replay_peer(prompt, ids))
        memory.remember(ids)
        figures.chains += 1
        progress(len(chain.raw))
    return figures


def _turns(chain: Chain, tokenizer: Tokenizer) -> list[tuple[str, list[int]]]:
    """Divide a chain's ids by turns, each with the header that opens it."""
    parts, at = [], 0
    for turn, following in zip(chain.turns, [*chain.turns[1:], None], strict=True):
        header = "" if turn.id == ANSWER else turn.id.header
        end = len(chain.raw) if following is None else at + len(header) + len(turn.text)
        parts.append((turn.id.title, tokenizer.encode_continuation(chain.raw[at:end])))
        at = end
    return parts


def _by_turn(turns: Sequence[tuple[str, list[int]]], drafter: Drafter) -> dict[str, Count]:
    """Count each pass for the turn in which it begins."""
    ids = [id for _, part in turns for id in part]
    names = [name for name, part in turns for _ in part]
    counts: dict[str, Count] = {}
    for at, count in _passes(ids, drafter):
        counts.setdefault(names[at], Count()).add(count)
    return counts


def _replay(ids: Sequence[int], drafter: Drafter) -> Count:
    total = Count()
    for _, count in _passes(ids, drafter):
        total.add(count)
    return total


def _passes(ids: Sequence[int], drafter: Drafter) -> Iterator[tuple[int, Count]]:
    at = 0
    while at < len(ids):
        draft = drafter.draft(WIDTHS[-1] - 1).ids
        held = common_prefix(draft, ids[at:-1])
        for id in ids[at : at + held + 1]:
            drafter.append(id)
        yield at, Count(tokens=held + 1, passes=1, drafted=len(draft))
        at += held + 1


def _replay_peer(prompt: Sequence[int], ids: Sequence[int]) -> Count:
    import torch
    from transformers.generation.candidate_generator import PromptLookupCandidateGenerator

    generator = PromptLookupCandidateGenerator(
        num_output_tokens=10, max_matching_ngram_size=3, max_length=1 << 30
    )
    whole: Any = torch.tensor([[*prompt, *ids]])
    total, at = Count(), 0
    while at < len(ids):
        so_far = whole[:, : len(prompt) + at]
        drafted = generator.get_candidates(so_far)[0][0, so_far.shape[1] :].tolist()
        held = common_prefix(drafted, ids[at:-1])
        total.add(Count(tokens=held + 1, passes=1, drafted=len(drafted)))
        at += held + 1
    return total
