"""A chain and what happens while one is written.

A chain is an answer, feedback on it, a revision, feedback on that, and so on. A session yields
its events in order: ``TurnStarted``, any number of ``TextDelta``, ``TurnEnded``, and so for every
turn, then one ``ChainEnded``. Terminal, JSON lines and files are renderers of these events.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from selfee_cli.protocol.grammar import (
    ANSWER,
    TurnBuffer,
    TurnId,
    TurnKind,
    Verdict,
    find_score,
    last_verdict,
)

SCHEMA = "selfee.chain/1"


class StopReason(StrEnum):
    """Why a chain ended."""

    NOT_NEEDED = "not_needed"
    END = "end"
    MAX_REVISIONS = "max_revisions"
    MAX_NEW_TOKENS = "max_new_tokens"
    CONTEXT = "context"
    INTERRUPTED = "interrupted"


@dataclass(frozen=True, kw_only=True)
class Turn:
    """One answer, feedback or revision."""

    id: TurnId
    text: str
    complete: bool
    tokens: int = 0
    seconds: float = 0.0
    verdict: Verdict | None = None
    score: float | None = None
    enforced: bool = False
    """The model's own verdict was overruled, or a missing one supplied."""
    overruled: Verdict | None = None
    """That verdict, where the turn was written here; recorded turns do not keep it."""

    @property
    def is_final_candidate(self) -> bool:
        """An answer or a revision: what a reader could take as the result."""
        return self.id.kind is not TurnKind.FEEDBACK

    @property
    def own_verdict(self) -> Verdict | None:
        """What the model itself concluded."""
        return self.overruled if self.enforced else self.verdict

    def to_json(self, *, measured: bool = True) -> dict[str, Any]:
        """Return the turn as the command-line contract writes it.

        Recorded turns carry no token counts or times: ``measured=False`` leaves them out.
        """
        data: dict[str, Any] = {"kind": self.id.kind.value, "index": self.id.index}
        data["text"] = self.text
        if measured:
            data |= {"tokens": self.tokens, "seconds": round(self.seconds, 4)}
        data["complete"] = self.complete
        if self.id.kind is TurnKind.FEEDBACK or not measured:
            data |= {"verdict": self.verdict and self.verdict.value, "score": self.score}
        if self.id.kind is TurnKind.FEEDBACK and measured:
            data["enforced"] = self.enforced
        return data


def read_turn(id: TurnId, text: str, *, complete: bool) -> Turn:
    """Return the turn that ``text`` is, its verdict and score read."""
    feedback = id.kind is TurnKind.FEEDBACK
    return Turn(
        id=id,
        text=text,
        complete=complete,
        verdict=last_verdict(text) if feedback else None,
        score=find_score(text) if feedback else None,
    )


def text_before(turns: Sequence[Turn]) -> str:
    """Return the text after the prompt up to where the turn after ``turns`` begins.

    It ends with that turn's header; nothing where there are no turns, for an answer has none.
    """
    text = "".join(turn.id.header + turn.text for turn in turns)
    return text + turns[-1].id.next.header if turns else ""


@dataclass(frozen=True, kw_only=True)
class TokenIds:
    """The exact ids of a chain; ``forced`` are half-open spans of ``generated`` not sampled."""

    prompt: Sequence[int]
    generated: Sequence[int]
    forced: Sequence[tuple[int, int]]


@dataclass(frozen=True, kw_only=True)
class Chain:
    """A finished chain, with what it cost where that was measured."""

    instruction: str
    input: str | None = None
    turns: tuple[Turn, ...]
    stop_reason: StopReason | None = None
    accepted: TurnId | None = None
    """The turn that a reader chose as the result; None: the last one that is complete."""
    raw: str = ""
    """The exact text after the prompt, as published chains are written."""
    token_ids: TokenIds | None = None
    usage: Mapping[str, int] = field(default_factory=dict)
    timing: Mapping[str, float] = field(default_factory=dict)
    sampling: Mapping[str, Any] = field(default_factory=dict)
    model: Mapping[str, Any] = field(default_factory=dict)

    @property
    def final_turn(self) -> Turn:
        """The accepted turn, else the last complete answer or revision.

        An unfinished one only where none is complete.
        """
        for turn in self.turns:
            if turn.id == self.accepted:
                return turn
        candidates = [turn for turn in self.turns if turn.is_final_candidate]
        complete = [turn for turn in candidates if turn.complete]
        return (complete or candidates)[-1]

    @property
    def final(self) -> str:
        """The text that the chain arrives at."""
        return self.final_turn.text

    @property
    def revisions(self) -> int:
        """How many complete revisions there are."""
        return sum(turn.complete and turn.id.kind is TurnKind.REVISION for turn in self.turns)

    def to_json(self, *, token_ids: bool = False) -> dict[str, Any]:
        """Return the object of ``selfee ask --json``."""
        data: dict[str, Any] = {
            "schema": SCHEMA,
            "instruction": self.instruction,
            "input": self.input,
            "turns": [turn.to_json() for turn in self.turns],
            "final": self.final,
            "final_turn": _id_json(self.final_turn.id),
            "revisions": self.revisions,
            "stop_reason": self.stop_reason and self.stop_reason.value,
            "raw": self.raw,
            "usage": dict(self.usage),
            "timing": {name: round(value, 4) for name, value in self.timing.items()},
            "sampling": dict(self.sampling),
            "model": dict(self.model),
        }
        if token_ids and self.token_ids is not None:
            data["token_ids"] = {
                "prompt": list(self.token_ids.prompt),
                "generated": list(self.token_ids.generated),
                "forced": [list(span) for span in self.token_ids.forced],
            }
        return data


@dataclass(frozen=True)
class TurnStarted:
    """A turn begins; its header is known, its text is not."""

    id: TurnId

    def to_json(self) -> dict[str, Any]:
        """Return the event as one JSON line."""
        return {"type": "turn_started", **_id_json(self.id)}


@dataclass(frozen=True)
class TextDelta:
    """Text that stands for good; the deltas of a turn join to its text."""

    id: TurnId
    text: str

    def to_json(self) -> dict[str, Any]:
        """Return the event as one JSON line."""
        return {"type": "text", **_id_json(self.id), "text": self.text}


@dataclass(frozen=True)
class TurnEnded:
    """A turn is over, complete or not."""

    turn: Turn

    def to_json(self) -> dict[str, Any]:
        """Return the event as one JSON line."""
        return {"type": "turn_ended", **self.turn.to_json()}


@dataclass(frozen=True)
class ChainEnded:
    """The chain is over."""

    chain: Chain

    def to_json(self, *, token_ids: bool = False) -> dict[str, Any]:
        """Return the event as one JSON line: the whole object of ``--json``."""
        return {"type": "chain_ended", **self.chain.to_json(token_ids=token_ids)}


@dataclass(frozen=True)
class HistoryDropped:
    """Exchanges left the context, oldest first, so that the next question fits."""

    exchanges: int

    def to_json(self) -> dict[str, Any]:
        """Return the event as one JSON line."""
        return {"type": "history_dropped", "exchanges": self.exchanges}


Event = TurnStarted | TextDelta | TurnEnded | ChainEnded | HistoryDropped


def _id_json(id: TurnId) -> dict[str, Any]:
    return {"kind": id.kind.value, "index": id.index}


class ChainParser:
    """Reads a recorded chain in pieces of any size and gives its turns as they end."""

    def __init__(self) -> None:
        self._open = TurnBuffer(ANSWER)
        self.turns: list[Turn] = []

    def feed(self, piece: str) -> list[Turn]:
        """Add the next piece of the text after the prompt; return the turns it completed."""
        before = len(self.turns)
        self._open.append(piece)
        while (at := self._open.header_at) is not None:
            ended, self._open = self._open, TurnBuffer(self._open.id.next)
            self.turns.append(read_turn(ended.id, ended.text[:at], complete=True))
            self._open.append(ended.text[at + len(ended.due) :])
        return self.turns[before:]

    def finish(self, *, complete: bool) -> tuple[Turn, ...]:
        """End the chain; ``complete`` tells whether the last turn was brought to its end."""
        last = read_turn(self._open.id, self._open.text, complete=complete)
        return (*self.turns, last)


def parse_chain(raw: str, *, complete: bool | None = None) -> tuple[Turn, ...]:
    """Return the turns of a whole recorded chain.

    Where nobody recorded how the chain ended (``complete=None``), its last turn counts as
    complete when it is a feedback with a verdict or ends a sentence.
    """
    parser = ChainParser()
    parser.feed(raw)
    turns = parser.finish(complete=bool(complete))
    if complete is None:
        last = turns[-1]
        ended = last.verdict is not None or last.text.rstrip().endswith(_SENTENCE_ENDS)
        turns = (*turns[:-1], replace(last, complete=ended))
    return turns


_SENTENCE_ENDS = (".", "!", "?", "```", ")", '"', "”", "。")
