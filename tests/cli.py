"""Run selfee as a user does: a process of its own, its streams apart."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path


def selfee(
    *arguments: str | Path, input: str | None = None, timeout: float = 120, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run ``selfee ARGUMENTS`` without a terminal and return what it did."""
    return subprocess.run(
        [sys.executable, "-m", "selfee_cli", *map(str, arguments)],
        input=input,
        stdin=subprocess.DEVNULL if input is None else None,
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=timeout,
        env={**os.environ, **environment},
        check=False,
    )


def fails(code: int, *arguments: str | Path, **options: object) -> str:
    """Run a command that must fail with ``code``: nothing on standard output, no traceback."""
    done = selfee(*arguments, **options)
    assert done.returncode == code, done.stderr
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    return done.stderr
