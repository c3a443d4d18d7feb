"""A chain on the terminal, written as it happens and never redrawn."""

from __future__ import annotations

from collections.abc import Callable

from selfee_cli.protocol.chain import (
    Chain,
    ChainEnded,
    Event,
    HistoryDropped,
    TextDelta,
    Turn,
    TurnEnded,
    TurnStarted,
)
from selfee_cli.protocol.grammar import TurnId, TurnKind, Verdict
from selfee_cli.ui.console import Style, printable
from selfee_cli.ui.diff import word_diff
from selfee_cli.ui.show import Show


class ChainRenderer:
    """Renders the events of one chain after the other through ``write``.

    ``CHAIN`` streams every turn, ``DIFF`` prints a revision once it is there, as its changes,
    ``FINAL`` prints nothing but the text the chain arrives at.
    """

    def __init__(self, write: Callable[[str], None], style: Style, show: Show) -> None:
        self._write = write
        self._style = style
        self._show = show
        self._line_open = False
        self._previous = ""

    def handle(self, event: Event) -> None:
        """Render one event."""
        match event:
            case TurnStarted(id):
                self._start(id)
            case TextDelta(id, text):
                self._text(id, text)
            case TurnEnded(turn):
                self._end(turn)
            case ChainEnded(chain):
                self._finish(chain)
            case HistoryDropped(exchanges):
                plural = "exchange" if exchanges == 1 else "exchanges"
                if self._show is not Show.FINAL:
                    self._put(f"dropped {exchanges} oldest {plural}\n", "dim")

    def _start(self, id: TurnId) -> None:
        if self._show is Show.FINAL:
            return
        color = {"answer": "cyan", "feedback": "yellow", "revision": "green"}[id.kind.value]
        self._put(f"{self._style.rule} {id.title}\n", "bold", color)

    def _text(self, id: TurnId, text: str) -> None:
        if self._show is Show.FINAL or self._is_diffed(id):
            return
        dim = ("dim",) if id.kind is TurnKind.FEEDBACK else ()
        self._put(printable(text), *dim)

    def _end(self, turn: Turn) -> None:
        if self._show is Show.FINAL:
            return
        if self._is_diffed(turn.id):
            self._put(word_diff(self._previous, turn.text, self._style))
        self._close_line()
        if turn.id.kind is TurnKind.FEEDBACK:
            self._put(self._conclusion(turn) + "\n")
        else:
            self._previous = turn.text
        if not turn.complete:
            self._put("(unfinished)\n", "dim")
        self._put("\n")

    def _finish(self, chain: Chain) -> None:
        if self._show is Show.FINAL:
            self._put(printable(chain.final.strip()) + "\n")
            return
        self._put("= " + self._summary(chain) + "\n", "bold")

    def _is_diffed(self, id: TurnId) -> bool:
        return self._show is Show.DIFF and id.kind is TurnKind.REVISION

    def _conclusion(self, turn: Turn) -> str:
        verdict, color = {
            Verdict.NEEDED: ("revision needed", "yellow"),
            Verdict.NOT_NEEDED: ("revision not needed", "green"),
            None: ("no verdict", "red"),
        }[turn.verdict]
        parts = [] if turn.score is None else [f"score {turn.score:g}/10"]
        enforced = " (enforced)" if turn.enforced else ""
        parts.append(verdict + enforced)
        return self._style.paint(f" {self._style.dot} ".join(parts), "bold", color)

    def _summary(self, chain: Chain) -> str:
        parts = [f"{chain.final_turn.id.title} is the answer"]
        if not chain.final_turn.complete:
            parts = [f"{chain.final_turn.id.title} is unfinished"]
        if chain.stop_reason is not None:
            parts.append(chain.stop_reason.value)
        if chain.usage:
            parts.append(f"{chain.usage['completion_tokens']} tokens")
        if chain.timing:
            parts.append(f"{chain.timing['tokens_per_second']:.0f} tok/s")
        return f" {self._style.dot} ".join(parts)

    def _close_line(self) -> None:
        if self._line_open:
            self._put("\n")

    def _put(self, text: str, *styles: str) -> None:
        if text:
            self._line_open = not text.endswith("\n")
            self._write(self._style.paint(text, *styles) if styles else text)
