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
for _command, _line in (
    (delta, "Apply a generated delta, beside a copy and the common ways."),
    (decode, "Tokens a second, beside the memory's limit and transformers."),
    (lookup, "Recorded chains through the drafter: tokens a pass."),
    (perplexity, "What quantising and a longer context cost a model."),
    (revisions, "Does a model get better by revising?"),
):
    bench.command(short_help=_line)(_command)
