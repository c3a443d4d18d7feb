"""``selfee bench lookup``: recorded chains through the drafter."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from selfee_cli.commands import options as opt
from selfee_cli.commands.recorded import read_chains
from selfee_cli.errors import UsageError
from selfee_cli.ui.console import console

if TYPE_CHECKING:
    from selfee_cli.bench.lookup import LookupFigures
    from selfee_cli.ui.table import Table


@opt.command
def lookup(
    file: Annotated[
        Path, typer.Argument(metavar="CHAINS.jsonl", help="Recorded chains, in any form.")
    ],
    *,
    tokenizer: Annotated[
        Path,
        typer.Option(
            "--tokenizer", metavar="T", help="tokenizer.model, or the directory of a model."
        ),
    ],
    peers: Annotated[
        bool, typer.Option("--peers/--without-peers", help="Replay transformers' lookup too.")
    ] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print the figures as one object.")] = (
        False
    ),
) -> None:
    """Replay recorded chains through the drafter: tokens a pass, with no model at all.

    Example: selfee bench lookup answers.jsonl --tokenizer selfee-7b
    """
    from selfee_cli.bench.lookup import replay
    from selfee_cli.engine.tokenizer import load_tokenizer
    from selfee_cli.ui.progress import ByteProgress
    from selfee_cli.ui.table import show_table

    model = load_tokenizer(_tokenizer_directory(tokenizer))
    chains = read_chains(file)
    with ByteProgress("replaying", enabled=not console.quiet) as bar:
        bar.start(sum(len(chain.raw) for chain in chains))
        figures = replay(chains, model, peer=peers, progress=bar.advance)
    if as_json:
        console.json(figures.to_json())
    else:
        show_table(_lookup_table(figures), console)


def _tokenizer_directory(path: Path) -> Path:
    """Return the directory of a tokenizer, where ``path`` is the file that is read in it.

    Raises:
        UsageError: another file would be read.
    """
    if not path.is_file():
        return path
    if path.name not in ("tokenizer.model", "tokenizer.json"):
        raise UsageError(
            f"--tokenizer {path} is named neither tokenizer.model nor tokenizer.json",
            hint="give it one of these names, in a directory of its own",
        )
    read = path.with_name("tokenizer.model")
    if path != read and read.is_file():
        raise UsageError(
            f"--tokenizer {path} is not read where there is a {read.name} beside it",
            hint=f"name {read.name}, or copy {path.name} to a directory of its own",
        )
    return path.parent


def _lookup_table(figures: LookupFigures) -> Table:
    from selfee_cli.bench.lookup import PEER
    from selfee_cli.ui.table import Column, Table

    counts = [*figures.by_turn.items(), ("all, in one session", figures.session)]
    counts.append(("all, each chain by itself", figures.alone))
    if figures.peer is not None:
        counts.append((PEER, figures.peer))
    return Table(
        title=f"{figures.chains} recorded chains, {figures.session.tokens:,} tokens",
        columns=[
            Column(title="turn"),
            Column(title="tokens", number=True),
            Column(title="passes", number=True),
            Column(title="tokens a pass", number=True),
            Column(title="drafted a token", number=True),
        ],
        rows=[
            [
                name,
                f"{count.tokens:,}",
                f"{count.passes:,}",
                f"{count.tokens_per_pass:.2f}",
                f"{count.drafted / max(1, count.tokens):.1f}",
            ]
            for name, count in counts
        ],
        strong=[len(figures.by_turn)],
    )
