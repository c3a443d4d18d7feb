"""Where a copied text goes."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from selfee_cli.errors import SelfeeError
from selfee_cli.ui.clipboard import copy


@pytest.fixture(autouse=True)
def desktop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A desktop whose clipboard is a file; its command can be told to fail."""
    for name in ("SSH_CONNECTION", "SSH_TTY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DISPLAY", ":0")
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    command = tmp_path / "xclip"
    command.write_text(f"#!/bin/sh\ntest -e {tmp_path}/fail && exit 1\ncat > {tmp_path}/clip\n")
    command.chmod(0o700)
    return tmp_path


def test_the_desktops_clipboard(desktop: Path) -> None:
    written: list[str] = []
    assert copy("数 text", written.append) == "clipboard"
    assert (desktop / "clip").read_text("utf-8") == "数 text"
    assert written == []


def test_over_ssh_the_terminals(desktop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSH_CONNECTION", "1 2 3 4")
    written: list[str] = []
    assert copy("数 text", written.append) == "terminal's clipboard"
    assert written == [f"\x1b]52;c;{base64.b64encode('数 text'.encode()).decode()}\x07"]
    assert not (desktop / "clip").exists()
    with pytest.raises(SelfeeError, match="too long for the terminal's clipboard"):
        copy("x" * 60_000, written.append)
    with pytest.raises(SelfeeError, match="no clipboard here") as refused:
        copy("text", None)
    assert refused.value.hint == "/save FILE.md writes a file"


@pytest.mark.parametrize("fault", ["fails", "is broken", "is missing"])
def test_a_command_that_does_not_work(desktop: Path, fault: str) -> None:
    if fault == "fails":
        (desktop / "fail").write_text("")
    elif fault == "is broken":
        (desktop / "xclip").write_text("no script")
    else:
        (desktop / "xclip").unlink()
    written: list[str] = []
    assert copy("text", written.append) == "terminal's clipboard"
    assert len(written) == 1
