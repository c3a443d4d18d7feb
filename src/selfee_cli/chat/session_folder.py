"""The sessions that are kept: one of them by its name, all of them by age."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from selfee_cli.errors import NotFoundError, UsageError
from selfee_cli.paths import expanded


def find(name: str, folder: Path) -> Path:
    """Return the file of a session: a path, an id, or an id's beginning that only one has.

    Raises:
        NotFoundError: there is none.
        UsageError: there are several.
    """
    with suppress(NotFoundError, OSError, ValueError):  # what cannot be a path may be an id
        path = expanded(Path(name))
        if path.suffix and path.is_file():
            return path
    matches = [each for each in newest(folder) if name and each.stem.startswith(name)]
    exact = [each for each in matches if each.stem == name]
    if not matches:
        raise NotFoundError(f"no session {name}", hint="selfee chat --sessions lists them")
    if len(exact or matches) > 1:
        raise UsageError(f"{len(matches)} sessions begin with {name}", hint="give more of the id")
    return (exact or matches)[0]


def newest(folder: Path) -> list[Path]:
    """Return the session files, the one written to last first."""
    dated = []
    for path in folder.glob("*.jsonl"):
        with suppress(OSError):  # one that has gone meanwhile, or a link to nothing
            dated.append((path.stat().st_mtime_ns, path.name, path))
    return [path for *_, path in sorted(dated, reverse=True)]
