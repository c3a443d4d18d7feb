"""The prompt at a full terminal: what its keys do."""

from __future__ import annotations

from pathlib import Path

import pytest
from terminal import (
    CTRL_C,
    CTRL_D,
    CTRL_G,
    CTRL_L,
    CTRL_O,
    CTRL_R,
    ENTER,
    ESC,
    PASTE,
    PASTED,
    UP,
    Terminal,
)

from selfee_cli.chat import session_reader
from selfee_cli.ui.entry_history import EntryHistory, open_history

CHAT = ("chat", "--model", "scripted", "--max-revisions", "0")
LEAVES = "Ctrl-D or /exit leaves"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SELFEE_HOME", str(tmp_path))
    return tmp_path


def asked(home: Path) -> list[str]:
    (path,) = (home / "sessions").iterdir()
    return [chain.instruction for chain in session_reader.read(path).conversation.chains]


def leave(terminal: Terminal) -> None:
    terminal.prompt()
    terminal.send(CTRL_D)
    assert terminal.end() == 0
    assert terminal.restored


def test_new_lines_and_sending(home: Path) -> None:
    with Terminal(*CHAT, model={}) as terminal:
        terminal.prompt()
        terminal.send("One", ESC + ENTER, "two", "\n", "three?")
        terminal.until(r"^>>> One\n\.\.\. two\n\.\.\. three\?$")
        terminal.send(ENTER)
        terminal.expect("is the answer")
        leave(terminal)
    assert asked(home) == ["One\ntwo\nthree?"]


def test_a_paste_never_sends(home: Path) -> None:
    page = "\n".join(f"line {number} of the page" for number in range(120))
    with Terminal(*CHAT, model={"context": 8000}) as terminal:
        terminal.prompt()
        terminal.send(PASTE, page.replace("\n", "\r\n"), "\n", PASTED)
        terminal.until(r"line 119 of the page\n\.\.\.")
        assert not (home / "sessions").exists()
        terminal.send("What is it?", ENTER)
        terminal.expect("is the answer")
        leave(terminal)
    assert asked(home) == [f"{page}\nWhat is it?"]


def test_ctrl_c_clears_the_line_and_never_ends_an_idle_session(home: Path) -> None:
    with Terminal(*CHAT, model={}) as terminal:
        terminal.prompt()
        terminal.send("half a quest", CTRL_C)
        terminal.prompt()
        assert LEAVES not in terminal.text
        for times in range(1, 4):
            terminal.send(CTRL_C)
            terminal.prompt()
            assert terminal.text.count(LEAVES) == times
        terminal.signal(2)  # as another process may send it
        terminal.send("Why?", ENTER)
        terminal.expect("is the answer")
        terminal.prompt()
        terminal.send("not empty", CTRL_D, CTRL_C)
        leave(terminal)
    assert asked(home) == ["Why?"]


def test_completion(home: Path) -> None:
    (home / "note one.txt").write_text("Some text.")
    with Terminal(*CHAT, model={}) as terminal:
        terminal.prompt()
        for typed, shown in (
            ("/conti", r"^>>> /continue$"),
            ("/set fee", r"^>>> /set feedback$"),
            ("/set feedback hid", r"^>>> /set feedback hidden$"),
            ("/show cha", r"^>>> /show chain$"),
            (f"/read {home}/no", r"note one\.txt$"),
            ("/re", r"^ +/revise\n"),
        ):
            terminal.send(typed)
            terminal.until(f"^>>> {typed}$")
            terminal.send("\t")
            terminal.until(shown)
            terminal.send(CTRL_C)
            terminal.prompt()
        terminal.send(CTRL_D)
        assert terminal.end() == 0


def test_earlier_entries_come_back_whole(home: Path) -> None:
    with Terminal(*CHAT, model={}) as terminal:
        terminal.prompt()
        terminal.send("First\n  数 and\nlast?", ENTER)
        terminal.expect("is the answer")
        terminal.enter("/help exit")
        leave(terminal)
    assert (home / "history").stat().st_mode & 0o777 == 0o600
    with Terminal(*CHAT, model={}) as terminal:
        terminal.prompt()
        terminal.send(UP)
        terminal.until(r"^>>> /help exit$")
        terminal.send(CTRL_C)
        terminal.prompt()
        terminal.send(CTRL_R, "数")
        terminal.until(r"^>>> First\n\.\.\.   数 and\n\.\.\. last\?$")
        terminal.send(ENTER)  # takes what was found, to be edited
        terminal.until(r"^\.\.\. last\?\Z")
        terminal.send(" Or?", ENTER)
        terminal.expect("is the answer")
        leave(terminal)


def test_an_editor(home: Path) -> None:
    editor = home / "editor.sh"
    editor.write_text('#!/bin/sh\nprintf "From an\\neditor?" > "$1"\n')
    editor.chmod(0o700)
    with Terminal(*CHAT, model={}, VISUAL=str(editor)) as terminal:
        terminal.prompt()
        terminal.send("draft", CTRL_G)
        terminal.until(r"^>>> From an\n\.\.\. editor\?$")
        terminal.send(ENTER)
        terminal.expect("is the answer")
        leave(terminal)
    assert asked(home) == ["From an\neditor?"]


def test_clearing_the_screen_and_folding() -> None:
    with Terminal(*CHAT, model={}) as terminal:
        terminal.prompt()
        terminal.send(CTRL_L)
        terminal.expect(r"\x1b\[2J|\x1b\[H\x1b\[J|\x1b\[0?J")
        terminal.send(CTRL_O)
        terminal.expect("feedback: line")
        terminal.prompt()
        terminal.send(CTRL_O)
        terminal.expect("feedback: full")
        leave(terminal)


def test_vi(home: Path) -> None:
    (home / "config.toml").write_text('edit-mode = "vi"\n')
    with Terminal(*CHAT, model={}) as terminal:
        terminal.prompt()
        terminal.send("Whyx?")
        terminal.until(r"^>>> Whyx\?$")
        terminal.send(ESC)
        terminal.send("hx")
        terminal.until(r"^>>> Why\?$")
        terminal.send(ENTER)
        terminal.expect("is the answer")
        leave(terminal)
    assert asked(home) == ["Why?"]


def test_bytes_that_are_no_text(home: Path) -> None:
    with Terminal(*CHAT, model={}) as terminal:
        terminal.prompt()
        terminal.send("A \udcff b?", ENTER)
        terminal.expect("is the answer")
        leave(terminal)
    assert asked(home) == ["A � b?"]
    assert "A � b?" in (home / "history").read_text("utf-8")


def test_a_question_too_long_is_still_editable(home: Path) -> None:
    with Terminal(*CHAT, model={"context": 300}) as terminal:
        terminal.prompt()
        terminal.send("word " * 300, ENTER)
        terminal.expect("error: the question takes")
        terminal.expect("hint: ")
        terminal.prompt()
        terminal.send("\x15Why?", ENTER)
        terminal.expect("is the answer")
        leave(terminal)
    assert asked(home) == ["Why?"]


def test_what_is_not_saved() -> None:
    with Terminal(*CHAT, "--no-save", model={}) as terminal:
        terminal.enter("Why?")
        terminal.expect("is the answer")
        terminal.enter("/nonsense")
        terminal.expect("unknown command")
        leave(terminal)
        assert "resume:" not in terminal.text


def test_no_save_leaves_no_file(home: Path) -> None:
    test_what_is_not_saved()
    assert list(home.iterdir()) == []


# -- the file of earlier entries ---------------------------------------------------------------


def test_five_thousand_entries_are_kept_whole(tmp_path: Path) -> None:
    path = tmp_path / "state" / "history"
    history = open_history(path)
    assert isinstance(history, EntryHistory)
    text = "".join(f"\n# then\n+entry {number}\n+\r and more\n" for number in range(5010))
    path.write_text(text, newline="")
    history = open_history(path)
    entries = list(history.load_history_strings())
    assert len(entries) == 5000
    assert entries[0] == "entry 5009\n\r and more"
    assert entries[-1] == "entry 10\n\r and more"
    history.store_string("one\n\n+ more")
    entries = list(history.load_history_strings())
    assert len(entries) == 5000
    assert entries[:2] == ["one\n\n+ more", "entry 5009\n\r and more"]
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert [each.name for each in path.parent.iterdir()] == ["history"]


def test_a_history_that_cannot_be_written_costs_no_entry(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    history = open_history(tmp_path / "file" / "history")
    history.append_string("one")
    assert history.get_strings() == ["one"]
    kept = open_history(tmp_path / "state" / "history")
    (tmp_path / "state" / "history").unlink()
    (tmp_path / "state").rmdir()
    kept.append_string("one")
    assert kept.get_strings() == ["one"]
    assert open_history(None).get_strings() == []
