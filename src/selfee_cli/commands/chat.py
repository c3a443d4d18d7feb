"""``selfee chat``: the interactive session."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from selfee_cli.commands import options as opt
from selfee_cli.ui.console import console
from selfee_cli.ui.show import Show

if TYPE_CHECKING:
    from selfee_cli.engine.options import AskOptions


@opt.shared_output
def chat(
    question: Annotated[
        str | None, typer.Argument(help="A question to begin with.", show_default=False)
    ] = None,
    *,
    model: opt.Model = None,
    engine: opt.EngineName = "auto",
    device: opt.Device = "auto",
    dtype: opt.Dtype = "auto",
    context: opt.Context = None,
    min_revisions: opt.MinRevisions = 0,
    max_revisions: opt.MaxRevisions = None,
    max_new_tokens: opt.MaxNewTokens = None,
    temperature: opt.Temperature = 0.7,
    top_p: opt.TopP = 1.0,
    top_k: opt.TopK = 0,
    seed: opt.Seed = None,
    show: Annotated[Show, typer.Option("--show", help="How much of each chain.")] = Show.CHAIN,
) -> None:
    """Talk with the model; it remembers its final answers. Ctrl-C stops a chain, Ctrl-D leaves.

    Example: selfee chat --model selfee-7b --min-revisions 1
    """
    from selfee_cli.engine.options import AskOptions

    def next_options() -> AskOptions:
        return AskOptions.make(
            min_revisions=min_revisions,
            max_revisions=max_revisions,
            max_new_tokens=max_new_tokens,
            temperature=temperature,
            top_p=top_p,
            top_k=top_k,
            seed=seed,
        )

    next_options()  # a wrong value is told before the model is loaded
    session = opt.open_session(model, engine=engine, device=device, dtype=dtype, context=context)
    from selfee_cli.ui.repl import Repl

    code = Repl(session, next_options, console=console, show=show).run(question)
    raise typer.Exit(code)
