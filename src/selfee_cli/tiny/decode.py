"""Many chains at once: a batched decoder for measuring and for drawing the model's own turns.

A pass reads a few ids of every chain: those that are certain, and after them a guess of what
follows. Each place is sampled with noise of its own, and a guess holds as long as it equals what
was sampled. So a chain is the one that would be written alone and token by token; the package's
engine draws the same from the same seed.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from selfee_cli.protocol.grammar import TurnId, TurnKind
from selfee_cli.tiny.rows import Rows
from selfee_cli.tiny.vocabulary import Vocabulary
from selfee_cli.tiny.writer import Guesses, Plan, Supplies, Writer, Written

__all__ = ["Plan", "Written", "chain_seed", "until_satisfied", "write_answers", "write_chains"]

_WIDTH = 8  # ids of a chain that a pass reads
_MOST_THREADS = 4

_Row = deque[Writer]
"""The chains of one prompt, written one after the other."""


def chain_seed(plan: Plan, index: int) -> int:
    """Return the seed of the ``index``-th chain of a plan."""
    return (plan.seed << 32) + index


def write_chains(
    model: Any, vocabulary: Vocabulary, prompts: Sequence[str], plan: Plan
) -> list[Written]:
    """Let ``model`` write one chain for each prompt, many of them at the same time.

    They are begun in the order given. Neighbours should be of one length, since all rows of a
    pass look back as far as the longest; only answers to one prompt share a row, in turn.
    """
    supplies = Supplies(vocabulary)
    anywhere: dict[tuple[int, ...], int] = {}
    guesses: dict[str, Guesses] = {}
    chains: list[Written] = []
    rows: dict[str | int, _Row] = {}
    for index, prompt in enumerate(prompts):
        ids = vocabulary.encode(prompt)
        chains.append(Written(ids=ids, prompt_tokens=len(ids)))
        known = guesses.setdefault(prompt, Guesses(anywhere))
        writer = Writer(chains[-1], plan, chain_seed(plan, index), supplies, known)
        rows.setdefault(prompt if plan.only_answers else index, deque()).append(writer)
    del guesses  # which live as long as chains of their prompts are written
    _Batches(model, plan, deque(rows.values())).write()
    return chains


def write_answers(
    model: Any, vocabulary: Vocabulary, prompts: Sequence[str], plan: Plan
) -> list[Written]:
    """As :func:`write_chains`, but stop when the last enforced revision is written."""
    return write_chains(model, vocabulary, prompts, replace(plan, at_most=-1))


def until_satisfied(chain: Written, vocabulary: Vocabulary, at_most: int) -> Written:
    """Return the chain that would have been written with none enforced and ``at_most`` allowed.

    Up to the first verdict that nothing is needed it is the same chain: what is enforced after
    it does not change what came before.
    """
    satisfied = next((k for k, needed in enumerate(chain.needed[:at_most]) if not needed), None)
    ended = satisfied is not None
    revisions = at_most if satisfied is None else satisfied
    supplies, turns = Supplies(vocabulary), 2 * revisions + 1 + ended
    due = TurnId(TurnKind.FEEDBACK, revisions + 1)
    supplied = supplies.verdicts[False] if ended else supplies.header(due)
    return Written(
        ids=chain.ids[: chain.ends[turns - 1]] + supplied,
        prompt_tokens=chain.prompt_tokens,
        answers=chain.answers[: revisions + 1],
        feedbacks=chain.feedbacks[: revisions + ended],
        needed=chain.needed[: revisions + ended],
        formed=chain.formed[:turns],
        ends=chain.ends[:turns],
        ended=ended,
    )


class _Batches:
    """Writes rows, a thread on each core: faster than many cores at one small matrix."""

    def __init__(self, model: Any, plan: Plan, waiting: deque[_Row]) -> None:
        self._model, self._plan, self._waiting = model, plan, waiting
        self._threads = max(1, min(torch.get_num_threads(), _MOST_THREADS, len(waiting)))
        self._size = min(plan.batch, -(-len(waiting) // self._threads))  # of a batch, in rows
        self._stopped = False

    def write(self) -> None:
        """Write all of them; an error, or an interrupt, ends every thread after its pass."""
        before = torch.get_num_threads()
        torch.set_num_threads(before // self._threads)
        try:
            with ThreadPoolExecutor(self._threads) as pool:
                lanes = [pool.submit(self._lane) for _ in range(self._threads)]
                try:
                    wait(lanes, return_when=FIRST_EXCEPTION)
                finally:
                    self._stopped = True
            for lane in lanes:
                lane.result()
        finally:
            torch.set_num_threads(before)

    @torch.inference_mode()
    def _lane(self) -> None:
        cache = Rows(self._model)
        while not self._stopped and (rows := self._next(self._size)):
            while rows and not self._stopped:
                self._advance(cache, [row[0] for row in rows])
                rows = _packed(cache, [self._kept(row) for row in rows])

    def _advance(self, cache: Rows, writers: Sequence[Writer]) -> None:
        """Make one pass."""
        fed = [writer.next_ids(_WIDTH) for writer in writers]
        starts = [writer.read for writer in writers]
        logits = cache.read(fed, starts)
        seeds = np.array([writer.seed % 2**64 for writer in writers], np.uint64)
        places = np.array(starts)[:, None] + np.arange(1, _WIDTH + 1)  # of what is sampled
        followers = _pick(logits, self._plan.temperature, _uniform(seeds[:, None], places))
        for writer, given, sampled in zip(writers, fed, followers, strict=True):
            writer.advance(given, sampled)

    def _kept(self, row: _Row) -> _Row:
        """Return the row as it goes on: its next chain, or another prompt if answers are short."""
        if row[0].done:
            row.popleft()
            if row:
                row[0].read = row[0].chain.prompt_tokens - 1  # the prompt is in the cache
            elif self._plan.only_answers:
                row = next(iter(self._next(1)), row)
        return row

    def _next(self, count: int) -> list[_Row]:
        rows: list[_Row] = []
        with contextlib.suppress(IndexError):  # threads take from it at the same time
            while len(rows) < count:
                rows.append(self._waiting.popleft())
        return rows


def _packed(cache: Rows, rows: list[_Row]) -> list[_Row]:
    """Return the rows that have chains to write; the last ones take the place of the others."""
    live = [at for at, row in enumerate(rows) if row]
    empty = [at for at in range(len(live)) if not rows[at]]
    movers = live[len(live) - len(empty) :]
    if empty:
        cache.move(movers, empty)
    for source, target in zip(movers, empty, strict=True):
        rows[target] = rows[source]
    return rows[: len(live)]


def _pick(logits: Tensor, temperature: float, noise: NDArray[np.float64]) -> list[list[int]]:
    """Return an id for each place: the likeliest at temperature 0, else sampled by its noise.

    Args:
        logits: (rows, width, vocabulary).
        temperature: 0 or more.
        noise: (rows, width), in [0, 1).
    """
    if temperature == 0:
        picked = logits.argmax(-1)
    else:
        summed = (logits / temperature).softmax(-1).double().cumsum(-1)
        points = torch.from_numpy(noise)[..., None] * summed[..., -1:]
        picked = torch.searchsorted(summed, points, right=True)[..., 0]
        picked.clamp_(max=logits.shape[-1] - 1)
    found: list[list[int]] = picked.tolist()
    return found


def _uniform(seeds: NDArray[np.uint64], places: NDArray[np.int64]) -> NDArray[np.float64]:
    """As :func:`selfee_cli.engine.sampling.uniform`, for arrays."""
    z = seeds * np.uint64(0x9E3779B97F4A7C15)
    z = z + (places.astype(np.uint64) + np.uint64(1)) * np.uint64(0xD1B54A32D192ED03)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        z = (z ^ (z >> np.uint64(shift))) * np.uint64(factor)
    mixed: NDArray[np.float64] = ((z ^ (z >> np.uint64(31))) >> np.uint64(11)) / 2.0**53
    return mixed
