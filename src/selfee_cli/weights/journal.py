"""What a run has finished, so that the next one goes on where it stopped.

The journal lies in the staging directory: a line that names the work, then a line for each
finished file, written after the file is on the disk. A line that was cut short counts for
nothing, and so does a journal of other work.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from selfee_cli.weights.disk import WrittenFile, disk_errors

JOURNAL_NAME = "selfee-journal.jsonl"


@dataclass(frozen=True, kw_only=True)
class FinishedShard:
    """A shard that is whole and on the disk: its digest, and those of its tensors by name."""

    file: WrittenFile
    tensors: Mapping[str, str]


def holds_finished(directory: Path) -> bool:
    """Whether a run has finished a shard in ``directory``."""
    try:
        return (directory / JOURNAL_NAME).read_bytes().count(b"\n") > 1
    except OSError:
        return False


def finished_bytes(directory: Path, key: str) -> int:
    """Give the bytes of the shards of the work ``key`` that ``directory`` holds finished."""
    return sum(shard.file.size for shard in _read(directory / JOURNAL_NAME, key).values())


class Journal:
    """The journal of the work ``key`` in ``directory``; ``finished`` holds its shards by name.

    Files that no line vouches for are removed: nobody knows how far they were written.
    """

    def __init__(self, directory: Path, key: str) -> None:
        self._path = directory / JOURNAL_NAME
        self.finished = _read(self._path, key)
        for path in directory.iterdir():
            if path.name not in self.finished:
                path.unlink()
        with disk_errors(directory):
            self._file = self._path.open("xb", buffering=0)
        self._write({"work": key})
        for shard in self.finished.values():
            self._write(_to_json(shard))

    def add(self, shard: FinishedShard) -> None:
        """Record a shard whose bytes are synced."""
        self.finished[shard.file.name] = shard
        self._write(_to_json(shard))

    def remove(self) -> None:
        """Remove the journal: the work is done."""
        self._file.close()
        self._path.unlink()

    def close(self) -> None:
        """Close the file; a second time does nothing."""
        self._file.close()

    def _write(self, line: dict[str, Any]) -> None:
        with disk_errors(self._path.parent):
            self._file.write(json.dumps(line).encode() + b"\n")
            os.fsync(self._file.fileno())


def _to_json(shard: FinishedShard) -> dict[str, Any]:
    return {
        "file": shard.file.name,
        "size": shard.file.size,
        "sha256": shard.file.sha256,
        "tensors": dict(shard.tensors),
    }


def _read(path: Path, key: str) -> dict[str, FinishedShard]:
    """The finished shards, as far as the lines are whole and their files are there."""
    try:
        first, *lines = path.read_bytes().split(b"\n")
        if json.loads(first) != {"work": key}:
            return {}
    except (OSError, ValueError):
        return {}
    finished: dict[str, FinishedShard] = {}
    for line in lines:
        try:
            data = json.loads(line)
            file = WrittenFile(name=data["file"], size=data["size"], sha256=data["sha256"])
            shard = FinishedShard(file=file, tensors=data["tensors"])
            if (path.parent / file.name).stat().st_size == file.size:
                finished[file.name] = shard
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return finished
