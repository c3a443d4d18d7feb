"""The prompt at a full terminal: several lines, history, search, completion, an editor."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from prompt_toolkit import PromptSession
from prompt_toolkit.application import run_in_terminal
from prompt_toolkit.completion import CompleteEvent, Completer, Completion, PathCompleter
from prompt_toolkit.document import Document
from prompt_toolkit.enums import EditingMode
from prompt_toolkit.formatted_text import StyleAndTextTuples
from prompt_toolkit.history import FileHistory, History, InMemoryHistory
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.output import Output
from prompt_toolkit.output.vt100 import Vt100_Output

from selfee_cli.ui.entries import CONTINUATION, PROMPT
from selfee_cli.ui.loading import Loading

_MOST_HISTORY = 5000
_REFRESH = 0.25  # seconds, while something loads
_PATHS = ("/read", "/file", "/save", "/load", "/resume")


class PromptEntries:
    """Entries from a prompt that edits."""

    def __init__(
        self,
        *,
        loading: Loading,
        history: Path | None,
        vi: bool,
        words: Callable[[str], Sequence[str]],
        fold: Callable[[], None],
    ) -> None:
        """Prepare the prompt.

        Args:
            loading: What may still load; a line above the prompt tells how far it is.
            history: The file of earlier entries; None: they are not kept.
            vi: Whether keys are vi's rather than Emacs'.
            words: Gives what may stand where a word of a command is typed.
            fold: Is called at Ctrl-O, and may write.
        """
        self._loading = loading
        self._fold = fold
        self._session: PromptSession[str] = PromptSession(
            message=self._message,
            history=_history(history),
            key_bindings=self._keys(),
            multiline=True,
            prompt_continuation=CONTINUATION,
            editing_mode=EditingMode.VI if vi else EditingMode.EMACS,
            completer=_CommandCompleter(words),
            complete_while_typing=False,
            enable_suspend=True,
            tempfile_suffix=".md",
            output=_terminal(),
        )

    def next(self, beginning: str = "") -> str | None:
        """Return the next entry; None at Ctrl-D."""
        refresh = 0 if self._loading.is_over else _REFRESH
        try:
            return self._session.prompt(
                default=beginning, refresh_interval=refresh, handle_sigint=False
            )
        except KeyboardInterrupt:
            if self._session.default_buffer.text:
                return ""
            raise
        except EOFError:
            return None

    def _message(self) -> StyleAndTextTuples:
        if self._loading.error is not None and self._session.app.is_running:
            self._leave_with(self._loading.error)
        # A style of its own, for a space without one would be skipped: logs are read as well.
        prompt = ("fg:ansidefault", PROMPT)
        return [prompt] if self._loading.is_over else [("", f"{self._loading.status()}\n"), prompt]

    def _leave_with(self, error: BaseException) -> None:
        app = self._session.app
        assert app.loop is not None

        def leave() -> None:
            if app.is_running and not app.is_done:
                app.exit(exception=error)

        app.loop.call_soon(leave)

    def _keys(self) -> KeyBindings:
        keys = KeyBindings()

        @keys.add("enter")
        def _(event: KeyPressEvent) -> None:
            event.current_buffer.validate_and_handle()

        @keys.add("escape", "enter")
        @keys.add("c-j")
        def _(event: KeyPressEvent) -> None:
            event.current_buffer.insert_text("\n")

        @keys.add("c-g")
        def _(event: KeyPressEvent) -> None:
            event.current_buffer.open_in_editor()

        @keys.add("c-o")
        def _(event: KeyPressEvent) -> None:
            run_in_terminal(self._fold)

        return keys


class _CommandCompleter(Completer):
    """Commands, their words, and files for those that take one."""

    def __init__(self, words: Callable[[str], Sequence[str]]) -> None:
        self._words = words
        self._paths = PathCompleter(expanduser=True)

    def get_completions(self, document: Document, event: CompleteEvent) -> Iterable[Completion]:
        """Yield what may stand at the cursor."""
        before = document.text_before_cursor
        if not before.startswith("/") or "\n" in before or before.startswith("//"):
            return
        head, _, rest = before.rpartition(" ")
        if head.strip() in _PATHS:
            yield from self._paths.get_completions(Document(rest), event)
            return
        for word in self._words(head.strip()):
            if word.startswith(rest):
                yield Completion(word, start_position=-len(rest))


def _terminal() -> Output:
    """Standard output, not asked where its cursor is: a late answer would be taken for typing."""
    output = Vt100_Output.from_pty(sys.stdout)
    output.enable_cpr = False
    return output


def _history(path: Path | None) -> History:
    if path is None:
        return InMemoryHistory()
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
        _trim(path)
        return FileHistory(path)
    except OSError:  # it is not worth more than a prompt without it
        return InMemoryHistory()


def _trim(path: Path) -> None:
    """Keep the last entries. A file holds each as a comment and lines that begin with ``+``."""
    entries: list[list[bytes]] = []
    inside = False
    for line in path.read_bytes().splitlines(keepends=True):
        is_text = line.startswith(b"+")
        if is_text and not inside:
            entries.append([])
        if is_text:
            entries[-1].append(line)
        inside = is_text
    if len(entries) <= _MOST_HISTORY:
        return
    kept = b"".join(b"\n# kept\n" + b"".join(lines) for lines in entries[-_MOST_HISTORY:])
    aside = path.with_name(path.name + ".new")
    descriptor = os.open(aside, os.O_CREAT | os.O_TRUNC | os.O_WRONLY, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(kept)
    aside.replace(path)
