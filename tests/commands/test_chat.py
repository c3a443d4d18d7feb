"""``selfee chat`` as a user runs it: at a terminal, in a pipe, with files."""

from __future__ import annotations

import base64
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from cli import fails, no_defect, selfee
from terminal import CTRL_C, CTRL_D, ENTER, Terminal

from selfee_cli.chat import session_reader

SLOW_CHAT = Path(__file__).parents[1] / "slow_chat.py"
SCRIPTED = ("chat", "--model", "scripted", "--max-revisions", "0")
TINY = ("chat", "--model", "tiny")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home of its own, with the bundled model that others have reconstructed."""
    shared = Path(os.environ["SELFEE_HOME"]) / "cache"
    shared.mkdir(exist_ok=True)
    (tmp_path / "cache").symlink_to(shared)
    monkeypatch.setenv("SELFEE_HOME", str(tmp_path))
    return tmp_path


def sessions(home: Path) -> list[Path]:
    folder = home / "sessions"
    return sorted(folder.iterdir()) if folder.exists() else []


def asked(path: Path) -> list[str]:
    return [chain.instruction for chain in session_reader.read(path).conversation.chains]


def scripted(
    model: dict[str, object], *arguments: str, **environment: str
) -> subprocess.Popen[str]:
    """Start ``selfee ARGUMENTS`` with a scripted model, its streams pipes, without a terminal."""
    return subprocess.Popen(
        [sys.executable, str(SLOW_CHAT), json.dumps(model), *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        env={**os.environ, **environment},
        start_new_session=True,
    )


def leave(terminal: Terminal) -> None:
    terminal.prompt()
    terminal.send(CTRL_D)
    assert terminal.end() == 0
    assert terminal.restored


# -- at a terminal -----------------------------------------------------------------------------


def test_a_whole_session(home: Path) -> None:
    with Terminal(*TINY, "--seed", "3", "--min-revisions", "1", SSH_TTY="/dev/pts/0") as terminal:
        terminal.enter("What is 47 + 85?")
        terminal.expect("── Answer", "── Feedback 1", "score [0-9]+/10 · revision needed")
        terminal.expect("── Revision 1", "= Revision 1 is the answer · .* tokens · .* tok/s")
        terminal.expect(r"context \d+/2048 · room for about \d+ more revisions")
        terminal.enter("/nonsense")
        terminal.expect("unknown command /nonsense")
        terminal.enter("/he")
        terminal.expect(r"/revise \[N\|TEXT\]", "Ctrl-C")
        terminal.enter("/diff")
        terminal.expect(r"── Answer to Revision 1", r"\[-.*-\]\{\+|unchanged")
        terminal.enter("/copy 0")
        copied = terminal.expect(r"\x1b\]52;c;([A-Za-z0-9+/=]+)\x07")[1]
        terminal.expect("Answer is in the terminal's clipboard")
        terminal.enter("And 12 and 13?")
        terminal.expect("is the answer")
        terminal.enter(f"/save {home}/talk.md")
        terminal.expect("written to")
        terminal.enter("/clear")
        terminal.expect("resume: selfee chat --resume", "a new session")
        terminal.prompt()
        terminal.send(CTRL_C)
        terminal.expect("Ctrl-D or /exit leaves")
        leave(terminal)
    (path,) = sessions(home)
    first, second = session_reader.read(path).conversation.chains
    assert base64.b64decode(copied).decode() == first.turns[0].text.strip()
    assert second.instruction == "And 12 and 13?"
    assert (home / "talk.md").read_text("utf-8").startswith(f"# selfee {path.stem}\n\n## What")
    shown = selfee("show", path, "--id", "1")
    assert shown.stdout.startswith("1. What is 47 + 85?\n\n── Answer\n")
    assert first.final.strip() in shown.stdout


def test_colour_and_none() -> None:
    arguments = (*SCRIPTED, "--no-save", "--feedback", "full", "--max-revisions", "1", "Why?")
    for environment, flags, coloured in (
        ({"NO_COLOR": ""}, (), True),
        ({"NO_COLOR": "1"}, (), False),
        ({"NO_COLOR": ""}, ("--no-color",), False),
    ):
        with Terminal(*arguments, *flags, model={}, **environment) as terminal:
            seen: list[str] = []
            write = terminal.write
            terminal.write = lambda text: (seen.append(text), write(text))  # noqa: B023
            terminal.expect("is the answer")
            leave(terminal)
        text = "".join(seen)
        assert ("\x1b[2mPoint" in text) == coloured, "criticism is dim"
        assert ("\x1b[1;36m── Answer" in text) == coloured
        assert (re.search(r"\x1b\[[0-9;]*3[0-9]m", text) is not None) == coloured


def test_a_question_is_asked_first_and_one_from_a_pipe_too(home: Path) -> None:
    (home / "question.txt").write_text("From a\npipe?\n")
    with Terminal(*SCRIPTED, "-", model={}, input=home / "question.txt") as terminal:
        terminal.expect(r">>> From a\r\n\.\.\. pipe\?\r\n── Answer", "is the answer")
        terminal.enter("And at the terminal?")
        terminal.expect("is the answer")
        leave(terminal)
    (path,) = sessions(home)
    assert asked(path) == ["From a\npipe?", "And at the terminal?"]
    with Terminal(*SCRIPTED, "/etc is what?", "--continue", model={}) as terminal:
        terminal.expect("2 questions so far", "is the answer")
        leave(terminal)
    assert asked(path)[2:] == ["/etc is what?"], "a question, not a command"


def test_one_that_is_open_elsewhere(home: Path) -> None:
    with Terminal(*SCRIPTED, model={}) as first:
        first.enter("First?")
        first.expect("is the answer")
        first.prompt()
        (path,) = sessions(home)
        with Terminal(*SCRIPTED, "--resume", path.stem, model={}) as second:
            second.expect(f"{path.stem} is open elsewhere: going on in a copy")
            second.enter("Second?")
            second.expect("is the answer")
            first.send("Third?", ENTER)
            first.expect("is the answer")
            leave(second)
        leave(first)
    (copy,) = set(sessions(home)) - {path}
    assert asked(path) == ["First?", "Third?"]
    assert asked(copy) == ["First?", "Second?"]
    assert selfee("chat", "--sessions").stdout.count("First?") == 2


def test_config_keys_and_what_is_not_kept(home: Path) -> None:
    (home / "config.toml").write_text('feedback = "line"\nhistory = false\nmin-revisions = 1\n')
    with Terminal(*SCRIPTED[:3], "--max-revisions", "1", model={}) as terminal:
        terminal.enter("Why?")
        terminal.expect("── Feedback 1 · .* tokens · score", "Revision 1 is the answer")
        leave(terminal)
    assert len(sessions(home)) == 1
    assert not (home / "history").exists()
    (home / "config.toml").write_text("save = false\n")
    with Terminal(*SCRIPTED, model={}) as terminal:
        terminal.enter("Why?")
        terminal.expect("is the answer")
        leave(terminal)
    assert len(sessions(home)) == 1
    assert not (home / "history").exists()


# -- in a pipe ---------------------------------------------------------------------------------


def test_a_script_on_the_bundled_model(home: Path) -> None:
    script = 'Add 48 and 57.\n\n"""\nTake 18\naway from 32.\n"""\n/set top-k\n/nonsense\n/show\n'
    one = {"OMP_NUM_THREADS": "1"}
    done = selfee(*TINY, "--temperature", "0", "--min-revisions", "1", input=script, **one)
    assert done.returncode == 2, "of the first entry that failed"
    first, second, setting = done.stdout.splitlines()
    assert "105" in first
    assert second
    assert setting == "0 (default)"
    assert ">>>" not in done.stdout + done.stderr
    assert "unknown command /nonsense" in done.stderr
    assert "show what?" in done.stderr
    (path,) = sessions(home)
    assert f"resume: selfee chat --resume {path.stem}" in done.stderr
    assert asked(path) == ["Add 48 and 57.", "Take 18\naway from 32."]
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert (home / "selfee.log").read_text().count("UsageError at ") == 2
    listed = selfee("chat", "--sessions")
    assert listed.stdout.startswith(path.stem)
    assert "  2  Add 48 and 57." in listed.stdout
    again = selfee(
        *TINY, "-q", "--resume", path.stem[:12], "--no-save", input="/show context\n", **one
    )
    assert "Add 48 and 57." in again.stdout
    assert again.returncode == 0
    assert asked(path) == ["Add 48 and 57.", "Take 18\naway from 32."]


def test_a_question_from_a_pipe_without_a_terminal(home: Path) -> None:
    process = scripted({}, *SCRIPTED, "-")
    out, error = process.communicate("From a\npipe?\n", timeout=120)
    assert process.returncode == 0, error
    assert len(out.splitlines()) == 1
    assert asked(sessions(home)[0]) == ["From a\npipe?"]


def test_ctrl_c_in_a_script(home: Path) -> None:
    flags = ("--max-revisions", "3", "--min-revisions", "3", "--no-lookup")
    process = scripted({"hold": 26}, *SCRIPTED, *flags)
    assert process.stdin is not None
    process.stdin.write("Why?\nNever asked?\n")
    process.stdin.flush()
    deadline = time.monotonic() + 60
    while not sessions(home) or b'"kind": "answer"' not in sessions(home)[0].read_bytes():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    began = time.monotonic()
    out, error = process.communicate(timeout=60)
    assert time.monotonic() - began < 5
    assert process.returncode == 130
    assert out.startswith("Answer says 1, then")
    assert len(out.splitlines()) == 1
    assert "Traceback" not in error
    assert asked(sessions(home)[0]) == ["Why?"]


def test_a_reader_that_goes_away(home: Path) -> None:
    process = scripted({}, *SCRIPTED)
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("One?\n")
    process.stdin.flush()
    assert process.stdout.readline().startswith("Answer says")
    process.stdout.close()
    process.stdin.write("Two?\nThree?\n")
    process.stdin.close()
    process.stdin = None
    assert process.stderr is not None
    error = process.stderr.read()
    assert process.wait(60) != 0
    no_defect(error)
    assert "Exception" not in error
    process.stderr.close()
    assert asked(sessions(home)[0]) == ["One?", "Two?"], "what was written is kept"


@pytest.mark.parametrize(
    "locale",
    [
        {"LC_ALL": "C"},
        {"LC_ALL": "C", "PYTHONUTF8": "0"},
        {"PYTHONIOENCODING": "ascii", "LC_ALL": "C.UTF-8"},
    ],
)
def test_a_locale_that_is_not_utf_8(home: Path, locale: dict[str, str]) -> None:
    process = scripted({}, *SCRIPTED, "--max-revisions", "1", **locale)
    out, error = process.communicate("Why 数?\n/show chain\n/sessions\n", timeout=120)
    assert process.returncode == 0, error
    assert "\n-- Answer\n" in out
    assert "\n-- Feedback 1\n" in out
    assert re.search(r"^score [0-9]/10 - revision ", out, re.MULTILINE)
    assert "Traceback" not in error
    assert asked(sessions(home)[0]) == ["Why 数?"]


def test_a_session_goes_on_with_its_model(home: Path) -> None:
    process = scripted({}, *SCRIPTED[:1], "--model", "other", *SCRIPTED[3:])
    process.communicate("Why?\n", timeout=120)
    (path,) = sessions(home)
    for flags in (["-c"], ["--resume", path.stem]):
        out, error = scripted({}, "chat", *flags).communicate("/show settings\n", timeout=120)
        assert re.search(r"^model +other +--resume$", out, re.MULTILINE)
        assert f"{path.stem}: goes on with its model, --model other\n" in error
        assert "bundled" not in error
        assert "held with" not in error
    for flags, environment in ((["--model", "third"], {}), ([], {"SELFEE_MODEL": "third"})):
        process = scripted({}, "chat", "-c", *flags, **environment)
        out, error = process.communicate("/show settings\n", timeout=120)
        assert re.search(r"^model +third ", out, re.MULTILINE)
        assert f"{path.stem}: it was held with --model other and goes on with another\n" in error


def test_what_is_made_in_a_fresh_home_is_its_owners(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "fresh" / "home"
    monkeypatch.setenv("SELFEE_HOME", str(home))
    before = os.umask(0o022)
    try:
        done = selfee(
            *TINY, "--max-revisions", "0", "--seed", "4", input="Add 1 and 2.\n/nonsense\n"
        )
    finally:
        os.umask(before)
    assert "unknown command" in done.stderr
    folders = [home.parent, home, *(path for path in home.rglob("*") if path.is_dir())]
    assert {path.name.split("-")[0] for path in folders} >= {"fresh", "home", "cache", "tiny"}
    assert [oct(path.stat().st_mode & 0o777) for path in folders] == ["0o700"] * len(folders)


# -- what is refused ---------------------------------------------------------------------------


def test_what_cannot_be_resumed(home: Path) -> None:
    assert "there is no session to continue" in fails(4, "chat", "-c")
    assert "no session 2026" in fails(4, "chat", "--resume", "2026")
    assert "no session ~nosuchuser" in fails(4, "chat", "--resume", "~nosuchuser")
    assert "exclude each other" in fails(2, "chat", "-c", "--resume", "x")
    folder = home / "sessions"
    folder.mkdir()
    for name in ("20260101-000000-aaaa", "20260101-000000-bbbb"):
        (folder / f"{name}.jsonl").write_text("")
    assert "2 sessions begin with 20260101" in fails(2, "chat", "--resume", "20260101")
    (folder / "20260102-000000-cccc.jsonl").write_text("hello\n")
    assert "is not JSON" in fails(1, *TINY, "-q", "--resume", "20260102", input="")


def test_what_is_told_before_a_model_is_loaded(home: Path) -> None:
    assert "--temperature is -1" in fails(2, "chat", "--temperature", "-1")
    assert "no model at nowhere" in fails(4, "chat", "--model", "nowhere")
    closed = ["sh", "-c", 'exec "$@" <&-', "sh", sys.executable, "-m", "selfee_cli"]
    for arguments in (("chat",), ("chat", "-"), ("chat", "--plain", "Why?")):
        done = subprocess.run(
            [*closed, *arguments], capture_output=True, text=True, timeout=120, check=False
        )
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.startswith("error: standard input is closed\nhint: ")
        assert len(done.stderr.splitlines()) == 2
    (home / "config.toml").write_text("colour = true\n")
    assert "unknown key colour" in fails(2, "chat")
