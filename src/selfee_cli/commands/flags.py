"""The flags that commands share, in groups."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    Literal,
    Self,
)

import typer

from selfee_cli.engine.options import LEAST_CONTEXT
from selfee_cli.settings import Settings
from selfee_cli.ui.console import console
from selfee_cli.ui.show import FeedbackView, Show

if TYPE_CHECKING:
    from selfee_cli.engine.options import AskOptions
    from selfee_cli.engine.session import Session

ENGINES = ("auto", "native", "transformers")
DEVICES = ("auto", "cpu", "cuda", "cuda:0", "mps")
DTYPES = ("auto", "float16", "bfloat16", "float32")
QUANTS = ("none", "int8", "int4", "fp8")


@dataclass(frozen=True, kw_only=True)
class FlagGroup:
    """Flags that belong together; each field's annotation is a Typer option."""

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """Return the flags with the values that the settings have now."""
        return cls(**{flag.name: settings.get(flag.name) for flag in fields(cls)})

    @classmethod
    def check(cls, **values: Any) -> None:
        """Raise UsageError for values that cannot be meant, alone or together."""


def _named(flag: str, *names: str, help: str) -> Any:
    """Declare a flag whose values have names, which shells complete."""
    return typer.Option(
        flag, metavar=flag[2:].upper(), help=help, autocompletion=lambda: list(names)
    )


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
            metavar="PATH|REPO|tiny",
            help="Directory or Hub repository; unset: the bundled tiny model.",
            show_default=False,
        ),
    ] = None
    engine: Annotated[str, _named("--engine", *ENGINES, help="auto, native or transformers.")] = (
        "auto"
    )
    device: Annotated[str, _named("--device", *DEVICES, help="auto, cpu, cuda, cuda:N or mps.")] = (
        "auto"
    )
    dtype: Annotated[
        str, _named("--dtype", *DTYPES, help="auto, float16, bfloat16 or float32.")
    ] = "auto"
    quant: Annotated[
        str, _named("--quant", *QUANTS, help="Weights as int8, int4 or fp8; none: not.")
    ] = "none"
    context: Annotated[
        int | None,
        typer.Option(
            "--context",
            min=LEAST_CONTEXT,
            metavar="N",
            help="Tokens of context; default: as trained.",
        ),
    ] = None

    def locate(self) -> Path:
        """Return the model's directory, told at once where there is none: torch takes seconds.

        Raises:
            SelfeeError: there is no such model, or it cannot be downloaded.
        """
        from selfee_cli.api import TINY, resolve_model

        if not self.model:
            console.say(
                "using the bundled tiny model, which knows little; "
                "for the real one: selfee ask --model DIR (see `selfee apply-delta --help`)"
            )
        return resolve_model(self.model or TINY, say=console.say, quiet=console.quiet)

    def load(
        self, path: Path, started: Callable[[int], None], progress: Callable[[int], None]
    ) -> Session:
        """Load the model at ``path``; told of the bytes in all, and of each step's.

        Raises:
            SelfeeError: it cannot be loaded.
        """
        from selfee_cli.api import load
        from selfee_cli.engine.loading import LoadOptions

        options = LoadOptions(
            engine=self.engine,
            device=self.device,
            dtype=self.dtype,
            quant=self.quant,
            context_length=self.context,
        )
        return load(path, options, started=started, progress=progress)

    def open(self) -> Session:
        """Find and load the model, with a progress bar where it takes a while.

        Raises:
            SelfeeError: there is no such model, or it cannot be loaded.
        """
        from selfee_cli.ui.progress import ByteProgress

        path = self.locate()
        with ByteProgress("loading", enabled=not console.quiet) as bar:
            session = self.load(path, bar.start, bar.advance)
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

    @classmethod
    def check(cls, **values: Any) -> None:
        """Refuse what :meth:`options` would."""
        from selfee_cli.engine.options import AskOptions

        AskOptions.make(**values)

    def options(self) -> AskOptions:
        """Return the options; each call draws its own seed where none is given.

        Raises:
            UsageError: a value that cannot be meant.
        """
        from selfee_cli.engine.options import AskOptions

        return AskOptions.make(**{flag.name: getattr(self, flag.name) for flag in fields(self)})


@dataclass(frozen=True, kw_only=True)
class DisplayFlags(FlagGroup):
    """How much of a chain is shown."""

    show: Annotated[
        Show | None,
        typer.Option("--show", help="Unset: chain; in a pipe ask and chat print final."),
    ] = None
    feedback: Annotated[
        FeedbackView, typer.Option("--feedback", help="How much of each feedback.")
    ] = FeedbackView.FULL


@dataclass(frozen=True, kw_only=True)
class ChatFlags(FlagGroup):
    """What a chat keeps, and how its prompt is edited."""

    save: Annotated[
        bool, typer.Option("--save/--no-save", help="Keep the session and what is typed.")
    ] = True
    history: Annotated[bool, typer.Option("--history/--no-history", help="Keep what is typed.")] = (
        True
    )
    edit_mode: Annotated[
        Literal["emacs", "vi"], typer.Option("--edit-mode", help="Keys at the prompt.")
    ] = "emacs"
