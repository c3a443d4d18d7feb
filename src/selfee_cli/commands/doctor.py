"""``selfee doctor``: what this machine has, what fits on it, what is missing."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from selfee_cli.commands import options as opt
from selfee_cli.ui.console import console
from selfee_cli.ui.units import byte_text

if TYPE_CHECKING:
    from selfee_cli.bench.fitness import Fitness
    from selfee_cli.ui.table import Table


@opt.command
def doctor(
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print one object.")] = False,
) -> None:
    """Say what this machine has, which models fit and how fast they should be, what is missing.

    Example: selfee doctor
    """
    from selfee_cli.bench.fitness import examine
    from selfee_cli.ui.table import show_table

    found = examine(Path.cwd())
    if as_json:
        console.json(found.to_json())
        return
    console.line(found.machine)
    console.line(", ".join(f"{name} {version}" for name, version in found.versions.items()))
    console.line(f"disk: {byte_text(found.disk_free)} free here")
    for device in found.devices:
        read = (
            f"reads {byte_text(device.bandwidth)}/s" if device.bandwidth else "no room to measure"
        )
        console.line(f"{device.name}: {device.title}, {byte_text(device.memory)} free, {read}")
    console.line("")
    show_table(_fits(found), console)
    for advice in found.advice:
        console.line(f"\n{advice.problem}\n  {advice.remedy}")


def _fits(found: Fitness) -> Table:
    from selfee_cli.bench.fitness import CONTEXT
    from selfee_cli.ui.table import Column, Table

    return Table(
        title=f"with {CONTEXT} tokens of context, one token a pass (lookup goes beyond it)",
        columns=[
            Column(title="model"),
            Column(title="on"),
            Column(title="as"),
            Column(title="needs", number=True),
            Column(title="fits"),
            Column(title="tokens/s at most", number=True),
        ],
        rows=[
            [
                fit.model,
                fit.device,
                fit.form,
                byte_text(fit.needed),
                "yes" if fit.fits else "no",
                f"{fit.tokens_per_second:.1f}" if fit.fits and fit.tokens_per_second else "-",
            ]
            for fit in found.fits
        ],
    )
