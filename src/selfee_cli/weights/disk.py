"""What disks do to a program: running full, and keeping less than was written."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import secrets
import shutil
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from selfee_cli.errors import ResourceError, SelfeeError, UsageError

_SYNC_EVERY = 64 << 20  # bytes
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_NO_SYNC = (errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP)
"""What some network file systems say to the sync of a directory."""


@dataclass(frozen=True, kw_only=True)
class WrittenFile:
    """A finished file."""

    name: str
    size: int  # bytes
    sha256: str


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Make a full disk a :class:`~selfee_cli.errors.ResourceError`, other faults plain errors."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise ResourceError(
                f"no space left where {path} is: {error.strerror}",
                hint="free some space or choose another place",
            ) from error
        raise SelfeeError(
            f"cannot write to {path}: {error.strerror}", hint="choose another place"
        ) from error


def reserve(file: BinaryIO, size: int) -> None:
    """Allocate a file's blocks at once, where the system can: a full disk shows now, not later."""
    if not hasattr(os, "posix_fallocate"):
        return
    try:
        os.posix_fallocate(file.fileno(), 0, size)
    except OSError as error:
        if error.errno in _FULL:
            raise
        # some file systems cannot: then the writes themselves will tell


def write_all(file: BinaryIO, data: bytes | memoryview) -> None:
    """Write all of ``data``, whose elements are bytes, to a file without a buffer.

    Such a file writes less where the disk runs full within ``data``; only the next write fails.
    """
    done = file.write(data)
    while done < len(data):
        done += file.write(data[done:])


class EarlySync:
    """Sends what is written to a file on to the disk while more of it is computed.

    Otherwise gigabytes wait in memory for the sync at the end, and the disk waits till then.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._waiting = 0  # bytes
        self._thread: threading.Thread | None = None
        self._error: OSError | None = None

    def wrote(self, count: int) -> None:
        """Take note of ``count`` more bytes; now and then send them, on another thread."""
        self._waiting += count
        busy = self._thread is not None and self._thread.is_alive()
        if self._waiting >= _SYNC_EVERY and not busy:
            self.finish()
            self._waiting = 0
            self._thread = threading.Thread(target=self._run, name="early-sync", daemon=True)
            self._thread.start()

    def finish(self) -> None:
        """Wait for what is on its way; raise ``OSError`` where the disk did not take it."""
        self.abandon()
        if self._error is not None:
            raise self._error

    def abandon(self) -> None:
        """Wait for what is on its way, whatever becomes of it."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def _run(self) -> None:
        try:
            getattr(os, "fdatasync", os.fsync)(self._file.fileno())
        except OSError as error:  # the system tells it only once: it must not be lost
            self._error = error


def write_text(path: Path, text: str) -> WrittenFile:
    """Write a UTF-8 file, synced, and say what was written."""
    data = text.encode()
    with disk_errors(path.parent), path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    return WrittenFile(name=path.name, size=len(data), sha256=hashlib.sha256(data).hexdigest())


def copy_file(source: Path, directory: Path) -> WrittenFile:
    """Copy a small file into a directory, synced, and say what was written."""
    target = directory / source.name
    with disk_errors(directory):
        shutil.copyfile(source, target)
        with target.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            os.fsync(file.fileno())
            size = os.fstat(file.fileno()).st_size
    return WrittenFile(name=source.name, size=size, sha256=digest)


def write_json(path: Path, value: object) -> WrittenFile:
    """Write a JSON file, synced, and say what was written."""
    return write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def replace_text(path: Path, text: str) -> None:
    """Write a UTF-8 file aside and rename it: readers see the old file or the new one."""
    aside = path.with_name(f".{path.name}.partial-{secrets.token_hex(4)}")
    try:
        write_text(aside, text)
        with disk_errors(path.parent):
            aside.replace(path)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise


def check_target(target: Path) -> None:
    """Refuse a target directory that is not empty, or that cannot be made. Nothing is left.

    Raises:
        UsageError: It is not empty, or nothing can be renamed to it.
        ResourceError: Its disk is full.
        SelfeeError: Nothing can be written where it is to be.
    """
    with disk_errors(target):
        _check_untaken(target)
    with disk_errors(place := _existing(target.resolve().parent)):
        tempfile.TemporaryFile(dir=place).close()  # its mode does not tell who may write there


def _check_untaken(target: Path) -> None:
    if target.exists() or target.is_symlink():
        if not target.is_dir() or any(target.iterdir()):
            state = "is not empty" if target.is_dir() else "is a file"
            raise UsageError(
                f"{target} {state}",
                hint="give a directory that does not exist yet; nothing is removed",
            )
        inside = f"give a directory inside it, such as {target / 'weights'}"
        if os.path.ismount(target.resolve()):
            raise UsageError(f"{target} is where a disk is mounted", hint=inside)
        if target.samefile(os.curdir):
            raise UsageError(f"{target} is the current directory", hint=inside)


def free_space(target: Path) -> int:
    """Give the bytes that are free where ``target`` is or is to be."""
    return shutil.disk_usage(_existing(target)).free


def _existing(path: Path) -> Path:
    """Give what there is of a path: itself, or the nearest above it."""
    path = path.absolute()
    while not path.exists():
        path = path.parent
    return path


def staging_of(target: Path) -> Path:
    """Give the directory in which ``target`` is made."""
    target = target.resolve()
    return target.parent / f".{target.name}.partial"


def check_space(target: Path, needed: int, *, staging: Path | None = None) -> None:
    """Refuse work whose ``needed`` bytes do not fit where ``target``, or its staging, is to be."""
    free = free_space(staging or target)
    if free < needed:
        raise no_room(target, needed, free)


def no_room(target: Path, needed: int, free: int) -> ResourceError:
    """Say that the ``needed`` bytes of ``target`` are more than are ``free`` there."""
    return ResourceError(
        f"{target} needs {needed / 1e9:.2f} GB, {free / 1e9:.2f} GB are free there",
        hint="free some space or choose another place",
    )


def sync_directory(path: Path) -> None:
    """Have the names in a directory on the disk, where the system can."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:
        return  # not every system opens directories
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NO_SYNC:
            raise
    finally:
        os.close(descriptor)
