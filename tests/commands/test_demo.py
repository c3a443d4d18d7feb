"""The demo, the README's promise to a stranger; and what a shell sees of the program itself."""

from __future__ import annotations

import subprocess
import sys

import pytest
from cli import every_command, fails, no_defect, selfee

from selfee_cli import __version__


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
    assert {"bench", "bench decode", "ask"} <= {*every_command()}
    for command in every_command():
        done = selfee(*command.split(), "--help")
        assert f"Example: selfee {command}" in done.stdout


def test_debug_shows_the_traceback() -> None:
    done = selfee("ask", "hi", "--model", "nowhere", "--debug")
    assert done.returncode == 1
    assert "Traceback" in done.stderr


UNFORESEEN = """
import sys
from selfee_cli.cli import COMMANDS, main

COMMANDS["broken"] = "Its module is not there."
sys.argv = ["selfee", "broken", *sys.argv[1:]]
main()
"""


def test_what_nobody_foresaw_is_told_in_a_line() -> None:
    command = [sys.executable, "-c", UNFORESEEN]
    told = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (told.returncode, told.stdout) == (1, "")
    assert told.stderr == (
        "error: unexpected ModuleNotFoundError: No module named 'selfee_cli.commands.broken'\n"
        "hint: a defect of selfee; --debug shows where it lies\n"
    )
    with pytest.raises(AssertionError, match="broken"):
        no_defect(told.stderr)
    command.append("--debug")
    shown = subprocess.run(command, capture_output=True, text=True, check=False)
    assert shown.returncode == 1
    assert "Traceback" in shown.stderr


def test_a_reader_that_goes_away_is_no_error() -> None:
    code = f"{sys.executable} -m selfee_cli --help | head -c 10"
    done = subprocess.run(["bash", "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr == ""
