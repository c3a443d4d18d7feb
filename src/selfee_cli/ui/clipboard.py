"""The clipboard: the desktop's own, or over ssh the terminal's (OSC 52)."""

from __future__ import annotations

import base64
import os
import shutil
import subprocess
from collections.abc import Callable

from selfee_cli.errors import SelfeeError

_COMMANDS = (
    ("pbcopy", (), ""),
    ("wl-copy", (), "WAYLAND_DISPLAY"),
    ("xclip", ("-selection", "clipboard"), "DISPLAY"),
    ("xsel", ("--clipboard", "--input"), "DISPLAY"),
)
_MOST = 74_994  # bytes; what xterm takes in one sequence


def copy(text: str, terminal: Callable[[str], None] | None) -> str:
    """Copy ``text``; return where it went. ``terminal`` writes a control sequence, if it may.

    Raises:
        SelfeeError: there is no clipboard, or the text is too long for the terminal's.
    """
    remote = "SSH_CONNECTION" in os.environ or "SSH_TTY" in os.environ
    for name, arguments, needs in _COMMANDS:
        if remote or (needs and needs not in os.environ) or not shutil.which(name):
            continue
        if _took([name, *arguments], text):
            return "clipboard"
    if terminal is None:
        raise SelfeeError("no clipboard here", hint="/save FILE.md writes a file")
    data = base64.b64encode(text.encode()).decode("ascii")
    if len(data) > _MOST:
        raise SelfeeError("too long for the terminal's clipboard", hint="/save FILE.md")
    terminal(f"\x1b]52;c;{data}\x07")
    return "terminal's clipboard"


def _took(command: list[str], text: str) -> bool:
    try:
        done = subprocess.run(
            command, input=text.encode(), stdout=subprocess.DEVNULL, timeout=5, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0
