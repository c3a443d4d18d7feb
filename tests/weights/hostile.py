"""Hostile weight files built byte by byte: zip archives and pickles that no library would write.

Nothing here needs torch: :func:`state_ops` writes what ``torch.save`` writes, opcode by opcode.
"""

from __future__ import annotations

import math
import random
import struct
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

STORAGES = {"F32": ("FloatStorage", 4), "F16": ("HalfStorage", 2), "BF16": ("BFloat16Storage", 2)}
HUGE = [-1, 0, 1, 2, 255, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**63 - 1, 2**63, 2**64 - 1]


# Pickles.


def text(value: str) -> bytes:
    raw = value.encode("utf-8", "surrogatepass")
    return b"X" + struct.pack("<I", len(raw)) + raw


def number(value: int) -> bytes:
    if 0 <= value < 256:
        return b"K" + bytes([value])
    if -(2**31) <= value < 2**31:
        return b"J" + struct.pack("<i", value)
    raw = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
    return b"\x8a" + bytes([len(raw)]) + raw


def row(values: Iterable[int]) -> list[bytes]:
    return [b"(", *map(number, values), b"t"]


@dataclass(frozen=True, kw_only=True)
class Tensor:
    """What one entry of a state dict says; everything can be made to lie."""

    name: str = "a"
    key: str = "0"
    dtype: str = "F32"
    shape: Sequence[int] = (2, 3)
    stride: Sequence[int] | None = None
    offset: int = 0
    size: int | None = None
    more: Sequence[bytes] = ()

    def ops(self) -> list[bytes]:
        stride = self.stride
        if stride is None:
            stride = [math.prod(self.shape[i + 1 :]) for i in range(len(self.shape))]
        size = math.prod(self.shape) if self.size is None else self.size
        storage = b"ctorch\n" + STORAGES[self.dtype][0].encode() + b"\n"
        return [
            text(self.name), b"ctorch._utils\n_rebuild_tensor_v2\n", b"(",
            b"(", text("storage"), storage, text(self.key), text("cpu"), number(size), b"t", b"Q",
            number(self.offset), *row(self.shape), *row(stride),
            b"\x89", b"ccollections\nOrderedDict\n", b")", b"R", *self.more, b"t", b"R",
        ]  # fmt: skip


def state_ops(*tensors: Tensor) -> list[bytes]:
    """The opcodes of a state dict."""
    inner = [op for tensor in tensors for op in tensor.ops()]
    return [b"\x80\x02", b"}", b"(", *inner, b"u", b"."]


# Zip archives.


@dataclass(kw_only=True)
class Entry:
    """One entry; ``local`` and ``central`` replace fields of its two headers by name."""

    name: bytes
    data: bytes
    at: int | None = None
    local: dict[str, Any] = field(default_factory=dict)
    central: dict[str, Any] = field(default_factory=dict)


LOCAL = ("mark", "need", "flags", "method", "time", "date", "crc", "packed", "size", "named",
         "extra")  # fmt: skip
CENTRAL = ("mark", "made", "need", "flags", "method", "time", "date", "crc", "packed", "size",
           "named", "extra", "comment", "disk", "inner", "outer", "header")  # fmt: skip
END = ("mark", "disk", "first", "here", "count", "size", "start", "comment")
END64 = ("mark", "length", "made", "need", "disk", "first", "here", "count", "size", "start")


def pack(kinds: str, names: Sequence[str], fields: dict[str, Any]) -> bytes:
    """A record of a mark and numbers, each cut to its width."""
    widths = {"H": 2, "I": 4, "Q": 8}
    found: bytes = fields["mark"]
    for kind, name in zip(kinds, names[1:], strict=True):
        value = fields.get(name, 0) % 2 ** (8 * widths[kind])
        found += value.to_bytes(widths[kind], "little")
    return found


def zip_bytes(
    entries: Sequence[Entry],
    *,
    end: dict[str, Any] | None = None,
    wide: bool = False,
    wide_end: dict[str, Any] | None = None,
    gap: bytes = b"",
) -> bytes:
    """An archive; ``end`` and ``wide_end`` replace fields of the records at the end of it."""
    body, directory = bytearray(), bytearray()
    for entry in entries:
        values = {"need": 20, "crc": zlib.crc32(entry.data), "packed": len(entry.data),
                  "size": len(entry.data), "named": len(entry.name)}  # fmt: skip
        header = len(body) if entry.at is None else entry.at
        name = entry.local.get("name", entry.name)
        fields = {"mark": b"PK\3\4"} | values | {"named": len(name)} | entry.local
        body += pack("HHHHHIIIHH", LOCAL, fields)
        body += name + entry.data
        fields = {"mark": b"PK\1\2", "header": header} | values | entry.central
        directory += pack("HHHHHHIIIHHHHHII", CENTRAL, fields)
        directory += entry.name + entry.central.get("more", b"")
    body += gap
    counts = {"here": len(entries), "count": len(entries), "size": len(directory),
              "start": len(body)}  # fmt: skip
    tail = b""
    if wide:
        fields = {"mark": b"PK\6\6", "length": 44} | counts | (wide_end or {})
        tail = pack("QHHIIQQQQ", END64, fields)
        tail += struct.pack("<4sIQI", b"PK\6\7", 0, len(body) + len(directory), 1)
    fields = {"mark": b"PK\5\6"} | counts | (end or {})
    tail += pack("HHHHIIH", END, fields)
    return bytes(body + directory + tail)


def archive(pickle: bytes, storages: dict[str, bytes], **more: Any) -> bytes:
    """What ``torch.save`` would write around a pickle."""
    return zip_bytes(archive_entries(pickle, storages), **more)


def archive_entries(pickle: bytes, storages: dict[str, bytes]) -> list[Entry]:
    return [
        Entry(name=b"m/data.pkl", data=pickle),
        Entry(name=b"m/byteorder", data=b"little"),
        *(Entry(name=b"m/data/" + key.encode(), data=raw) for key, raw in storages.items()),
        Entry(name=b"m/version", data=b"3\n"),
    ]


def sound_archive(rng: random.Random) -> tuple[list[bytes], dict[str, bytes]]:
    """Opcodes and storages of a small state dict that every reader takes."""
    tensors, storages = [], {}
    for at in range(rng.randint(1, 3)):
        dtype = rng.choice(list(STORAGES))
        shape = tuple(rng.randint(1, 3) for _ in range(rng.randint(0, 3)))
        before = rng.choice([0, 0, 2])
        size = before + math.prod(shape)
        storages[str(at)] = rng.randbytes(size * STORAGES[dtype][1])
        tensors.append(
            Tensor(name=f"w{at}", key=str(at), dtype=dtype, shape=shape, offset=before, size=size)
        )
    return state_ops(*tensors), storages


# Mutations.


def change_ops(ops: list[bytes], rng: random.Random) -> list[bytes]:
    """Lose, double, swap, replace or bend an opcode."""
    ops = list(ops)
    at, other = rng.randrange(len(ops)), rng.randrange(len(ops))
    action = rng.randrange(7)
    if action == 0:
        del ops[at]
    elif action == 1:
        ops.insert(other, ops[at])
    elif action == 2:
        ops[at], ops[other] = ops[other], ops[at]
    elif action == 3:
        numbers = [i for i, op in enumerate(ops) if op[:1] in b"KJM\x8a" and op]
        if numbers:
            ops[rng.choice(numbers)] = number(rng.choice([*HUGE, 3, 4, 5, 6, 2**200]))
    elif action == 4:
        ops.insert(at, rng.choice(ODD_OPS))
    elif action == 5:
        ops[at] = rng.choice(ODD_OPS)
    else:
        raw = bytearray(ops[at])
        if raw:
            raw[rng.randrange(len(raw))] = rng.randrange(256)
        ops[at] = bytes(raw)
    return ops


ODD_OPS = [
    b"(", b"t", b")", b"}", b"]", b"e", b"a", b"u", b"s", b"R", b"b", b"Q", b"N", b"\x85", b"\x86",
    b"\x87", b"0", b"2", b"1", b"\x81", b"\x92", b"\x93", b"\x94", b"q\0", b"h\0", b"h\1", b"q\1",
    b"r\xff\xff\xff\xff", b"j\0\0\0\0", b"\x95" + b"\xff" * 8, b"\x8b\xff\xff\xff\x7f",
    b"\x8b\x04\0\0\0abcd", b"\x8d" + b"\xff" * 8, b"\x8e" + b"\xff" * 8, b"T\xff\xff\xff\xff",
    b"X\xff\xff\xff\xff", b"U\x01\xff", b"U\x02w0", text("w0"), text("0"), text("neg"), text(""),
    text("\ud800"), text("\x1b[31m"), text("storage"), b"\x88", b"\x89", number(-1), number(2**63),
    b"G" + b"\x7f" * 8, b"I12\n", b"L1L\n", b"S'\\d'\n", b"V\\d\n", b"F1.5\n", b"P0\n", b".",
    b"c__builtin__\neval\n", b"cos\nsystem\n", b"c\\d\n\\d\n", b"ccollections\nOrderedDict\n",
    b"ctorch\nFloatStorage\n", b"ctorch\nHalfStorage\n", b"ctorch._utils\n_rebuild_tensor_v2\n",
    b"ctorch._utils\n_rebuild_parameter\n", b"\x80\xff", b"\x82\x01", b"\x8f", b"\x90", b"\x97",
]  # fmt: skip


def change_entries(entries: list[Entry], rng: random.Random) -> dict[str, Any]:
    """Bend headers of an archive in place; give keywords for :func:`zip_bytes`."""
    entry = rng.choice(entries)
    other = rng.choice(entries)
    value = rng.choice([0, 1, 8, 20, 40, 100, 0xFFFF])
    action = rng.randrange(9)
    if action == 0:
        entry.local[rng.choice(LOCAL[1:])] = value
    elif action == 1:
        entry.central[rng.choice(CENTRAL[1:])] = value
    elif action == 2:
        entry.name = rng.choice([other.name, other.name.upper(), b"m/\x1b", b"\xff", b"", b"x"])
    elif action == 3:
        entry.local["name"] = rng.choice([other.name, b"", entry.name.upper()])
    elif action == 4:
        entry.data = rng.choice([b"", entry.data + b"\0", entry.data[:-1], b"big", b"11"])
    elif action == 5:
        entries.insert(rng.randrange(len(entries)), other)
    elif action == 6:
        entry.at = value
    elif action == 7:
        return {"wide": True, "wide_end": {rng.choice(END64[1:]): rng.choice(HUGE[1:])}}
    else:
        return {"end": {rng.choice(END[1:]): value}, "gap": rng.choice([b"", b"", b"gap"])}
    return {"wide": rng.random() < 0.3}
