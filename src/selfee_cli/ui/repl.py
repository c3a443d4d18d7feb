"""The session at the terminal: read an entry, do what it says, keep what was said.

Three modes: a full terminal, a plain one (no colour, no cursor codes), and a script on standard
input. They differ in where entries come from and what is written where; the rest is one.
"""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from selfee_cli.chat import session_reader, session_settings
from selfee_cli.chat.command_table import escaped
from selfee_cli.chat.conversation import LIMITS, Conversation, Extension
from selfee_cli.chat.journal import Beginning, Journal
from selfee_cli.errors import FAILURES, SelfeeError, explained
from selfee_cli.protocol.text import well_formed
from selfee_cli.settings import Settings
from selfee_cli.ui import error_log
from selfee_cli.ui.chain_ends import withdrawn
from selfee_cli.ui.chain_writer import ChainWriter, Outcome
from selfee_cli.ui.console import Console, printable
from selfee_cli.ui.entries import (
    CONTINUATION,
    PROMPT,
    Cleared,
    Entries,
    PlainEntries,
    ScriptEntries,
)
from selfee_cli.ui.keyboard import LEAVE_WITHIN, ChainKeys
from selfee_cli.ui.loading import Load, Loading
from selfee_cli.ui.repl_commands import Commands
from selfee_cli.ui.screen import Mode, Screen
from selfee_cli.ui.setup import Setup
from selfee_cli.ui.signals import interrupts, orderly_end

if TYPE_CHECKING:
    from selfee_cli.engine.session import Session


class Repl:
    """Runs a session until the user leaves; ``run`` returns the exit code."""

    def __init__(self, load: Load, settings: Settings, setup: Setup, console: Console) -> None:
        self.settings = settings
        self.console = console
        self.setup = setup
        self.screen = Screen(console, setup.mode)
        self.talk = Conversation()
        self.input: str | None = None
        """The text that the next question is about."""
        self.beginning = ""
        """What stands in the next prompt already."""
        self.editing = False
        """Whether the next entry takes the last question's place."""
        self.done = False
        self.journal = Journal(
            setup.sessions if setup.save else None,
            begin=self._begin,
            complain=lambda text: console.complain(text, "/save FILE.md writes a transcript"),
        )
        self._code = 0
        self._stopped = float("-inf")
        """When Ctrl-C last stopped a chain: a second one soon after leaves."""
        self._load = load
        self._loading: Loading | None = None
        self._session: Session | None = None
        self._commands = Commands(self)
        self.writer = ChainWriter(
            screen=self.screen,
            settings=settings,
            journal=self.journal,
            session=self.session,
            fold=self._commands.toggle_fold,
        )

    # -- the loop ----------------------------------------------------------------------------

    def run(self, first: str | None = None, *, resume: Path | None = None) -> int:
        """Ask ``first`` if given, then whatever is entered, in the session ``resume`` or anew.

        Raises:
            SelfeeError: the model cannot be loaded, or the session cannot be read.
            KeyboardInterrupt: Ctrl-C while a script or a plain terminal waits for the model.
        """
        script = self.setup.mode is Mode.SCRIPT
        with orderly_end(), interrupts(raised=script):
            try:
                if resume is not None:
                    self.open(resume)
                self._loading = Loading(self._load)
                if self.setup.mode is not Mode.FULL:
                    self.session()
                entries = self._entries()
                if not script:
                    self.console.say("Ask away. /help lists the commands, Ctrl-D leaves.")
                if first is not None:
                    self._enter_first(first)
                while not self.done:
                    self._next(entries)
            finally:
                self.leave()
        return self._code

    def leave(self) -> None:
        """End the session's file, and tell how to go on with it."""
        id = self.journal.id
        self.journal.close()
        if id is not None:
            with suppress(OSError):  # the terminal may be what ended the session
                self.console.say(f"resume: selfee chat --resume {id}")

    @property
    def is_loading(self) -> bool:
        """Whether the model is still being loaded."""
        return self._loading is not None and not self._loading.is_over

    def session(self) -> Session:
        """Return the model's session, once the model is there.

        Raises:
            SelfeeError: it could not be loaded.
            KeyboardInterrupt: the user would not wait.
        """
        if self._session is None:
            assert self._loading is not None
            with ChainKeys(self._commands.toggle_fold) as keys:
                try:
                    self._session = self._loading.result(
                        quiet=self.console.quiet,
                        drawn=self.setup.mode is not Mode.PLAIN,
                        cancelled=keys.cancelled,
                    )
                finally:
                    self.beginning = keys.typed
        return self._session

    def _entries(self) -> Entries:
        if self.setup.mode is Mode.SCRIPT:
            return ScriptEntries()
        if self.setup.mode is Mode.PLAIN:
            return PlainEntries(self.screen.stream, self.console.say)
        from selfee_cli.ui.prompt import PromptEntries

        assert self._loading is not None
        return PromptEntries(
            loading=self._loading,
            history=self.setup.history,
            vi=self.setup.vi,
            color=self.screen.style.color,
            words=self._commands.words,
            fold=self._commands.toggle_fold,
        )

    def _enter_first(self, entry: str) -> None:
        if self.setup.mode is not Mode.SCRIPT:
            shown = printable(well_formed(entry)).replace("\n", f"\n{CONTINUATION}")
            self.screen.chain(f"{PROMPT}{shown}\n")
        self.enter(escaped(entry))

    def _next(self, entries: Entries) -> None:
        beginning, self.beginning = self.beginning, ""
        try:
            entry = entries.next(beginning)
        except Cleared as cleared:
            self.editing = False
            again = time.monotonic() - self._stopped < LEAVE_WITHIN
            if self.setup.mode is Mode.SCRIPT or (again and cleared.text == beginning):
                self._leave_with(130)
            elif not cleared.text:
                self.console.say("Ctrl-D or /exit leaves")
            return
        if entry is None:
            self.done = True
        else:
            self.enter(entry)

    def enter(self, entry: str) -> None:
        """Handle an entry; what goes wrong in it is told, and the session goes on."""
        entry = self._commands.recalled(well_formed(entry))
        editing, self.editing = self.editing, False
        try:
            if entry.lstrip().startswith("//"):
                self.ask(entry.lstrip()[1:], edits=editing)
            elif entry.lstrip().startswith("/"):
                self._commands.run(entry)
            elif entry.strip():
                self.ask(entry, edits=editing)
        except KeyboardInterrupt:  # while waiting for the model
            self.beginning, self.editing = _joined(entry, self.beginning), editing
            if self.setup.mode is Mode.SCRIPT:
                self._leave_with(130)
        except BrokenPipeError:
            raise
        except FAILURES as error:
            if self._loading is not None and self._loading.error is error:
                raise
            self._fail(error)

    def _fail(self, error: SelfeeError | MemoryError | OSError) -> None:
        told = explained(error)
        self.console.complain(told.message, told.hint)
        if self.setup.mode is Mode.SCRIPT:
            self._code = self._code or told.exit_code
        error_log.note(error, self.setup.log)

    def _leave_with(self, code: int) -> None:
        self.done, self._code = True, code

    # -- chains ------------------------------------------------------------------------------

    def ask(self, question: str, *, edits: bool = False) -> None:
        """Ask ``question``; in place of the last one where it ``edits`` that.

        Raises:
            SelfeeError: the model could not be loaded.
        """
        question = question.strip("\n")
        input = self.talk.last.input if edits and self.input is None else self.input
        outcome = self.writer.ask(self.talk, question, input=input, replaces=int(edits))
        self._after(outcome, replaces=edits)
        if outcome.kept:
            self.input = None
            return
        self.beginning = _joined(escaped(question), self.beginning)
        self.editing = edits

    def ask_again(self, *, anew: bool = True) -> None:
        """Ask the last question again, with the next seed; where not ``anew``, as it was asked.

        Raises:
            SelfeeError: the model could not be loaded.
        """
        chain = self.talk.last
        seed = chain.sampling.get("seed")
        outcome = self.writer.ask(
            self.talk,
            chain.instruction,
            input=chain.input,
            replaces=1,
            seed=None if seed is None else seed + anew,
            limits=None if anew else self.writer.limits(chain),
        )
        self._after(outcome, replaces=True)

    def extend(self, extension: Extension) -> None:
        """Let the last chain go on.

        Raises:
            SelfeeError: the model could not be loaded.
        """
        self._after(self.writer.extend(self.talk, extension))

    def _after(self, outcome: Outcome, *, replaces: bool = False) -> None:
        keys = outcome.keys
        self.beginning = (self.beginning + keys.typed).strip("\n")
        self._stopped = keys.last_press
        if outcome.error is not None:
            self._fail(outcome.error)
        elif not outcome.kept:
            self.console.say(f"stopped; nothing was complete: {withdrawn(replaces=replaces)}")
        if keys.leave or (keys.stopped and self.setup.mode is Mode.SCRIPT):
            self._leave_with(130)

    # -- the session's file ------------------------------------------------------------------

    def open(self, path: Path) -> None:
        """Go on in the session at ``path``.

        Raises:
            SelfeeError: it cannot be read.
        """
        saved = session_reader.read(path)
        self.journal.resume(path, saved, self.console.say)
        self.talk = saved.conversation
        wrong = session_settings.resume(self.settings, saved.settings)
        carried = session_settings.set_now(self.settings)
        self.journal.carry(carried)
        self.writer.limits_set = saved.limits_set or not carried.keys().isdisjoint(LIMITS)
        self.apply_settings()
        for notice in (*wrong, *saved.notices(self.settings.get("model"))):
            self.console.say(f"{path.stem}: {notice}")

    def apply_settings(self) -> None:
        """Let what was set take effect where it is kept elsewhere too."""
        self.console.verbose = self.settings.get("verbose")

    def _begin(self) -> Beginning:
        return Beginning(
            model=self.session().model.to_json(),
            settings={name: value for name, value, _ in self.settings.items()},
            set=session_settings.set_values(self.settings),
        )


def _joined(question: str, typed: str) -> str:
    """Return what stands in the next prompt: a question that was not asked, and what followed."""
    return "\n".join(text for text in (question.strip("\n"), typed.strip("\n")) if text)
