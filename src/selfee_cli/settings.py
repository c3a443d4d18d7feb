"""Where selfee keeps its files: under ``$SELFEE_HOME`` if set, else where the platform says."""

from __future__ import annotations

import os
from pathlib import Path


def cache_dir() -> Path:
    """Return the folder for what can be made again, such as the reconstructed bundled model."""
    home = os.environ.get("SELFEE_HOME")
    if home:
        return Path(home).expanduser() / "cache"
    from platformdirs import user_cache_path

    return user_cache_path("selfee", appauthor=False)


def state_dir() -> Path:
    """Return the folder for what a user would miss a little: the history of typed questions."""
    home = os.environ.get("SELFEE_HOME")
    if home:
        return Path(home).expanduser() / "state"
    from platformdirs import user_state_path

    return user_state_path("selfee", appauthor=False)
