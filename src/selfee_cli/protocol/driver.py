"""Drives one chain: reads what a model writes, and holds the revision policy against it.

What it writes is a :class:`TokenSequence`: it takes tokens that were not sampled, and can be cut
back. A local network, a row of a batch, a remote server and a script in a test all fit behind it,
so the rules below are written once.

**Enforcement.** In a feedback that owes a revision, a verdict "not needed", an end of text, a
missing verdict and text running on after the verdict are treated alike: the ids are cut back to
where the verdict phrase begins, `` Revision is needed.`` and the next header are supplied, and
the model goes on from there. An end of text in an answer or revision that owes feedback becomes
the feedback's header. Text that may still be withdrawn is never shown.

A chain need not begin with its answer: given complete turns to begin with, the driver writes on
after them. The prompt of its sequence then ends with their text and with the header that is due.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from selfee_cli.protocol.chain import (
    Chain,
    ChainEnded,
    Event,
    StopReason,
    TextDelta,
    TokenIds,
    Turn,
    TurnEnded,
    TurnStarted,
    read_turn,
    text_before,
)
from selfee_cli.protocol.grammar import (
    ANSWER,
    TurnBuffer,
    TurnKind,
    Verdict,
    last_verdict,
)
from selfee_cli.protocol.overruling import overrule_at, supplied_verdict
from selfee_cli.protocol.policy import RevisionPolicy
from selfee_cli.protocol.text import TokenText, Vocabulary


class TokenSequence(Protocol):
    """The ids that a model reads and writes on."""

    @property
    def capacity(self) -> int:
        """How many ids the context takes after the prompt."""
        ...

    def rewrite(self, keep: int, ids: Sequence[int]) -> None:
        """Keep the first ``keep`` ids after the prompt, then append ``ids``, not sampled."""
        ...


@dataclass
class _OpenTurn:
    """The turn being written: its text, and what is known of it beside the text."""

    buffer: TurnBuffer
    first_token: int
    began: float
    shown: int = 0
    enforced: bool = False
    overruled: Verdict | None = None
    complete: bool = False
    """It was brought to its end, though no header follows it."""


class ChainDriver:
    """Writes one chain, and may be used once.

    ``run`` yields its events. Where the sampling is someone else's loop: ``take`` as long as it
    ``goes_on``, then ``finish``.
    """

    def __init__(
        self,
        sequence: TokenSequence,
        vocabulary: Vocabulary,
        policy: RevisionPolicy,
        *,
        beginning: Sequence[Turn] = (),
        max_new_tokens: int | None = None,
        cancelled: Callable[[], bool] = lambda: False,
        finishing: Callable[[], bool] = lambda: False,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        """Prepare a chain.

        Args:
            sequence: Its prompt ends where the chain begins, or goes on.
            vocabulary: Turns ids into text and back.
            policy: How many revisions there must and may be.
            beginning: The complete turns that stand there already.
            max_new_tokens: The most ids that are written.
            cancelled: Asked before every token; the chain ends where it says yes.
            finishing: Asked at the end of every turn; the chain ends there where it says yes.
            clock: Seconds, for the figures.
        """
        self._sequence = sequence
        self._vocabulary = vocabulary
        self._policy = policy
        self._max_new_tokens = max_new_tokens
        self._cancelled = cancelled
        self._finishing = finishing
        self._clock = clock
        self._text = TokenText(vocabulary)
        self._ids: list[int] = []
        self._forced: list[tuple[int, int]] = []
        self._turns: list[Turn] = list(beginning)
        self._beginning = text_before(beginning)
        self._cuts = 0
        self._stop: StopReason | None = None
        first = beginning[-1].id.next if beginning else ANSWER
        self._open = _OpenTurn(TurnBuffer(first), first_token=0, began=clock())

    def run(self, sample: Callable[[], Sequence[int]]) -> Iterator[Event]:
        """Write the chain; ends with ``ChainEnded`` however the chain ends.

        ``sample`` appends sampled ids to the sequence, at least one, and returns them; nothing
        where the work was cancelled half-way, the sequence being what it was.
        """
        yield TurnStarted(self._turn.id)
        while self.goes_on():
            yield from self.take(sample())
        yield from self.finish()

    def goes_on(self) -> bool:
        """Whether something is to be sampled."""
        if self._stop is None:
            self._stop = self._out_of_room(len(self._ids))
            if self._cancelled():
                self._stop = StopReason.INTERRUPTED
        return self._stop is None

    def take(self, sampled: Sequence[int]) -> Iterator[Event]:
        """Read what was sampled and appended to the sequence, which may be rewritten."""
        if not sampled:
            self._stop = StopReason.INTERRUPTED
        cuts = self._cuts
        for id in sampled:
            yield from self._accept(id)
            # Whatever was sampled beyond a cut, or beyond the end, is void.
            if self._cuts != cuts or self._stop or self._out_of_room(len(self._ids)):
                break

    @property
    def _turn(self) -> TurnBuffer:
        return self._open.buffer

    # -- one token ---------------------------------------------------------------------------

    def _accept(self, id: int) -> Iterator[Event]:
        self._ids.append(id)
        if self._vocabulary.is_end(id):
            self._text.push(id)
            self._end_of_text()
        else:
            self._turn.append(self._text.push(id))
            self._examine()
        yield from self._show()

    def _end_of_text(self) -> None:
        """The model wrote its end token: let it, or make it go on."""
        id = self._turn.id
        if self._policy.must_continue(id) and self._finishing():
            self._stop = StopReason.INTERRUPTED
            self._open.complete = True
            return
        if not self._policy.must_continue(id):
            verdict = last_verdict(self._turn.text) if id.kind is TurnKind.FEEDBACK else None
            content = verdict is Verdict.NOT_NEEDED
            self._stop = StopReason.NOT_NEEDED if content else StopReason.END
            self._open.complete = True
            return
        if id.kind is TurnKind.FEEDBACK:
            span = self._turn.verdict
            self._supply_verdict(span.start if span else len(self._turn.text))
        else:
            trailing = len(self._turn.text) - len(self._turn.text.rstrip("\n"))
            self._supply(len(self._turn.text), self._turn.due[min(trailing, 2) :])
            self._open.complete = self._stop is not None  # it ended, if without room for a header

    def _examine(self) -> None:
        """Look at the turn after a piece of text was added to it."""
        turn = self._turn
        if turn.id.kind is TurnKind.FEEDBACK and self._policy.must_continue(turn.id):
            cut = overrule_at(turn)
            if cut is not None:
                self._supply_verdict(cut)
        if turn.header_at is None or self._stop is not None:
            return
        if self._policy.is_last(turn.id):
            self._end_before_header(turn.header_at, StopReason.MAX_REVISIONS)
        elif self._finishing():
            self._end_before_header(turn.header_at, StopReason.INTERRUPTED)

    def _end_before_header(self, at: int, reason: StopReason) -> None:
        self._stop = reason
        self._open.complete = True
        self._supply(at, "")

    # -- what is supplied --------------------------------------------------------------------

    def _supply_verdict(self, at: int) -> None:
        turn = self._turn
        own = turn.verdict.verdict if turn.verdict else None
        at, verdict = supplied_verdict(turn.text, at)
        self._supply(at, verdict + turn.due)
        if own is not Verdict.NEEDED and self._stop is None:  # there was room
            self._open.enforced, self._open.overruled = True, own

    def _supply(self, at: int, text: str) -> None:
        """Cut the turn back to its first ``at`` characters and write ``text`` there."""
        kept, straddled = self._text.before(len(self._turn.text) - at)
        if self._ids and self._vocabulary.is_end(self._ids[-1]):
            kept = min(kept, len(self._ids) - 1)
        supplied = self._vocabulary.encode_continuation(straddled + text)
        if supplied and not self._fits(kept, supplied):
            self._stop = self._out_of_room(kept + len(supplied) - 1)
            supplied = self._vocabulary.encode_continuation(straddled)  # that was shown
            supplied = supplied if self._fits(kept, supplied) else []
        self._sequence.rewrite(kept, supplied)
        self._cuts += 1
        del self._ids[kept:]
        self._forced = [(start, min(end, kept)) for start, end in self._forced if start < kept]
        self._text.cut(kept)
        # A token that straddles the turn's first character brings the header's end along again.
        repeated = max(0, len(straddled) - at)
        self._turn.cut(max(0, at - len(straddled)))
        if supplied:
            self._forced.append((kept, kept + len(supplied)))
        for id in supplied:
            self._ids.append(id)
            piece = self._text.push(id)
            self._turn.append(piece[repeated:])
            repeated = max(0, repeated - len(piece))

    # -- what is shown -----------------------------------------------------------------------

    def _show(self) -> Iterator[Event]:
        """Yield the text that stands for good, and the turn's end where its header is there."""
        turn = self._turn
        overrulable = turn.id.kind is TurnKind.FEEDBACK and self._policy.must_continue(turn.id)
        yield from self._show_up_to(turn.settled(withdrawable=overrulable))
        if turn.header_at is None or self._stop is not None:
            return
        boundary, _ = self._text.before(len(turn.text) - turn.header_at)
        following = turn.text[turn.header_at + len(turn.due) :]
        yield self._close(turn.text[: turn.header_at], until=boundary, complete=True)
        self._open = _OpenTurn(TurnBuffer(turn.id.next), first_token=boundary, began=self._clock())
        yield TurnStarted(self._turn.id)
        if following:  # one token held the end of the header and more
            self._turn.append(following)
            self._examine()
            yield from self._show()

    def _show_up_to(self, end: int) -> Iterator[Event]:
        if end > self._open.shown:
            yield TextDelta(self._turn.id, self._turn.text[self._open.shown : end])
            self._open.shown = end

    # -- turns and the end -------------------------------------------------------------------

    def _close(self, text: str, *, until: int, complete: bool) -> TurnEnded:
        read = read_turn(self._turn.id, text, complete=complete)
        turn = Turn(
            id=read.id,
            text=text,
            complete=complete,
            tokens=until - self._open.first_token,
            seconds=self._clock() - self._open.began,
            verdict=read.verdict,
            score=read.score,
            enforced=self._open.enforced,
            overruled=self._open.overruled,
        )
        self._turns.append(turn)
        return TurnEnded(turn)

    def _out_of_room(self, ids: int) -> StopReason | None:
        """Why no id may follow ``ids`` generated ones, or None where one may."""
        if self._max_new_tokens is not None and ids >= self._max_new_tokens:
            return StopReason.MAX_NEW_TOKENS
        return StopReason.CONTEXT if ids >= self._sequence.capacity else None

    def _fits(self, kept: int, ids: Sequence[int]) -> bool:
        return self._out_of_room(kept + len(ids) - 1) is None

    def finish(self) -> Iterator[Event]:
        """Close the open turn and the chain."""
        self._turn.append(self._text.close())
        yield from self._show_up_to(len(self._turn.text))
        yield self._close(self._turn.text, until=len(self._ids), complete=self._open.complete)
        chain = Chain(
            instruction="",
            turns=tuple(self._turns),
            stop_reason=self._stop,
            raw=self._beginning + str(self._text),
            token_ids=TokenIds(prompt=(), generated=tuple(self._ids), forced=tuple(self._forced)),
            usage={"completion_tokens": len(self._ids)},
        )
        yield ChainEnded(chain)
