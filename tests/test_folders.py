"""Folders of the user's are for their eyes alone, those that had to be made above them too."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from selfee_cli.folders import make_private
from selfee_cli.ui import error_log
from selfee_cli.ui.entry_history import open_history


@pytest.fixture(autouse=True)
def _usual_mask() -> Iterator[None]:
    before = os.umask(0o022)
    yield
    os.umask(before)


@pytest.mark.parametrize(
    "make",
    [
        lambda path: make_private(path.parent),
        lambda path: error_log.note(ValueError("no"), path),
        lambda path: open_history(path),
    ],
)
def test_all_that_is_missing_is_made_private(tmp_path: Path, make: Callable[[Path], None]) -> None:
    (tmp_path / "there").mkdir(mode=0o755)
    folder = tmp_path / "there" / "home" / "state"
    make(folder / "file")
    make(folder / "file")
    modes = [path.stat().st_mode & 0o777 for path in (folder, folder.parent, folder.parent.parent)]
    assert modes == [0o700, 0o700, 0o755]
