"""What users are told of errors that are no SelfeeError."""

from __future__ import annotations

import errno
import mmap

import pytest

from selfee_cli.errors import ResourceError, SelfeeError, explained


def test_memory_that_the_system_refuses() -> None:
    with pytest.raises(OSError, match="allocate memory") as refused:
        mmap.mmap(-1, 2**60)
    assert refused.value.errno == errno.ENOMEM
    for error in (refused.value, MemoryError()):
        told = explained(error)
        assert isinstance(told, ResourceError)
        assert (told.message, told.exit_code) == ("out of memory", 5)


def test_a_disk_that_is_full_and_everything_else() -> None:
    full = explained(OSError(errno.ENOSPC, "No space left on device", "file"))
    assert full.message.startswith("the disk is full: ")
    assert full.exit_code == 5
    assert explained(OSError(errno.EIO, "Input/output error")).exit_code == 1
    error = SelfeeError("wrong")
    assert explained(error) is error
