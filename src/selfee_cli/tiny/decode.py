"""Many chains at once: a batched decoder for measuring and for drawing the model's own turns.

A pass reads a few ids of every chain: those that are certain, and after them a guess of what
follows. Each place is sampled with noise of its own, and a guess holds as long as it equals what
was sampled. What is written is read by the driver that every chain has. So a chain is the one that
would be written alone and token by token: the package's engine draws the same from the same seed.
"""

from __future__ import annotations

import contextlib
import sys
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from typing import Any

import torch

from selfee_cli.engine.hf import trained_length
from selfee_cli.engine.sampling import Sampling, choose, uniform
from selfee_cli.engine.tokenizer import Tokenizer
from selfee_cli.protocol.prompt import render_prompt
from selfee_cli.tiny.rows import Rows
from selfee_cli.tiny.writer import Guesses, Writer
from selfee_cli.tiny.written import Plan, Written

BATCH = 64
"""Prompts that a thread has at work."""
_WIDTH = 8  # ids of a chain that a pass reads
_MOST_THREADS = 4


def write_chains(
    network: Any,
    tokenizer: Tokenizer,
    questions: Sequence[str],
    plan: Plan,
    *,
    batch: int = BATCH,
    context: int | None = None,
) -> list[Written]:
    """Let a causal model of transformers write one chain for each question, many at a time.

    They are begun in the order given. Neighbours should be of one length, since all rows of a
    pass look back as far as the longest; only answers to one question share a row, in turn.

    Args:
        network: what :func:`selfee_cli.tiny.rows.agrees` holds of.
        tokenizer: its tokenizer.
        questions: what is asked; the index of one decides the seed of its chain.
        plan: how many revisions there are, and how they are sampled.
        batch: prompts that a thread has at work.
        context: tokens that a chain and its prompt may take; default: as the network was trained.
    """
    window = getattr(network.config, "sliding_window", None)  # beyond it rows would see more
    context = min(context or trained_length(network), window or sys.maxsize)
    rows: dict[str | int, list[int]] = {}
    for index, question in enumerate(questions):
        rows.setdefault(index if plan.policy.maximum else question, []).append(index)
    anywhere: dict[tuple[int, ...], int] = {}
    guesses = {question: Guesses(anywhere) for question in questions}

    def writers(question: str, known: Guesses, indexes: Sequence[int]) -> Iterator[Writer]:
        prompt = tokenizer.encode_prompt(render_prompt(question))
        for index in indexes:
            yield Writer(prompt, tokenizer, plan, index, context=context, guesses=known)

    waiting = deque(
        writers(questions[indexes[0]], guesses[questions[indexes[0]]], indexes)
        for indexes in rows.values()
    )
    del guesses  # which live as long as chains of their prompts are written
    found = _Batches(network, plan, waiting, batch).write()
    return [found[index] for index in range(len(questions))]


class _Row:
    """A row of the batch: chains with one prompt, written one after the other."""

    def __init__(self, writers: Iterator[Writer], found: dict[int, Written]) -> None:
        self._writers, self._found = writers, found
        self.writer = next(writers)

    def goes_on(self) -> bool:
        """Put away what is written, and begin the next; whether there is one."""
        while (chain := self.writer.chain) is not None:
            self._found[self.writer.index] = Written.of(chain)
            following = next(self._writers, None)
            if following is None:
                return False
            self.writer = following
            self.writer.read_prompt()
        return True


class _Batches:
    """Writes rows, a thread on each core: faster than many cores at one small matrix."""

    def __init__(
        self, network: Any, plan: Plan, waiting: deque[Iterator[Writer]], batch: int
    ) -> None:
        self._network, self._waiting = network, waiting
        self._sampling = Sampling(temperature=plan.temperature)
        self._refill = plan.policy.maximum == 0
        most = min(torch.get_num_threads(), _MOST_THREADS) if network.device.type == "cpu" else 1
        self._threads = max(1, min(most, len(waiting)))
        self._size = min(batch, -(-len(waiting) // self._threads))  # of a batch, in rows
        self._found: dict[int, Written] = {}
        self._stopped = False

    def write(self) -> dict[int, Written]:
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
        return self._found

    @torch.inference_mode()
    def _lane(self) -> None:
        cache = Rows(self._network)
        while not self._stopped and (rows := self._next(self._size)):
            while rows and not self._stopped:
                self._advance(cache, [row.writer for row in rows])
                rows = _packed(cache, [self._kept(row) for row in rows])

    def _advance(self, cache: Rows, writers: Sequence[Writer]) -> None:
        """Make one pass."""
        fed = [writer.next_ids(_WIDTH) for writer in writers]
        logits = cache.read(fed, [writer.read for writer in writers])
        draws = [
            uniform(writer.seed, writer.read + ahead)  # the place of what is sampled
            for writer in writers
            for ahead in range(1, _WIDTH + 1)
        ]
        sampled = choose(logits.flatten(end_dim=1), self._sampling, draws)
        for at, (writer, given) in enumerate(zip(writers, fed, strict=True)):
            writer.advance(given, sampled[at * _WIDTH : (at + 1) * _WIDTH])

    def _kept(self, row: _Row) -> _Row | None:
        """Return the row as it goes on: its next chain, or another prompt if answers are short."""
        if row.goes_on():
            return row
        return next(iter(self._next(1)), None) if self._refill else None

    def _next(self, count: int) -> list[_Row]:
        rows: list[_Row] = []
        with contextlib.suppress(IndexError):  # threads take from it at the same time
            while len(rows) < count:
                row = _Row(self._waiting.popleft(), self._found)
                if row.goes_on():
                    rows.append(row)
        return rows


def _packed(cache: Rows, rows: Sequence[_Row | None]) -> list[_Row]:
    """Return the rows that have chains to write; the last ones take the place of the others."""
    live = [at for at, row in enumerate(rows) if row is not None]
    empty = [at for at in range(len(live)) if rows[at] is None]
    movers = live[len(live) - len(empty) :]
    if empty:
        cache.move(movers, empty)
    packed = list(rows)
    for source, target in zip(movers, empty, strict=True):
        packed[target] = packed[source]
    return [row for row in packed[: len(live)] if row is not None]
