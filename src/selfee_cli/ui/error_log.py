"""The log of errors: their kinds and places, never what was asked."""

from __future__ import annotations

import os
import time
import traceback
from contextlib import suppress
from pathlib import Path

from selfee_cli.folders import make_private


def note(error: BaseException, path: Path | None) -> None:
    """Add a line about ``error``; None, or a file that cannot be written: nowhere."""
    if path is None:
        return
    frames = traceback.extract_tb(error.__traceback__)[-3:]
    places = " < ".join(f"{Path(each.filename).name}:{each.lineno}" for each in reversed(frames))
    line = f"{time.strftime('%Y-%m-%d %H:%M:%S')} {type(error).__name__} at {places}\n"
    with suppress(OSError):
        make_private(path.parent)
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "a", encoding="utf-8") as file:
            file.write(line)
