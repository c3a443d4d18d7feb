"""What a run has finished, so that the next one goes on where it stopped.

The journal lies in the staging directory: a line that names the work, then a line for each
finished file, written after the file is on the disk. A line that was cut short counts for
nothing, and so does a journal of other work: :func:`check_other_work` asks before it is lost.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from selfee_cli.errors import UsageError
from selfee_cli.weights.disk import WrittenFile, disk_errors, replace_text, write_all

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
    return _size(_finished(directory / JOURNAL_NAME, key))


def unfinished_bytes(directory: Path, key: str) -> int:
    """Give the bytes that a run of the work ``key`` will remove from ``directory`` first."""
    if not (directory / JOURNAL_NAME).exists():
        return 0
    finished = _finished(directory / JOURNAL_NAME, key)
    return sum(path.stat().st_size for path in _others(directory, finished))


def check_other_work(directory: Path, key: str) -> None:
    """Refuse to begin the work ``key`` where that of other options or inputs would be lost.

    Raises:
        UsageError: ``directory`` holds finished shards of it.
    """
    work, finished = _read(directory / JOURNAL_NAME)
    if finished and work != key:
        files = "1 file" if len(finished) == 1 else f"{len(finished)} files"
        raise UsageError(
            f"{directory} holds unfinished work of other options or inputs: "
            f"{files}, {_size(finished) / 1e9:.2f} GB",
            hint="go on with those options, give another --out, or remove that directory",
        )


class Journal:
    """The journal of the work ``key`` in ``directory``; ``finished`` holds its shards by name.

    Files that no line vouches for are removed: nobody knows how far they were written.
    """

    def __init__(self, directory: Path, key: str) -> None:
        self.directory = directory
        self._path = directory / JOURNAL_NAME
        self._key = key
        self.finished = _finished(self._path, key)
        with disk_errors(directory):
            self._path.touch()  # so that at any moment the directory is known as a run's
            self.restore()
            for path in _others(directory, self.finished):
                path.unlink()
            self._file = self._path.open("ab", buffering=0)

    @property
    def finished_bytes(self) -> int:
        """The bytes of the finished shards."""
        return _size(self.finished)

    def add(self, shard: FinishedShard) -> None:
        """Record a shard whose bytes are synced."""
        self.finished[shard.file.name] = shard
        with disk_errors(self.directory):
            write_all(self._file, _line(_to_json(shard)).encode())
            os.fsync(self._file.fileno())

    def remove(self) -> None:
        """Remove the journal: the work is done."""
        self._file.close()
        self._path.unlink()

    def restore(self) -> None:
        """Write all of the journal anew, aside first."""
        shards = (_to_json(shard) for shard in self.finished.values())
        replace_text(self._path, "".join(map(_line, [{"work": self._key}, *shards])))

    def close(self) -> None:
        """Close the file; a second time does nothing."""
        self._file.close()


def _line(value: Mapping[str, Any]) -> str:
    return json.dumps(value) + "\n"


def _size(shards: Mapping[str, FinishedShard]) -> int:
    return sum(shard.file.size for shard in shards.values())


def _others(directory: Path, finished: Mapping[str, FinishedShard]) -> list[Path]:
    """Give the files that are neither finished nor the journal."""
    return [path for path in directory.iterdir() if path.name not in {JOURNAL_NAME, *finished}]


def _to_json(shard: FinishedShard) -> dict[str, Any]:
    return {
        "file": shard.file.name,
        "size": shard.file.size,
        "sha256": shard.file.sha256,
        "tensors": dict(shard.tensors),
    }


def _finished(path: Path, key: str) -> dict[str, FinishedShard]:
    """The finished shards of the work ``key``."""
    work, finished = _read(path)
    return finished if work == key else {}


def _read(path: Path) -> tuple[str | None, dict[str, FinishedShard]]:
    """The work and its finished shards, as far as lines are whole and their files are there."""
    try:
        first, *lines = path.read_bytes().split(b"\n")
        work = str(json.loads(first)["work"])
    except (OSError, ValueError, KeyError, TypeError):
        return None, {}
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
    return work, finished
