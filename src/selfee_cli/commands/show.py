"""``selfee show``: recorded chains."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from selfee_cli.commands import options as opt
from selfee_cli.commands.flags import DisplayFlags
from selfee_cli.commands.recorded import records_of
from selfee_cli.errors import NotFoundError
from selfee_cli.paths import expanded, read_bytes
from selfee_cli.ui.console import console, printable
from selfee_cli.ui.show import Show

if TYPE_CHECKING:
    from selfee_cli.protocol.records import Record


@opt.command
def show(
    file: Annotated[
        str,
        typer.Argument(metavar="FILE", help="A file of recorded chains; `-` reads standard input."),
    ],
    *,
    id: Annotated[
        str | None, typer.Option("--id", metavar="N", help="Only the chain of question N.")
    ] = None,
    display: DisplayFlags,
    as_jsonl: Annotated[
        bool, typer.Option("--jsonl", help="One parsed chain a line, for programs.")
    ] = False,
) -> None:
    """Render recorded chains and sessions: turns, scores, verdicts, differences.

    Example: selfee show selfee_13b_enforce_3_revisions.jsonl --id 7 --show diff
    """

    records = records_of(_read(file), file)
    found = False
    for record in records:
        if id is not None and str(record.question_id) != id:
            continue
        found = True
        if as_jsonl:
            console.json(record.to_json())
        else:
            _render(record, display)
    if not found:
        raise NotFoundError(
            f"{file} has no chain with the id {id}", hint="without --id, every chain is shown"
        )


def _read(file: str) -> bytes:
    if file == "-":
        return opt.stdin_bytes()
    return read_bytes(expanded(Path(file)))


def _render(record: Record, display: DisplayFlags) -> None:
    from selfee_cli.protocol.records import replay
    from selfee_cli.ui.stream import ChainRenderer

    style = console.style(console.out)
    number = "" if record.question_id is None else f"{record.question_id}. "
    title = printable(number + record.chain.instruction)
    console.line(style.paint(title, "bold"))
    if record.chain.input:
        console.line(style.paint(printable(record.chain.input), "dim"))
    console.line("")
    show = display.show or Show.CHAIN
    renderer = ChainRenderer(console.write, style, show, display.feedback)
    for event in replay(record.chain):
        renderer.handle(event)
    console.line("")
