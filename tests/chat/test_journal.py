"""A session is kept as it goes on; a disk that fails is told once and costs no question."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from scripted_chat import Chat

from selfee_cli.chat import session_reader


def test_a_full_disk_is_told_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chat = Chat(tmp_path / "sessions")
    chat.enter("Why?")

    def full(descriptor: int, data: bytes) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "write", full)
    told = chat.enter("And then?")
    assert told.count("this session is not kept: No space left on device") == 1
    assert "hint: /save FILE.md" in told
    assert "is the answer" in told
    assert "not kept" not in chat.enter("Once more?")
    assert len(chat.repl.talk.chains) == 3


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    chat = Chat(tmp_path / "file" / "sessions")
    assert "this session is not kept: Not a directory" in chat.enter("Why?")
    assert len(chat.repl.talk.chains) == 1


def test_settings_hold_again_when_a_session_goes_on(tmp_path: Path) -> None:
    chat = Chat(tmp_path / "sessions", temperature=0.5)
    chat.enter("/set min-revisions 1")  # before there is a file
    chat.enter("Why?")
    chat.enter("/set top_k 9")
    chat.enter("/fold")
    chat.enter("/set seed 5")
    chat.enter("/set seed default")
    path = chat.path
    assert chat.saved.settings == {
        "min-revisions": "1",
        "top-k": "9",
        "feedback": "line",
        "seed": "default",
    }
    chat.enter("/clear")
    chat.enter("In a new session?")
    assert chat.saved.settings["top-k"] == "9", "what was set still holds"
    chat.repl.journal.close()

    later = Chat(tmp_path / "sessions", top_k=2)
    later.repl.open(path)
    settings = later.repl.settings
    assert (settings.get("min-revisions"), settings.source("min-revisions")) == (1, "session")
    assert settings.get("feedback") == "line"
    assert settings.get("top-k") == 2, "a flag of this command line is stronger"
    assert settings.get("temperature") == 0.7, "a flag of that one is gone"
    later.repl.journal.close()


def test_settings_of_one_session_do_not_reach_another(tmp_path: Path) -> None:
    chat = Chat(tmp_path / "sessions")
    chat.enter("Why?")
    chat.enter("/set top-k 9")
    path = chat.path
    chat.enter("/clear")
    chat.enter("/set top-k default")
    chat.enter("Why not?")
    other = chat.path
    chat.repl.journal.close()
    later = Chat(tmp_path / "sessions")
    later.repl.open(path)
    assert later.repl.settings.get("top-k") == 9
    later.repl.open(other)
    assert later.repl.settings.get("top-k") == 0
    later.repl.journal.close()


@pytest.mark.parametrize("elsewhere", [False, True])
def test_what_is_set_in_this_run_holds_in_a_session_it_opens(
    tmp_path: Path, elsewhere: bool
) -> None:
    chat = Chat(tmp_path / "sessions")
    chat.enter("Why?")
    path = chat.path
    if elsewhere:
        path = path.rename(tmp_path / "elsewhere.jsonl")
    before = path.read_bytes()
    chat.enter("/clear")
    chat.enter("/set top-k 9")
    chat.enter(f"/load {path if elsewhere else path.stem}")
    assert path.read_bytes() == before, "looking adds nothing"
    chat.enter("And then?")
    assert chat.saved.settings == {"top-k": "9"}
    assert chat.saved.damaged == 0
    assert chat.path.read_bytes().count(b'"set"') == 1
    chat.repl.journal.close()


def test_settings_that_exclude_those_of_another_session(tmp_path: Path) -> None:
    config = {"min-revisions": 1}
    first = Chat(tmp_path / "sessions", config=config)
    first.enter("/set min-revisions 0")
    first.enter("/set max-revisions 0")
    first.enter("Without?")
    without = first.path
    first.enter("/set min-revisions default")
    first.repl.journal.close()
    second = Chat(tmp_path / "sessions", config=config)
    second.enter("With?")
    other = second.path
    second.repl.journal.close()
    before = without.read_bytes()

    chat = Chat(tmp_path / "sessions", config=config)
    chat.repl.open(without)
    told = chat.enter(f"/load {other.stem}")
    assert f"{other.stem}: 1 question so far" in told
    assert "error" not in told
    assert "less than" not in told
    settings = chat.repl.settings
    assert (settings.get("min-revisions"), settings.source("min-revisions")) == (1, "config.toml")
    assert settings.get("max-revisions") is None
    chat.enter("And then?")
    chat.repl.journal.close()
    assert without.read_bytes() == before
    chains = session_reader.read(other).conversation.chains
    assert [chain.instruction for chain in chains] == ["With?", "And then?"]


def test_one_that_cannot_be_read_changes_nothing(tmp_path: Path) -> None:
    chat = Chat(tmp_path / "sessions")
    chat.enter("/set top-k 9")
    chat.enter("Why?")
    (tmp_path / "broken.json").write_text("hello")
    assert "is not JSON" in chat.enter(f"/load {tmp_path / 'broken.json'}")
    assert chat.repl.settings.get("top-k") == 9
    chat.enter("And then?")
    chains = chat.saved.conversation.chains
    assert [chain.instruction for chain in chains] == ["Why?", "And then?"]
    chat.repl.journal.close()


def test_settings_hold_together_in_whatever_order_they_come(tmp_path: Path) -> None:
    config = {"max-revisions": 2}
    chat = Chat(tmp_path / "sessions", config=config)
    chat.enter("/set max-revisions 5")
    chat.enter("/set min-revisions 3")
    chat.enter("Why?")
    path = chat.path
    chat.repl.journal.close()
    later = Chat(tmp_path / "sessions", config=config)
    later.repl.open(path)
    settings = later.repl.settings
    assert (settings.get("min-revisions"), settings.get("max-revisions")) == (3, 5)
    assert "less than" not in later.err.getvalue()
    later.repl.journal.close()
    given = Chat(tmp_path / "sessions", config=config, min_revisions=6)
    given.repl.open(path)
    assert given.repl.settings.get("max-revisions") == 2
    assert "max-revisions 5 is less than min-revisions 6" in given.err.getvalue()
    given.repl.journal.close()


def test_what_is_not_kept_may_read_what_is(tmp_path: Path) -> None:
    chat = Chat(tmp_path / "sessions")
    chat.enter("Why?")
    path = chat.path
    chat.repl.journal.close()
    before = path.read_bytes()
    unkept = Chat(tmp_path / "sessions", save=False)
    assert f"{path.stem}  " in unkept.enter("/sessions")
    assert "1 question so far" in unkept.enter(f"/load {path.stem}")
    unkept.enter("And then?")
    assert len(unkept.repl.talk.chains) == 2
    assert unkept.repl.journal.id is None
    assert [*path.parent.iterdir()] == [path]
    assert path.read_bytes() == before


def test_settings_of_a_later_version_are_told(tmp_path: Path) -> None:
    chat = Chat(tmp_path / "sessions")
    chat.enter("Why?")
    chat.repl.journal.set("colour-of-feedback", "blue")
    chat.repl.journal.set("temperature", "hot")
    path = chat.path
    chat.repl.journal.close()
    later = Chat(tmp_path / "sessions")
    later.repl.open(path)
    told = later.err.getvalue()
    assert "unknown key colour-of-feedback" in told
    assert "temperature is 'hot', not a number" in told
    later.repl.journal.close()
