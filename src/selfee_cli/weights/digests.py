"""Digests of files, and the text files that list them (``SHA256SUMS``, ``checklist.chk``)."""

from __future__ import annotations

import hashlib
import re
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Literal

from selfee_cli.errors import SelfeeError
from selfee_cli.weights.bounds import shown
from selfee_cli.weights.storage import DataFile

SUMS_NAME = "SHA256SUMS"
CHECKLIST_NAME = "checklist.chk"
MAX_LIST = 16 << 20
"""Bytes of a list of digests."""
_CHUNK = 1 << 20
_UNLISTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\\]")
"""Control codes, ends of lines, bytes that are not UTF-8 and the backslash."""
_LINE = re.compile(r"\\?([0-9a-fA-F]{32}|[0-9a-fA-F]{64}) [ *](.+)")

Advance = Callable[[int], None]
"""Is told how many more bytes were dealt with."""


def ignore_progress(count: int) -> None:
    """Do nothing with progress."""


class Crc32:
    """A checksum in the manner of ``hashlib``: it tells where damage lies, not that there is none.

    That a file is whole its SHA-256 proves; a second one for every tensor would take a fifth of
    the time of a reconstruction.
    """

    def __init__(self) -> None:
        self._value = 0

    def update(self, data: memoryview) -> None:
        """Add the next bytes."""
        self._value = zlib.crc32(data, self._value)

    def hexdigest(self) -> str:
        """Return eight hexadecimal digits."""
        return f"{self._value:08x}"


def hash_file(
    path: Path,
    *,
    algorithm: Literal["sha256", "md5", "crc32"] = "sha256",
    start: int = 0,
    count: int | None = None,
    advance: Advance = ignore_progress,
) -> str:
    """Give the hexadecimal digest of a file, or of ``count`` of its bytes from ``start``."""
    digest = Crc32() if algorithm == "crc32" else hashlib.new(algorithm, usedforsecurity=False)
    buffer = memoryview(bytearray(_CHUNK))
    with DataFile(path) as file:
        end = file.size if count is None else start + count
        for at in range(start, end, _CHUNK):
            part = buffer[: min(_CHUNK, end - at)]
            file.read_into(at, part)
            digest.update(part)
            advance(part.nbytes)
    return digest.hexdigest()


def format_sums(digests: Iterable[tuple[str, str]]) -> str:
    """Give (name, digest) pairs as the text that ``sha256sum -c`` reads."""
    return "".join(f"{digest}  {name}\n" for name, digest in digests)


def check_listable(path: Path) -> None:
    """Refuse a file whose name could not be read back from a list of digests."""
    if _UNLISTABLE.search(path.name):
        raise SelfeeError(
            f"the file name {shown(path.name)} cannot stand in {SUMS_NAME}",
            hint="rename the file: in UTF-8, with no control code and no backslash",
        )


def read_sums(path: Path) -> dict[str, str]:
    """Give name to digest of a file that sha256sum or md5sum wrote."""
    with DataFile(path) as file:
        if file.size > MAX_LIST:
            raise SelfeeError(
                f"{path} has {file.size:,} bytes, over {MAX_LIST:,}", hint="download it again"
            )
        text = file.read_bytes(0, file.size).decode("utf-8", "replace")
    digests: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        match = _LINE.fullmatch(line)
        if not match:
            raise SelfeeError(
                f"{path}, line {number}: no digest and file name", hint="download it again"
            )
        name = match[2].removeprefix("./")
        if not is_plain_name(name):
            raise SelfeeError(
                f"{path}, line {number}: {name!r:.80} is no file beside it",
                hint="download it again",
            )
        if digests.setdefault(name, match[1].lower()) != match[1].lower():
            raise SelfeeError(f"{path} gives two digests for {name}", hint="download it again")
    return digests


def is_plain_name(name: str) -> bool:
    """Whether a name is that of a file in the same directory."""
    return name not in ("", ".", "..") and not re.search(r"[/\\\0]", name)
