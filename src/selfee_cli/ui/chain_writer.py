"""Writes chains: to the screen as they come, into the conversation and its journal by the turn."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from selfee_cli.chat.conversation import (
    Conversation,
    Extension,
    room_for_revisions,
    used_context,
)
from selfee_cli.chat.journal import Journal
from selfee_cli.errors import FAILURES, SelfeeError, UsageError, explained
from selfee_cli.protocol.chain import (
    Chain,
    ChainEnded,
    Event,
    HistoryDropped,
    StopReason,
    Turn,
    TurnEnded,
)
from selfee_cli.settings import Settings
from selfee_cli.ui.chain_ends import cut_off, no_answer, not_computed
from selfee_cli.ui.keyboard import ChainKeys
from selfee_cli.ui.screen import Mode, Screen
from selfee_cli.ui.show import Show
from selfee_cli.ui.stream import ChainRenderer

if TYPE_CHECKING:
    from selfee_cli.engine.options import AskOptions
    from selfee_cli.engine.session import Session


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a chain went."""

    kept: bool
    """Whether anything of it is complete; otherwise the question was withdrawn."""
    keys: ChainKeys
    """What was pressed and typed meanwhile."""
    error: SelfeeError | None
    """What went wrong, where something did."""


class ChainWriter:
    """Writes the chains of a session."""

    def __init__(
        self,
        *,
        screen: Screen,
        settings: Settings,
        journal: Journal,
        session: Callable[[], Session],
        fold: Callable[[], None],
    ) -> None:
        """Prepare.

        Args:
            screen: Where chains are written.
            settings: How they are revised, sampled and shown.
            journal: Keeps each turn as it ends.
            session: Gives the model, and waits for it where it is still loading.
            fold: Is called at Ctrl-O.
        """
        self._screen = screen
        self._settings = settings
        self._journal = journal
        self._session = session
        self._fold = fold
        self.live: tuple[ChainRenderer, ChainKeys] | None = None
        """What renders the chain that is being written, and the keys that steer it."""
        self.limits_set = False
        """Whether it was set since the last chain how many revisions there must and may be."""

    def ask(
        self,
        talk: Conversation,
        question: str,
        *,
        input: str | None,
        replaces: int = 0,
        seed: int | None = None,
        limits: tuple[int, int | None] | None = None,
    ) -> Outcome:
        """Ask ``question`` in place of the last ``replaces``; ``limits`` None: as the settings say.

        Raises:
            SelfeeError: the model could not be loaded.
            KeyboardInterrupt: the user would not wait for it.
        """
        session, options = self._session(), self._options(seed, limits)
        talk.begin(question, input, replaces=replaces)
        session.history = talk.history(less=1)
        self._journal.question(question, input, replaces)
        return self._write(
            talk,
            options,
            lambda keys: session.ask(
                question,
                input=input,
                options=options,
                cancelled=keys.cancelled,
                finishing=keys.finishing,
            ),
            replaces=bool(replaces),
        )

    def extend(self, talk: Conversation, extension: Extension) -> Outcome:
        """Let the last chain go on.

        Raises:
            SelfeeError: the model could not be loaded.
            KeyboardInterrupt: the user would not wait for it.
        """
        session, chain = self._session(), talk.last
        seed = chain.sampling.get("seed")
        if seed is not None and extension.new_seed:
            seed += 1
        count = extension.revisions
        limits = self.limits(chain) if count is None else (count, count)
        options = self._options(seed, limits)
        session.history = talk.history(less=1)
        outcome = self._write(
            talk,
            options,
            lambda keys: session.extend(
                extension.turns,
                instruction=chain.instruction,
                input=chain.input,
                options=options,
                cancelled=keys.cancelled,
                finishing=keys.finishing,
            ),
            previous=chain.final,
            supplied=extension.supplied,
        )
        if isinstance(outcome.error, UsageError):  # of the prompt, which nobody typed
            full = UsageError("the context has no room for more", hint="/undo or /clear makes room")
            return replace(outcome, error=full)
        return outcome

    def meter(self, talk: Conversation) -> str:
        """Return how full the context is, and what it still takes."""
        length = self._session().model.engine.context_length
        room = room_for_revisions(talk.last, length)
        about = f"about {room} more revision{'s' * (room != 1)}" if room else "no more revision"
        dot = self._screen.style.dot
        return f"context {used_context(talk.last)}/{length} {dot} room for {about}"

    # -- options -----------------------------------------------------------------------------

    def limits(self, chain: Chain) -> tuple[int, int | None]:
        """Return how many revisions a chain that goes on must and may have.

        As it was to have when it was stopped, where that is more than the settings ask for, and
        they were not set since.
        """
        least, get = chain.sampling.get("min_revisions") or 0, self._settings.get
        if least > get("min-revisions") and not self.limits_set:
            return least, chain.sampling.get("max_revisions")
        return get("min-revisions"), get("max-revisions")

    def _options(self, seed: int | None, limits: tuple[int, int | None] | None) -> AskOptions:
        from selfee_cli.engine.options import AskOptions

        get = self._settings.get
        least, most = limits or (get("min-revisions"), get("max-revisions"))
        return AskOptions.make(
            min_revisions=least,
            max_revisions=most,
            max_new_tokens=get("max-new-tokens"),
            temperature=get("temperature"),
            top_p=get("top-p"),
            top_k=get("top-k"),
            seed=get("seed") if seed is None else seed,
            lookup=get("lookup"),
        )

    # -- writing -----------------------------------------------------------------------------

    def _write(
        self,
        talk: Conversation,
        options: AskOptions,
        events: Callable[[ChainKeys], Iterable[Event]],
        *,
        previous: str = "",
        supplied: tuple[Turn, ...] = (),
        replaces: bool = False,
    ) -> Outcome:
        renderer = self._renderer(previous)
        ended = cut_off(options, self._session().model.to_json())
        sampling = ended.sampling
        begun = not talk.last.turns
        error: SelfeeError | None = None
        with ChainKeys(self._fold) as keys:
            self.live = renderer, keys
            try:
                for event in _in_order(events(keys), supplied):
                    begun = True
                    if isinstance(event, ChainEnded):
                        ended = event.chain
                    else:
                        self._take(talk, event, renderer, sampling)
            except BrokenPipeError:
                raise
            except FAILURES as failure:
                error = explained(failure)
            except RuntimeError as failure:  # torch's, or of what it computes on
                error = not_computed(failure)
            finally:
                self.live = None
                kept = self._end(talk, ended) if begun else True
        if kept and error is None:
            self._conclude(talk, renderer)
        elif error is None and ended.stop_reason is not StopReason.INTERRUPTED:
            error = no_answer(ended.stop_reason, replaces=replaces)
        return Outcome(kept=kept, keys=keys, error=error)

    def _renderer(self, previous: str) -> ChainRenderer:
        show: Show | None = self._settings.get("show") or Show.CHAIN
        apart = self._screen.results_apart
        if self._screen.mode is Mode.SCRIPT or (apart and show is Show.FINAL):
            show = None  # the final answer goes to standard output
        view = self._settings.get("feedback")
        return ChainRenderer(self._screen.chain, self._screen.style, show, view, previous)

    def _take(
        self,
        talk: Conversation,
        event: Event,
        renderer: ChainRenderer,
        sampling: Mapping[str, Any],
    ) -> None:
        renderer.handle(event)
        if isinstance(event, TurnEnded):
            talk.add(event.turn)
            self._journal.turn(event.turn, sampling)
        elif isinstance(event, HistoryDropped):
            talk.forget(event.exchanges)

    def _end(self, talk: Conversation, ended: Chain) -> bool:
        self.limits_set = False
        kept = talk.end(ended)
        if kept:
            self._journal.chain(talk.last)
        else:
            self._journal.withdraw()
        return kept

    def _conclude(self, talk: Conversation, renderer: ChainRenderer) -> None:
        chain, screen = talk.last, self._screen
        renderer.handle(ChainEnded(chain))
        screen.result(chain.final.strip())
        if renderer.shows_anything:
            screen.chain(screen.style.paint(self.meter(talk), "dim") + "\n\n")
        if chain.usage and chain.timing:
            screen.console.explain(
                f"read {chain.usage['prompt_tokens']} tokens in "
                f"{chain.timing['prefill_seconds']:.1f} s; {chain.usage['forward_passes']} passes; "
                f"{chain.usage['accepted_tokens']} of {chain.usage['drafted_tokens']} drafted "
                f"tokens held"
            )


def _in_order(events: Iterable[Event], supplied: tuple[Turn, ...]) -> Iterable[Event]:
    """Yield the events, nothing before it is sure that a turn begins: then those supplied."""
    dropped: list[HistoryDropped] = []
    begun = False
    for event in events:
        if isinstance(event, HistoryDropped):
            dropped.append(event)
            continue
        if not begun:
            begun = True
            yield from dropped
            for turn in supplied:
                yield TurnEnded(turn)
        yield event
