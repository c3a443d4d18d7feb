"""``selfee config``: every setting, its value, and where it comes from."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from selfee_cli.commands import options as opt
from selfee_cli.commands.flag_settings import GROUPS, known, layered
from selfee_cli.settings import config_file, find, read_config, written
from selfee_cli.ui.console import console

if TYPE_CHECKING:
    from selfee_cli.ui.table import Table


def _names() -> list[tuple[str, str]]:
    return [(setting.name, setting.help) for setting in known(GROUPS)]


@opt.command
def config(
    key: Annotated[
        str | None,
        typer.Argument(metavar="[KEY]", help="Print only its value.", autocompletion=_names),
    ] = None,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print one object.")] = False,
) -> None:
    """Show every setting, its value and where it comes from.

    A line of config.toml reads `min-revisions = 1`; SELFEE_MIN_REVISIONS=1 in the environment goes
    before it, and --min-revisions 1 before both. The file is read by what runs or shows chains.

    Example: selfee config temperature
    """
    found = layered(GROUPS, read_config(known(GROUPS)), os.environ, {})
    wanted = None if key is None else find(found.known, key).name
    rows = [row for row in found.items() if wanted in (None, row[0])]
    if as_json:
        values = {name: {"value": value, "source": source} for name, value, source in rows}
        path = config_file()
        console.json({"file": str(path), "exists": path.exists(), "settings": values})
    elif wanted:
        console.line(written(found.get(wanted)))
    else:
        from selfee_cli.ui.table import show_table

        show_table(_table(rows), console)


def _table(rows: Sequence[tuple[str, Any, str]]) -> Table:
    from selfee_cli.ui.table import Column, Table

    path = config_file()
    return Table(
        title=str(path) if path.exists() else f"{path} (not there)",
        columns=[Column(title="setting"), Column(title="value"), Column(title="from")],
        rows=[[name, written(value), source] for name, value, source in rows],
        strong=[number for number, row in enumerate(rows) if row[2] != "default"],
    )
