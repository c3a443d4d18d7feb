"""What the user has set, and where selfee keeps its files.

A setting has one name everywhere: ``min-revisions`` is a key of ``config.toml``, a word of
``/set``, the variable ``SELFEE_MIN_REVISIONS`` and the flag ``--min-revisions``. The file is the
weakest, then come the variable, the flag, and ``/set`` in a session. Which settings there are, the
flags themselves declare, in :mod:`selfee_cli.commands.options`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from selfee_cli.errors import UsageError
from selfee_cli.paths import expanded

_TRUE, _FALSE = ("on", "true", "yes", "1", "t", "y"), ("off", "false", "no", "0", "f", "n")
_KINDS = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}


def config_file() -> Path:
    """Return the file of settings, which need not be there."""
    return _folder("config") / "config.toml"


def sessions_dir() -> Path:
    """Return the folder of recorded sessions."""
    return _folder("data") / "sessions"


def history_file() -> Path:
    """Return the file of typed entries."""
    return _folder("state") / "history"


def log_file() -> Path:
    """Return the file of errors."""
    return _folder("state") / "selfee.log"


def cache_dir() -> Path:
    """Return the folder for what can be made again, such as the reconstructed bundled model."""
    return _folder("cache", at_home="cache")


def state_dir() -> Path:
    """Return the folder for what a user would miss a little, such as which weights are known."""
    return _folder("state", at_home="state")


def _folder(kind: str, at_home: str = "") -> Path:
    """Return the platform's folder for a kind of files, or its place in ``$SELFEE_HOME``."""
    home = os.environ.get("SELFEE_HOME")
    if home:
        return expanded(Path(home)) / at_home
    import platformdirs

    folder: Path = getattr(platformdirs, f"user_{kind}_path")("selfee", appauthor=False)
    return folder


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What can be set: its name, and which values it takes."""

    name: str
    """As a flag without its dashes: ``min-revisions``."""
    default: Any
    kind: type
    """``bool``, ``int``, ``float``, ``str`` or an enumeration of texts."""
    help: str
    optional: bool = False
    """Whether it may be None, written ``none``."""
    choices: tuple[str, ...] | None = None
    """The values there are; where ``cuda:0`` is one, so is ``cuda:1``."""
    check: Callable[[Any], None] = lambda value: None
    """Raises UsageError for a value out of range."""
    fixed: bool = False
    """Whether it holds for a whole session, out of reach of ``/set``."""

    @property
    def variable(self) -> str:
        """Its variable in the environment."""
        return f"SELFEE_{self.name.upper().replace('-', '_')}"

    def parse(self, text: str) -> Any:
        """Return the value that ``text`` writes.

        Raises:
            UsageError: it is of another kind, none of the choices, or out of range.
        """
        if self.optional and text.strip().lower() in ("", "none"):
            return None
        value: Any
        if self.kind is bool:
            value = _boolean(text)
        elif self.choices and re.sub(r":\d+$", ":0", text) not in self.choices:
            raise UsageError(
                f"{self.name} cannot be {text!r}", hint=f"one of {', '.join(self.choices)}"
            )
        else:
            try:
                value = self.kind(text)
            except ValueError:
                value = None
        if value is None:
            raise UsageError(f"{self.name} is {text!r}, not {_KINDS[self.kind]}")
        self.check(value)
        return value

    def accept(self, value: object) -> Any:
        """Return the value that ``value``, of a TOML file, writes.

        Raises:
            UsageError: as of :meth:`parse`.
        """
        kind = str if issubclass(self.kind, Enum) else self.kind
        try:
            text = written(value)
        except ValueError:
            raise UsageError(f"{self.name} is a number of too many digits") from None
        if type(value) is kind or (kind is float and type(value) is int):
            return self.parse(text)
        found = repr(value) if isinstance(value, str) else text
        raise UsageError(f"{self.name} is {found}, not {_KINDS[kind]}")


def _boolean(text: str) -> bool | None:
    word = text.strip().lower()
    return True if word in _TRUE else False if word in _FALSE else None


def written(value: object) -> str:
    """Return a value as users write it."""
    if value is None:
        return "none"
    return str(value).lower() if isinstance(value, bool) else str(value)


def find(settings: Iterable[Setting], key: str) -> Setting:
    """Return the setting of a name, in which ``_`` stands for ``-`` as well.

    Raises:
        UsageError: there is none; the hint is the nearest name.
    """
    known = {setting.name: setting for setting in settings}
    name = key.replace("_", "-")
    if name in known:
        return known[name]
    from difflib import get_close_matches

    near = get_close_matches(name, known, n=1)
    raise UsageError(
        f"unknown key {key}",
        hint=f"did you mean {near[0]}?" if near else "`selfee config` lists the keys",
    )


class Settings:
    """Values and where each came from: ``default``, ``config.toml``, a variable, a flag, ``/set``.

    ``check`` raises UsageError for values that exclude each other.
    """

    def __init__(
        self,
        settings: Iterable[Setting],
        values: Mapping[str, Any],
        sources: Mapping[str, str],
        *,
        check: Callable[[Mapping[str, Any]], None] = lambda values: None,
    ) -> None:
        self.known = tuple(settings)
        self._start = {s.name: (values[s.name], sources[s.name]) for s in self.known}
        self._now = dict(self._start)
        self._check = check

    @classmethod
    def layered(
        cls,
        settings: Iterable[Setting],
        *,
        file: Mapping[str, Any],
        environment: Mapping[str, str],
        given: Mapping[str, tuple[Any, str]],
        check: Callable[[Mapping[str, Any]], None] = lambda values: None,
    ) -> Settings:
        """Put the layers together; ``given`` has each value of the command line with its flag.

        A variable that is empty counts as not set.

        Raises:
            UsageError: a variable has a value that cannot be; the message names it.
        """
        found: dict[str, tuple[Any, str]] = {}
        for setting in (known := tuple(settings)):
            name, variable = setting.name, setting.variable
            if name in given:
                found[name] = given[name]
            elif environment.get(variable):
                try:
                    found[name] = setting.parse(environment[variable]), variable
                except UsageError as error:
                    raise UsageError(f"{variable}: {error.message}", hint=error.hint) from error
            elif name in file:
                found[name] = file[name], "config.toml"
            else:
                found[name] = setting.default, "default"
        values = {name: value for name, (value, _) in found.items()}
        return cls(
            known, values, {name: source for name, (_, source) in found.items()}, check=check
        )

    def get(self, key: str) -> Any:
        """Return the value; ``-`` and ``_`` are alike."""
        return self._now[key.replace("_", "-")][0]

    def source(self, key: str) -> str:
        """Return where the value came from."""
        return self._now[key.replace("_", "-")][1]

    def items(self) -> Iterator[tuple[str, Any, str]]:
        """Yield each name, value and source."""
        for name, (value, source) in self._now.items():
            yield name, value, source

    def set(self, key: str, text: str, source: str = "/set") -> None:
        """Take the value that ``text`` writes; ``default`` is what it was at the start.

        Raises:
            UsageError: there is no such key, it is fixed, or the value cannot be; nothing changes.
        """
        setting = find(self.known, key)
        name = setting.name
        if setting.fixed:
            hint = f"it is given at the start: selfee chat --{name}"
            raise UsageError(f"{name} cannot change in a session", hint=hint)
        new = self._start[name] if text == "default" else (setting.parse(text), source)
        self._check({**{other: value for other, (value, _) in self._now.items()}, name: new[0]})
        self._now[name] = new


def read_config(settings: Iterable[Setting]) -> dict[str, Any]:
    """Return the values in ``config.toml`` by name; none where there is no file.

    Raises:
        UsageError: what is wrong, and in which line of which file.
    """
    path, known = config_file(), tuple(settings)
    found: dict[str, Any] = {}
    for line, key, value in _statements(path):
        try:
            if isinstance(value, dict):
                raise UsageError(f"{key} is a table; keys stand alone", hint="min-revisions = 1")
            setting = find(known, key)
            if setting.name in found:
                raise UsageError(f"{setting.name} is set twice")
            found[setting.name] = setting.accept(value)
        except UsageError as error:
            raise UsageError(f"{path}:{line}: {error.message}", hint=error.hint) from error
    return found


def _statements(path: Path) -> Iterator[tuple[int, str, object]]:
    """Yield the line, key and value of each statement of a TOML file."""
    import tomllib

    lines = _lines(path)
    try:
        tomllib.loads("\n".join(lines))
    except ValueError as error:  # a syntax error; without a place, a number of too many digits
        what = re.fullmatch(r"(.*) \(at (?:line (\d+).*|end of document)\)", str(error))
        if what is None:
            raise UsageError(f"{path}: {error}") from error
        raise UsageError(f"{path}:{what[2] or len(lines)}: {what[1]}") from error
    except RecursionError as error:
        raise UsageError(f"{path}: a value is nested too deep") from error
    start = 0
    for end in range(1, len(lines) + 1):
        # tomllib keeps no lines. A statement's lines are TOML of their own, a part of them is not.
        try:
            statement = tomllib.loads("\n".join(lines[start:end]))
        except ValueError:
            continue
        for key, value in statement.items():
            yield start + 1, key, value
        start = end


def _lines(path: Path) -> list[str]:
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from error
    try:
        return data.decode("utf-8-sig").replace("\r\n", "\n").split("\n")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise UsageError(f"{path}:{line}: not UTF-8 text") from error
