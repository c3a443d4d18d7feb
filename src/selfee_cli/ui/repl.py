"""The session at the terminal: read a question, stream its chain, remember the answer.

Ctrl-C stops a running chain between two tokens and clears the line at the prompt; twice within
two seconds, while a chain runs, it leaves. Ctrl-D leaves. Where standard input is no terminal,
each line is an entry, final answers go to standard output, and nothing is prompted.
"""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from selfee_cli.errors import SelfeeError
from selfee_cli.protocol.chain import Chain, ChainEnded, StopReason
from selfee_cli.settings import state_dir
from selfee_cli.ui.console import Console
from selfee_cli.ui.show import Show
from selfee_cli.ui.stream import ChainRenderer

if TYPE_CHECKING:
    from selfee_cli.engine.options import AskOptions
    from selfee_cli.engine.session import Session

_LEAVE_WITHIN = 2.0  # seconds between two presses of Ctrl-C
_FENCE = '"""'
_COMMANDS = {
    "/help": "this list",
    "/clear": "begin a new conversation",
    "/exit": "leave (also Ctrl-D)",
}
_ALIASES = {"/?": "/help", "/new": "/clear", "/bye": "/exit", "/quit": "/exit"}


class Repl:
    """Runs a conversation until the user leaves; ``run`` returns the exit code."""

    def __init__(
        self,
        session: Session,
        options: Callable[[], AskOptions],
        *,
        console: Console,
        show: Show,
    ) -> None:
        self._session = session
        self._options = options
        self._console = console
        self._interactive = sys.stdin.isatty()
        scripted = not (self._interactive and console.out.isatty())
        self._show = Show.FINAL if scripted else show
        self._style = console.style(console.out)
        self._code = 0

    def run(self, first: str | None = None) -> int:
        """Ask ``first`` if given, then whatever the user enters."""
        if self._interactive:
            self._console.say("Ask away. /help lists the commands, Ctrl-D leaves.")
        entries = self._typed() if self._interactive else _scripted()
        if first is not None and not self._enter(first):
            return self._code
        for entry in entries:
            if not self._enter(entry):
                break
        return self._code

    def _enter(self, entry: str) -> bool:
        """Handle one entry; False when the session is over."""
        if not entry.strip():
            return True
        if entry.startswith("/") and not entry.startswith("//"):
            return self._command(entry.split()[0])
        question = entry[1:] if entry.startswith("//") else entry
        try:
            return self._ask(question)
        except SelfeeError as error:  # the session outlives a question that went wrong
            self._console.complain(error.message, error.hint)
            self._code = self._code or (0 if self._interactive else error.exit_code)
            return True

    def _ask(self, question: str) -> bool:
        renderer = ChainRenderer(self._console.write, self._style, self._show)
        with _chain_interrupts() as presses:
            events = self._session.ask(
                question, options=self._options(), cancelled=lambda: presses.count > 0
            )
            for event in events:
                renderer.handle(event)
                if isinstance(event, ChainEnded):
                    self._after(event.chain)
        if presses.leave:
            self._code = 130
        return not presses.leave

    def _after(self, chain: Chain) -> None:
        if self._show is Show.FINAL:
            return
        if chain.stop_reason is StopReason.INTERRUPTED:
            kept = chain.final_turn.complete
            self._console.say(
                f"stopped; {chain.final_turn.id.title} is remembered"
                if kept
                else "stopped; nothing was complete, so the question is forgotten"
            )
        used = chain.usage["prompt_tokens"] + chain.usage["completion_tokens"]
        length = self._session.model.engine.context_length
        meter = f"context {used}/{length}"
        self._console.write(self._style.paint(meter, "dim") + "\n\n")

    def _command(self, word: str) -> bool:
        matches = [name for name in (*_COMMANDS, *_ALIASES) if name.startswith(word)]
        exact = [name for name in matches if name == word]
        names = {_ALIASES.get(name, name) for name in exact or matches}
        if len(names) != 1:
            self._console.complain(f"unknown command {word}", "/help lists the commands")
            self._code = self._code or (0 if self._interactive else 2)
            return True
        (name,) = names
        if name == "/exit":
            return False
        if name == "/clear":
            self._session.history.clear()
            self._console.say("a new conversation")
        else:
            for command, does in _COMMANDS.items():
                self._console.line(f"{command:<8} {does}")
            self._console.line('//...    a question that begins with "/"')
        return True

    def _typed(self) -> Iterator[str]:
        """Entries from the keyboard, edited with prompt_toolkit."""
        from prompt_toolkit import PromptSession
        from prompt_toolkit.history import FileHistory, History, InMemoryHistory

        history: History = InMemoryHistory()
        try:
            folder = state_dir()
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            history = FileHistory(folder / "history")
        except OSError as error:
            self._console.say(f"questions will not be remembered: {error}")
        prompt: PromptSession[str] = PromptSession(history=history)
        while True:
            try:
                yield prompt.prompt(">>> ")
            except KeyboardInterrupt:
                if not prompt.default_buffer.text:
                    self._console.say("Ctrl-D or /exit leaves")
            except EOFError:
                return


def _scripted() -> Iterator[str]:
    """Entries from standard input: a line each, or several lines between fences."""
    block: list[str] | None = None
    for raw in sys.stdin.buffer:
        line = raw.decode("utf-8", "replace").rstrip("\r\n")
        if line.strip() == _FENCE:
            if block is not None:
                yield "\n".join(block)
            block = [] if block is None else None
        elif block is not None:
            block.append(line)
        else:
            yield line
    if block:
        yield "\n".join(block)


class _Presses:
    """How often Ctrl-C was pressed while a chain ran."""

    def __init__(self) -> None:
        self.count = 0
        self.leave = False
        self._last = float("-inf")

    def press(self, *_: object) -> None:
        now = time.monotonic()
        self.leave = self.leave or now - self._last < _LEAVE_WITHIN
        self.count, self._last = self.count + 1, now


@contextmanager
def _chain_interrupts() -> Iterator[_Presses]:
    presses = _Presses()
    previous = signal.signal(signal.SIGINT, presses.press)
    try:
        yield presses
    finally:
        signal.signal(signal.SIGINT, previous)
