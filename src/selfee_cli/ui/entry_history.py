"""The entries that were typed earlier, in a file that does not grow for ever."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from prompt_toolkit.history import FileHistory, History, InMemoryHistory

from selfee_cli.folders import make_private
from selfee_cli.protocol.text import well_formed

_MOST = 5000


class EntryHistory(FileHistory):
    """Keeps the last entries, whole; a file that cannot be written costs no entry.

    The file holds each as a comment and the lines of its text, which begin with ``+``.
    """

    def store_string(self, string: str) -> None:
        """Add an entry, and drop the oldest where there are too many."""
        with suppress(OSError):
            super().store_string(well_formed(string))
            _trim(Path(os.fsdecode(self.filename)))


def open_history(path: Path | None) -> History:
    """Return the history in ``path``, made for its owner alone; None: one of this session."""
    if path is None:
        return InMemoryHistory()
    try:
        make_private(path.parent)
        os.close(os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))
        _trim(path)
    except OSError:  # it is not worth more than a prompt without it
        return InMemoryHistory()
    return EntryHistory(path)


def _trim(path: Path) -> None:
    entries: list[list[bytes]] = []
    inside = False
    for line in path.read_bytes().split(b"\n"):
        is_text = line.startswith(b"+")
        if is_text and not inside:
            entries.append([])
        if is_text:
            entries[-1].append(line + b"\n")
        inside = is_text
    if len(entries) <= _MOST:
        return
    kept = b"".join(b"\n# kept\n" + b"".join(lines) for lines in entries[-_MOST:])
    aside = path.with_name(f"{path.name}.{os.getpid()}")
    descriptor = os.open(aside, os.O_CREAT | os.O_TRUNC | os.O_WRONLY | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(kept)
    aside.replace(path)
