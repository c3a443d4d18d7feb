"""What commands share: flags in groups, texts from files, Ctrl-C.

A command is a plain function under :func:`command`. Beside its own flags it may take a group of
them as one parameter, such as ``chain: ChainFlags``; the command line shows the group's flags.
"""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

from selfee_cli.errors import NotFoundError, SelfeeError
from selfee_cli.ui.console import console

if TYPE_CHECKING:
    from selfee_cli.engine.options import AskOptions
    from selfee_cli.engine.session import Session


class FlagGroup:
    """A frozen dataclass of flags; each field's annotation is a Typer option."""


@dataclass(frozen=True, kw_only=True)
class OutputFlags(FlagGroup):
    """How much is said, and how. Every command has them."""

    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No talk, only data and errors.")] = (
        False
    )
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="More talk.")] = False
    debug: Annotated[bool, typer.Option("--debug", help="Tracebacks instead of hints.")] = False
    no_color: Annotated[bool, typer.Option("--no-color", help="No colour.")] = False

    def apply(self) -> None:
        """Set the console's switches; a command that calls another does not unset them."""
        for flag in fields(self):
            if getattr(self, flag.name):
                setattr(console, flag.name, True)


@dataclass(frozen=True, kw_only=True)
class ModelFlags(FlagGroup):
    """Which model, and how it is loaded."""

    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            envvar="SELFEE_MODEL",
            metavar="PATH|REPO|tiny",
            help="Directory or Hub repository; unset: the bundled tiny model.",
            show_default=False,
        ),
    ] = None
    engine: Annotated[
        str, typer.Option("--engine", metavar="ENGINE", help="auto, native or transformers.")
    ] = "auto"
    device: Annotated[
        str, typer.Option("--device", metavar="DEVICE", help="auto, cpu, cuda, cuda:N or mps.")
    ] = "auto"
    dtype: Annotated[
        str,
        typer.Option("--dtype", metavar="DTYPE", help="auto, float16, bfloat16 or float32."),
    ] = "auto"
    quant: Annotated[
        str,
        typer.Option("--quant", metavar="QUANT", help="Weights as int8, int4 or fp8; none: not."),
    ] = "none"
    context: Annotated[
        int | None,
        typer.Option(
            "--context", min=128, metavar="N", help="Tokens of context; default: as trained."
        ),
    ] = None

    def open(self) -> Session:
        """Load the model, with a progress bar where it takes a while."""
        from selfee_cli.api import TINY, load, resolve_model

        if not self.model:
            console.say(
                "using the bundled tiny model, which knows little; "
                "for the real one: selfee ask --model DIR (see `selfee apply-delta --help`)"
            )
        # A path that is not there is reported before torch is imported.
        path = resolve_model(self.model or TINY, say=console.say, quiet=console.quiet)
        from selfee_cli.engine.loading import LoadOptions
        from selfee_cli.ui.progress import ByteProgress

        options = LoadOptions(
            engine=self.engine,
            device=self.device,
            dtype=self.dtype,
            quant=self.quant,
            context_length=self.context,
        )
        with ByteProgress("loading", enabled=not console.quiet) as bar:
            session = load(path, options, started=bar.start, progress=bar.advance)
        about, engine = session.model, session.model.engine
        console.explain(
            f"{path}: {engine.name} engine, {engine.form} on {engine.device}, "
            f"{engine.context_length} tokens of context, loaded in {about.load_seconds:.1f} s"
        )
        return session


@dataclass(frozen=True, kw_only=True)
class ChainFlags(FlagGroup):
    """How chains are revised and sampled."""

    min_revisions: Annotated[
        int, typer.Option("--min-revisions", metavar="N", help="Revise at least N times.")
    ] = 0
    max_revisions: Annotated[
        int | None,
        typer.Option("--max-revisions", metavar="M", help="Revise at most M times."),
    ] = None
    max_new_tokens: Annotated[
        int | None, typer.Option("--max-new-tokens", metavar="N", help="Stop after N tokens.")
    ] = None
    temperature: Annotated[
        float,
        typer.Option("--temperature", metavar="T", help="0 is greedy; 0.7 as SelFee's authors."),
    ] = 0.7
    top_p: Annotated[
        float, typer.Option("--top-p", metavar="P", help="Sample from the nucleus.")
    ] = 1.0
    top_k: Annotated[
        int, typer.Option("--top-k", metavar="K", help="Sample from the K best; 0: all.")
    ] = 0
    seed: Annotated[
        int | None,
        typer.Option("--seed", metavar="S", help="Same seed, same chain; unset: drawn."),
    ] = None
    lookup: Annotated[
        bool,
        typer.Option("--lookup/--no-lookup", help="Draft from what was said: same text, sooner."),
    ] = True

    def options(self) -> AskOptions:
        """Return the options; each call draws its own seed where none is given.

        Raises:
            UsageError: a value that cannot be meant.
        """
        from selfee_cli.engine.options import AskOptions

        return AskOptions.make(**{flag.name: getattr(self, flag.name) for flag in fields(self)})


def command(function: Callable[..., None]) -> Callable[..., None]:
    """Make a function a command: its flag groups taken apart, the output flags added."""
    hints = get_type_hints(function, include_extras=True)
    groups = {name: hint for name, hint in hints.items() if _is_group(hint)}

    @functools.wraps(function)
    def run(*args: Any, **kwargs: Any) -> None:
        _gather(OutputFlags, kwargs).apply()
        gathered = {name: _gather(group, kwargs) for name, group in groups.items()}
        function(*args, **kwargs, **gathered)

    parameters: list[inspect.Parameter] = []
    for each in inspect.signature(function).parameters.values():
        if each.name in groups:
            parameters += _flags(groups[each.name])
        else:
            parameters.append(each.replace(annotation=hints[each.name]))
    parameters += _flags(OutputFlags)
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {each.name: each.annotation for each in parameters}
    return run


def _is_group(hint: Any) -> bool:
    return isinstance(hint, type) and issubclass(hint, FlagGroup)


def _gather(group: Any, arguments: dict[str, Any]) -> Any:
    """Take the group's flags out of ``arguments``."""
    names = [flag.name for flag in fields(group) if flag.name in arguments]
    return group(**{name: arguments.pop(name) for name in names})


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
    """Return the directory of ``--base`` or ``--delta``; a Hub repository is downloaded first."""
    from selfee_cli.weights.hub import resolve

    return resolve(value, quiet=console.quiet, say=console.say)


def quoted(path: Path) -> str:
    """Return a path as a shell takes it."""
    import shlex

    return shlex.quote(str(path))


def read_text(value: str) -> str:
    """Return ``value``, or the text of the file that ``@FILE`` names.

    Raises:
        NotFoundError: the file is not there.
        SelfeeError: the file is not UTF-8 text.
    """
    if not value.startswith("@"):
        return value
    path = Path(value[1:]).expanduser()
    try:
        return path.read_text("utf-8")
    except FileNotFoundError as error:
        raise NotFoundError(f"no file {path}", hint="--input @FILE reads FILE") from error
    except (OSError, UnicodeDecodeError) as error:
        raise SelfeeError(f"cannot read {path} as UTF-8 text: {error}") from error


def write_text(path: Path, text: str) -> None:
    """Write a small file that the user named; what stood there is replaced.

    Raises:
        SelfeeError: it cannot be written.
    """
    try:
        path.write_text(text, "utf-8")
    except OSError as error:
        raise SelfeeError(f"cannot write {path}: {error.strerror}") from error


def read_stdin() -> str:
    """Return standard input as text, stray bytes replaced."""
    return sys.stdin.buffer.read().decode("utf-8", "replace")


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
