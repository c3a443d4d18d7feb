"""One chain while a batch of them is written: its ids, and what is guessed to follow them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from selfee_cli.engine.lookup import common_prefix
from selfee_cli.engine.tokenizer import Tokenizer
from selfee_cli.protocol.chain import Chain, ChainEnded
from selfee_cli.protocol.driver import ChainDriver
from selfee_cli.tiny.written import Plan

_LONG, _SHORT = 6, 2  # ids that a guess goes by
_Context = tuple[int, ...]


class Guesses:
    """What followed the same ids before: after this prompt if they stood there, else after any.

    A wrong guess costs time and changes nothing, so threads may share ``anywhere``.
    """

    def __init__(self, anywhere: dict[_Context, int]) -> None:
        self._anywhere = anywhere
        self._here: dict[_Context, int] = {}

    def learn(self, ids: list[int], start: int) -> None:
        """Take note of the ids from ``start`` on."""
        for at in range(max(start, _LONG), len(ids)):
            context = tuple(ids[at - _LONG : at])
            self._here[context] = self._anywhere[context] = ids[at]
            self._anywhere[context[-_SHORT:]] = ids[at]

    def follow(self, ids: list[int], count: int) -> list[int]:
        """Return ``count`` ids that may come next; zeros where there is no guess."""
        text = ids[-_LONG:]
        for _ in range(count):
            context = tuple(text[-_LONG:])
            guess = self._here.get(context)
            if guess is None:
                guess = self._anywhere.get(context)
            if guess is None:
                guess = self._anywhere.get(context[-_SHORT:], 0)
            text.append(guess)
        return text[len(text) - count :]


class Writer:
    """A chain on its way: the sequence that its driver rewrites.

    ``ids`` are the prompt and what was written; the network has read the first ``read`` of them.
    """

    def __init__(
        self,
        prompt: Sequence[int],
        tokenizer: Tokenizer,
        plan: Plan,
        index: int,
        *,
        context: int,
        guesses: Guesses,
    ) -> None:
        self.ids, self.index, self.seed, self.read = list(prompt), index, plan.seed_of(index), 0
        self.capacity = context - len(prompt)
        self.chain: Chain | None = None
        """The whole chain, once it is written."""
        self._prompt, self._guesses = prompt, guesses
        self._driver = ChainDriver(self, tokenizer, plan.policy, max_new_tokens=plan.max_new_tokens)
        self._look_ahead()

    def read_prompt(self) -> None:
        """Take note that the row has the prompt, all but its last id, from another chain."""
        self.read = len(self._prompt) - 1

    def next_ids(self, count: int) -> list[int]:
        """Return the ids to read next: those that are certain, then guesses."""
        certain = self.ids[self.read : self.read + count]
        if len(certain) == count:
            return certain
        return certain + self._guesses.follow(self.ids, count - len(certain))

    def advance(self, fed: list[int], sampled: list[int]) -> None:
        """Take note that ``fed`` was read; ``sampled`` is what follows each of these ids."""
        certain = len(self.ids) - self.read
        if certain > len(fed):
            self.read += len(fed)
            return
        draft, tokens = fed[certain:], sampled[certain - 1 :]
        held = common_prefix(draft, tokens)
        before = len(self.ids)
        self.read += certain + held
        self.ids += tokens[: held + 1]
        for _ in self._driver.take(tokens[: held + 1]):
            pass
        self._look_ahead()
        self._guesses.learn(self.ids, before)

    def rewrite(self, keep: int, ids: Sequence[int]) -> None:
        """Keep the first ``keep`` ids after the prompt, then append ``ids``, not sampled."""
        kept = len(self._prompt) + keep
        same = kept + common_prefix(self.ids[kept:], ids)
        self.ids[kept:] = ids
        # What is supplied as it was read need not be read again, but for the last id.
        self.read = min(self.read, same, len(self.ids) - 1)

    def _look_ahead(self) -> None:
        """Close the chain where nothing more is to be sampled."""
        if not self._driver.goes_on():
            *_, last = self._driver.finish()
            assert isinstance(last, ChainEnded)
            ids = last.chain.token_ids
            assert ids is not None
            self.chain = replace(last.chain, token_ids=replace(ids, prompt=self._prompt))
