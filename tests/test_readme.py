"""What the README states is what the repository says."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

from cli import every_command, selfee
from readme_table import table

README = (Path(__file__).parents[1] / "README.md").read_text("utf-8")


def test_the_hardware_table_is_computed() -> None:
    assert table() in README


def test_every_command_is_in_the_table() -> None:
    listed = [*every_command()]
    assert "bench decode" in listed
    for command in listed:
        assert f"| `selfee {command}" in README


def test_the_recorded_chains_are_what_the_command_prints() -> None:
    recorded = re.findall(r"```text\n\$ selfee ask (.*?)\n(.*?)```", README, re.DOTALL)
    assert len(recorded) == 2
    for command, printed in recorded:
        done = selfee("ask", *shlex.split(command), "--show", "chain")
        # Speed is this machine's; everything else is the recorded chain's.
        assert without_speed(done.stdout) == without_speed(printed)


def without_speed(text: str) -> str:
    return re.sub(r"\d+ tok/s", "tok/s", text).strip()
