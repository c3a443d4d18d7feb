"""What can go wrong between here and the Hub, each in one line with what to do.

Only ``huggingface_hub.errors`` is caught by name: the HTTP client below it is httpx in its first
generation and httpx2 in its second.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from selfee_cli.errors import (
    Interrupted,
    NotFoundError,
    ResourceError,
    SelfeeError,
    UsageError,
)

if TYPE_CHECKING:
    from huggingface_hub.errors import HfHubHTTPError

RUN_AGAIN = "run the same command again: finished files are kept"
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_TROUBLE = 500  # from this HTTP status on it is the server's fault


class UnreachableError(SelfeeError):
    """No answer from the Hub, or none that says anything about the repository."""

    def __init__(self, message: str, *, hint: str, offline: bool = False) -> None:
        super().__init__(message, hint=hint)
        self.offline = offline
        """Whether that is the user's own wish."""


@contextmanager
def hub_errors(repo: str, revision: str) -> Iterator[None]:
    """Make whatever ``huggingface_hub`` raises in the block a SelfeeError of the right kind.

    Args:
        repo: ``owner/name``.
        revision: Branch, tag or commit.

    Raises:
        UnreachableError: offline, no network, or the Hub has trouble.
        NotFoundError: no such repository, revision or file; or it is private.
        UsageError: ``repo`` cannot be a repository.
        ResourceError: the disk is full.
        SelfeeError: gated, refused, or the cache cannot be written to.
    """
    try:
        yield
    except SelfeeError:
        raise
    except KeyboardInterrupt:
        raise Interrupted(f"interrupted: {RUN_AGAIN}") from None
    except Exception as error:
        explained = _explain(_root(error), repo, revision)
        if explained is None:
            raise
        raise explained from error


def _root(error: Exception) -> Exception:
    """Give the reason of an error that only says that something did not work."""
    from huggingface_hub.errors import DryRunError, LocalEntryNotFoundError

    cause = error.__cause__
    while isinstance(error, DryRunError | LocalEntryNotFoundError) and isinstance(cause, Exception):
        error, cause = cause, cause.__cause__
    return error


def _explain(error: Exception, repo: str, revision: str) -> SelfeeError | None:
    from huggingface_hub import errors as hub
    from huggingface_hub import get_token
    from huggingface_hub.constants import ENDPOINT

    page = f"https://huggingface.co/{repo}"
    if isinstance(error, hub.HFValidationError):
        return UsageError(f"{repo} cannot be a Hub repository: {_first_line(error)}")
    if isinstance(error, hub.OfflineModeIsEnabled):
        hint = f"unset HF_HUB_OFFLINE, or where there is a network: {_fetch(repo)}"
        return UnreachableError("HF_HUB_OFFLINE is set", hint=hint, offline=True)
    if isinstance(error, hub.GatedRepoError):  # a kind of RepositoryNotFoundError
        then = "with the account of your token" if get_token() else "then log in: hf auth login"
        return SelfeeError(
            f"{repo} is gated: its owner grants access by hand or after a licence",
            hint=f"accept its terms at {page} {then}",
        )
    if isinstance(error, hub.RepositoryNotFoundError):
        return _no_repository(repo, has_token=bool(get_token()))
    if isinstance(error, hub.RevisionNotFoundError):
        return NotFoundError(
            f"{repo} has no revision {revision}", hint=f"its revisions: {page}/commits/main"
        )
    if isinstance(error, hub.DisabledRepoError):
        return SelfeeError(f"the Hub has disabled {repo}", hint=f"why may stand at {page}")
    if isinstance(error, hub.HfHubHTTPError):
        return _refused(error, repo, ENDPOINT)
    return _other(error, repo, ENDPOINT)


def _other(error: Exception, repo: str, endpoint: str) -> SelfeeError | None:
    from huggingface_hub.constants import HF_HUB_CACHE
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    transport = HfHubHTTPError.__bases__[0]  # the base of the HTTP client's errors
    if isinstance(error, (transport, ConnectionError, TimeoutError, LocalEntryNotFoundError)):
        hint = f"check the connection and HF_ENDPOINT, or elsewhere: {_fetch(repo)}"
        reason = _first_line(error) or type(error).__name__
        return UnreachableError(f"{endpoint} cannot be reached ({reason})", hint=hint)
    if isinstance(error, OSError) and error.errno in _FULL:
        return ResourceError(
            f"no space left in {HF_HUB_CACHE}",
            hint="free some space, or set HF_HOME to a folder on a larger disk",
        )
    if isinstance(error, OSError):
        return SelfeeError(
            f"cannot store {repo} in {HF_HUB_CACHE}: {error.strerror or _first_line(error)}",
            hint="set HF_HOME to a folder that you may write to",
        )
    if isinstance(error, ValueError):  # a page of a proxy or a hotel where JSON should be
        hint = "a proxy or a login page may stand between; check HF_ENDPOINT"
        return UnreachableError(f"{endpoint} does not answer as the Hub does", hint=hint)
    if isinstance(error, RuntimeError):  # what hf_xet raises
        return SelfeeError(
            f"the download of {repo} failed: {_first_line(error)}",
            hint=f"{RUN_AGAIN}; HF_HUB_DISABLE_XET=1 goes another way",
        )
    return None


def _refused(error: HfHubHTTPError, repo: str, endpoint: str) -> SelfeeError:
    status = error.response.status_code
    if status == 401:
        return SelfeeError(
            "the Hub does not accept your token",
            hint="log in again with `hf auth login`, or unset HF_TOKEN if that is where it is from",
        )
    if status == 403:
        return SelfeeError(
            f"your token may not read {repo}",
            hint="give it read access at https://huggingface.co/settings/tokens",
        )
    if status == 404:
        return NotFoundError(f"{repo} lacks a file that it lists", hint=RUN_AGAIN)
    if status == 429 or status >= _TROUBLE:
        state = "asks to wait (too many requests)" if status == 429 else f"has trouble ({status})"
        return UnreachableError(f"{endpoint} {state}", hint=f"later, {RUN_AGAIN}")
    return SelfeeError(f"{endpoint} refused {repo}: HTTP status {status}", hint=RUN_AGAIN)


def _no_repository(repo: str, *, has_token: bool) -> NotFoundError:
    if "llama" in repo.lower():
        hint = "LLaMA-1 was never published on the Hub by Meta: give the directory of your copy"
    elif has_token:
        hint = "check the name, and that your token may read it: hf auth whoami"
    else:
        hint = "check the name; if it is private: hf auth login"
    return NotFoundError(
        f"no directory {repo} here, and the Hub has no such repository or keeps it private",
        hint=hint,
    )


def _fetch(repo: str) -> str:
    return f"hf download {repo} --local-dir {repo.rpartition('/')[2]}"


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]
