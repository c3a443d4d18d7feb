"""Every example runs, on the bundled model."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from selfee_cli.tiny.bundle import BASE, DELTA

GREEDY = ("--temperature", "0", "--min-revisions", "1")
EXAMPLES = Path(__file__).parents[1] / "examples"


def run(*command: str | Path, **environment: str) -> str:
    done = subprocess.run(
        list(map(str, command)),
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_stream_chain() -> None:
    out = run(
        sys.executable, EXAMPLES / "stream_chain.py", "Add 48 and 57.", "--min-revisions", "1"
    )
    assert out.startswith("[Answer] ")
    assert "[Revision 1] " in out
    assert "\nfinal, after " in out


def test_revise_file(tmp_path: Path) -> None:
    letter = tmp_path / "letter.txt"
    letter.write_text("Dear all, hello.\n")
    out = run(sys.executable, EXAMPLES / "revise_file.py", letter)
    assert "Feedback 1: score" in out
    assert (tmp_path / "letter.revised.txt").read_text().strip()
    assert letter.read_text() == "Dear all, hello.\n"


def test_selfee_7b(tmp_path: Path) -> None:
    (tmp_path / "selfee").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m selfee_cli "$@"\n')
    (tmp_path / "selfee").chmod(0o755)
    path = f"{tmp_path}:{os.environ['PATH']}"
    script = EXAMPLES / "selfee_7b.sh"
    out = run("bash", script, BASE, DELTA, tmp_path / "out", "Add 48 and 57.", *GREEDY, PATH=path)
    assert out == "The sum is 105.\n"
    usage = subprocess.run(["bash", script], capture_output=True, text=True, check=False)
    assert usage.returncode == 2
    assert "Usage: " in usage.stderr
