"""``selfee chat``: the interactive session."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from selfee_cli.commands import options as opt
from selfee_cli.commands.flags import ChainFlags, ChatFlags, DisplayFlags, ModelFlags
from selfee_cli.errors import NotFoundError, UsageError
from selfee_cli.settings import Settings, history_file, log_file, sessions_dir
from selfee_cli.ui.console import console

if TYPE_CHECKING:
    from selfee_cli.ui.repl import Repl
    from selfee_cli.ui.screen import Mode


@opt.command
def chat(
    question: Annotated[
        str | None,
        typer.Argument(
            metavar="[QUESTION]",
            help="A question to begin with; `-` reads it from standard input.",
            show_default=False,
        ),
    ] = None,
    *,
    go_on: Annotated[
        bool, typer.Option("--continue", "-c", help="Go on with the last session.")
    ] = False,
    resume: Annotated[
        str | None, typer.Option("--resume", metavar="ID", help="Go on with a session.")
    ] = None,
    sessions: Annotated[bool, typer.Option("--sessions", help="List the sessions.")] = False,
    plain: Annotated[
        bool, typer.Option("--plain", help="No colour, no cursor codes; for simple terminals.")
    ] = False,
    loading: ModelFlags,
    chain: ChainFlags,
    display: DisplayFlags,
    keeping: ChatFlags,
    settings: Settings,
) -> None:
    """Talk with the model; it remembers its final answers. Ctrl-C stops a chain, Ctrl-D leaves.

    Example: selfee chat --model selfee-7b --min-revisions 1
    """
    if sessions:
        from selfee_cli.ui.session_list import list_sessions

        console.write("".join(f"{line}\n" for line in list_sessions(sessions_dir())))
        return
    if sys.stdin is None:
        raise UsageError(
            "standard input is closed", hint="selfee chat reads a terminal, a file or a pipe"
        )
    chain.options()  # a wrong value is told before the model is loaded
    before = _session_to_resume(go_on=go_on, resume=resume)
    if before is not None:
        settings = _with_model_of(before, settings)
        loading = ModelFlags.of(settings)
    if question == "-":
        question = opt.read_stdin().strip("\n") or None
        _reopen_terminal()
    path = loading.locate()
    from selfee_cli.ui.repl import Repl
    from selfee_cli.ui.screen import Mode
    from selfee_cli.ui.setup import Setup

    mode = _mode(plain)
    if mode is Mode.PLAIN:
        console.no_color = True
    setup = Setup(
        mode=mode,
        sessions=sessions_dir(),
        save=keeping.save,
        history=history_file() if keeping.save and keeping.history else None,
        log=log_file() if keeping.save else None,
        vi=keeping.edit_mode == "vi",
    )
    repl = Repl(lambda start, step: loading.load(path, start, step), settings, setup, console)
    raise typer.Exit(_run(repl, question, before))


def _run(repl: Repl, question: str | None, before: Path | None) -> int:
    try:
        code = repl.run(question, resume=before)
    except KeyboardInterrupt:
        code = 130
    except SystemExit as end:  # a signal's
        code = int(end.code or 0)
    if repl.is_loading:  # nobody waits for a thread that reads 26 GB
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    return code


def _session_to_resume(*, go_on: bool, resume: str | None) -> Path | None:
    from selfee_cli.chat import session_folder

    if go_on and resume is not None:
        raise UsageError("--continue and --resume exclude each other")
    if resume is not None:
        return session_folder.find(resume, sessions_dir())
    if not go_on:
        return None
    newest = session_folder.newest(sessions_dir())
    if not newest:
        raise NotFoundError("there is no session to continue", hint="selfee chat begins one")
    return newest[0]


def _with_model_of(session: Path, settings: Settings) -> Settings:
    """Return the settings with the model that a session was held with, where nothing names one.

    Raises:
        SelfeeError: the session cannot be read.
    """
    from selfee_cli.api import TINY
    from selfee_cli.chat import session_reader
    from selfee_cli.commands.flag_settings import GROUPS, layered

    if settings.get("model"):
        return settings
    model = session_reader.read(session).model_name
    if model is None or model == TINY:
        return settings
    console.say(f"{session.stem}: goes on with its model, --model {model}")
    given = {name: (value, source) for name, value, source in settings.items()}
    return layered(GROUPS, {}, {}, given | {"model": (model, "--resume")})


def _reopen_terminal() -> None:
    """After standard input was read to its end, go on at the terminal, where there is one."""
    try:
        terminal = os.open("/dev/tty", os.O_RDWR)
    except OSError:
        return
    os.dup2(terminal, 0)
    os.close(terminal)
    sys.stdin = open(0, encoding="utf-8", errors="replace", closefd=False)  # noqa: SIM115


def _mode(plain: bool) -> Mode:
    from selfee_cli.ui.screen import Mode

    if not sys.stdin.isatty():
        return Mode.SCRIPT
    simple = plain or os.environ.get("TERM") == "dumb" or not sys.stdout.isatty()
    return Mode.PLAIN if simple else Mode.FULL
