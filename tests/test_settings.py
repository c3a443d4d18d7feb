from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from selfee_cli import settings
from selfee_cli.commands import flags
from selfee_cli.commands.flag_settings import GROUPS, known, settings_of
from selfee_cli.engine.device import DTYPES
from selfee_cli.engine.loading import ENGINES
from selfee_cli.engine.quant import QUANTS
from selfee_cli.errors import UsageError
from selfee_cli.settings import Setting, Settings, find, read_config, written
from selfee_cli.ui.show import FeedbackView, Show


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SELFEE_HOME", str(tmp_path))
    return tmp_path


def configured(home: Path, text: str | bytes) -> dict[str, Any]:
    (home / "config.toml").write_bytes(text.encode() if isinstance(text, str) else text)
    return read_config(known(GROUPS))


def chat() -> Settings:
    """The settings of a session that was started without any flag."""
    return settings_of(GROUPS, None, {})


# Where files live


def test_everything_is_under_one_home(home: Path) -> None:
    assert settings.config_file() == home / "config.toml"
    assert settings.sessions_dir() == home / "sessions"
    assert settings.history_file() == home / "history"
    assert settings.log_file() == home / "selfee.log"
    assert settings.cache_dir() == home / "cache"


def test_else_the_xdg_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SELFEE_HOME")
    for kind in ("CONFIG", "DATA", "STATE", "CACHE"):
        monkeypatch.setenv(f"XDG_{kind}_HOME", str(tmp_path / kind))
    assert settings.config_file() == tmp_path / "CONFIG/selfee/config.toml"
    assert settings.sessions_dir() == tmp_path / "DATA/selfee/sessions"
    assert settings.history_file() == tmp_path / "STATE/selfee/history"
    assert settings.log_file() == tmp_path / "STATE/selfee/selfee.log"
    assert settings.cache_dir() == tmp_path / "CACHE/selfee"


# What can be set


def test_the_flags_are_the_settings() -> None:
    assert [setting.name for setting in known(GROUPS)] == [
        *("model", "engine", "device", "dtype", "quant", "context"),
        *("min-revisions", "max-revisions", "max-new-tokens", "temperature"),
        *("top-p", "top-k", "seed", "lookup"),
        *("show", "feedback", "save", "history", "edit-mode"),
        *("quiet", "verbose", "debug", "no-color"),
    ]
    assert find(known(GROUPS), "min_revisions").variable == "SELFEE_MIN_REVISIONS"


def test_the_named_values_are_the_engines() -> None:
    assert (flags.ENGINES, flags.DTYPES, flags.QUANTS) == (ENGINES, DTYPES, QUANTS)


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("lookup", "on", True),
        ("lookup", " TRUE ", True),
        ("lookup", "yes", True),
        ("lookup", "1", True),
        ("lookup", "off", False),
        ("lookup", "False", False),
        ("lookup", "no", False),
        ("lookup", "0", False),
        ("min-revisions", "2", 2),
        ("max-revisions", "none", None),
        ("max-revisions", "", None),
        ("seed", "None", None),
        ("seed", "-7", -7),
        ("temperature", "0", 0.0),
        ("top-p", "1", 1.0),
        ("top-k", "0", 0),
        ("context", "128", 128),
        ("show", "diff", Show.DIFF),
        ("show", "none", None),
        ("feedback", "line", FeedbackView.LINE),
        ("edit-mode", "vi", "vi"),
        ("quant", "none", "none"),
        ("device", "cuda:1", "cuda:1"),
        ("model", "some/where", "some/where"),
    ],
)
def test_text_is_read(name: str, text: str, value: object) -> None:
    setting = find(known(GROUPS), name)
    read = setting.parse(text)
    assert (type(read), read) == (type(value), value)
    assert setting.parse(written(read)) == read


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("lookup", "maybe", "lookup is 'maybe', not true or false"),
        ("lookup", "", "lookup is '', not true or false"),
        ("min-revisions", "two", "min-revisions is 'two', not a whole number"),
        ("min-revisions", "none", "min-revisions is 'none', not a whole number"),
        ("min-revisions", "1.5", "min-revisions is '1.5', not a whole number"),
        ("min-revisions", "-1", "min-revisions is -1; it cannot be negative"),
        ("max-revisions", "-1", "max-revisions -1 is less than min-revisions 0"),
        ("max-new-tokens", "0", "max-new-tokens is 0; it must be at least 1"),
        ("temperature", "hot", "temperature is 'hot', not a number"),
        ("temperature", "-0.1", "temperature is -0.1; it lies between 0 and 100"),
        ("temperature", "nan", "temperature is nan; it lies between 0 and 100"),
        ("temperature", "inf", "temperature is inf; it lies between 0 and 100"),
        ("top-p", "0", "top-p is 0.0; it lies above 0 and at most at 1"),
        ("top-p", "1.01", "top-p is 1.01; it lies above 0 and at most at 1"),
        ("top-k", "-1", "top-k is -1; it cannot be negative"),
        ("context", "127", "context is 127; it must be at least 128"),
        ("quant", "int3", "quant cannot be 'int3'"),
        ("show", "all", "show cannot be 'all'"),
        ("feedback", "none", "feedback cannot be 'none'"),
        ("device", "tpu:1", "device cannot be 'tpu:1'"),
        ("device", "cuda:x", "device cannot be 'cuda:x'"),
        ("edit-mode", "vi:1", "edit-mode cannot be 'vi:1'"),
        ("feedback", "full:", "feedback cannot be 'full:'"),
    ],
)
def test_a_wrong_value_is_refused(name: str, text: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        find(known(GROUPS), name).parse(text)
    assert caught.value.message == message


def test_an_unknown_key_has_a_near_name_or_help() -> None:
    with pytest.raises(UsageError, match=r"unknown key max-revision$") as caught:
        find(known(GROUPS), "max-revision")
    assert caught.value.hint == "did you mean max-revisions?"
    with pytest.raises(UsageError) as caught:
        find(known(GROUPS), "xyzzy")
    assert caught.value.hint == "`selfee config` lists the keys"


# The file


def test_no_file_is_fine(home: Path) -> None:
    assert read_config(known(GROUPS)) == {}
    assert configured(home, "") == configured(home, "# nothing\n\n") == {}


def test_a_file_is_read(home: Path) -> None:
    text = '\ufeffmin-revisions = 1\r\nmax_revisions=3 # at most\r\n"top-p" = 1\r\n'
    text += '\'lookup\' = false\r\nshow = """\r\ndiff"""\r\nmodel = \'some/where\''
    assert configured(home, text) == {
        "min-revisions": 1,
        "max-revisions": 3,
        "top-p": 1.0,
        "lookup": False,
        "show": Show.DIFF,
        "model": "some/where",
    }


LONG = 'model = """\ntop-k = "no"\n[table]\n"""  # "\n'
"""A text of several lines that look like others."""


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("tempratur = 1", 1, "unknown key tempratur"),
        ("# a comment\n\n\n  top_q=1", 4, "unknown key top_q"),
        (LONG + "top-q = 1", 5, "unknown key top-q"),
        (LONG + "model = 'again'", 5, "Cannot overwrite a value"),
        ("model = '''a\nb'''\n\"top-q\" = 1", 3, "unknown key top-q"),
        ("top-k = [\n1,\n2]\n", 1, "top-k is [1, 2], not a whole number"),
        ("seed = 1\ntop-k = '5'", 2, "top-k is '5', not a whole number"),
        ("top-k = true", 1, "top-k is true, not a whole number"),
        ("top-k = 5.0", 1, "top-k is 5.0, not a whole number"),
        ("top-k = -5", 1, "top-k is -5; it cannot be negative"),
        ("\ntemperature = '1'", 2, "temperature is '1', not a number"),
        ("temperature = 1979-05-27", 1, "temperature is 1979-05-27, not a number"),
        ("temperature = -1", 1, "temperature is -1.0; it lies between 0 and 100"),
        ("lookup = 'on'", 1, "lookup is 'on', not true or false"),
        ("lookup = 1", 1, "lookup is 1, not true or false"),
        ("model = 7", 1, "model is 7, not text"),
        ("quant = 'int3'", 1, "quant cannot be 'int3'"),
        ("show = 1", 1, "show is 1, not text"),
        ("context = 5", 1, "context is 5; it must be at least 128"),
        ("seed = 1\n\n[ask]\nseed = 2", 3, "ask is a table; keys stand alone"),
        ("[model]", 1, "model is a table; keys stand alone"),
        ("a.b = 1", 1, "a is a table; keys stand alone"),
        ("[[ask]]\nseed = 1", 1, "unknown key ask"),
        ("top-k = 1\n\ntop_k = 2", 3, "top-k is set twice"),
        ("seed = 1\n\nthis is no TOML\nx = 1", 3, "Expected '=' after a key"),
        ("seed =", 1, "Invalid value"),
        ('seed = 1\nmodel = "open', 2, "Unterminated string"),
        (b"seed = 1\n# caf\xe9\n", 2, "not UTF-8 text"),
    ],
)
def test_an_error_names_file_and_line(
    home: Path, text: str | bytes, line: int, message: str
) -> None:
    with pytest.raises(UsageError) as caught:
        configured(home, text)
    assert caught.value.message.startswith(f"{home / 'config.toml'}:{line}: {message}")
    assert "\n" not in caught.value.message
    assert caught.value.exit_code == 2


def test_a_number_of_too_many_digits(home: Path) -> None:
    with pytest.raises(UsageError, match=r"^/.*/config\.toml: Exceeds the limit"):
        configured(home, "seed = " + "9" * 5000)


@pytest.mark.parametrize("key", ["seed", "temperature", "lookup", "model"])
def test_a_number_of_too_many_digits_in_another_base(home: Path, key: str) -> None:
    with pytest.raises(UsageError, match=rf"config\.toml:2: {key} is a number of too many digits$"):
        configured(home, f"top-k = 1\n{key} = 0x" + "f" * 4000)


def test_a_value_that_is_nested_too_deep(home: Path) -> None:
    with pytest.raises(UsageError, match=r"^/.*/config\.toml: a value is nested too deep$"):
        configured(home, "seed = " + "[" * 5000 + "]" * 5000)


def test_what_cannot_be_read(home: Path) -> None:
    (home / "config.toml").mkdir()
    with pytest.raises(UsageError, match=r"^cannot read .*config\.toml: Is a directory$"):
        read_config(known(GROUPS))


# Layers


def layered(**layers: Any) -> Settings:
    empty: dict[str, Any] = {"file": {}, "environment": {}, "given": {}}
    return Settings.layered(known(GROUPS), **empty | layers)


def test_file_then_variable_then_flag() -> None:
    file = {"seed": 1, "top-k": 1, "top-p": 0.5}
    environment = {"SELFEE_SEED": "2", "SELFEE_TOP_K": "2", "SELFEE_LOOKUP": "no"}
    environment["SELFEE_TOP_P"] = ""  # empty: as if it were not there
    found = layered(file=file, environment=environment, given={"seed": (3, "--seed")})
    told = {name: (value, source) for name, value, source in found.items()}
    assert told["seed"] == (3, "--seed")
    assert told["top-k"] == (2, "SELFEE_TOP_K")
    assert told["lookup"] == (False, "SELFEE_LOOKUP")
    assert told["top-p"] == (0.5, "config.toml")
    assert told["temperature"] == (0.7, "default")
    assert (found.get("top_k"), found.source("top_k")) == (2, "SELFEE_TOP_K")


def test_a_wrong_variable_is_named_unless_a_flag_goes_before() -> None:
    environment = {"SELFEE_MIN_REVISIONS": "some"}
    message = "SELFEE_MIN_REVISIONS: min-revisions is 'some', not a whole number"
    with pytest.raises(UsageError, match=message):
        layered(environment=environment)
    given = {"min-revisions": (1, "--min-revisions")}
    assert layered(environment=environment, given=given).get("min-revisions") == 1


# /set


def test_set_and_reset() -> None:
    found = layered(file={"temperature": 0.2})
    found.set("temperature", "0.5")
    assert (found.get("temperature"), found.source("temperature")) == (0.5, "/set")
    found.set("max_revisions", "3", source="session")
    assert (found.get("max-revisions"), found.source("max-revisions")) == (3, "session")
    found.set("max-revisions", "none")
    assert (found.get("max-revisions"), found.source("max-revisions")) == (None, "/set")
    found.set("temperature", "default")
    assert (found.get("temperature"), found.source("temperature")) == (0.2, "config.toml")


def test_what_was_set_makes_the_options() -> None:
    found = chat()
    for key, text in (("seed", "9"), ("min-revisions", "2"), ("lookup", "off")):
        found.set(key, text)
    options = flags.ChainFlags.of(found).options()
    assert (options.sampling.seed, options.policy.minimum, options.lookup) == (9, 2, False)


@pytest.mark.parametrize(
    ("key", "text", "message"),
    [
        ("temp", "1", "unknown key temp"),  # a part of a name is no name
        ("top-k", "-1", "top-k is -1; it cannot be negative"),
        ("max-revisions", "1", "max-revisions 1 is less than min-revisions 2"),
        ("min-revisions", "5", "max-revisions 4 is less than min-revisions 5"),
        ("model", "tiny", "model cannot change in a session"),
        ("edit-mode", "vi", "edit-mode cannot change in a session"),
        ("quiet", "on", "quiet cannot change in a session"),
        ("device", "default", "device cannot change in a session"),
    ],
)
def test_a_refused_value_changes_nothing(key: str, text: str, message: str) -> None:
    found = chat()
    found.set("max-revisions", "4")
    found.set("min-revisions", "2")
    before = list(found.items())
    with pytest.raises(UsageError) as caught:
        found.set(key, text)
    assert caught.value.message == message
    assert list(found.items()) == before


def test_a_reset_is_refused_where_it_does_not_fit() -> None:
    found = settings_of(GROUPS, None, {"max_revisions": 1})
    found.set("max-revisions", "3")
    found.set("min-revisions", "2")
    with pytest.raises(UsageError, match="max-revisions 1 is less than min-revisions 2"):
        found.set("max-revisions", "default")
    assert (found.get("max-revisions"), found.source("max-revisions")) == (3, "/set")


def test_what_a_session_may_change() -> None:
    assert {setting.name for setting in chat().known if not setting.fixed} == {
        *("min-revisions", "max-revisions", "max-new-tokens", "temperature"),
        *("top-p", "top-k", "seed", "lookup", "show", "feedback", "verbose"),
    }


def test_completion_knows_the_choices() -> None:
    choices = {setting.name: setting.choices for setting in known(GROUPS)}
    assert choices["show"] == ("final", "chain", "diff")
    assert choices["feedback"] == ("full", "line", "hidden")
    assert choices["lookup"] == ("on", "off")
    assert choices["temperature"] is None


def test_a_setting_stands_alone() -> None:
    number = Setting(name="n", default=1, kind=int, help="A number.")
    found = Settings([number], {"n": 2}, {"n": "--n"})
    found.set("n", "3")
    assert list(found.items()) == [("n", 3, "/set")]
