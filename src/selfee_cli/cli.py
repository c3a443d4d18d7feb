"""The command line: registers the commands and is the one place that catches errors.

A command's module is imported when the command is called: ``--help`` needs its line alone.
"""

from __future__ import annotations

import atexit
import gc
import sys
from importlib import import_module
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

from selfee_cli import __version__
from selfee_cli.errors import FAILURES, Interrupted, explained
from selfee_cli.ui.console import console

app = typer.Typer(
    name="selfee",
    help="SelFee on your own machine: reconstruct the weights, then answer, criticise and revise.",
    epilog="Flags are set for good by `selfee config`'s file; Tab completes them after "
    "`selfee --install-completion`.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
COMMANDS = {
    "demo": "The whole job on the bundled model, offline, in seconds.",
    "ask": "One question, one chain: answer, feedback, revision.",
    "chat": "A conversation, each answer criticised and revised.",
    "show": "Recorded chains: turns, scores, verdicts, differences.",
    "apply-delta": "Reconstruct the tuned weights from base and delta.",
    "verify": "Are these weights what they should be?",
    "checksum": "Write SHA256SUMS for a directory of weights.",
    "inspect": "What is this directory of weights?",
    "bench": "Figures of this machine, beside limits and peers.",
    "config": "What is set, by config.toml, SELFEE_ variables or default.",
    "doctor": "What this machine has, what fits on it, what is missing.",
    "make-delta": "The inverse: tuned weights less their base.",
}
"""Each command and its line in ``--help``; ``apply-delta`` is ``apply_delta.apply_delta``."""


class _Deferred(TyperCommand):
    """Stands for a command until it is called."""

    def make_context(self, info_name: str | None, args: list[str], *rest: Any, **more: Any) -> Any:
        assert self.name
        module = self.name.replace("-", "_")
        found = getattr(import_module(f"selfee_cli.commands.{module}"), module)
        alone = typer.Typer(
            add_completion=False,
            rich_markup_mode=None,
            no_args_is_help=isinstance(found, typer.Typer),
            context_settings=app.info.context_settings,
        )
        if isinstance(found, typer.Typer):  # it has commands of its own
            alone.callback(help=found.info.help)(lambda: None)
            alone.add_typer(found)
        else:
            alone.command(self.name)(found)
        return get_command(alone).make_context(info_name, args, *rest, **more)


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
    """Run the command line; the process ends with an exit code of ``errors.py``."""
    gc.set_threshold(50_000, 20, 100)  # imports make many objects, and none to collect
    atexit.register(gc.freeze)  # at the end, looking for garbage takes longer than ending
    try:
        group = get_command(app)
        assert isinstance(group, TyperGroup)
        for name, line in COMMANDS.items():
            group.add_command(_Deferred(name, help=line, rich_markup_mode=None))
        group()
    except Interrupted as stop:
        console.say(stop.message)
        sys.exit(stop.exit_code)
    except FAILURES as error:
        if console.debug:
            raise
        failure = explained(error)
        console.complain(failure.message, failure.hint)
        untold = error.__context__ if isinstance(error, OSError) else None  # Typer's, of a usage
        sys.exit(getattr(untold, "exit_code", failure.exit_code))
    except Exception as error:  # what nobody foresaw: a defect, told in a line as well
        if console.debug or "--debug" in sys.argv:  # it may be too early for the switch
            raise
        what, _, _ = f"{type(error).__name__}: {error}".partition("\n")
        console.complain(f"unexpected {what}", "a defect of selfee; --debug shows where it lies")
        sys.exit(1)
