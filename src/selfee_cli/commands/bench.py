"""``selfee bench``: figures of this machine, each beside its limit and its peers."""

from __future__ import annotations

import typer

from selfee_cli.commands.bench_decode import decode
from selfee_cli.commands.bench_delta import delta
from selfee_cli.commands.bench_lookup import lookup
from selfee_cli.commands.bench_perplexity import perplexity
from selfee_cli.commands.bench_revisions import revisions

bench = typer.Typer(
    help="""Measure on this machine, each figure beside its limit and its peers, in one run.

    Example: selfee bench delta
    """
)
for _command in (delta, decode, lookup, perplexity, revisions):
    bench.command()(_command)
