"""``selfee-manifest.json``: what a directory holds and what it was made from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from selfee_cli import __version__
from selfee_cli.errors import SelfeeError
from selfee_cli.weights.digests import is_plain_name
from selfee_cli.weights.disk import WrittenFile
from selfee_cli.weights.hf_layout import read_json_file
from selfee_cli.weights.writer import WrittenTensor

MANIFEST_NAME = "selfee-manifest.json"
SCHEMA = "selfee.manifest/1"

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Origin:
    """A checkpoint that another was made from."""

    name: str
    """The last part of its path."""
    layout: str
    fingerprint: str
    release: str | None = None
    """The published model it is known to be."""

    def to_json(self) -> dict[str, Any]:
        """Give the JSON form."""
        return {
            "name": self.name,
            "layout": self.layout,
            "fingerprint": self.fingerprint,
            "release": self.release,
        }


@dataclass(frozen=True, kw_only=True)
class FileRecord:
    """What a file must be."""

    size: int
    sha256: str


@dataclass(frozen=True, kw_only=True)
class TensorRecord:
    """What a tensor must be; the checksum is over its raw bytes."""

    dtype: str
    shape: tuple[int, ...]
    file: str
    crc32: str


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """The contents of ``selfee-manifest.json``."""

    dtype: str
    fingerprint: str
    kind: str = "model"
    """``"model"`` or ``"delta"``."""
    created_by: str = f"selfee {__version__}"
    made_from: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    files: Mapping[str, FileRecord] = field(default_factory=dict)
    tensors: Mapping[str, TensorRecord] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Give the JSON form."""
        return {
            "schema": SCHEMA,
            "kind": self.kind,
            "created_by": self.created_by,
            "made_from": {role: dict(origin) for role, origin in self.made_from.items()},
            "dtype": self.dtype,
            "fingerprint": self.fingerprint,
            "files": {
                name: {"size": record.size, "sha256": record.sha256}
                for name, record in self.files.items()
            },
            "tensors": {
                name: {
                    "dtype": record.dtype,
                    "shape": list(record.shape),
                    "file": record.file,
                    "crc32": record.crc32,
                }
                for name, record in self.tensors.items()
            },
        }


def file_records(files: Sequence[WrittenFile]) -> dict[str, FileRecord]:
    """Give the records of written files."""
    return {file.name: FileRecord(size=file.size, sha256=file.sha256) for file in files}


def tensor_records(tensors: Sequence[WrittenTensor]) -> dict[str, TensorRecord]:
    """Give the records of written tensors."""
    return {
        tensor.info.name: TensorRecord(
            dtype=tensor.info.dtype.value,
            shape=tensor.info.shape,
            file=tensor.file,
            crc32=tensor.crc32,
        )
        for tensor in tensors
    }


def read_manifest(directory: Path) -> Manifest | None:
    """Give a directory's manifest, None where it has none; ``SelfeeError`` where it is damaged."""
    path = directory / MANIFEST_NAME
    if not path.exists():
        return None
    value = read_json_file(path)
    if value.get("schema") != SCHEMA:
        raise SelfeeError(
            f"{path} has the schema {value.get('schema')!r:.40}, not {SCHEMA!r}",
            hint="it is damaged, or of another version of selfee",
        )
    try:
        return _parse(value)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise SelfeeError(
            f"{path} is damaged: {error!r:.80}", hint="download it again, or make the weights again"
        ) from None


def _parse(value: Mapping[str, Any]) -> Manifest:
    files = {
        name: FileRecord(size=_typed(int, entry["size"]), sha256=_typed(str, entry["sha256"]))
        for name, entry in value["files"].items()
    }
    tensors = {
        name: TensorRecord(
            dtype=_typed(str, entry["dtype"]),
            shape=tuple(_typed(int, length) for length in entry["shape"]),
            file=_typed(str, entry["file"]),
            crc32=_typed(str, entry["crc32"]),
        )
        for name, entry in value["tensors"].items()
    }
    for name in [*files, *(record.file for record in tensors.values())]:
        if not is_plain_name(name):
            raise ValueError(f"{name} is no file beside it")
    made_from = {role: dict(origin) for role, origin in value["made_from"].items()}
    return Manifest(
        kind=_typed(str, value["kind"]),
        created_by=_typed(str, value["created_by"]),
        made_from=made_from,
        dtype=_typed(str, value["dtype"]),
        fingerprint=_typed(str, value["fingerprint"]),
        files=files,
        tensors=tensors,
    )


def _typed(kind: type[T], value: object) -> T:
    if type(value) is not kind:
        raise TypeError(f"{value!r:.40} is no {kind.__name__}")
    return value
