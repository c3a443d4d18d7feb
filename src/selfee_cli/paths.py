"""Paths that users name: what ``~`` stands for in them, and what is to be read there."""

from __future__ import annotations

import errno
from pathlib import Path

from selfee_cli.errors import NotFoundError, SelfeeError

_NOT_THERE = (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG)


def expanded(path: Path) -> Path:
    """Give a path with a ``~`` at its front as the home directory that it means.

    Raises:
        NotFoundError: Nobody knows that home directory.
    """
    try:
        return path.expanduser()
    except RuntimeError:
        raise NotFoundError(
            f"{path.parts[0]} is no home directory that is known here",
            hint=f"write the path out, or ./{path} for a directory of that name",
        ) from None


def read_bytes(path: Path, *, hint: str = "check its name and its directory") -> bytes:
    """Return what a file holds; ``hint`` is for the user whose file is not there.

    Raises:
        NotFoundError: It is not there.
        SelfeeError: It cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        if error.errno in _NOT_THERE:
            raise NotFoundError(f"no file {path}", hint=hint) from error
        raise SelfeeError(
            f"cannot read {path}: {error.strerror}", hint="give a file that you may read"
        ) from error


def as_text(data: bytes, source: object) -> str:
    r"""Return UTF-8 text without its byte-order mark, each line's end as ``\n``.

    Args:
        data: What a file holds.
        source: Names it in the error.

    Raises:
        SelfeeError: It is not UTF-8.
    """
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise SelfeeError(
            f"cannot read {source} as UTF-8 text: {error}", hint="save it as UTF-8 text"
        ) from error
    return text.replace("\r\n", "\n").replace("\r", "\n")


def read_text(path: Path, *, hint: str = "check its name and its directory") -> str:
    """Return the text of a UTF-8 file; errors are those of :func:`read_bytes`, :func:`as_text`."""
    return as_text(read_bytes(path, hint=hint), path)
