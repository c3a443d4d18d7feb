"""What the commands of a session do."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from selfee_cli.chat import session_file, session_folder, transcript
from selfee_cli.chat.command_table import escaped, resolve, words
from selfee_cli.chat.conversation import LIMITS, Conversation
from selfee_cli.errors import SelfeeError, UsageError
from selfee_cli.paths import expanded, read_text
from selfee_cli.protocol.prompt import render_prompt
from selfee_cli.protocol.records import replay
from selfee_cli.settings import written
from selfee_cli.ui import help_text, setting_list
from selfee_cli.ui.clipboard import copy
from selfee_cli.ui.console import printable
from selfee_cli.ui.diff import word_diff
from selfee_cli.ui.screen import Mode
from selfee_cli.ui.session_list import list_sessions
from selfee_cli.ui.show import FeedbackView, Show
from selfee_cli.ui.stream import ChainRenderer

if TYPE_CHECKING:
    from selfee_cli.ui.repl import Repl

_WHAT = ("chain", "settings", "info", "context")


class Commands:
    """The commands of a session. Each method takes what stands after the command's name."""

    def __init__(self, repl: Repl) -> None:
        self._repl = repl
        self._console = repl.console
        self._refused = ""
        """The last entry that was no command."""

    def run(self, entry: str) -> None:
        """Run the command that ``entry`` is.

        Raises:
            SelfeeError: it is unknown, or cannot be done.
        """
        word, *rest = entry.split(maxsplit=1)
        try:
            command = resolve(word)
        except UsageError as error:
            if self._repl.setup.mode is not Mode.SCRIPT:  # which can neither look nor go back
                self._refused = entry
                error.hint = f"{error.hint}; // alone asks it as it was typed"
            raise
        getattr(self, f"_{command.name}")("".join(rest).strip())

    def recalled(self, entry: str) -> str:
        """Return the entry; in place of two slashes alone, the one that asks what was refused."""
        if entry.strip() == "//" and self._refused:
            entry, self._refused = escaped(self._refused), ""
        return entry

    def words(self, head: str) -> Sequence[str]:
        """Return what may follow ``head``, the words of a command before the cursor."""
        if not head:
            return words()
        if head.split()[0] == "/set":
            return setting_list.words(self._repl.settings, head)
        about = help_text.words(self._repl.setup.mode)
        return {"/show": _WHAT, "/help": about}.get(head, ())

    # -- the session -------------------------------------------------------------------------

    def _help(self, name: str) -> None:
        mode = self._repl.setup.mode
        self._lines(help_text.about(name, mode) if name else help_text.overview(mode))

    def _exit(self, _: str) -> None:
        self._repl.done = True

    def _clear(self, _: str) -> None:
        repl = self._repl
        repl.leave()
        repl.talk = Conversation()
        repl.input = None
        self._console.say("a new session")

    def _load(self, name: str) -> None:
        if not name:
            raise UsageError("which session?", hint="/sessions lists them")
        self._repl.open(session_folder.find(name, self._repl.setup.sessions))

    def _sessions(self, _: str) -> None:
        self._lines(list_sessions(self._repl.setup.sessions))

    def _save(self, name: str) -> None:
        repl = self._repl
        id = repl.journal.id or session_file.new_id()
        path = _path(name or f"{id}.md")
        transcript.save(path, repl.talk.chains, f"selfee {id}")
        self._console.say(f"written to {path}")

    # -- settings ----------------------------------------------------------------------------

    def _set(self, text: str) -> None:
        key, _, value = text.removeprefix("--").partition(" ")
        settings = self._repl.settings
        if not key:
            self._lines(setting_list.rows(settings))
            return
        name = setting_list.named(settings, key).name
        if not value.strip():
            self._lines([f"{written(settings.get(name))} ({settings.source(name)})"])
            return
        settings.set(name, value.strip())
        self._repl.writer.limits_set |= name in LIMITS
        self._repl.apply_settings()
        self._repl.journal.set(name, value.strip())

    def toggle_fold(self) -> None:
        """Fold the feedback that follows, or unfold it."""
        folded = self._repl.settings.get("feedback") == FeedbackView.FULL
        self._feedback(FeedbackView.LINE if folded else FeedbackView.FULL)

    def _fold(self, _: str) -> None:
        self._feedback(FeedbackView.LINE)

    def _unfold(self, _: str) -> None:
        self._feedback(FeedbackView.FULL)

    def _feedback(self, view: FeedbackView) -> None:
        self._repl.settings.set("feedback", view.value)
        self._repl.journal.set("feedback", view.value)
        if (live := self._repl.writer.live) is not None:
            renderer, _ = live
            renderer.feedback = view
        else:
            self._console.say(f"feedback: {view.value}")

    # -- steering ----------------------------------------------------------------------------

    def _revise(self, text: str) -> None:
        talk = self._repl.talk
        count = _number(text) if text else 1
        if count is None:
            self._repl.extend(talk.revise_on(text))
        elif count < 1:
            raise UsageError("revise how often?", hint="/revise 2")
        else:
            self._repl.extend(talk.revise(count))

    def _accept(self, text: str) -> None:
        repl = self._repl
        index = _number(text)
        if text and index is None:
            raise UsageError(f"which turn is {text}?", hint="0 is the answer, K revision K")
        self._before_record()
        turn = repl.talk.accept(index)
        repl.journal.accept(turn)
        self._console.say(f"{turn.id.title} is the answer")

    def _before_record(self) -> None:
        """Wait for the model where the next record makes the file, in which it stands.

        Raises:
            KeyboardInterrupt: the user would not wait; so nothing may have changed yet.
        """
        if self._repl.talk.chains and self._repl.journal.awaits_file:
            self._repl.session()

    def _stop(self, _: str) -> None:
        raise UsageError("nothing to stop", hint="typed while a chain runs, it ends with its turn")

    def _continue(self, _: str) -> None:
        repl = self._repl
        extension = repl.talk.resume(*repl.writer.limits(repl.talk.last))
        if extension.turns:
            repl.extend(extension)
        else:
            repl.ask_again(anew=False)

    def _regenerate(self, _: str) -> None:
        if self._repl.talk.chains and not self._repl.settings.get("temperature"):
            raise UsageError(
                "at temperature 0 it would come out the same", hint="/set temperature 0.7"
            )
        self._repl.ask_again()

    def _undo(self, text: str) -> None:
        count = _number(text) if text else 1
        if count is None or count < 1:
            raise UsageError(f"undo how many, {text}?", hint="/undo 2")
        self._before_record()
        count = self._repl.talk.undo(count)
        self._repl.journal.undo(count)
        left = len(self._repl.talk.chains)
        self._console.say(f"dropped {count} question{'s' * (count > 1)}; {left} left")

    def _edit(self, text: str) -> None:
        repl = self._repl
        question = repl.talk.last.instruction
        if text:
            repl.ask(text, edits=True)
        elif repl.setup.mode is not Mode.FULL:
            raise UsageError("there is nothing to edit with", hint="/edit TEXT asks TEXT instead")
        else:
            repl.editing = True
            repl.beginning = escaped(question)

    def _read(self, name: str) -> None:
        repl = self._repl
        if not name and repl.input is None:
            raise UsageError("which file?", hint="/read FILE")
        if not name:
            repl.input = None
            self._console.say("the next question is about no text")
            return
        path = _path(name)
        text = read_text(path)
        if not text.strip():
            raise SelfeeError(f"{path} is empty")
        repl.input = text
        self._console.say(f"{len(text)} characters for the next question (/read alone drops them)")

    # -- looking -----------------------------------------------------------------------------

    def _diff(self, text: str) -> None:
        talk = self._repl.talk
        if text:
            numbers = [_number(part) for part in text.split()]
            if len(numbers) != 2 or numbers[0] is None or numbers[1] is None:
                raise UsageError(f"cannot compare {text}", hint="/diff 0 2")
            old, new = (talk.candidate(number) for number in numbers if number is not None)
        else:
            old, new = talk.candidate(0), talk.last.final_turn
        style = self._repl.screen.style
        title = f"{style.rule} {old.id.title} to {new.id.title}"
        self._lines([title, word_diff(old.text.strip(), new.text.strip(), style)])

    def _show(self, what: str) -> None:
        match what:
            case "chain":
                chain = self._repl.talk.last
                screen = self._repl.screen
                renderer = ChainRenderer(screen.output, screen.style, Show.CHAIN)
                for event in replay(chain):
                    renderer.handle(event)
            case "settings":
                self._lines(setting_list.rows(self._repl.settings, fixed=True))
            case "info":
                model = self._repl.session().model.to_json()
                self._lines([f"{name:<12} {value}" for name, value in model.items()])
            case "context":
                talk = self._repl.talk
                history = talk.history()
                shown = render_prompt("...", input=self._repl.input, history=history)
                self._lines([printable(shown.rstrip())])
                if talk.chains and talk.last.usage:
                    self._lines(["", self._repl.writer.meter(talk)])
            case _:
                raise UsageError(f"show {what or 'what'}?", hint=f"one of {', '.join(_WHAT)}")

    def _copy(self, text: str) -> None:
        talk = self._repl.talk
        index = _number(text)
        if text and index is None:
            raise UsageError(f"which turn is {text}?", hint="0 is the answer, K revision K")
        turn = talk.last.final_turn if index is None else talk.candidate(index)
        is_plain = self._repl.setup.mode is Mode.PLAIN or os.environ.get("TERM") == "dumb"
        has_terminal = sys.stdout.isatty() and not is_plain
        terminal = self._console.write if has_terminal else None
        where = copy(turn.text.strip(), terminal)
        self._console.say(f"{turn.id.title} is in the {where}")

    def _lines(self, lines: Sequence[str]) -> None:
        for line in lines:
            self._repl.screen.output(line + "\n")


def _path(name: str) -> Path:
    """Return the path that a reader named.

    Raises:
        NotFoundError: it is in a home directory that nobody knows.
        UsageError: no file can have that name.
    """
    if "\0" in name:
        raise UsageError("a file's name holds no NUL", hint="write it without")
    return expanded(Path(name))


def _number(text: str) -> int | None:
    """Return the whole number that ``text`` is, or None where it is none."""
    try:
        return int(text)
    except ValueError:
        return None
