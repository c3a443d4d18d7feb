"""``selfee checksum``: record the digests of weights that have none."""

from __future__ import annotations

from typing import Annotated

import typer

from selfee_cli.commands import options as opt
from selfee_cli.errors import UsageError
from selfee_cli.ui.console import console


@opt.command
def checksum(
    path: opt.WeightsPath,
    output: Annotated[
        str | None,
        typer.Argument(metavar="[-]", help="`-` prints the sums instead of writing SHA256SUMS."),
    ] = None,
) -> None:
    """Write SHA256SUMS for a directory of weights that has none, for `selfee verify` to check.

    Example: selfee checksum llama-7b
    """
    from selfee_cli.ui.progress import ByteProgress
    from selfee_cli.weights.checksums import files_to_sum, sums_of
    from selfee_cli.weights.digests import SUMS_NAME
    from selfee_cli.weights.disk import replace_text

    if output not in (None, "-"):
        raise UsageError(f"{output} is no place to write to", hint="leave it out, or give -")
    files = files_to_sum(path)
    target = path / SUMS_NAME
    if output is None and target.exists():
        raise UsageError(f"{target} is there already", hint=f"check it: selfee verify {path}")
    with ByteProgress("checksum", enabled=not console.quiet) as bar:
        bar.start(sum(file.stat().st_size for file in files))
        sums = sums_of(files, bar.advance)
    if output == "-":
        console.write(sums)
        return
    replace_text(target, sums)
    count = f"{len(files)} file{'s' * (len(files) != 1)}"
    console.say(f"wrote {target}: {count}; next: selfee verify {path}")
