"""The command line: registers the commands and is the one place that catches errors."""

from __future__ import annotations

import errno
import os
import sys
from typing import Annotated

import typer

from selfee_cli import __version__
from selfee_cli.commands.apply_delta import apply_delta
from selfee_cli.commands.ask import ask
from selfee_cli.commands.chat import chat
from selfee_cli.commands.checksum import checksum
from selfee_cli.commands.demo import demo
from selfee_cli.commands.inspect import inspect
from selfee_cli.commands.show import show
from selfee_cli.commands.verify import verify
from selfee_cli.errors import Interrupted, ResourceError, SelfeeError
from selfee_cli.ui.console import console

app = typer.Typer(
    name="selfee",
    help="SelFee on your own machine: reconstruct the weights, then answer, criticise and revise.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for _command in (demo, ask, chat, show, apply_delta, verify, checksum, inspect):
    app.command()(_command)


def _print_version(wanted: bool) -> None:
    if wanted:
        console.line(f"selfee {__version__}")
        raise typer.Exit


@app.callback()
def _selfee(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    pass


def main() -> None:
    """Run the command line; the process ends with the exit code that CLI.md gives."""
    try:
        app()
    except BrokenPipeError:
        # The reader went away, as `head` does. Python would complain once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    except Interrupted as stop:
        console.say(stop.message)
        sys.exit(stop.exit_code)
    except (SelfeeError, MemoryError, OSError) as error:
        if console.debug:
            raise
        failure = _as_selfee_error(error)
        console.complain(failure.message, failure.hint)
        sys.exit(failure.exit_code)


def _as_selfee_error(error: SelfeeError | MemoryError | OSError) -> SelfeeError:
    if isinstance(error, SelfeeError):
        return error
    if isinstance(error, MemoryError):
        return ResourceError("out of memory", hint="close other programs, or use less context")
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return ResourceError(f"the disk is full: {error}", hint="free some space and try again")
    return SelfeeError(str(error))
