"""``selfee chat``: the interactive session."""

from __future__ import annotations

from typing import Annotated

import typer

from selfee_cli.commands import options as opt
from selfee_cli.ui.console import console
from selfee_cli.ui.show import Show


@opt.command
def chat(
    question: Annotated[
        str | None,
        typer.Argument(metavar="[QUESTION]", help="A question to begin with.", show_default=False),
    ] = None,
    *,
    loading: opt.ModelFlags,
    chain: opt.ChainFlags,
    show: Annotated[Show, typer.Option("--show", help="How much of each chain.")] = Show.CHAIN,
) -> None:
    """Talk with the model; it remembers its final answers. Ctrl-C stops a chain, Ctrl-D leaves.

    Example: selfee chat --model selfee-7b --min-revisions 1
    """
    chain.options()  # a wrong value is told before the model is loaded
    session = loading.open()
    from selfee_cli.ui.repl import Repl

    code = Repl(session, chain.options, console=console, show=show).run(question)
    raise typer.Exit(code)
