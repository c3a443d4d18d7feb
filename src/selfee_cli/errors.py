"""Every error a user can meet, as one tree.

::

    SelfeeError              exit code 1   it failed
    ├── UsageError           exit code 2   the command or a value in it is wrong
    ├── MismatchError        exit code 3   a checksum or a reconstruction does not match
    ├── NotFoundError        exit code 4   a model, file or repository is not there
    ├── ResourceError        exit code 5   memory or disk ran out
    └── Interrupted          exit code 130 the user stopped it

An error says in one line what is wrong and, in ``hint``, in one line what to do about it.
Only :mod:`selfee_cli.cli` catches them, and a chat, which goes on.
"""

from __future__ import annotations

import errno
from typing import ClassVar


class SelfeeError(Exception):
    """What went wrong, one line, with an optional one-line ``hint`` that says what to do."""

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(SelfeeError):
    """A command line or a value in it that cannot be meant."""

    exit_code = 2


class MismatchError(SelfeeError):
    """Bytes that are not what they should be."""

    exit_code = 3


class NotFoundError(SelfeeError):
    """A model, file or repository that is not there."""

    exit_code = 4


class ResourceError(SelfeeError):
    """Out of memory or out of disk."""

    exit_code = 5


class Interrupted(SelfeeError):  # noqa: N818  (it is the user's wish, not an error)
    """The user stopped the work."""

    exit_code = 130


FAILURES = (SelfeeError, MemoryError, OSError)
"""What may go wrong through no fault of the program."""


def explained(error: SelfeeError | MemoryError | OSError) -> SelfeeError:
    """Return an error as one of the tree."""
    if isinstance(error, SelfeeError):
        return error
    if isinstance(error, MemoryError) or error.errno == errno.ENOMEM:
        return ResourceError("out of memory", hint="close other programs, or use less context")
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return ResourceError(f"the disk is full: {error}", hint="free some space and try again")
    what = str(error) if error.filename is None else f"{error.strerror}: {error.filename}"
    if error.errno == errno.ENAMETOOLONG:  # a name of a file that there cannot be
        return NotFoundError(what, hint="give the path of a file or directory that is there")
    return SelfeeError(what, hint="check that it is there, and yours to read and write")
