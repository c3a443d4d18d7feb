"""A chain on the terminal, written as it happens and never redrawn."""

from __future__ import annotations

from collections.abc import Callable

from selfee_cli.protocol.chain import (
    Chain,
    ChainEnded,
    Event,
    HistoryDropped,
    StopReason,
    TextDelta,
    Turn,
    TurnEnded,
    TurnStarted,
)
from selfee_cli.protocol.grammar import TurnId, TurnKind, Verdict
from selfee_cli.ui.console import Style, printable
from selfee_cli.ui.diff import word_diff
from selfee_cli.ui.show import FeedbackView, Show

_COLOURS = {TurnKind.ANSWER: "cyan", TurnKind.FEEDBACK: "yellow", TurnKind.REVISION: "green"}
_VERDICTS = {
    Verdict.NEEDED: ("revision needed", "yellow"),
    Verdict.NOT_NEEDED: ("revision not needed", "green"),
    None: ("no verdict", "red"),
}


class ChainRenderer:
    """Renders the events of one chain after the other through ``write``.

    ``CHAIN`` streams every turn, ``DIFF`` prints a revision once it is there, as its changes,
    ``FINAL`` prints nothing but the text the chain arrives at, None not even that. ``feedback``
    may change at any time and holds from the next turn on. A feedback that ends without having
    begun was supplied or overruled: it is told in a line. What leaves the context is always told.
    """

    def __init__(
        self,
        write: Callable[[str], None],
        style: Style,
        show: Show | None,
        feedback: FeedbackView = FeedbackView.FULL,
        previous: str = "",
    ) -> None:
        self._write = write
        self._style = style
        self._show = show
        self.feedback = feedback
        self._view = feedback
        self._begun: TurnId | None = None
        self._line_open = False
        self._previous = previous

    @property
    def shows_anything(self) -> bool:
        """Whether a reader sees the chain here."""
        return self._show is not None

    def handle(self, event: Event) -> None:
        """Render one event."""
        if isinstance(event, HistoryDropped):
            plural = "exchange" if event.exchanges == 1 else "exchanges"
            self._put(f"dropped {event.exchanges} oldest {plural}\n", "dim")
        elif self._show is Show.FINAL and isinstance(event, ChainEnded):
            self._put(_result(event.chain))
        elif self._show in (Show.CHAIN, Show.DIFF):
            self._render(event)

    def _render(self, event: Event) -> None:
        match event:
            case TurnStarted(id):
                self._start(id)
            case TextDelta(id, text):
                self._text(id, text)
            case TurnEnded(turn):
                self._end(turn)
            case ChainEnded(chain):
                self._put("= " + self._summary(chain) + "\n", "bold")

    def _start(self, id: TurnId) -> None:
        self._begun = id
        self._view = self.feedback if id.kind is TurnKind.FEEDBACK else FeedbackView.FULL
        if self._view is FeedbackView.FULL:
            self._put(f"{self._style.rule} {id.title}\n", "bold", _COLOURS[id.kind])

    def _text(self, id: TurnId, text: str) -> None:
        if self._view is not FeedbackView.FULL or self._is_diffed(id):
            return
        dim = ("dim",) if id.kind is TurnKind.FEEDBACK else ()
        self._put(printable(text), *dim)

    def _end(self, turn: Turn) -> None:
        begun, self._begun = self._begun == turn.id, None
        if turn.id.kind is TurnKind.FEEDBACK:
            view = self._view if begun else min(self.feedback, FeedbackView.LINE, key=_ORDER.index)
            self._end_feedback(turn, view)
            return
        if not begun:
            return
        if self._is_diffed(turn.id):
            self._put(self._changes(turn))
        self._previous = turn.text
        self._close_line()
        self._put("" if turn.complete else "(unfinished)\n", "dim")
        self._put("\n")

    def _changes(self, turn: Turn) -> str:
        """Return what a revision changed; as far as it goes where it was stopped half-way."""
        if not turn.complete:  # what it does not say, it had not come to
            return printable(turn.text)
        return word_diff(self._previous, turn.text, self._style)

    def _end_feedback(self, turn: Turn, view: FeedbackView) -> None:
        if view is FeedbackView.HIDDEN:
            return
        text, color = self._conclusion(turn)
        if view is FeedbackView.LINE:
            told = [f"{self._style.rule} {turn.id.title}"]
            told += [f"{turn.tokens} tokens"] if turn.tokens else []
            told += [text] if turn.complete else ["unfinished"]
            self._put(self._joined(told) + "\n\n", "bold", color)
            return
        self._close_line()
        if turn.complete:
            self._put(text + "\n", "bold", color)
        else:
            self._put("(unfinished)\n", "dim")
        self._put("\n")

    def _is_diffed(self, id: TurnId) -> bool:
        return self._show is Show.DIFF and id.kind is TurnKind.REVISION

    def _conclusion(self, turn: Turn) -> tuple[str, str]:
        verdict, color = _VERDICTS[turn.verdict]
        parts = [] if turn.score is None else [f"score {turn.score:g}/10"]
        enforced = " (enforced)" if turn.enforced else ""
        return self._joined([*parts, verdict + enforced]), color

    def _summary(self, chain: Chain) -> str:
        is_done = "is the answer" if chain.final_turn.complete else "is unfinished"
        parts = [f"{chain.final_turn.id.title} {is_done}"]
        if chain.stop_reason is not None:
            parts.append(chain.stop_reason.value)
        if "completion_tokens" in chain.usage:
            parts.append(f"{chain.usage['completion_tokens']} tokens")
        if "tokens_per_second" in chain.timing:
            parts.append(f"{chain.timing['tokens_per_second']:.0f} tok/s")
        return self._joined(parts)

    def _joined(self, parts: list[str]) -> str:
        return f" {self._style.dot} ".join(parts)

    def _close_line(self) -> None:
        if self._line_open:
            self._put("\n")

    def _put(self, text: str, *styles: str) -> None:
        if text:
            self._line_open = not text.endswith("\n")
            self._write(self._style.paint(text, *styles) if styles else text)


def _result(chain: Chain) -> str:
    """Return the text that a chain arrived at; none where it was stopped before there was one."""
    if chain.stop_reason is StopReason.INTERRUPTED and not chain.final_turn.complete:
        return ""
    return printable(chain.final.strip()) + "\n"


_ORDER = [FeedbackView.HIDDEN, FeedbackView.LINE, FeedbackView.FULL]
