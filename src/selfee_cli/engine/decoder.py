"""An engine as a source of tokens: it samples, takes supplied tokens, and goes back."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from selfee_cli.engine.base import Engine
from selfee_cli.engine.sampling import Sampling, sample
from selfee_cli.errors import UsageError


@dataclass(kw_only=True)
class DecodeStats:
    """What decoding cost so far."""

    forward_passes: int = 0
    drafted_tokens: int = 0
    accepted_tokens: int = 0
    prefill_seconds: float = 0.0
    decode_seconds: float = 0.0


class Decoder:
    """Continues ``prompt`` with an engine. It is a ``TokenSource`` of the protocol.

    After every pass the cache holds one token less than the sequence: the last one sampled, which
    the next pass reads. What the engine's cache already holds of the prompt is not read again.
    """

    def __init__(
        self,
        engine: Engine,
        sampling: Sampling,
        prompt: Sequence[int],
        *,
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
        self._ids = list(prompt)
        self._prompt_length = len(prompt)
        engine.truncate(min(_common_prefix(engine.ids, self._ids), len(self._ids) - 1))

    @property
    def capacity(self) -> int:
        """How many ids the context takes after the prompt."""
        return self._engine.context_length - self._prompt_length

    def sample(self) -> list[int]:
        """Run one pass and append the token it gives."""
        began = self._clock()
        prefill = self.stats.forward_passes == 0
        logits = self._engine.forward(self._ids[len(self._engine.ids) :])
        tokens = sample(logits, self._sampling, position=len(self._ids))
        self._ids.extend(tokens)
        self.stats.forward_passes += 1
        if prefill:
            self.stats.prefill_seconds += self._clock() - began
        else:
            self.stats.decode_seconds += self._clock() - began
        return tokens

    def rewrite(self, keep: int, ids: Sequence[int]) -> None:
        """Keep the first ``keep`` ids after the prompt, then append ``ids``, read next."""
        kept = self._prompt_length + keep
        del self._ids[kept:]
        self._engine.truncate(min(len(self._engine.ids), kept - 1))
        self._ids.extend(ids)


def _common_prefix(a: Sequence[int], b: Sequence[int]) -> int:
    length = 0
    for x, y in zip(a, b, strict=False):
        if x != y:
            break
        length += 1
    return length
