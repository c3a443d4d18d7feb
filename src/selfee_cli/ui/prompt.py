"""The prompt at a full terminal: several lines, history, search, completion, an editor."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from prompt_toolkit import PromptSession
from prompt_toolkit.application import run_in_terminal
from prompt_toolkit.completion import CompleteEvent, Completer, Completion, PathCompleter
from prompt_toolkit.document import Document
from prompt_toolkit.enums import DEFAULT_BUFFER, EditingMode
from prompt_toolkit.filters import has_focus
from prompt_toolkit.formatted_text import StyleAndTextTuples
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.output import ColorDepth, Output
from prompt_toolkit.output.vt100 import Vt100_Output

from selfee_cli.ui.entries import CONTINUATION, PROMPT, Cleared
from selfee_cli.ui.entry_history import open_history
from selfee_cli.ui.loading import Loading
from selfee_cli.ui.signals import ended_by

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
        color: bool,
        words: Callable[[str], Sequence[str]],
        fold: Callable[[], None],
    ) -> None:
        """Prepare the prompt.

        Args:
            loading: What may still load; a line above the prompt tells how far it is.
            history: The file of earlier entries; None: they are not kept.
            vi: Whether keys are vi's rather than Emacs'.
            color: Whether the terminal shows colour.
            words: Gives what may stand where a word of a command is typed.
            fold: Is called at Ctrl-O, and may write.
        """
        self._loading = loading
        self._fold = fold
        self._ending: SystemExit | None = None
        self._session: PromptSession[str] = PromptSession(
            message=self._message,
            history=open_history(history),
            key_bindings=self._keys(),
            multiline=True,
            # A line that only the terminal's width breaks is one line.
            prompt_continuation=lambda width, line, wraps: "" if wraps else CONTINUATION,
            editing_mode=EditingMode.VI if vi else EditingMode.EMACS,
            completer=_CommandCompleter(words),
            complete_while_typing=False,
            enable_suspend=True,
            tempfile_suffix=".md",
            color_depth=ColorDepth.DEPTH_4_BIT if color else ColorDepth.DEPTH_1_BIT,
            output=_terminal(),
        )

    def next(self, beginning: str = "") -> str | None:
        """Return the next entry; None at Ctrl-D."""
        refresh = 0 if self._loading.is_over else _REFRESH
        try:
            with ended_by(self._end):
                return self._session.prompt(
                    default=beginning, refresh_interval=refresh, handle_sigint=False
                )
        except KeyboardInterrupt:
            raise Cleared(self._session.default_buffer.text) from None
        except EOFError:
            return None
        finally:
            if self._ending is not None:  # an entry was sent before the loop came to it
                raise self._ending

    def _end(self, end: SystemExit) -> None:
        """Leave through the loop: raised where a signal strikes, a callback there may catch it.

        A second signal does not wait for the loop.
        """
        app = self._session.app
        if self._ending is not None or app.loop is None or app.is_done:
            raise end
        self._ending = end
        self._leave_with(end)

    def _message(self) -> StyleAndTextTuples:
        app = self._session.app
        if self._loading.error is not None and app.is_running:
            self._leave_with(self._loading.error)
        # A style of its own, for a space without one would be skipped: logs are read as well.
        prompt = ("fg:ansidefault", PROMPT)
        if self._loading.is_over or app.is_done:  # what is sent stays on the screen without it
            return [prompt]
        return [("", f"{self._loading.status()}\n"), prompt]

    def _leave_with(self, error: BaseException) -> None:
        app = self._session.app
        assert app.loop is not None

        def leave() -> None:
            if app.is_running and not app.is_done:
                app.exit(exception=error)

        app.loop.call_soon_threadsafe(leave)  # which wakes a loop that waits for keys

    def _keys(self) -> KeyBindings:
        keys = KeyBindings()
        editing = has_focus(DEFAULT_BUFFER)  # and not searching

        @keys.add("enter", filter=editing)
        def _(event: KeyPressEvent) -> None:
            event.current_buffer.validate_and_handle()

        @keys.add("escape", "enter", filter=editing)
        @keys.add("c-j", filter=editing)
        def _(event: KeyPressEvent) -> None:
            event.current_buffer.insert_text("\n")

        @keys.add("c-g", filter=editing)
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
