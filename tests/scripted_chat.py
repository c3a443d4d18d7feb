"""A chat without a terminal, with a scripted model: enter something, look at what was written."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from pathlib import Path

from scripted_model import scripted_session

from selfee_cli.chat import session_reader
from selfee_cli.chat.session_reader import Saved
from selfee_cli.commands.flag_settings import GROUPS, layered
from selfee_cli.engine.session import Session
from selfee_cli.ui.console import Console
from selfee_cli.ui.repl import Repl
from selfee_cli.ui.screen import Mode
from selfee_cli.ui.setup import Setup


class Stream(io.StringIO):
    """A stream that may pass for a terminal's."""

    encoding = "utf-8"

    def __init__(self, *, terminal: bool) -> None:
        super().__init__()
        self._terminal = terminal

    def isatty(self) -> bool:
        return self._terminal


class Chat:
    """A chat whose loop the test is."""

    def __init__(
        self,
        folder: Path,
        *,
        mode: Mode = Mode.PLAIN,
        session: Session | None = None,
        terminal: bool = True,
        save: bool = True,
        config: Mapping[str, object] | None = None,
        **flags: object,
    ) -> None:
        self.session = session or scripted_session()
        self.out, self.err = Stream(terminal=terminal), Stream(terminal=terminal)
        given = {name.replace("_", "-"): (value, f"--{name}") for name, value in flags.items()}
        self.folder = folder
        self.repl = Repl(
            lambda start, step: self.session,
            layered(GROUPS, config or {}, {}, given),
            Setup(mode=mode, sessions=folder, save=save, log=folder.parent / "selfee.log"),
            Console(out=self.out, err=self.err, no_color=True),
        )
        self.repl._session = self.session

    def enter(self, entry: str) -> str:
        """Enter something; return what was written, talk last."""
        for stream in (self.out, self.err):
            stream.seek(0)
            stream.truncate()
        self.repl.beginning = ""  # as the loop has it
        self.repl.enter(entry)
        return self.out.getvalue() + self.err.getvalue()

    def at_pass(self, number: int, act: Callable[[], None]) -> None:
        """Do something at a pass of the model, counted from now on."""
        count = 0

        def look() -> None:
            nonlocal count
            count += 1
            if count == number:
                act()

        self.session.model.engine.on_pass = look

    def press(self) -> None:
        """Press Ctrl-C."""
        assert self.repl.writer.live is not None
        self.repl.writer.live[1].press()

    def keys(self, keys: str) -> None:
        """Press keys while a chain runs."""
        assert self.repl.writer.live is not None
        for key in keys:
            self.repl.writer.live[1].take(key)

    @property
    def path(self) -> Path:
        assert self.repl.journal.id is not None
        return self.folder / f"{self.repl.journal.id}.jsonl"

    @property
    def saved(self) -> Saved:
        """What the file says."""
        return session_reader.read(self.path)
