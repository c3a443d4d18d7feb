"""Files that claim much, or are as costly to parse as the bounds allow, read in bounded memory.

The child may take 160 MiB of addresses more than it has after its imports: the 128 that are aimed
at, and what the allocator takes in advance.
"""

from __future__ import annotations

import os
import struct
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from hostile import Entry, Tensor, archive, state_ops, text, zip_bytes

BYTES = {"0": bytes(24)}
SOUND = b"".join(state_ops(Tensor()))

CHILD = """
    import os, resource, sys
    from pathlib import Path
    from selfee_cli.errors import SelfeeError
    from selfee_cli.weights.checkpoint import open_checkpoint
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    bound = pages * os.sysconf("SC_PAGE_SIZE") + (160 << 20)
    resource.setrlimit(resource.RLIMIT_AS, (bound, bound))
    resource.setrlimit(resource.RLIMIT_CPU, (60, 60))
    for path in map(Path, sys.argv[1:]):
        try:
            open_checkpoint(path).close()
        except SelfeeError as error:
            assert error.message.isprintable()
            print(path.name, "refused:", error.message.replace(str(path), "")[:120])
        else:
            print(path.name, "read")
"""


def sparse(path: Path, gibibytes: int, tail: bytes = b"", head: bytes = b"") -> None:
    with path.open("wb") as file:
        file.write(head)
        file.truncate(gibibytes << 30)
        file.seek((gibibytes << 30) - len(tail))
        file.write(tail)


def large_zip(path: Path, *, entries: int, gibibytes: int) -> None:
    """A file that says that nearly all of it is its directory."""
    size = (gibibytes << 30) - 98 - 1000
    end64 = struct.pack("<4sQ2H2I4Q", b"PK\6\6", 44, 0, 0, 0, 0, entries, entries, size, 1000)
    locator = struct.pack("<4sIQI", b"PK\6\7", 0, (gibibytes << 30) - 98, 1)
    end = struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, 0xFFFF, 0xFFFF, 2**32 - 1, 2**32 - 1, 0)
    sparse(path, gibibytes, end64 + locator + end, b"PK\3\4")


def write_large_claims(folder: Path) -> list[Path]:
    """Directories whose files claim much, or are as costly to parse as the bounds let them be."""

    def place(name: str, file: str) -> Path:
        (folder / name).mkdir()
        return folder / name / file

    def header(name: str, text: bytes) -> None:
        content = len(text).to_bytes(8, "little") + text
        place(name, "model.safetensors").write_bytes(content)

    def pickle(name: str, data: bytes) -> None:
        place(name, "pytorch_model.bin").write_bytes(archive(data, BYTES))

    sparse(place("header-20g", "model.safetensors"), 26, head=(20 << 30).to_bytes(8, "little"))
    sparse(place("header-90m", "model.safetensors"), 26, head=(90 << 20).to_bytes(8, "little"))
    large_zip(place("directory-20g", "pytorch_model.bin"), entries=40_000, gibibytes=20)
    large_zip(place("entries-2e9", "pytorch_model.bin"), entries=2 * 10**9, gibibytes=20)
    index = place("index-30g", "model.safetensors.index.json")
    sparse(index, 30)
    (index.parent / "model-00001-of-00001.safetensors").write_bytes(b"")
    header("open-brackets", b"[" * (8 << 20))
    header("brackets", b'{"a":[' + b"[]," * 2_700_000 + b"0]}")
    header("most-brackets", b'{"a":[' + b"{}," * 166_000 + b"0]}")
    header("most-keys", b"{" + b",".join(b'"%x":[]' % n for n in range(160_000)) + b"}")
    header("one-string", b'{"a":"' + "\U0001f600".encode() * 2_090_000 + b'"}')
    header("long-numbers", b'{"a":[' + b"9" * 4_000 + (b"," + b"9" * 4_000) * 2_000 + b"]}")
    pickle("most-lists", b"\x80\x02" + b"]q\0" * 240_000 + b".")
    pickle("most-memos", b"\x80\x04" + b"}\x94" * 249_000 + b".")
    pickle("most-tuples", b"\x80\x04" + b")" + b"\x85" * 490_000 + b".")
    pickle("most-marks", b"\x80\x04" + b"(" * 490_000 + b".")
    pickle("one-text", b"\x80\x02" + text("\U0001f600" * 2_000_000) + b".")
    pickle("pickle-9m", b"\x80\x02" + bytes(9 << 20))
    many = [Entry(name=b"m/data.pkl", data=SOUND)]
    many += [Entry(name=b"m/%d" % n, data=b"") for n in range(49_000)]
    place("most-entries", "pytorch_model.bin").write_bytes(zip_bytes(many))
    return sorted(folder.iterdir())


@pytest.mark.skipif(sys.platform != "linux", reason="it bounds addresses, as Linux counts them")
def test_memory_is_bounded_whatever_a_file_claims(tmp_path: Path) -> None:
    places = write_large_claims(tmp_path)
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(CHILD), *map(str, places)],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    print(done.stdout)
    assert done.returncode == 0, done.stderr[-2000:]
    lines = done.stdout.splitlines()
    assert len(lines) == len(places)
    assert [line for line in lines if "refused" not in line] == []
