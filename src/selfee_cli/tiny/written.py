"""What a study needs of a chain, and how its chains are to be written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

from selfee_cli.protocol.chain import Chain, StopReason, Turn
from selfee_cli.protocol.grammar import Verdict
from selfee_cli.protocol.policy import RevisionPolicy


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How chains are written: ``enforced`` revisions at least, ``at_most`` in all.

    ``turn_tokens`` is how many a turn may take on average; a chain that takes more is cut short.
    """

    enforced: int = 0
    at_most: int = 4
    temperature: float = 0.7
    seed: int = 0
    turn_tokens: int = 140

    @property
    def policy(self) -> RevisionPolicy:
        """The plan as the protocol has it."""
        return RevisionPolicy(minimum=self.enforced, maximum=max(self.enforced, self.at_most))

    @property
    def max_new_tokens(self) -> int:
        """How many tokens a chain may take, its prompt not counted."""
        return self.turn_tokens * (2 * max(self.enforced, self.at_most) + 1)

    def seed_of(self, index: int) -> int:
        """Return the seed of the ``index``-th chain."""
        return (self.seed << 32) + index


@dataclass(frozen=True, kw_only=True)
class Written:
    """A chain as the model wrote it.

    ``answers`` holds the answer and the revisions that are complete (where the answer is not, what
    there is of it), ``needed`` the model's own verdicts, before one was overruled (None where
    there is none). ``ids`` are prompt and chain. Of every turn, in order, ``ends`` says where it
    ends among them, and ``formed`` whether it ended as it should.
    """

    ids: Sequence[int]
    prompt_tokens: int = 0
    answers: Sequence[str] = ()
    needed: Sequence[bool | None] = ()
    formed: Sequence[bool] = ()
    ends: Sequence[int] = ()

    @staticmethod
    def of(chain: Chain) -> Written:
        """Read a chain whose ids are known."""
        ids = chain.token_ids
        assert ids is not None
        complete = [turn for turn in chain.turns if turn.complete]
        answers = [turn.text.strip() for turn in complete if turn.is_final_candidate]
        begun = list(accumulate((turn.tokens for turn in chain.turns), initial=0))
        places = zip(chain.turns, pairwise(begun), strict=True)
        formed = [_is_formed(turn, begin, end, ids.forced) for turn, (begin, end) in places]
        formed[-1] &= chain.stop_reason is not StopReason.END
        return Written(
            ids=[*ids.prompt, *ids.generated],
            prompt_tokens=len(ids.prompt),
            answers=answers or [chain.final.strip()],
            needed=[_NEEDED[turn.own_verdict] for turn in complete if not turn.is_final_candidate],
            formed=formed,
            ends=[len(ids.prompt) + end for end in begun[1:]],
        )

    @property
    def tokens(self) -> int:
        """The length of prompt and chain in tokens."""
        return len(self.ids)

    @property
    def well_formed(self) -> bool:
        """Whether every turn ended as it should."""
        return all(self.formed)

    def standing(self, revisions: int) -> str:
        """Return the answer that stands after so many revisions, if there are so many."""
        return self.answers[min(revisions, len(self.answers) - 1)]

    def cost(self, revisions: int) -> int:
        """How many tokens were written up to the end of so many revisions."""
        return self.ends[min(2 * revisions, len(self.ends) - 1)] - self.prompt_tokens


_NEEDED = {Verdict.NEEDED: True, Verdict.NOT_NEEDED: False, None: None}


def _is_formed(turn: Turn, begin: int, end: int, forced: Sequence[tuple[int, int]]) -> bool:
    """Whether a turn at ``begin:end`` of a chain's ids came to its end by itself.

    A feedback does where it has a verdict, be it overruled. After an answer the next header must
    not have been supplied, as it is where the model ended its text there.
    """
    if not turn.is_final_candidate:
        return turn.complete and turn.own_verdict is not None
    supplied = any(begin <= start <= end < stop for start, stop in forced)
    return turn.complete and not supplied
