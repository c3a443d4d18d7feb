"""The settings that the shared flags are: what the command line leaves out, others may say.

That is the environment, and ``config.toml`` for commands with flags of their own.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import Field, fields
from enum import Enum
from types import UnionType
from typing import Any, Literal, get_args, get_origin, get_type_hints

import typer

from selfee_cli.commands.flags import (
    ChainFlags,
    ChatFlags,
    DisplayFlags,
    FlagGroup,
    ModelFlags,
    OutputFlags,
)
from selfee_cli.errors import UsageError
from selfee_cli.settings import Setting, Settings, read_config

Groups = Sequence[type[FlagGroup]]
GROUPS: Groups = (ModelFlags, ChainFlags, DisplayFlags, ChatFlags, OutputFlags)
"""Whose flags are settings: all of them."""

_IN_SESSION = (ChainFlags, DisplayFlags)
"""Whose flags ``/set`` may change; ``verbose`` too."""


def settings_of(groups: Groups, ctx: typer.Context | None, arguments: dict[str, Any]) -> Settings:
    """Take the flags of the groups out of a command's arguments and return them as settings.

    What the command line left out, the environment says, then ``config.toml``, which commands
    without a group of their own do not read. A command that was called from Python, without a
    context, has its arguments alone.

    Raises:
        UsageError: a variable, or anything in the file, is wrong, or values exclude each other.
    """
    given = {}
    for name in [flag.name for group in groups for flag in fields(group)]:
        value = arguments.pop(name, None)
        if value is not None and (ctx is None or _on_the_command_line(ctx, name)):
            flag = name.replace("_", "-")
            given[flag] = value, f"--no-{flag}" if value is False else f"--{flag}"
    if ctx is None:
        return layered(groups, {}, {}, given)
    file = read_config(known(GROUPS)) if set(groups) - {OutputFlags} else {}
    found = layered(groups, file, os.environ, given)
    _check_together(groups, found)
    return found


def _check_together(groups: Groups, found: Settings) -> None:
    """Refuse values that exclude each other, and say where each of them comes from."""
    sources = {name: source for name, _, source in found.items()}

    def named(flag: re.Match[str]) -> str:
        source = sources.get(flag[1], "")
        if source == "config.toml":
            return f"config.toml's {flag[1]}"
        return source if source.startswith("SELFEE_") else flag[0]

    for group in groups:
        try:
            group.check(**{flag.name: found.get(flag.name) for flag in fields(group)})
        except UsageError as error:
            message = re.sub(r"--([a-z]+(?:-[a-z]+)*)", named, error.message)
            raise UsageError(message, hint=error.hint) from error


def _on_the_command_line(ctx: typer.Context, name: str) -> bool:
    source = ctx.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def layered(
    groups: Groups,
    file: Mapping[str, Any],
    environment: Mapping[str, str],
    given: Mapping[str, tuple[Any, str]],
) -> Settings:
    """Put the layers of the groups' settings together; see :meth:`Settings.layered`."""

    def check(values: Mapping[str, Any]) -> None:
        for group in groups:
            flags = {flag.name: values[flag.name.replace("_", "-")] for flag in fields(group)}
            _check(group, **flags)

    return Settings.layered(
        known(groups), file=file, environment=environment, given=given, check=check
    )


def known(groups: Groups) -> list[Setting]:
    """Return the settings that the flags of the groups are."""
    found = []
    for group in groups:
        hints = get_type_hints(group, include_extras=True)
        found += [_setting(group, flag, *get_args(hints[flag.name])) for flag in fields(group)]
    return found


def _setting(group: type[FlagGroup], flag: Field[Any], hint: Any, option: Any) -> Setting:
    name = flag.name.replace("_", "-")
    optional = isinstance(hint, UnionType)
    kind = get_args(hint)[0] if optional else hint
    choices = tuple(option.autocompletion()) if option.autocompletion else None
    if get_origin(kind) is Literal:
        kind, choices = str, get_args(kind)
    elif issubclass(kind, Enum):
        choices = tuple(each.value for each in kind)
    elif kind is bool:
        choices = ("on", "off")

    def check(value: Any) -> None:
        if option.min is not None and value < option.min:
            raise UsageError(f"{name} is {value}; it must be at least {option.min}")
        _check(group, **{flag.name: value})

    return Setting(
        name=name,
        default=flag.default,
        kind=kind,
        help=option.help,
        optional=optional,
        choices=choices,
        check=check,
        fixed=group not in _IN_SESSION and name != "verbose",
    )


def _check(group: type[FlagGroup], **values: Any) -> None:
    """Refuse what the flags refuse, in words that suit a file and a session as well."""
    try:
        group.check(**values)
    except UsageError as error:
        raise UsageError(error.message.replace("--", ""), hint=error.hint) from error
