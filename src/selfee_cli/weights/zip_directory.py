"""The directory of an uncompressed zip archive, read strictly and within bounds.

``zipfile`` reads a directory whole before it can be asked how large that is, and is lenient where
readers differ: junk around the archive, names that stand twice, entries that share bytes, headers
that disagree with the directory. Here all of that is refused, so that there is one way to read an
archive and every reader of it sees the same bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from selfee_cli.errors import MismatchError
from selfee_cli.weights.bounds import is_name, shown
from selfee_cli.weights.pickle_machine import Refusal
from selfee_cli.weights.storage import DataFile, truncated

MAX_DIRECTORY = 8 << 20
"""Bytes of the directory; that of the largest LLaMA has about 80 kB."""
MAX_ENTRIES = 50_000
"""Entries: one a tensor and a few more."""

# Layouts of the zip specification (APPNOTE.TXT, sections 4.3.7, 4.3.12 and 4.3.14 to 4.3.16).
_LOCAL = struct.Struct("<4s5H3I2H")
_CENTRAL = struct.Struct("<4s6H3I5H2I")
_END = struct.Struct("<4s4H2IH")
_LOCATOR = struct.Struct("<4sIQI")
_END64 = struct.Struct("<4sQ2H2I4Q")

_FULL16, _FULL32 = 0xFFFF, 0xFFFFFFFF  # "the true value is in the zip64 record"
_ENCRYPTED = 0x2041  # three bits of the flags
_FOLDER = 0x10  # a bit of the attributes


@dataclass(frozen=True, kw_only=True, slots=True)
class ZipEntry:
    """One entry: offset and size in bytes of its data, and the CRC-32 the directory gives."""

    offset: int
    size: int
    crc: int


@dataclass(frozen=True, kw_only=True, slots=True)
class _Record:
    """What the directory says of an entry."""

    name: bytes
    header: int
    size: int
    crc: int


def read_zip_directory(file: DataFile) -> dict[str, ZipEntry]:
    """Give every entry of an archive by name.

    :class:`~selfee_cli.errors.MismatchError` where the archive is not whole,
    :class:`~selfee_cli.weights.pickle_machine.Refusal` where it is of a kind that no ``torch.save``
    writes.
    """
    try:
        start, size, count = _find_directory(file)
        records = list(_records(file.read_bytes(start, size), count))
    except (struct.error, ValueError):
        raise _broken(file) from None
    entries: dict[str, ZipEntry] = {}
    folded: set[str] = set()
    free = 0  # the first byte that no entry has claimed
    for record in sorted(records, key=lambda record: record.header):
        name = _name(record.name)
        # torch finds entries without regard to case
        if name.lower() in folded:
            raise Refusal(f"its entry {shown(name)} stands in it twice")
        folded.add(name.lower())
        if record.header < free:
            raise Refusal(f"its entry {shown(name)} overlaps another one")
        entries[name] = _open_entry(file, record, name, start)
        free = entries[name].offset + record.size
    return entries


def _find_directory(file: DataFile) -> tuple[int, int, int]:
    """Offset, size in bytes and number of entries, from the records at the end of the file."""
    at = file.size - _END.size
    if at < 0:
        raise _broken(file)
    mark, disk, first, here, count, size, start, comment = _END.unpack(
        file.read_bytes(at, _END.size)
    )
    if mark != b"PK\x05\x06" or comment:
        raise _broken(file)
    classic = (disk, first, here, count, size, start)
    found = classic
    located = at - _LOCATOR.size
    if located >= 0 and file.read_bytes(located, 4) == b"PK\x06\x07":
        _, _, at, _ = _LOCATOR.unpack(file.read_bytes(located, _LOCATOR.size))
        if at + _END64.size != located:
            raise _broken(file)
        mark, length, _, _, *wide = _END64.unpack(file.read_bytes(at, _END64.size))
        if mark != b"PK\x06\x06" or length != _END64.size - 12:
            raise _broken(file)
        found = (*wide[:2], *wide[2:6])
    full = (_FULL16, _FULL16, _FULL16, _FULL16, _FULL32, _FULL32)
    for narrow, value, limit in zip(classic, found, full, strict=True):
        if narrow not in (value, limit):
            raise _broken(file)
    disk, first, here, count, size, start = found
    if disk or first or here != count:
        raise Refusal("its zip archive is one of several parts")
    if count > MAX_ENTRIES:
        raise Refusal(f"it has {count:,} entries, over {MAX_ENTRIES:,}")
    if size > MAX_DIRECTORY:
        raise Refusal(f"its zip directory has {size:,} bytes, over {MAX_DIRECTORY:,}")
    if start + size != at:
        raise _broken(file)
    return start, size, count


def _records(directory: bytes, count: int) -> Iterator[_Record]:
    at = 0
    for _ in range(count):
        (mark, _, _, flags, method, _, _, crc, packed, size, named, extra, comment, disk, _,
         attributes, header) = _CENTRAL.unpack_from(directory, at)  # fmt: skip
        at += _CENTRAL.size
        name = directory[at : at + named]
        more = directory[at + named : at + named + extra]
        at += named + extra + comment
        if mark != b"PK\x01\x02" or at > len(directory) or disk not in (0, _FULL16):
            raise ValueError
        size, packed, header = _widen(more, size, packed, header)
        if method or packed != size or flags & _ENCRYPTED:
            raise Refusal(f"its entry {_shown_bytes(name)} is compressed or encrypted")
        # of a folder torch reads nothing, and gives whatever its memory held before
        if size and (attributes & _FOLDER or name.endswith(b"/")):
            raise Refusal(f"its entry {_shown_bytes(name)} is a folder that has content")
        yield _Record(name=name, header=header, size=size, crc=crc)
    if at != len(directory):
        raise ValueError


def _widen(extra: bytes, *narrow: int) -> tuple[int, int, int]:
    """Put the zip64 values in the place of those that did not fit in 32 bits."""
    wide, at = b"", 0
    while at + 4 <= len(extra) and not wide:
        kind, length = struct.unpack_from("<2H", extra, at)
        if kind == 1:
            wide = extra[at + 4 : at + 4 + length]
        at += 4 + length
    found = []
    for value in narrow:
        if value == _FULL32:
            (value,), wide = struct.unpack_from("<Q", wide), wide[8:]
        found.append(value)
    size, packed, header = found
    return size, packed, header


def _open_entry(file: DataFile, record: _Record, name: str, limit: int) -> ZipEntry:
    """Hold an entry's own header against the directory and give where its data lies."""
    at = record.header
    if at + _LOCAL.size > limit:
        raise truncated(file.path, f"entry {shown(name)} lies past its end")
    mark, _, flags, method, _, _, _, packed, size, named, extra = _LOCAL.unpack(
        file.read_bytes(at, _LOCAL.size)
    )
    if mark != b"PK\x03\x04":
        raise Refusal(f"its entry {shown(name)} has no header")
    at += _LOCAL.size
    if named != len(record.name) or file.read_bytes(at, named) != record.name:
        raise Refusal(f"its entry {shown(name)} has another name in its header")
    # 0 where the sizes follow the data, as torch has it; full where they need 64 bits
    sizes_agree = {packed, size} <= {0, record.size, _FULL32}
    if method or flags & _ENCRYPTED or not sizes_agree:
        raise Refusal(f"its entry {shown(name)} has another size or kind in its header")
    offset = at + named + extra
    if offset + record.size > limit:
        raise truncated(file.path, f"entry {shown(name)} runs past its end")
    return ZipEntry(offset=offset, size=record.size, crc=record.crc)


def _name(raw: bytes) -> str:
    try:
        name = raw.decode("utf-8")
    except UnicodeDecodeError:
        name = ""
    if not is_name(name):
        raise Refusal(f"its entry {_shown_bytes(raw)} has a name that cannot be shown")
    return name


def _shown_bytes(raw: bytes) -> str:
    return shown(raw.decode("utf-8", "backslashreplace"))


def _broken(file: DataFile) -> MismatchError:
    return truncated(file.path, "its zip directory is missing or broken")
