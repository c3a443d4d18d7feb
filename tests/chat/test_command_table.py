"""The names of a session's commands."""

from __future__ import annotations

import pytest

from selfee_cli.chat.command_table import COMMANDS, KEYS, resolve, words
from selfee_cli.errors import UsageError

CONTRACT = {
    "help": ("?",),
    "exit": ("bye", "quit"),
    "clear": ("new",),
    "set": (),
    "revise": (),
    "accept": ("use",),
    "stop": (),
    "continue": (),
    "regenerate": ("regen", "retry"),
    "undo": (),
    "edit": (),
    "diff": (),
    "show": (),
    "fold": (),
    "unfold": (),
    "read": ("file",),
    "copy": (),
    "save": (),
    "load": ("resume",),
    "sessions": (),
}


def test_every_command_and_alias_of_the_contract() -> None:
    assert {each.name: each.aliases for each in COMMANDS} == CONTRACT
    for name, aliases in CONTRACT.items():
        for word in (name, *aliases):
            assert resolve(f"/{word}").name == name
            assert f"/{word}" in words()


def test_unique_prefixes_count() -> None:
    names = [word.removeprefix("/") for word in words()]
    for word in names:
        for length in range(1, len(word)):
            prefix = word[:length]
            meant = {resolve(f"/{each}").name for each in names if each.startswith(prefix)}
            if prefix in names:
                assert resolve(f"/{prefix}") is resolve(f"/{prefix}")
            elif len(meant) == 1:
                assert {resolve(f"/{prefix}").name} == meant
            else:
                with pytest.raises(UsageError) as refused:
                    resolve(f"/{prefix}")
                assert all(f"/{each}" in str(refused.value.hint) for each in meant)


@pytest.mark.parametrize(
    ("word", "hint"),
    [
        ("/hlep", "did you mean /help?"),
        ("/revize", "did you mean /revise?"),
        ("/usr/bin/env", "/help lists the commands"),
        ("/", "/help lists the commands"),
        ("/helpme", "did you mean /help?"),
    ],
)
def test_what_is_no_command(word: str, hint: str) -> None:
    with pytest.raises(UsageError, match=f"unknown command {word}$") as refused:
        resolve(word)
    assert hint in str(refused.value.hint)
    assert "//" in str(refused.value.hint)


def test_every_key_of_the_contract_is_told() -> None:
    told = " ".join(key for key, _ in KEYS)
    for key in ("Ctrl-C", "Esc", "Ctrl-D", "Ctrl-O", "Enter", "Alt-Enter", "Ctrl-G", "Ctrl-R"):
        assert key in told
    assert "Ctrl-J" in " ".join(does for _, does in KEYS)
