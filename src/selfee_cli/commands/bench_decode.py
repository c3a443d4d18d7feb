"""``selfee bench decode``: how fast a model writes here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from selfee_cli.commands import options as opt
from selfee_cli.commands.flags import ModelFlags
from selfee_cli.ui.console import console
from selfee_cli.ui.units import count_text

if TYPE_CHECKING:
    from selfee_cli.bench.decode import DecodeFigures
    from selfee_cli.ui.table import Table


@opt.command
def decode(
    *,
    model: ModelFlags,
    random: Annotated[
        str | None,
        typer.Option(
            "--random", metavar="SIZE", help="Random weights in place of a model: 7b, 13b, 135m."
        ),
    ] = None,
    tokens: Annotated[
        int, typer.Option("--tokens", metavar="N", min=1, help="Tokens that are timed.")
    ] = 128,
    rounds: Annotated[
        int, typer.Option("--rounds", metavar="N", min=1, help="Measure N times; medians count.")
    ] = 3,
    question: Annotated[
        str, typer.Option("--question", metavar="TEXT", help="Of the chain written with lookup.")
    ] = "What is 47 + 85?",
    peers: Annotated[
        bool, typer.Option("--peers/--without-peers", help="Measure transformers' generate too.")
    ] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print the figures as one object.")] = (
        False
    ),
) -> None:
    """Write tokens: how many a second, beside the memory's limit and transformers' generate.

    Example: selfee bench decode --model selfee-7b
    """
    from selfee_cli.ui.table import show_table

    if random is None:
        from selfee_cli.bench.decode import measure_model

        figures = measure_model(
            model.open, tokens=tokens, rounds=rounds, question=question, peer=peers
        )
    else:
        from selfee_cli.bench.decode import measure_random

        figures = measure_random(
            random,
            device=model.device,
            dtype=model.dtype,
            quant=model.quant,
            context=model.context,
            tokens=tokens,
            rounds=rounds,
            peer=peers,
        )
    if as_json:
        console.json(figures.to_json())
    else:
        show_table(_decode_table(figures), console)


def _decode_table(figures: DecodeFigures) -> Table:
    from selfee_cli.bench.machine import this_machine
    from selfee_cli.ui.table import Column, Table

    plain = figures.plain
    rows: list[tuple[str, float | None]] = [("plain, one token a pass", plain)]
    lookup = figures.lookup
    if lookup is not None:
        rows.append(
            (f"a chain with lookup, {lookup.tokens_per_pass:.1f} a pass", lookup.with_lookup)
        )
        rows.append(("the same chain without", lookup.without))
        if lookup.later_with:  # a model may write no revisions
            rows.append(("with lookup, from revision 2 on", lookup.later_with))
            rows.append(("without, from revision 2 on", lookup.later_without))
    if figures.peer is not None:
        rows.append(("transformers generate", figures.peer))
    elif figures.peer_fits is False:
        rows.append(("transformers generate: no memory for it", None))
    elif figures.peer_failure is not None:
        rows.append(("transformers generate: cannot load it", None))
    rows.append((f"limit: {figures.bandwidth / 1e9:.1f} GB/s read", figures.limit))
    return Table(
        title=(
            f"{figures.model}: {count_text(figures.parameters)} parameters as {figures.form} "
            f"on {figures.device}, {figures.engine} engine"
        ),
        columns=[
            Column(title="way"),
            Column(title="tokens/s", number=True),
            Column(title="to plain", number=True),
        ],
        rows=[
            [name, "-", "-"] if speed is None else [name, f"{speed:.1f}", f"{speed / plain:.2f}x"]
            for name, speed in rows
        ],
        strong=[0],
        note=f"on {this_machine()}",
    )
