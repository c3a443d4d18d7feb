"""What users are told of errors that are no SelfeeError."""

from __future__ import annotations

import ast
import errno
import mmap
from collections.abc import Iterator
from pathlib import Path

import pytest

from selfee_cli.errors import NotFoundError, ResourceError, SelfeeError, explained


def test_memory_that_the_system_refuses() -> None:
    with pytest.raises(OSError, match="allocate memory") as refused:
        mmap.mmap(-1, 2**60)
    assert refused.value.errno == errno.ENOMEM
    for error in (refused.value, MemoryError()):
        told = explained(error)
        assert isinstance(told, ResourceError)
        assert (told.message, told.exit_code) == ("out of memory", 5)


def test_a_name_that_no_file_can_have(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="too long") as refused:
        (tmp_path / ("long" * 64)).stat()
    told = explained(refused.value)
    assert isinstance(told, NotFoundError)
    assert told.message == f"File name too long: {tmp_path / ('long' * 64)}"
    assert told.hint


PACKAGE = Path(__file__).parents[1] / "src" / "selfee_cli"
ROOMS = ("commands", "protocol", "weights")


def raised_bare(path: Path) -> Iterator[str]:
    """Each ``SelfeeError(MESSAGE)`` of a module that has no hint.

    A message that begins with `it` lacks its subject: who catches it makes a line of it.
    """
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "SelfeeError":
            message = ast.unparse(node.args[0]).lstrip("f'\"")
            if not node.keywords and not message.startswith("it "):
                yield f"{path.name}:{node.lineno}: {message}"


@pytest.mark.parametrize("room", ROOMS)
def test_what_fails_says_what_to_do(room: str) -> None:
    assert [bare for path in (PACKAGE / room).glob("*.py") for bare in raised_bare(path)] == []


def test_a_disk_that_is_full_and_everything_else() -> None:
    full = explained(OSError(errno.ENOSPC, "No space left on device", "file"))
    assert full.message.startswith("the disk is full: ")
    assert full.exit_code == 5
    other = explained(OSError(errno.EIO, "Input/output error", "file"))
    assert (other.exit_code, other.message) == (1, "Input/output error: file")
    assert other.hint
    error = SelfeeError("wrong")
    assert explained(error) is error
