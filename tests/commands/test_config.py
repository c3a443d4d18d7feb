"""``selfee config``, and that what it tells is what the other commands do."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from cli import fails, selfee

from selfee_cli.commands.flag_settings import GROUPS, known

ASK = ("ask", "What is 47 + 85?", "--json", "-q")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home of its own, with the bundled model that others have reconstructed."""
    shared = Path(os.environ["SELFEE_HOME"]) / "cache"
    shared.mkdir(exist_ok=True)
    (tmp_path / "cache").symlink_to(shared)
    monkeypatch.setenv("SELFEE_HOME", str(tmp_path))
    for setting in known(GROUPS):
        monkeypatch.delenv(setting.variable, raising=False)
    return tmp_path


def write(home: Path, text: str) -> str:
    """Write ``config.toml`` and return its path."""
    path = home / "config.toml"
    path.write_text(text)
    return str(path)


def test_every_value_and_where_it_comes_from(home: Path) -> None:
    missing = selfee("config")
    assert missing.stdout.startswith(f"{home / 'config.toml'} (not there)\n")
    path = write(home, "min-revisions = 2\ntop_k = 5\n")
    done = selfee("config", SELFEE_TOP_K="7", SELFEE_LOOKUP="no")
    assert done.returncode == 0, done.stderr
    title, heads, *rows = done.stdout.splitlines()
    assert title == path
    assert heads.split() == ["setting", "value", "from"]
    told = {name: (value, source) for name, value, source in map(str.split, rows)}
    assert list(told) == [setting.name for setting in known(GROUPS)]
    assert told["min-revisions"] == ("2", "config.toml")
    assert told["top-k"] == ("7", "SELFEE_TOP_K")
    assert told["lookup"] == ("false", "SELFEE_LOOKUP")
    assert told["seed"] == ("none", "default")
    assert told["feedback"] == ("full", "default")


def test_one_value_alone(home: Path) -> None:
    write(home, 'model = "some/where"\n')
    assert selfee("config", "model").stdout == "some/where\n"
    assert selfee("config", "max_new_tokens", SELFEE_MAX_NEW_TOKENS="9").stdout == "9\n"
    error = fails(2, "config", "tempratur")
    assert "unknown key tempratur\nhint: did you mean temperature?" in error


def test_json(home: Path) -> None:
    path = home / "config.toml"
    told = json.loads(selfee("config", "--json").stdout)
    assert (told["file"], told["exists"]) == (str(path), False)
    assert told["settings"]["temperature"] == {"value": 0.7, "source": "default"}
    write(home, 'show = "diff"\n')
    told = json.loads(selfee("config", "show", "--json").stdout)
    shown = {"show": {"value": "diff", "source": "config.toml"}}
    assert told == {"file": str(path), "exists": True, "settings": shown}


def test_the_commands_take_what_is_set(home: Path) -> None:
    write(home, "min-revisions = 1\ntemperature = 0\ntop-k = 3\nseed = 5\n")
    done = selfee(*ASK, "--seed", "6", SELFEE_TOP_K="4", SELFEE_SEED="7", SELFEE_TOP_P="0.5")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["sampling"] == {
        "temperature": 0.0,
        "top_p": 0.5,
        "top_k": 4,
        "seed": 6,
        "min_revisions": 1,
        "max_revisions": None,
    }
    write(home, f"model = '{home / 'nowhere'}'\n")
    assert f"no model at {home / 'nowhere'}" in fails(4, *ASK)
    assert "no model at elsewhere" in fails(4, *ASK, SELFEE_MODEL="elsewhere")
    assert "no model at nowhere" in fails(4, "bench", "decode", SELFEE_MODEL="nowhere")


def test_how_chains_are_shown(home: Path) -> None:
    recorded = home / "chain.json"
    recorded.write_text(selfee(*ASK, "--seed", "3").stdout)
    assert "── Feedback 1" in selfee("show", recorded).stdout
    write(home, 'show = "final"\n')
    final = selfee("show", recorded).stdout
    assert "──" not in final and "132" in final
    line = selfee("show", recorded, "--show", "chain", SELFEE_FEEDBACK="line").stdout
    hidden = selfee("show", recorded, "--show", "chain", "--feedback", "hidden").stdout
    assert "Feedback 1 · " in line and "Check 47" not in line
    assert "── Revision 1" in hidden and "Feedback" not in hidden


def test_switches(home: Path) -> None:
    write(home, "quiet = true\n")
    assert selfee("ask", "What is 47 + 85?", "--seed", "4").stderr == ""
    write(home, "no-color = true\n")
    error = fails(4, "ask", "hi", "--model", "nowhere", FORCE_COLOR="1")
    assert error.startswith("error: ")
    # Commands that have no setting but these do not read the file, but do read the variables.
    assert "\x1b[" in fails(4, "verify", home / "nowhere", FORCE_COLOR="1")
    assert "\x1b[" not in fails(4, "verify", home / "nowhere", FORCE_COLOR="1", SELFEE_NO_COLOR="1")


@pytest.mark.parametrize(
    "command", [("config",), ("ask", "hi"), ("chat",), ("show", "-"), ("bench", "decode")]
)
def test_a_wrong_file_is_one_clear_error(home: Path, command: tuple[str, ...]) -> None:
    path = write(home, "# mine\nmax-revision = 1\n")
    error = fails(2, *command, input="")
    assert error == (
        f"error: {path}:2: unknown key max-revision\nhint: did you mean max-revisions?\n"
    )


def test_a_wrong_file_stops_nothing_else(home: Path) -> None:
    write(home, "not TOML")
    for command in (["--help"], ["ask", "--help"], ["config", "--help"], ["bench", "--help"]):
        assert selfee(*command).returncode == 0
    (home / "weights").mkdir()
    assert "config.toml" not in selfee("verify", home / "weights").stderr
    assert selfee("doctor").returncode == 0


def test_a_wrong_variable_is_one_clear_error(home: Path) -> None:
    expected = "error: SELFEE_TOP_K: top-k is 'many', not a whole number\n"
    assert fails(2, "config", SELFEE_TOP_K="many") == expected
    assert fails(2, "ask", "hi", SELFEE_TOP_K="many") == expected
    error = fails(2, "ask", "hi", SELFEE_QUANT="int3")
    assert error == (
        "error: SELFEE_QUANT: quant cannot be 'int3'\nhint: one of none, int8, int4, fp8\n"
    )


def test_values_that_exclude_each_other_are_told_with_their_places(home: Path) -> None:
    ask = ("ask", "hi")
    write(home, "min-revisions = 3\nmax-revisions = 1\n")
    assert fails(2, *ask) == (
        "error: config.toml's max-revisions 1 is less than config.toml's min-revisions 3\n"
        "hint: raise the one or lower the other\n"
    )
    assert fails(2, "chat", input="") == fails(2, *ask)
    error = fails(2, *ask, "--max-revisions", "2", SELFEE_MIN_REVISIONS="4")
    assert "error: --max-revisions 2 is less than SELFEE_MIN_REVISIONS 4\n" in error
    assert selfee("config").returncode == 0  # it shows which values there are
    assert selfee("config", "min-revisions").stdout == "3\n"


def test_help_shows_no_variables(home: Path) -> None:
    text = selfee("ask", "--help", SELFEE_TOP_K="5").stdout
    assert "SELFEE_" not in text and "--feedback" in text
    assert "SELFEE_MIN_REVISIONS" in selfee("config", "--help").stdout
