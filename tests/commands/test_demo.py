"""The demo, the README's promise to a stranger; and what a shell sees of the program itself."""

from __future__ import annotations

import subprocess
import sys

from cli import fails, selfee

from selfee_cli import __version__
from selfee_cli.cli import COMMANDS


def test_the_demo_is_the_whole_job() -> None:
    done = selfee("demo")
    assert done.returncode == 0, done.stderr
    for command in ("$ selfee apply-delta --base", "$ selfee verify", "$ selfee ask"):
        assert command in done.stdout
    assert "is right: " in done.stderr
    assert "── Revision 1\n" in done.stdout
    assert "is the answer" in done.stdout


def test_version_and_usage() -> None:
    assert selfee("--version").stdout == f"selfee {__version__}\n"
    assert selfee("--help").returncode == 0
    assert "No such command" in fails(2, "nonsense")


def test_every_command_has_help_with_an_example() -> None:
    for command in COMMANDS:
        done = selfee(command, "--help")
        assert f"Example: selfee {command}" in done.stdout


def test_debug_shows_the_traceback() -> None:
    done = selfee("ask", "hi", "--model", "nowhere", "--debug")
    assert done.returncode == 1
    assert "Traceback" in done.stderr


def test_a_reader_that_goes_away_is_no_error() -> None:
    code = f"{sys.executable} -m selfee_cli --help | head -c 10"
    done = subprocess.run(["bash", "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr == ""
