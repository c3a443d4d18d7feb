"""An engine at work on a sequence: it samples, takes supplied tokens, and goes back."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from selfee_cli.engine.base import Cancelled, Engine
from selfee_cli.engine.draft_length import WIDTHS, DraftLength
from selfee_cli.engine.lookup import Drafter, common_prefix
from selfee_cli.engine.sampling import Sampling, sample
from selfee_cli.errors import SelfeeError, UsageError


@dataclass(kw_only=True)
class DecodeStats:
    """What decoding cost so far."""

    forward_passes: int = 0
    drafted_tokens: int = 0
    accepted_tokens: int = 0
    prefill_seconds: float = 0.0
    decode_seconds: float = 0.0


class Decoder:
    """Continues ``prompt`` with an engine. It is a ``TokenSequence`` of the protocol.

    After every pass the cache holds one token less than the sequence: the last one sampled, which
    the next pass reads. What the engine's cache already holds of the prompt is not read again.

    With a ``drafter`` a pass also reads drafted tokens. Each position is sampled from the model's
    own distribution with the noise of that position, and drafts hold as long as they equal what
    was sampled: the chain is the one that would be written without, as far as logits do not depend
    on how many tokens a pass reads (in float32 they hardly do, in fewer bits now and then).
    """

    def __init__(
        self,
        engine: Engine,
        sampling: Sampling,
        prompt: Sequence[int],
        *,
        drafter: Drafter | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        if len(prompt) >= engine.context_length:
            raise UsageError(
                f"the question takes {len(prompt)} tokens; "
                f"the context holds {engine.context_length}",
                hint="shorten it, or give a longer --context where the model allows it",
            )
        self.stats = DecodeStats()
        self._engine = engine
        self._sampling = sampling
        self._clock = clock
        self._drafter = drafter
        self._length = DraftLength(engine.device, engine.dtype, engine.quant)
        self._ids = list(prompt)
        self._prompt_length = len(prompt)
        self._stamp = object()  # not itself, or the engine would keep it and it the engine
        self._claim()

    def _claim(self) -> None:
        """Keep of the cache what this sequence begins with, where another was read meanwhile."""
        engine = self._engine
        if engine.reader is not self._stamp:
            engine.truncate(min(common_prefix(engine.ids, self._ids), len(self._ids) - 1))
            engine.reader = self._stamp

    @property
    def capacity(self) -> int:
        """How many ids the context takes after the prompt."""
        return self._engine.context_length - self._prompt_length

    def sample(self) -> list[int]:
        """Run one pass and append the tokens it gives: one, and the drafted ones that held.

        Nothing where the engine was told to give the pass up.
        """
        began = self._clock()
        self._claim()
        unread = self._ids[len(self._engine.ids) :]
        draft = self._draft(len(unread))
        try:
            logits = self._engine.forward(unread + draft, last=1 + len(draft))
        except Cancelled:
            return []
        try:
            tokens = sample(logits, self._sampling, position=len(self._ids))
        except SelfeeError:  # what is no number now lies in the cache too
            self._engine.forget()
            raise
        held = common_prefix(draft, tokens)
        self._engine.truncate(len(self._ids) + held)
        self._extend(tokens[: held + 1])
        self._count(len(unread), len(draft), held, self._clock() - began)
        return tokens[: held + 1]

    def _draft(self, unread: int) -> list[int]:
        """Return what to read beyond the ``unread`` ids that must be read."""
        if self._drafter is None or unread > WIDTHS[-1]:  # a prompt: a pass of its own
            return []
        room = self._engine.context_length - len(self._ids) - 1
        draft = self._drafter.draft(min(room, WIDTHS[-1] - unread))
        return draft.ids[: self._length.choose(draft.match, len(draft.ids), unread)]

    def _count(self, unread: int, drafted: int, held: int, seconds: float) -> None:
        if self.stats.forward_passes:
            self.stats.decode_seconds += seconds
            self._length.learn(unread + drafted, seconds)
        else:
            self.stats.prefill_seconds += seconds
        self.stats.forward_passes += 1
        self.stats.drafted_tokens += drafted
        self.stats.accepted_tokens += held

    def _extend(self, ids: Sequence[int]) -> None:
        self._ids.extend(ids)
        if self._drafter is not None:
            for id in ids:
                self._drafter.append(id)

    def rewrite(self, keep: int, ids: Sequence[int]) -> None:
        """Keep the first ``keep`` ids after the prompt, then append ``ids``, read next."""
        kept = self._prompt_length + keep
        self._claim()
        del self._ids[kept:]
        self._engine.truncate(min(len(self._engine.ids), kept - 1))
        if self._drafter is not None:
            self._drafter.cut(kept)
        self._extend(ids)
