"""The grammar of generated text: headers, verdicts and scores.

Measured on the published SelFee chains: a turn begins with two newlines, ``### Feedback K:`` or
``### Revision K:`` and one newline, numbered without a gap. Only the one header that is due ends
a turn; every other line, Markdown headings included, is content.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from functools import cache


class TurnKind(StrEnum):
    """What a turn is."""

    ANSWER = "answer"
    FEEDBACK = "feedback"
    REVISION = "revision"


class Verdict(StrEnum):
    """What a feedback concludes."""

    NEEDED = "needed"
    NOT_NEEDED = "not_needed"


@dataclass(frozen=True)
class TurnId:
    """The place of a turn in its chain: the answer is 0, feedbacks and revisions count from 1."""

    kind: TurnKind
    index: int

    @property
    def place(self) -> int:
        """How many turns stand before it in its chain."""
        return 2 * self.index - (self.kind is TurnKind.FEEDBACK)

    @property
    def title(self) -> str:
        """The turn's name as it is printed: ``Answer``, ``Feedback 2``, ``Revision 2``."""
        name = self.kind.value.capitalize()
        return name if self.kind is TurnKind.ANSWER else f"{name} {self.index}"

    @property
    def header(self) -> str:
        """The text that opens the turn in a chain (an answer is opened by the prompt)."""
        return "" if self.kind is TurnKind.ANSWER else f"\n\n### {self.title}:\n"

    @property
    def next(self) -> TurnId:
        """The one turn that may follow."""
        if self.kind is TurnKind.FEEDBACK:
            return TurnId(TurnKind.REVISION, self.index)
        return TurnId(TurnKind.FEEDBACK, self.index + 1)


ANSWER = TurnId(TurnKind.ANSWER, 0)


@dataclass(frozen=True)
class VerdictSpan:
    """A verdict phrase at ``text[start:end]``."""

    verdict: Verdict
    start: int
    end: int


_REFUSALS = tuple(
    no + rest
    for no in ("No", "no")
    for rest in (
        " revision is needed",
        " revision needed",
        " revisions are needed",
        " revisions needed",
        " further revision is needed",
        " major revision is needed",
        " additional revision is needed",
    )
)
_PHRASES: dict[str, Verdict] = {
    **dict.fromkeys(_REFUSALS, Verdict.NOT_NEEDED),
    "Revision is not needed": Verdict.NOT_NEEDED,
    "revision is not needed": Verdict.NOT_NEEDED,
    "Revision is needed": Verdict.NEEDED,
    "revision is needed": Verdict.NEEDED,
}
# What the original's enforcement left in 6% of its feedbacks: "8.vision is needed".
_DAMAGED = ("vision is needed", "Novision is needed", "revisionvision is needed")
_VERDICT = re.compile(
    r"\b(?P<phrase>" + "|".join(_PHRASES) + r")\b"
    rf"|(?<=[.!?]){_DAMAGED[0]}\b|\b(?:{_DAMAGED[1]}|{_DAMAGED[2]})\b"
)
# What may turn out to be a verdict while it is still being written, with its leading space.
VERDICT_OPENINGS = tuple(space + text for text in (*_PHRASES, *_DAMAGED) for space in (" ", ""))
_LONGEST_VERDICT = max(map(len, VERDICT_OPENINGS))


def find_verdict(text: str, start: int = 0) -> VerdictSpan | None:
    """Return the first verdict phrase in ``text`` at or after ``start``."""
    match = _VERDICT.search(text, start)
    if match is None:
        return None
    verdict = _PHRASES[match["phrase"]] if match["phrase"] else Verdict.NEEDED
    return VerdictSpan(verdict, match.start(), match.end())


def last_verdict(text: str) -> Verdict | None:
    """Return what a whole feedback concludes: its last verdict, or None when it gives none."""
    verdict, start = None, 0
    while span := find_verdict(text, start):
        verdict, start = span.verdict, span.end
    return verdict


_NUMBER = r"(?P<score>10(?:\.0)?|\d(?:\.\d\d?)?)"
_STRONG_SCORE = re.compile(
    rf"(?<![\d./-]){_NUMBER}\s*(?:/\s*10|out of (?:10|ten))(?!\d)"
    rf"|\b(?:[Ss]cored?|[Ss]coring|[Rr]ating)(?:\s+(?:of|is|as|at))?(?:\s+an?)?\s*:?\s*"
    rf"{_NUMBER.replace('score', 'score2')}(?![\d/,]|\.\d)"
)
_WEAK_SCORE = re.compile(rf"\b(?:solid|an?)\s+{_NUMBER}(?=[.,;!\s]|$)(?![.,]\d)")


def find_score(text: str) -> float | None:
    """Return the score out of ten that a feedback gives, or None: ``8/10``, ``a solid 8.5``."""
    found: str | None = None
    for match in _STRONG_SCORE.finditer(text):
        found = match["score"] or match["score2"]
    if found is None:
        for match in _WEAK_SCORE.finditer(text):
            found = match["score"]
    return float(found) if found is not None else None


def unfinished(text: str, openings: tuple[str, ...]) -> int:
    """Return where the tail of ``text`` begins that may yet grow into one of ``openings``.

    ``len(text)`` when no tail may.
    """
    beginnings, longest = _beginnings(openings)
    for at in range(max(0, len(text) - longest), len(text)):
        if text[at:] in beginnings:
            return at
    return len(text)


@cache
def _beginnings(openings: tuple[str, ...]) -> tuple[frozenset[str], int]:
    """Every text that one of ``openings`` begins with, and the longest length of these."""
    found = {opening[:end] for opening in openings for end in range(1, len(opening) + 1)}
    return frozenset(found), max(map(len, found))


class TurnBuffer:
    """The text of the one turn being written, watched for the header that ends it."""

    def __init__(self, id: TurnId) -> None:
        self.id = id
        self.due = id.next.header
        """The header that would end this turn."""
        self.text = ""
        self.verdict: VerdictSpan | None = None
        """The first verdict, of a feedback."""
        self.header_at: int | None = None
        """Where the due header begins, once it stands there whole."""

    def append(self, piece: str) -> None:
        """Add what was just written."""
        seen = len(self.text)
        self.text += piece
        if self.header_at is None:
            at = self.text.find(self.due, max(0, seen - len(self.due)))
            self.header_at = at if at >= 0 else None
        if self.verdict is None and self.id.kind is TurnKind.FEEDBACK:
            span = find_verdict(self.text, max(0, seen - _LONGEST_VERDICT))
            if span and (self.header_at is None or span.end <= self.header_at):
                self.verdict = span

    def cut(self, length: int) -> None:
        """Withdraw everything after the first ``length`` characters."""
        self.text = self.text[:length]
        if self.header_at is not None and self.header_at + len(self.due) > length:
            self.header_at = None
        if self.verdict is not None and self.verdict.end > length:
            self.verdict = None

    def settled(self, *, withdrawable: bool) -> int:
        """How many characters can be shown for good.

        A tail that may become the due header never can; where the verdict may still be
        overruled (``withdrawable``), neither can a verdict or what may become one.
        """
        if self.header_at is not None:
            return self.header_at
        openings = (self.due, *VERDICT_OPENINGS) if withdrawable else (self.due,)
        settled = unfinished(self.text, openings)
        if withdrawable and self.verdict is not None:
            settled = min(settled, without_space(self.text, self.verdict.start))
        return settled


def without_space(text: str, at: int) -> int:
    """Return ``at``, or one less where a space stands before it: word pieces carry it along."""
    return at - 1 if at and text[at - 1] == " " else at
