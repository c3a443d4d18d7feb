"""The names of a session's commands."""

from __future__ import annotations

import pytest

from selfee_cli.chat.command_table import COMMANDS, escaped, resolve, words
from selfee_cli.chat.key_table import KEYS
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
    by_word = {word: name for name, others in CONTRACT.items() for word in (name, *others)}
    for word in by_word:
        for length in range(1, len(word)):
            prefix = word[:length]
            meant = {name for each, name in by_word.items() if each.startswith(prefix)}
            if prefix in by_word:
                assert resolve(f"/{prefix}").name == by_word[prefix]
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
    told = " ".join(key.name for key in KEYS)
    for key in ("Ctrl-C", "Esc", "Ctrl-D", "Ctrl-O", "Enter", "Alt-Enter", "Ctrl-G", "Ctrl-R"):
        assert key in told
    assert "Ctrl-J" in " ".join(key.usage for key in KEYS)


@pytest.mark.parametrize("question", ["/x", "//x", "/usr/bin is what?", "/a\n/b"])
def test_what_asks_a_question_that_begins_with_a_slash(question: str) -> None:
    assert escaped(question) == f"/{question}"
    assert escaped(f"  {question}") == f"/{question}"
    assert escaped(f"x {question}") == f"x {question}"
