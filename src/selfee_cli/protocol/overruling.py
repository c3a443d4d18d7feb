"""Overruling a verdict: where a feedback is cut, and what it then says."""

from __future__ import annotations

import re
from dataclasses import replace

from selfee_cli.protocol.chain import Turn, read_turn
from selfee_cli.protocol.grammar import TurnBuffer, Verdict, find_verdict, without_space

SUPPLIED_VERDICT = "Revision is needed."
_REST_OF_SENTENCE = re.compile(r"[^.!?\n]{0,200}[.!?]*[\"')\]]* ?")


def supplied_verdict(text: str, at: int) -> tuple[int, str]:
    """Return where to cut a feedback whose verdict is at ``at``, and the verdict to write there."""
    at = without_space(text, at)
    space = "" if at == 0 or text[at - 1].isspace() else " "
    return at, space + SUPPLIED_VERDICT


def overruled(feedback: Turn) -> Turn:
    """Return a complete feedback with the verdict that a revision is needed.

    It is the turn that the driver would have written had it enforced the revision.
    """
    text, span = feedback.text, find_verdict(feedback.text)
    at, verdict = supplied_verdict(text, span.start if span else len(text))
    written = span.verdict if span else None
    own = feedback.overruled if feedback.enforced else written
    kept = read_turn(feedback.id, text[:at] + verdict, complete=True)
    kept = replace(kept, tokens=feedback.tokens, seconds=feedback.seconds)
    return kept if own is Verdict.NEEDED else replace(kept, enforced=True, overruled=own)


def overrule_at(turn: TurnBuffer) -> int | None:
    """Return where a feedback that owes a revision must be cut; None while it may go on."""
    verdict = turn.verdict
    if verdict is None:
        return turn.header_at
    if verdict.verdict is Verdict.NOT_NEEDED:
        return verdict.start
    if turn.header_at is not None:
        return None
    rest = turn.text[verdict.end :]
    sentence = _REST_OF_SENTENCE.match(rest)
    beyond = rest[sentence.end() if sentence else 0 :]
    return None if turn.due.startswith(_one_blank_line(beyond)) else verdict.start


def _one_blank_line(text: str) -> str:
    """``text`` with any run of three and more newlines at its start cut to two."""
    newlines = len(text) - len(text.lstrip("\n"))
    return text[max(0, newlines - 2) :]
