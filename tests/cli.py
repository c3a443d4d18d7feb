"""Run selfee as a user does: a process of its own, its streams apart."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path


def selfee(
    *arguments: str | Path, input: str | None = None, timeout: float = 120, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run ``selfee ARGUMENTS`` without a terminal and return what it did; no defect shows."""
    done = subprocess.run(
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
    if "--debug" not in arguments:
        no_defect(done.stderr)
    return done


def fails(code: int, *arguments: str | Path, **options: object) -> str:
    """Run a command that must fail with ``code``: nothing on standard output, no defect."""
    done = selfee(*arguments, **options)
    assert done.returncode == code, done.stderr
    assert done.stdout == ""
    return done.stderr


def every_command() -> Iterator[str]:
    """Every command that ``--help`` lists, those of a group too: ``bench``, ``bench decode``."""
    for command in _listed():
        yield command
        yield from (f"{command} {inner}" for inner in _listed(command))


def _listed(*group: str) -> list[str]:
    _, _, commands = selfee(*group, "--help").stdout.partition("\nCommands:\n")
    return re.findall(r"^  (\S+)  ", commands, re.MULTILINE)


def no_defect(told: str) -> None:
    """Nothing happened that nobody foresaw: no traceback, nor the line in its place."""
    assert "Traceback" not in told, told
    assert "error: unexpected" not in told, told
