"""The sessions that are kept, as they are listed."""

from __future__ import annotations

import time
from pathlib import Path

from selfee_cli.chat import session_folder, session_reader
from selfee_cli.errors import SelfeeError
from selfee_cli.ui.console import printable


def list_sessions(folder: Path) -> list[str]:
    """Return a line a session, the newest first: its id, its questions, the first of them."""
    return [_line(path) for path in session_folder.newest(folder)] or ["no sessions yet"]


def _line(path: Path) -> str:
    id = printable(path.stem)
    try:
        chains = session_reader.read(path).conversation.chains
        written = time.localtime(path.stat().st_mtime)
    except (SelfeeError, OSError):
        return f"{id}  cannot be read"
    first = chains[0].instruction.split("\n")[0] if chains else ""
    when = time.strftime("%Y-%m-%d %H:%M", written)
    return f"{id}  {when}  {len(chains):>3}  {printable(first)[:60]}"
