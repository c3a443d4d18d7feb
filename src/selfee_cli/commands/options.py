"""The options that several commands share, and how they become objects."""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ParamSpec, TypeVar, get_type_hints

import typer

from selfee_cli.errors import NotFoundError, SelfeeError
from selfee_cli.ui.console import console

if TYPE_CHECKING:
    from selfee_cli.engine.session import Session

P = ParamSpec("P")
R = TypeVar("R")

Model = Annotated[
    str | None,
    typer.Option(
        "--model",
        envvar="SELFEE_MODEL",
        metavar="PATH|tiny",
        help="Directory of weights; unset: the bundled tiny model.",
        show_default=False,
    ),
]
EngineName = Annotated[
    str, typer.Option("--engine", metavar="ENGINE", help="auto, native or transformers.")
]
Device = Annotated[
    str, typer.Option("--device", metavar="DEVICE", help="auto, cpu, cuda, cuda:N or mps.")
]
Dtype = Annotated[
    str, typer.Option("--dtype", metavar="DTYPE", help="auto, float16, bfloat16 or float32.")
]
Context = Annotated[
    int | None,
    typer.Option("--context", min=128, metavar="N", help="Tokens of context; default: as trained."),
]
MinRevisions = Annotated[
    int, typer.Option("--min-revisions", metavar="N", help="Revise at least N times.")
]
MaxRevisions = Annotated[
    int | None, typer.Option("--max-revisions", metavar="M", help="Revise at most M times.")
]
MaxNewTokens = Annotated[
    int | None, typer.Option("--max-new-tokens", metavar="N", help="Stop after N tokens.")
]
Temperature = Annotated[
    float, typer.Option("--temperature", metavar="T", help="0 is greedy; 0.7 as SelFee's authors.")
]
TopP = Annotated[float, typer.Option("--top-p", metavar="P", help="Sample from the nucleus.")]
TopK = Annotated[int, typer.Option("--top-k", metavar="K", help="Sample from the K best; 0: all.")]
Seed = Annotated[
    int | None, typer.Option("--seed", metavar="S", help="Same seed, same chain; unset: drawn.")
]
_SHARED: dict[str, Any] = {
    "quiet": Annotated[bool, typer.Option("--quiet", "-q", help="No talk, only data and errors.")],
    "verbose": Annotated[bool, typer.Option("--verbose", "-v", help="More talk.")],
    "debug": Annotated[bool, typer.Option("--debug", help="Tracebacks instead of hints.")],
    "no_color": Annotated[bool, typer.Option("--no-color", help="No colour.")],
}


def shared_output(command: Callable[P, R]) -> Callable[..., R]:
    """Give a command ``-q``, ``-v``, ``--debug`` and ``--no-color``, which set the console."""

    @functools.wraps(command)
    def with_output(*args: P.args, **kwargs: P.kwargs) -> R:
        for name in _SHARED:
            setattr(console, name, getattr(console, name) or bool(kwargs.pop(name, False)))
        return command(*args, **kwargs)

    hints = get_type_hints(command, include_extras=True) | _SHARED
    own = inspect.signature(command).parameters.values()
    shared = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=False) for name in _SHARED
    ]
    parameters = [each.replace(annotation=hints[each.name]) for each in (*own, *shared)]
    with_output.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    with_output.__annotations__ = hints
    return with_output


def open_session(
    model: str | None, *, engine: str, device: str, dtype: str, context: int | None
) -> Session:
    """Load the model that the flags name, with a progress bar where it takes a while."""
    from selfee_cli.api import TINY, load, resolve_model

    if model is None:
        console.say(
            "using the bundled tiny model, which knows little; "
            "for the real one: selfee ask --model DIR (see `selfee apply-delta --help`)"
        )
    # A path that is not there is reported before torch is imported.
    path = resolve_model(model or TINY)
    from selfee_cli.engine.loading import LoadOptions

    options = LoadOptions(engine=engine, device=device, dtype=dtype, context_length=context)
    from selfee_cli.ui.progress import ByteProgress

    with ByteProgress("loading", enabled=not console.quiet) as bar:
        return load(path, options, started=bar.start, progress=bar.advance)


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
