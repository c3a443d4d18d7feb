"""``selfee bench perplexity``: what quantising and a longer context cost a model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from selfee_cli.commands import options as opt
from selfee_cli.commands.recorded import read_chains
from selfee_cli.engine.options import LEAST_CONTEXT
from selfee_cli.ui.console import console
from selfee_cli.ui.units import byte_text

if TYPE_CHECKING:
    from selfee_cli.bench.perplexity import Score
    from selfee_cli.ui.table import Table


@opt.command
def perplexity(
    file: Annotated[
        Path, typer.Argument(metavar="CHAINS.jsonl", help="Recorded chains, in any form.")
    ],
    *,
    model: Annotated[
        str, typer.Option("--model", envvar="SELFEE_MODEL", metavar="PATH|tiny", help="A LLaMA.")
    ],
    device: Annotated[
        str, typer.Option("--device", metavar="DEVICE", help="auto, cpu, cuda, cuda:N or mps.")
    ] = "auto",
    dtype: Annotated[
        str, typer.Option("--dtype", metavar="DTYPE", help="auto, float16, bfloat16 or float32.")
    ] = "auto",
    quant: Annotated[
        list[str] | None,
        typer.Option(
            "--quant", metavar="QUANT", help="Compare with these; default: int8, fp8 and int4."
        ),
    ] = None,
    context: Annotated[
        int | None,
        typer.Option(
            "--context", min=LEAST_CONTEXT, metavar="N", help="Join chains to N tokens as well."
        ),
    ] = None,
    chains: Annotated[
        int, typer.Option("--chains", metavar="N", min=1, help="Use the first N chains.")
    ] = 80,
    as_json: Annotated[bool, typer.Option("--json", help="Print the figures as one object.")] = (
        False
    ),
) -> None:
    """Score recorded chains by a model as it is, quantised, and with a longer context.

    Example: selfee bench perplexity answers.jsonl --model selfee-7b --context 4096
    """
    from selfee_cli.api import resolve_model
    from selfee_cli.bench.perplexity import measure
    from selfee_cli.ui.table import show_table

    recorded = read_chains(file)[:chains]
    scores = measure(
        resolve_model(model, say=console.say, quiet=console.quiet),
        recorded,
        device=device,
        dtype=dtype,
        quants=["int8", "fp8", "int4"] if quant is None else quant,
        context=context,
        say=console.say,
    )
    if as_json:
        forms = [score.to_json() for score in scores]
        console.json({"schema": "selfee.bench-perplexity/1", "forms": forms})
    else:
        show_table(_table(scores, model, len(recorded)), console)


def _table(scores: list[Score], model: str, chains: int) -> Table:
    from selfee_cli.ui.table import Column, Table

    def number(value: float | None, form: str) -> str:
        return "-" if value is None else format(value, form)

    return Table(
        title=f"{model} on {chains} recorded chains",
        columns=[
            Column(title="weights"),
            Column(title="read a token", number=True),
            Column(title="tokens", number=True),
            Column(title="perplexity", number=True),
            Column(title="same greedy token", number=True),
            Column(title="tokens beyond", number=True),
            Column(title="perplexity beyond", number=True),
        ],
        rows=[
            [
                score.form.title,
                byte_text(score.weight_bytes),
                f"{score.within.tokens:,}",
                number(score.within.perplexity, ".3f"),
                number(score.agreement, ".1%"),
                f"{score.beyond.tokens:,}",
                number(score.beyond.perplexity, ".3f"),
            ]
            for score in scores
        ],
        note="beyond: at positions that the model was not trained for",
    )
