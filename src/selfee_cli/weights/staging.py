"""A directory that is made aside, is gone on with after a failure, and appears by one rename."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from selfee_cli.errors import MismatchError, SelfeeError, UsageError
from selfee_cli.weights.disk import disk_errors, staging_of, sync_directory
from selfee_cli.weights.journal import JOURNAL_NAME, Journal, holds_finished
from selfee_cli.weights.manifest import MANIFEST_NAME

try:
    import fcntl
except ImportError:  # no such locks on Windows
    fcntl = None  # type: ignore[assignment]


@contextmanager
def staged_directory(target: Path, key: str) -> Iterator[Journal]:
    """Give the journal of a directory beside ``target`` that becomes ``target`` at the end.

    The block's files must be synced by itself. The directory is the same for every run, and one
    run at a time has it. Where the block fails, the finished shards of the work ``key`` are kept
    for the next run, unless the error is a MismatchError: then what they were made from is wrong.
    With nothing to keep the directory is removed, and the parents that were made for it.

    Raises:
        SelfeeError: Another run has it.
        UsageError: It holds files that are not of any run.
    """
    target = target.resolve()
    made = [parent for parent in target.parents if not parent.exists()]
    staging = staging_of(target)
    with disk_errors(target.parent):
        staging.mkdir(parents=True, exist_ok=True)
    with _locked(staging, target):
        _check_ours(staging)
        try:
            with closing(Journal(staging, key)) as journal:
                yield journal
            _publish(journal, target)
        except BaseException as error:
            if isinstance(error, MismatchError) or not holds_finished(staging):
                shutil.rmtree(staging, ignore_errors=True)
                for parent in made:
                    if parent.exists() and not any(parent.iterdir()):
                        parent.rmdir()
            raise


def _check_ours(staging: Path) -> None:
    """Refuse a directory whose files no run has put there.

    A journal shows that one has; so does a manifest, where a kill fell between the removal of the
    journal and the rename.
    """
    names = {path.name for path in staging.iterdir()}
    if names and not names & {JOURNAL_NAME, MANIFEST_NAME}:
        raise UsageError(
            f"{staging} is needed for unfinished work and holds other files",
            hint="move them away, or choose another place",
        )


def _publish(journal: Journal, target: Path) -> None:
    """Rename the journal's directory, without the journal; where that fails, both stay."""
    staging = journal.directory
    with disk_errors(target):
        sync_directory(staging)
        try:
            journal.remove()
            staging.rename(target)
        except BaseException:
            if staging.exists():
                journal.restore()
            raise
        sync_directory(target.parent)


@contextmanager
def _locked(staging: Path, target: Path) -> Iterator[None]:
    """Hold the lock on a directory, which a process loses when it ends, however it ends."""
    if fcntl is None:
        yield
        return
    descriptor = os.open(staging, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not staging.exists() or os.fstat(descriptor).st_ino != staging.stat().st_ino:
            raise BlockingIOError  # whoever had it has just finished
        yield
    except BlockingIOError:
        raise SelfeeError(
            f"another selfee is making {target} right now", hint="wait for it, or choose another"
        ) from None
    finally:
        os.close(descriptor)
