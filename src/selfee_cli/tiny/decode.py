"""Many chains at once: a batched decoder for measuring and for drawing the model's own turns.

Turn by turn, each with one prefill over the ids so far and then a token a step. It is written
for clarity and for small models; the engine of the package is elsewhere.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache

from selfee_cli.tiny.chains import NEEDED, NOT_NEEDED
from selfee_cli.tiny.vocabulary import EOS, Vocabulary


@dataclass(kw_only=True)
class Written:
    """A chain as the model wrote it.

    ``answers`` holds the answer and the revisions, ``feedbacks`` the critiques without their
    verdicts, ``needed`` the model's own verdicts (before one was overruled; None where there
    is none), ``well_formed`` whether every turn ended as it should.
    """

    ids: list[int]
    answers: list[str] = field(default_factory=list)
    feedbacks: list[str] = field(default_factory=list)
    needed: list[bool | None] = field(default_factory=list)
    well_formed: bool = True
    ended: bool = False

    @property
    def tokens(self) -> int:
        """The length of prompt and chain in tokens."""
        return len(self.ids)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How chains are decoded: ``enforced`` revisions at least, ``at_most`` in all."""

    enforced: int = 0
    at_most: int = 4
    temperature: float = 0.7
    seed: int = 0
    batch: int = 96
    turn_tokens: int = 140


def write_chains(
    model: Any, vocabulary: Vocabulary, prompts: Sequence[str], plan: Plan
) -> list[Written]:
    """Let ``model`` write one chain for each prompt."""
    generator = torch.Generator(device="cpu").manual_seed(plan.seed)
    chains = [Written(ids=vocabulary.encode(prompt)) for prompt in prompts]
    order = sorted(range(len(chains)), key=lambda i: chains[i].tokens)
    for at in range(0, len(order), plan.batch):
        chunk = [chains[i] for i in order[at : at + plan.batch]]
        _write(model, vocabulary, chunk, plan, generator)
    return chains


def write_answers(
    model: Any, vocabulary: Vocabulary, prompts: Sequence[str], plan: Plan
) -> list[Written]:
    """As :func:`write_chains`, but stop when the last enforced revision is written."""
    return write_chains(model, vocabulary, prompts, Plan(**{**vars(plan), "at_most": -1}))


def _write(
    model: Any,
    vocabulary: Vocabulary,
    chains: list[Written],
    plan: Plan,
    generator: torch.Generator,
) -> None:
    verdicts = {True: vocabulary.tail(NEEDED), False: vocabulary.tail(NOT_NEEDED)}
    for k in range(1, max(plan.at_most, plan.enforced) + 2):
        header = vocabulary.tail(f"\n\n### Feedback {k}:\n")
        live = [chain for chain in chains if not chain.ended]
        if not live:
            return
        for chain, new in zip(live, _turns(model, live, [header], plan, generator), strict=True):
            text = _without(new, header)
            chain.well_formed &= text is not None
            chain.answers.append(vocabulary.decode(new if text is None else text).strip())
            chain.ids += new if text is not None else [*_clean(new), *header]
        if k > plan.enforced and plan.at_most < k:
            return
        new_turns = _turns(model, live, list(verdicts.values()), plan, generator)
        for chain, new in zip(live, new_turns, strict=True):
            _judge(vocabulary, chain, new, verdicts, enforced=k <= plan.enforced)
            if not chain.ended:
                chain.ids += vocabulary.tail(f"\n\n### Revision {k}:\n")


def _judge(
    vocabulary: Vocabulary,
    chain: Written,
    new: list[int],
    verdicts: dict[bool, list[int]],
    *,
    enforced: bool,
) -> None:
    """Take a feedback's ids into the chain, its verdict overruled where revision is owed."""
    needed = next(
        (which for which, ids in verdicts.items() if _without(new, ids) is not None), None
    )
    critique = _clean(new) if needed is None else new[: len(new) - len(verdicts[needed])]
    chain.well_formed &= needed is not None
    chain.needed.append(needed)
    chain.feedbacks.append(vocabulary.decode(critique).strip())
    go_on = enforced or bool(needed)
    chain.ids += critique + verdicts[go_on]
    chain.ended = not go_on


def _without(ids: list[int], tail: list[int]) -> list[int] | None:
    """Return ``ids`` without ``tail`` at their end, or None where they do not end in it."""
    return ids[: -len(tail)] if ids[-len(tail) :] == tail else None


def _clean(ids: list[int]) -> list[int]:
    return [index for index in ids if index != EOS]


@torch.inference_mode()
def _turns(
    model: Any,
    chains: list[Written],
    stops: list[list[int]],
    plan: Plan,
    generator: torch.Generator,
) -> list[list[int]]:
    """Continue each chain until it ends in one of ``stops``, an end token, or is too long."""
    longest = max(chain.tokens for chain in chains)
    ids = torch.tensor([[0] * (longest - c.tokens) + c.ids for c in chains])  # (batch, longest)
    mask = torch.tensor([[0] * (longest - c.tokens) + [1] * c.tokens for c in chains])
    new: list[list[int]] = [[] for _ in chains]
    rows = list(range(len(chains)))
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    cache = DynamicCache()
    extra = {_cache_argument(model): cache, "use_cache": True, "logits_to_keep": 1}
    for _ in range(plan.turn_tokens):
        out = model(input_ids=ids, attention_mask=mask, position_ids=positions, **extra)
        picked = _pick(out.logits[:, -1].float(), plan.temperature, generator)
        keep = []
        for at, row in enumerate(rows):
            new[row].append(int(picked[at]))
            if new[row][-1] != EOS and not any(new[row][-len(s) :] == s for s in stops):
                keep.append(at)
        if not keep:
            break
        index = torch.tensor(keep)
        if len(keep) < 0.8 * len(rows):
            cache.batch_select_indices(index)
            mask, positions, picked = mask[index], positions[index], picked[index]
            rows = [rows[at] for at in keep]
        ids = picked[:, None]
        mask = torch.cat([mask, torch.ones(len(rows), 1, dtype=mask.dtype)], dim=1)
        positions = positions[:, -1:] + 1
    return [_up_to_stop(turn, stops) for turn in new]


def _cache_argument(model: Any) -> str:
    """Return what this release of transformers calls the cache."""
    return "cache" if "cache" in inspect.signature(model.forward).parameters else "past_key_values"


def _pick(logits: Tensor, temperature: float, generator: torch.Generator) -> Tensor:
    """Return one id a row: sampled, or the likeliest at temperature 0."""
    if temperature == 0:
        return logits.argmax(-1)
    chances = torch.softmax(logits / temperature, dim=-1)
    return torch.multinomial(chances, 1, generator=generator)[:, 0]


def _up_to_stop(ids: list[int], stops: list[list[int]]) -> list[int]:
    """Cut what a finished row went on to write while others were still at work."""
    for at in range(1, len(ids) + 1):
        if ids[at - 1] == EOS or any(ids[max(0, at - len(s)) : at] == s for s in stops):
            return ids[:at]
    return ids
