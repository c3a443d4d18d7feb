"""Loading by name: the bundled model, a directory, or a repository on the Hub."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from selfee_cli.errors import NotFoundError
from selfee_cli.paths import expanded

if TYPE_CHECKING:
    from selfee_cli.engine.loading import LoadOptions
    from selfee_cli.engine.session import Session

TINY = "tiny"


def resolve_model(
    model: str | Path, *, say: Callable[[str], None] = lambda _: None, quiet: bool = False
) -> Path:
    """Return the directory that ``--model`` names.

    ``tiny`` is reconstructed at first use; a directory is taken as it is; what is neither, and
    looks like ``owner/name`` or ``owner/name@revision``, is downloaded from the Hugging Face Hub.
    A ``Path`` is always a directory: ``Path("./tiny")`` is not the bundled model.

    Args:
        model: ``tiny``, a directory or a repository.
        say: told in one line what is downloaded.
        quiet: no progress bars of the download.

    Raises:
        NotFoundError: there is no such directory or repository.
        MismatchError: the bundled model did not come out as it must.
        SelfeeError: the download failed.
    """
    if model == TINY:  # never so of a Path
        from selfee_cli.tiny.bundle import reconstructed

        return reconstructed()
    path = expanded(Path(model))
    if path.exists():
        return path
    from selfee_cli.weights.hub import looks_like_repo, resolve

    if isinstance(model, str) and looks_like_repo(model):
        return resolve(model, say=say, quiet=quiet)
    hint = "give a directory of weights, or `--model tiny` for the bundled model"
    raise NotFoundError(f"no model at {model}", hint=hint)


def load(
    model: str | Path = TINY,
    options: LoadOptions | None = None,
    *,
    started: Callable[[int], None] = lambda _: None,
    progress: Callable[[int], None] = lambda _: None,
) -> Session:
    """Load ``model`` and return a session with it.

    Args:
        model: a directory of weights in any published layout; as text also a Hub repository, or
            ``tiny``.
        options: engine, device, format and context length; by default the machine decides.
        started: called once with the bytes to load.
        progress: called with the bytes of each step.

    Raises:
        SelfeeError: what is wrong and what to do; its subclasses tell the kinds apart.
    """
    path = resolve_model(model)
    # Imported after the path is known to exist: a mistyped path should not wait for torch.
    from selfee_cli.engine.loading import load_model
    from selfee_cli.engine.session import Session

    return Session(load_model(path, options, started=started, progress=progress))
