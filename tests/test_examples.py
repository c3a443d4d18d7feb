"""Every example runs, on the bundled model."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

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
    revisions = out.count("\n[Revision ")
    wanted = "1 revision" if revisions == 1 else f"{revisions} revisions"
    assert f"\nfinal, after {wanted}: " in out


def test_revise_file(tmp_path: Path) -> None:
    letter = tmp_path / "letter.txt"
    letter.write_text("Dear all, hello.\n")
    out = run(sys.executable, EXAMPLES / "revise_file.py", letter)
    assert "Feedback 1: score" in out
    assert (tmp_path / "letter.revised.txt").read_text().strip()
    assert letter.read_text() == "Dear all, hello.\n"


def test_revise_file_overwrites_nothing(tmp_path: Path) -> None:
    letter, before = tmp_path / "letter.txt", tmp_path / "letter.revised.txt"
    letter.write_text("Dear all, hello.\n")
    before.write_text("mine")
    command = [sys.executable, EXAMPLES / "revise_file.py", letter]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "letter.revised.txt is there already" in done.stderr
    assert before.read_text() == "mine"


@pytest.mark.parametrize("name", ["revise_file.py", "stream_chain.py"])
def test_help_shows_commands_as_they_are_typed(name: str) -> None:
    lines = run(sys.executable, EXAMPLES / name, "--help", COLUMNS="60").splitlines()
    typed = [
        line for line in (EXAMPLES / name).read_text().splitlines() if "python examples/" in line
    ]
    assert typed and set(typed) <= set(lines)


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
