"""What does not change in a session."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from selfee_cli.ui.screen import Mode


@dataclass(frozen=True, kw_only=True)
class Setup:
    """How a session is held, and which files it has."""

    mode: Mode
    sessions: Path
    """Where the sessions lie."""
    save: bool = True
    """Whether this one is kept there too."""
    history: Path | None = None
    """The file of earlier entries; None: they are not kept."""
    log: Path | None = None
    """Where errors are noted."""
    vi: bool = False
    """Whether the prompt's keys are vi's."""
