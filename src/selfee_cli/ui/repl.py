"""The session at the terminal: read an entry, stream its chain, keep what was said.

Three modes: a full terminal, a plain one (no colour, no cursor codes), and a script on standard
input. They differ in where entries come from and what is written where; the rest is one.
"""

from __future__ import annotations

import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

from selfee_cli.chat import session_file
from selfee_cli.chat.conversation import (
    Conversation,
    Extension,
    room_for_revisions,
    used_context,
)
from selfee_cli.chat.journal import Journal
from selfee_cli.errors import SelfeeError
from selfee_cli.protocol.chain import (
    Chain,
    ChainEnded,
    Event,
    HistoryDropped,
    StopReason,
    TurnEnded,
    TurnStarted,
)
from selfee_cli.protocol.text import well_formed
from selfee_cli.settings import Settings
from selfee_cli.ui.console import Console, Style
from selfee_cli.ui.entries import Entries, PlainEntries, ScriptEntries
from selfee_cli.ui.keyboard import ChainKeys, interrupts
from selfee_cli.ui.loading import Load, Loading
from selfee_cli.ui.repl_commands import Commands
from selfee_cli.ui.show import Show
from selfee_cli.ui.stream import ChainRenderer

if TYPE_CHECKING:
    from selfee_cli.engine.options import AskOptions
    from selfee_cli.engine.session import Session


class Mode(StrEnum):
    """What a session talks through."""

    FULL = "full"
    PLAIN = "plain"
    SCRIPT = "script"


@dataclass(frozen=True, kw_only=True)
class Setup:
    """What does not change in a session."""

    mode: Mode
    sessions: Path | None = None
    """Where sessions are kept; None: nowhere."""
    history: Path | None = None
    """The file of earlier entries; None: they are not kept."""
    log: Path | None = None
    """Where errors are noted."""
    vi: bool = False
    """Whether the prompt's keys are vi's."""


class Repl:
    """Runs a session until the user leaves; ``run`` returns the exit code."""

    def __init__(self, load: Load, settings: Settings, setup: Setup, console: Console) -> None:
        self.settings = settings
        self.console = console
        self.setup = setup
        self.talk = Conversation()
        self.input: str | None = None
        """The text that the next question is about."""
        self.beginning = ""
        """What stands in the next prompt already."""
        self.editing = False
        """Whether the next entry takes the last question's place."""
        self.done = False
        self.journal = Journal(
            setup.sessions,
            header=lambda: (self.session().model.to_json(), dict(self._plain_settings())),
            complain=lambda text: console.complain(text, None),
        )
        self._code = 0
        self._load = load
        self._loading: Loading | None = None
        self._session: Session | None = None
        self.live: tuple[ChainRenderer, ChainKeys] | None = None
        """What renders the chain that is being written, and the keys that steer it."""
        # Standard output is data: where it is no terminal, only final answers go there.
        self._data_apart = setup.mode is Mode.SCRIPT or not console.out.isatty()
        self._screen = console.err if self._data_apart else console.out
        color = setup.mode is Mode.FULL and console.style(self._screen).color
        self.style = Style(color=color, unicode=console.style(self._screen).unicode)
        self._commands = Commands(self)

    # -- the loop ----------------------------------------------------------------------------

    def run(self, first: str | None = None, *, resume: Path | None = None) -> int:
        """Ask ``first`` if given, then whatever is entered, in the session ``resume`` or anew.

        Raises:
            SelfeeError: the model cannot be loaded, or the session cannot be read.
        """
        with _ending_signals(), interrupts(raised=self.setup.mode is Mode.SCRIPT):
            try:
                if resume is not None:
                    self.open(resume)
                self._loading = Loading(self._load)
                if self.setup.mode is not Mode.FULL:
                    self.session()
                entries = self._entries()
                if self.setup.mode is not Mode.SCRIPT:
                    self.console.say("Ask away. /help lists the commands, Ctrl-D leaves.")
                if first is not None:
                    self.enter(first)
                while not self.done:
                    self._next(entries)
            finally:
                if self.journal.id is not None:
                    self.console.say(f"resume: selfee chat --resume {self.journal.id}")
                self.journal.close()
        return self._code

    @property
    def is_loading(self) -> bool:
        """Whether the model is still being loaded."""
        return self._loading is not None and not self._loading.is_over

    def _entries(self) -> Entries:
        if self.setup.mode is Mode.SCRIPT:
            return ScriptEntries()
        if self.setup.mode is Mode.PLAIN:
            return PlainEntries(self._screen, self.console.say)
        from selfee_cli.ui.prompt import PromptEntries

        assert self._loading is not None
        return PromptEntries(
            loading=self._loading,
            history=self.setup.history,
            vi=self.setup.vi,
            words=self._commands.words,
            fold=self._commands.toggle_fold,
        )

    def _next(self, entries: Entries) -> None:
        beginning, self.beginning = self.beginning, ""
        try:
            entry = entries.next(beginning)
        except KeyboardInterrupt:
            self.editing = False
            if self.setup.mode is Mode.SCRIPT:
                self._leave(130)
            else:
                self.console.say("Ctrl-D or /exit leaves")
            return
        if entry is None:
            self.done = True
        else:
            self.enter(entry)

    def enter(self, entry: str) -> None:
        """Handle an entry; what goes wrong in it is told, and the session goes on."""
        entry = well_formed(entry)
        editing, self.editing = self.editing, False
        try:
            if not entry.strip():
                return
            if entry.startswith("/") and not entry.startswith("//"):
                self._commands.run(entry)
            else:
                question = entry[1:] if entry.startswith("//") else entry
                self.ask(question, replaces=int(editing))
        except KeyboardInterrupt:  # while waiting for the model
            self.beginning = entry
            if self.setup.mode is Mode.SCRIPT:
                self._leave(130)
        except SelfeeError as error:
            if self._loading is not None and self._loading.error is error:
                raise
            self._complain(error)

    def _complain(self, error: SelfeeError) -> None:
        self.console.complain(error.message, error.hint)
        if self.setup.mode is Mode.SCRIPT:
            self._code = self._code or error.exit_code
        self._log(error)

    def _leave(self, code: int) -> None:
        self.done, self._code = True, code

    # -- chains ------------------------------------------------------------------------------

    def session(self) -> Session:
        """Return the model's session, once the model is there.

        Raises:
            SelfeeError: it could not be loaded.
            KeyboardInterrupt: the user would not wait.
        """
        if self._session is None:
            assert self._loading is not None
            with interrupts(raised=True):
                self._session = self._loading.result(quiet=self.console.quiet)
        return self._session

    def ask(self, question: str, *, replaces: int = 0, seed: int | None = None) -> None:
        """Ask ``question`` in place of the last ``replaces``.

        Raises:
            SelfeeError: it is too long, or the model failed.
        """
        session, options = self.session(), self._options(seed=seed)
        input = self.talk.last.input if replaces and self.input is None else self.input
        session.history = self.talk.history(less=replaces)
        self.talk.begin(question, input, replaces=replaces)
        self.journal.question(question, input, replaces)

        def events(keys: ChainKeys) -> Iterator[Event]:
            return session.ask(
                question,
                input=input,
                options=options,
                cancelled=keys.cancelled,
                finishing=keys.finishing,
            )

        if self._stream(events):
            self.input = None
        else:
            escaped = "/" + question if question.startswith("/") else question
            self.beginning = escaped + self.beginning

    def extend(self, extension: Extension) -> None:
        """Let the last chain go on.

        Raises:
            SelfeeError: there is no room, or the model failed.
        """
        session, chain = self.session(), self.talk.last
        seed = chain.sampling.get("seed")
        if seed is not None and extension.new_seed:
            seed += 1
        options = self._options(seed=seed, revisions=self._revisions(extension, chain))
        session.history = self.talk.history(less=1)

        def events(keys: ChainKeys) -> Iterator[Event]:
            return session.extend(
                extension.turns,
                instruction=chain.instruction,
                input=chain.input,
                options=options,
                cancelled=keys.cancelled,
                finishing=keys.finishing,
            )

        self._stream(events, extension)

    def _revisions(self, extension: Extension, chain: Chain) -> tuple[int, int | None] | None:
        """Return how many revisions there must and may be; None: as the settings say."""
        if extension.revisions is not None:
            return extension.revisions, extension.revisions
        least = chain.sampling.get("min_revisions") or 0
        if least > self.settings.get("min-revisions"):  # it was to have more when it was stopped
            return least, chain.sampling.get("max_revisions")
        return None

    def _options(
        self, *, seed: int | None = None, revisions: tuple[int, int | None] | None = None
    ) -> AskOptions:
        from selfee_cli.engine.options import AskOptions

        get = self.settings.get
        least, most = revisions or (get("min-revisions"), get("max-revisions"))
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

    def _stream(
        self, events: Callable[[ChainKeys], Iterable[Event]], extension: Extension | None = None
    ) -> bool:
        """Write a chain; False where nothing came of it and the question was withdrawn."""
        previous = self.talk.last.final if extension and self.talk.last.turns else ""
        renderer = ChainRenderer(
            self.write,
            self.style,
            (None if self._data_apart else self.settings.get("show")) or Show.CHAIN,
            self.settings.get("feedback"),
            previous,
        )
        if self.setup.mode is Mode.SCRIPT:  # the final answer is written below
            renderer.mute()
        supplied = list(extension.supplied) if extension else []
        ended: Chain | None = None
        with ChainKeys(self._commands.toggle_fold) as keys:
            self.live = renderer, keys
            try:
                for event in events(keys):
                    if isinstance(event, TurnStarted):
                        for turn in supplied:
                            self._take(TurnEnded(turn), renderer)
                        supplied = []
                    if isinstance(event, ChainEnded):
                        ended = event.chain
                    else:
                        self._take(event, renderer)
            finally:
                self.live = None
                kept = self._end(ended, renderer)
        self.beginning = keys.typed
        if keys.leave or (keys.cancelled() and self.setup.mode is Mode.SCRIPT):
            self._leave(130)
        return kept

    def _take(self, event: Event, renderer: ChainRenderer) -> None:
        renderer.handle(event)
        if isinstance(event, TurnEnded):
            self.talk.add(event.turn)
            self.journal.turn(event.turn)
        elif isinstance(event, HistoryDropped):
            self.talk.forget(event.exchanges)

    def _end(self, ended: Chain | None, renderer: ChainRenderer) -> bool:
        """Take the end of a chain, also where an error was its end."""
        broken = Chain(instruction="", turns=(), stop_reason=StopReason.INTERRUPTED)
        if not self.talk.end(ended or broken):
            if ended is not None:
                self.console.say("stopped; nothing was complete: the question is withdrawn")
            return False
        chain = self.talk.last
        self.journal.chain(chain)
        if ended is None:
            return True
        renderer.handle(ChainEnded(chain))
        if self._data_apart:
            self.console.line(chain.final.strip())
        else:
            self.console.write(self.style.paint(self.meter(), "dim") + "\n\n")
        return True

    def write(self, text: str) -> None:
        """Write what a reader looks at: where standard output is data, beside it."""
        if self._screen is self.console.out or self.setup.mode is Mode.SCRIPT:
            self.console.write(text)
        else:
            self.console.tell(text)

    def meter(self) -> str:
        """Return how full the context is, and what it still takes."""
        chain, length = self.talk.last, self.session().model.engine.context_length
        room = room_for_revisions(chain, length)
        about = f"about {room} more revision{'s' * (room != 1)}" if room else "no more revision"
        return f"context {used_context(chain)}/{length} {self.style.dot} room for {about}"

    # -- the session's file ------------------------------------------------------------------

    def open(self, path: Path) -> None:
        """Go on in the session at ``path``.

        Raises:
            SelfeeError: it cannot be read.
        """
        saved = session_file.read(path)
        self.talk = saved.conversation
        for key, value in saved.settings.items():
            try:
                self.settings.set(key, value, source="session")
            except SelfeeError as error:
                self.console.say(f"{path.stem}: {error.message}")
        if saved.damaged:
            self.console.say(f"{path.stem}: {saved.damaged} damaged lines were skipped")
        count = len(self.talk.chains)
        self.console.say(f"{path.stem}: {count} question{'s' * (count != 1)} so far")
        self.journal.resume(path, self.talk.chains, self.console.say)

    def _plain_settings(self) -> Iterator[tuple[str, object]]:
        for name, value, _ in self.settings.items():
            yield name, value

    def _log(self, error: BaseException) -> None:
        """Note an error, its kind and place; never what was asked."""
        if self.setup.log is None:
            return
        try:
            self.setup.log.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            with self.setup.log.open("a", encoding="utf-8") as file:
                self.setup.log.chmod(0o600)
                frames = traceback.extract_tb(error.__traceback__)[-3:]
                places = " < ".join(f"{Path(f.filename).name}:{f.lineno}" for f in reversed(frames))
                now = time.strftime("%Y-%m-%d %H:%M:%S")
                file.write(f"{now} {type(error).__name__} at {places}\n")
        except OSError:
            self.setup = Setup(mode=self.setup.mode)


@contextmanager
def _ending_signals() -> Iterator[None]:
    """Let the signals that end a process end it as an exit does: the terminal is given back."""

    def leave(number: int, _: object) -> None:
        sys.exit(128 + number)

    before = {each: signal.signal(each, leave) for each in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for each, previous in before.items():
            signal.signal(each, previous)
