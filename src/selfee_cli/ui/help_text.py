"""What ``/help`` tells: the commands, and the keys that do something in this mode."""

from __future__ import annotations

from collections.abc import Sequence

from selfee_cli.chat.command_table import COMMANDS, Command, resolve
from selfee_cli.chat.key_table import KEYS, PLAIN_KEYS, SCRIPT_KEYS, Key, find
from selfee_cli.errors import UsageError
from selfee_cli.ui.screen import Mode

_KEYS = {Mode.FULL: KEYS, Mode.PLAIN: PLAIN_KEYS, Mode.SCRIPT: SCRIPT_KEYS}
_WIDTH = max(len(command.usage) for command in COMMANDS) + 2


def words(mode: Mode) -> list[str]:
    """Return what may follow ``/help``."""
    return [*(command.name for command in COMMANDS), *(key.name for key in _KEYS[mode])]


def overview(mode: Mode) -> list[str]:
    """Return a line a command, and a line a key."""
    return [
        *(_row(command.usage, command.does) for command in COMMANDS),
        _row("//x", "ask /x, which begins with a slash"),
        *([] if mode is Mode.SCRIPT else [_row("//", "ask what was no command, as it was typed")]),
        "",
        *(_row(key.usage, key.does) for key in _KEYS[mode]),
    ]


def about(name: str, mode: Mode) -> list[str]:
    """Return what there is to tell of a key or a command.

    Raises:
        UsageError: there is none of that name, or the key does nothing in this mode.
    """
    key = find(name, _KEYS[mode])
    if key is not None:
        return [key.usage, key.does]
    if find(name, _all_keys()) is not None:
        raise UsageError(f"{name} does nothing here", hint="/help lists the keys that do")
    command = resolve(name)
    return [command.usage, *_about(command)]


def _all_keys() -> Sequence[Key]:
    return [key for keys in _KEYS.values() for key in keys]


def _row(usage: str, does: str) -> str:
    return f"{usage:<{_WIDTH}}{does}"


def _about(command: Command) -> list[str]:
    others = ", ".join(f"/{alias}" for alias in command.aliases)
    return [command.does, *([command.more] if command.more else []), *([others] if others else [])]
