"""Recording the digests of a directory that has none."""

from __future__ import annotations

from pathlib import Path

from selfee_cli.weights.checkpoint import find_layout
from selfee_cli.weights.digests import (
    SUMS_NAME,
    Advance,
    check_listable,
    format_sums,
    hash_file,
    ignore_progress,
)


def files_to_sum(path: Path | str) -> list[Path]:
    """Give the files of a directory of weights that belong in its sums, by name.

    :class:`~selfee_cli.errors.NotFoundError` where there is no directory or no weights in it,
    :class:`~selfee_cli.errors.SelfeeError` where a file's name cannot be listed.
    """
    path = Path(path)
    find_layout(path)
    files = sorted(
        entry
        for entry in path.iterdir()
        if entry.is_file() and not entry.name.startswith(".") and entry.name != SUMS_NAME
    )
    for file in files:
        check_listable(file)
    return files


def sums_of(files: list[Path], progress: Advance = ignore_progress) -> str:
    """Hash files and give the text that ``sha256sum -c`` reads."""
    return format_sums((file.name, hash_file(file, advance=progress)) for file in files)
