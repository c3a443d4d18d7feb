"""What commands share beside flags: the decorator, paths, texts from files, Ctrl-C.

A command is a plain function under :func:`command`. Beside its own flags it may take a group of
them as one parameter, such as ``chain: ChainFlags``; the command line shows the group's flags.
"""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer

from selfee_cli import paths
from selfee_cli.commands.flag_settings import settings_of
from selfee_cli.commands.flags import FlagGroup, OutputFlags
from selfee_cli.errors import SelfeeError, UsageError
from selfee_cli.settings import Settings
from selfee_cli.ui.console import console


def command(function: Callable[..., None]) -> Callable[..., None]:
    """Make a function a command: its flag groups taken apart, the output flags added.

    A parameter of the type :class:`Settings` gets the settings that the groups were made of.
    """
    hints = get_type_hints(function, include_extras=True)
    groups = {name: hint for name, hint in hints.items() if _is_group(hint)}
    wholes = [name for name, hint in hints.items() if hint is Settings]

    @functools.wraps(function)
    def run(*args: Any, ctx: typer.Context | None = None, **kwargs: Any) -> None:
        settings = settings_of((*groups.values(), OutputFlags), ctx, kwargs)
        OutputFlags.of(settings).apply()
        made: dict[str, Any] = {name: group.of(settings) for name, group in groups.items()}
        function(*args, **kwargs, **made, **dict.fromkeys(wholes, settings))

    parameters: list[inspect.Parameter] = []
    for each in inspect.signature(function).parameters.values():
        if each.name in groups:
            parameters += _flags(groups[each.name])
        elif each.name not in wholes:
            parameters.append(each.replace(annotation=hints[each.name]))
    parameters += _flags(OutputFlags)
    keyword = inspect.Parameter.KEYWORD_ONLY
    parameters.append(inspect.Parameter("ctx", keyword, default=None, annotation=typer.Context))
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {each.name: each.annotation for each in parameters}
    return run


def _is_group(hint: Any) -> bool:
    return isinstance(hint, type) and issubclass(hint, FlagGroup)


@functools.cache
def _flags(group: Any) -> list[inspect.Parameter]:
    hints = get_type_hints(group, include_extras=True)
    return [
        inspect.Parameter(
            flag.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=flag.default,
            annotation=hints[flag.name],
        )
        for flag in fields(group)
    ]


def weights_directory(value: str) -> Path:
    """Return a directory of weights that a flag names; a Hub repository is downloaded first."""
    from selfee_cli.weights.hub import resolve

    return resolve(value, quiet=console.quiet, say=console.say)


Out = Annotated[
    Path,
    typer.Option(
        "--out",
        metavar="DIR",
        callback=paths.expanded,
        help="Where to; must not exist or be empty.",
    ),
]
WeightsPath = Annotated[
    Path, typer.Argument(metavar="PATH", callback=paths.expanded, help="A directory of weights.")
]


def quoted(path: Path) -> str:
    """Return a path as a shell takes it."""
    import shlex

    return shlex.quote(str(path))


def read_text(value: str) -> str:
    """Return ``value``, or the text of the file that ``@FILE`` names.

    Raises:
        NotFoundError: the file is not there.
        SelfeeError: the file cannot be read, or is not UTF-8 text.
    """
    if not value.startswith("@"):
        return value
    return paths.read_text(paths.expanded(Path(value[1:])), hint="--input @FILE reads FILE")


def write_text(path: Path, text: str) -> None:
    """Write a small file that the user named; what stood there is replaced.

    Raises:
        SelfeeError: it cannot be written.
    """
    try:
        path.write_text(text, "utf-8")
    except OSError as error:
        raise SelfeeError(
            f"cannot write {path}: {error.strerror}", hint="choose another place"
        ) from error


def read_stdin() -> str:
    """Return standard input as text, stray bytes replaced.

    Raises:
        UsageError: it is closed.
    """
    return stdin_bytes().decode("utf-8", "replace")


def stdin_bytes() -> bytes:
    """Return standard input as it is.

    Raises:
        UsageError: it is closed.
    """
    if sys.stdin is None:
        raise UsageError("standard input is closed", hint="give it a file or a pipe: < FILE")
    return sys.stdin.buffer.read()


@contextmanager
def interruptible() -> Iterator[Callable[[], bool]]:
    """Yield a function that tells whether Ctrl-C was pressed; a second press ends the command."""
    import signal

    pressed = False

    def press(*_: object) -> None:
        nonlocal pressed
        if pressed:
            raise KeyboardInterrupt
        pressed = True

    previous = signal.signal(signal.SIGINT, press)
    try:
        yield lambda: pressed
    finally:
        signal.signal(signal.SIGINT, previous)
