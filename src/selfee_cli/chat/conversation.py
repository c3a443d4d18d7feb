"""What was asked and answered in a session, and what a reader may do about it.

The conversation holds complete and broken turns alike; the model is shown complete ones only: of
earlier questions the final answer, of a chain that goes on the turns it goes on from.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from selfee_cli.errors import UsageError
from selfee_cli.protocol.chain import Chain, StopReason, Turn, read_turn, text_before
from selfee_cli.protocol.grammar import ANSWER, TurnId, TurnKind, Verdict, VerdictSpan, find_verdict
from selfee_cli.protocol.overruling import SUPPLIED_VERDICT, overruled
from selfee_cli.protocol.prompt import Exchange
from selfee_cli.protocol.text import well_formed

_USUAL_REVISION = 510  # tokens of a feedback and its revision, the mean of the published chains
LIMITS = ("min-revisions", "max-revisions")
"""The settings that say how many revisions a chain must and may have."""
_GOES_ON = (StopReason.INTERRUPTED, StopReason.MAX_NEW_TOKENS)


@dataclass(frozen=True, kw_only=True)
class Extension:
    """How the last chain goes on: after ``turns``, to ``revisions`` of them (None: as it likes).

    ``supplied`` are those of the turns that are new: the reader's own feedback, or the model's
    with its verdict overruled.
    """

    turns: tuple[Turn, ...]
    supplied: tuple[Turn, ...] = ()
    revisions: int | None = None
    new_seed: bool = False
    """The turns went on before, and that was not accepted: the same seed would write it again."""


class Conversation:
    """The chains of a session, oldest first."""

    def __init__(self, chains: Sequence[Chain] = ()) -> None:
        self.chains: list[Chain] = list(chains)
        self._forgotten = [0] * len(self.chains)
        """How many of the oldest had no room beside each chain."""
        self._replaced: list[tuple[Chain, int]] = []

    @property
    def last(self) -> Chain:
        """The last chain.

        Raises:
            UsageError: there is none.
        """
        if not self.chains:
            raise UsageError("nothing was asked yet")
        return self.chains[-1]

    @property
    def forgotten(self) -> int:
        """How many of the oldest the model is no longer shown, for lack of room."""
        return self._forgotten[-1] if self._forgotten else 0

    def history(self, *, less: int = 0) -> list[Exchange]:
        """What the model is shown of the questions so far, the last ``less`` left out."""
        shown = self.chains[self.forgotten : len(self.chains) - less]
        return [
            Exchange(instruction=c.instruction, input=c.input, answer=c.final.strip())
            for c in shown
            if c.turns and c.final_turn.complete
        ]

    def forget(self, count: int) -> None:
        """Take note that ``count`` more of the oldest have no room beside the last chain."""
        self._forgotten[-1] += count

    # -- a chain is written ------------------------------------------------------------------

    def begin(self, instruction: str, input: str | None, *, replaces: int = 0) -> None:
        """A question is asked. The last ``replaces`` come back where nothing of it is complete."""
        self._replaced = self._drop(replaces)
        self._forgotten.append(self.forgotten)
        self.chains.append(Chain(instruction=instruction, input=input, turns=()))

    def add(self, turn: Turn) -> None:
        """A turn has ended. A complete one takes its place and what stood after it is gone.

        A broken one displaces nothing.
        """
        chain = self.last
        place = turn.id.place
        kept = chain.turns[: max(0, place)]
        due = kept[-1].id.next if kept else ANSWER
        if turn.id != due or any(not earlier.complete for earlier in kept):
            raise UsageError(f"{turn.id.title} does not follow")
        if turn.complete:
            self._replaced = []
            self.chains[-1] = replace(chain, turns=(*kept, turn), accepted=None, stop_reason=None)
        elif place == len(chain.turns) or not chain.turns[place].complete:
            self.chains[-1] = replace(chain, turns=(*kept, turn), stop_reason=None)

    def end(self, ended: Chain, *, cut_short: bool = False) -> bool:
        """The chain has ended. False where nothing is complete: the question is withdrawn.

        One that was ``cut_short`` elsewhere is kept for what it has. What ``ended`` does not say of
        a chain that went on is as it was when it ended before.
        """
        chain = self.last
        if not any(turn.complete or cut_short for turn in chain.turns):
            self.withdraw()
            return False
        self.chains[-1] = replace(
            chain,
            stop_reason=ended.stop_reason,
            raw=text_before(chain.turns).removesuffix(chain.turns[-1].id.next.header),
            usage=ended.usage or chain.usage,
            timing=ended.timing or chain.timing,
            sampling=ended.sampling or chain.sampling,
            model=ended.model or chain.model,
        )
        return True

    def withdraw(self) -> None:
        """Take the last question back; what it was to replace stands again."""
        self._drop(1)
        for chain, forgotten in self._replaced:
            self.chains.append(chain)
            self._forgotten.append(forgotten)
        self._replaced = []

    def _drop(self, count: int) -> list[tuple[Chain, int]]:
        """Take the last ``count`` away, and return each with what was forgotten beside it."""
        start = len(self.chains) - count
        dropped = list(zip(self.chains[start:], self._forgotten[start:], strict=True))
        del self.chains[start:], self._forgotten[start:]
        return dropped

    # -- a reader steers ---------------------------------------------------------------------

    def accept(self, index: int | None) -> Turn:
        """Make the answer (0) or a revision the result; None: the last complete one.

        Raises:
            UsageError: there is no such turn, or it is broken.
        """
        chain = self.last
        turn = replace(chain, accepted=None).final_turn if index is None else self.candidate(index)
        if not turn.complete:
            raise UsageError(f"{turn.id.title} is unfinished", hint="/continue writes it")
        self.chains[-1] = replace(chain, accepted=turn.id)
        return turn

    def candidate(self, index: int) -> Turn:
        """Return the answer (0) or a revision of the last chain.

        Raises:
            UsageError: there is none with that number.
        """
        candidates = [turn for turn in self.last.turns if turn.is_final_candidate]
        for turn in candidates:
            if turn.id.index == index:
                return turn
        most = candidates[-1].id.index if candidates else 0
        raise UsageError(
            f"there is no revision {index}",
            hint="0 is the answer" + (f", 1 to {most} are the revisions" if most else ""),
        )

    def undo(self, count: int = 1) -> int:
        """Drop the last ``count`` questions; return how many there were to drop.

        Raises:
            UsageError: there is none.
        """
        if not self.chains:
            raise UsageError("nothing was asked yet")
        return len(self._drop(min(count, len(self.chains))))

    def revise(self, count: int = 1) -> Extension:
        """Return how ``count`` revisions more come of the accepted turn.

        A feedback that followed it stands, and is overruled where it was content. Where revisions
        followed, they were not what was accepted: feedback is asked for anew.

        Raises:
            UsageError: there is nothing complete.
        """
        accepted, kept, rest = self._parted()
        revisions = accepted.id.index + count
        feedback = rest[0] if rest else None
        if feedback is None or not feedback.complete or (len(rest) > 1 and rest[1].complete):
            return Extension(turns=kept, revisions=revisions, new_seed=len(rest) > 1)
        if feedback.verdict is Verdict.NEEDED:
            return Extension(turns=(*kept, feedback), revisions=revisions)
        changed = overruled(feedback)
        return Extension(turns=(*kept, changed), supplied=(changed,), revisions=revisions)

    def revise_on(self, criticism: str) -> Extension:
        """Return how a revision comes of the accepted turn on the reader's own feedback.

        Raises:
            UsageError: the criticism is empty, or there is nothing complete.
        """
        text = well_formed(criticism).strip()
        if not text:
            raise UsageError("the feedback is empty")
        accepted, kept, _ = self._parted()
        id = TurnId(TurnKind.FEEDBACK, accepted.id.index + 1)
        turn = read_turn(id, _asking_for_revision(text), complete=True)
        return Extension(turns=(*kept, turn), supplied=(turn,), revisions=id.index)

    def resume(self, minimum: int = 0, maximum: int | None = None) -> Extension:
        """Return how the last chain, which was stopped, goes on to ``minimum`` revisions at least.

        The broken turn is written anew; with the seed of the chain it comes out as it would have,
        where the turns before it were sampled in the pieces that their text is encoded in. Where
        revisions follow the accepted turn, it was to be revised anew: the chain goes on from it.
        The extension has no turns where nothing is complete.

        Raises:
            UsageError: it was not stopped, or has ``maximum`` revisions.
        """
        chain = self.last
        is_begun = chain.final_turn.complete
        if chain.stop_reason not in _GOES_ON and (is_begun or chain.stop_reason is not None):
            reason = "the context is full" if chain.stop_reason is StopReason.CONTEXT else None
            raise UsageError(
                reason or "the last chain was not stopped", hint="/revise asks for one more"
            )
        if not is_begun:
            return Extension(turns=())
        _, turns, rest = self._parted()
        rest = tuple(turn for turn in rest if turn.complete)
        if chain.accepted is None or len(rest) < 2:
            turns += rest
        *kept, last = turns
        is_feedback = last.id.kind is TurnKind.FEEDBACK
        count = last.id.index - is_feedback
        if maximum is not None and count >= maximum:
            raise UsageError(
                f"it has {count} revision{'s' * (count != 1)}, and max-revisions is {maximum}",
                hint="/set max-revisions none lets it go on, /revise asks for one more",
            )
        owes = last.verdict is None and last.id.index <= minimum
        if not is_feedback or not (owes or last.verdict is Verdict.NOT_NEEDED):
            return Extension(turns=turns)
        return Extension(turns=(*kept, overruled(last)), supplied=(overruled(last),))

    def _parted(self) -> tuple[Turn, tuple[Turn, ...], tuple[Turn, ...]]:
        """The accepted turn, the turns up to it, and those after it."""
        chain = self.last
        accepted = chain.final_turn
        if not accepted.complete:
            raise UsageError("no turn is complete", hint="/continue writes on")
        place = accepted.id.place + 1
        return accepted, chain.turns[:place], chain.turns[place:]


def _asking_for_revision(criticism: str) -> str:
    """Return a reader's feedback that asks for a revision, with every word of the reader.

    What it may conclude otherwise, in its last words, is all that is replaced.
    """
    last: VerdictSpan | None = None
    while span := find_verdict(criticism, last.end if last else 0):
        last = span
    if last is not None and last.verdict is Verdict.NEEDED:
        return criticism
    if last is not None and not criticism[last.end :].strip(".! "):
        criticism = criticism[: last.start].rstrip(" ")
    elif criticism[-1] not in ".!?":
        criticism += "."
    space = "" if not criticism or criticism[-1].isspace() else " "
    return criticism + space + SUPPLIED_VERDICT


def room_for_revisions(chain: Chain, context_length: int) -> int:
    """Return how many feedbacks with their revisions the context still takes, about.

    They count as the mean of this chain's, or of the published ones where it has none.
    """
    pairs = [turn for turn in chain.turns[1:] if turn.complete]
    revisions = sum(turn.id.kind is TurnKind.REVISION for turn in pairs)
    tokens = sum(turn.tokens for turn in pairs[: 2 * revisions])
    each = tokens / revisions if revisions and tokens else _USUAL_REVISION
    return max(0, int((context_length - used_context(chain)) / each))


def used_context(chain: Chain) -> int:
    """Return how many tokens prompt and chain take."""
    return chain.usage.get("prompt_tokens", 0) + chain.usage.get("completion_tokens", 0)
