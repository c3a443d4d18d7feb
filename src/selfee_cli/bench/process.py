"""Commands run in processes of their own, so that time and peak memory are theirs alone."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from selfee_cli.errors import SelfeeError

_LAUNCHER = Path(__file__).with_name("launcher.py")
_ENVIRONMENT = {
    "HF_HUB_OFFLINE": "1",  # what is measured is here; nothing is looked up
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "TRANSFORMERS_VERBOSITY": "error",
}


@dataclass(frozen=True, kw_only=True)
class Run:
    """What a command did."""

    seconds: float
    """From start to end of the process, what it imports included."""
    cpu_seconds: float | None
    """Of all its threads, the system's work for it included; None where there is no telling."""
    peak_bytes: int | None
    """Most memory resident at once, mapped files included; None where the system tells none."""
    exit_code: int
    """Below 0: ended by that signal."""
    out: str
    err: str

    @property
    def failure(self) -> str | None:
        """Why it failed, in one line; None where it did not."""
        if not self.exit_code:
            return None
        if self.exit_code == -signal.SIGTERM:
            return "it was terminated"
        if self.exit_code < 0:
            return f"killed by signal {-self.exit_code}" + (
                ", as when memory runs out" if self.exit_code == -9 else ""
            )
        said = [line for line in self.err.splitlines() if line.strip()]
        errors = [line for line in said if line.startswith("error: ")] or said[-1:]
        return errors[0].removeprefix("error: ") if errors else f"exit code {self.exit_code}"


def run_measured(command: Sequence[str]) -> Run:
    """Run a command to its end, whatever its exit code.

    Ctrl-C, or any other exception here, ends the command and what it started before it goes on.
    """
    process = subprocess.Popen(
        [sys.executable, "-I", "-S", str(_LAUNCHER), *command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        errors="replace",
        env={**os.environ, **_ENVIRONMENT},
        start_new_session=True,  # a group that can be ended as a whole
    )
    try:
        out, err = process.communicate()
    except BaseException:
        _end(process)
        raise
    *lines, report = out.splitlines() or [""]
    try:
        figures = json.loads(report)
    except ValueError:
        raise SelfeeError(f"could not start {command[0]}: {err.strip()[-200:]}") from None
    return Run(out="\n".join(lines).strip(), err=err, **figures)


def _end(process: subprocess.Popen[str]) -> None:
    if hasattr(os, "killpg"):
        with contextlib.suppress(ProcessLookupError):  # it has just ended by itself
            os.killpg(process.pid, signal.SIGKILL)
    else:
        process.kill()
    process.communicate()
