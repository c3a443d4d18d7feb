"""What is known of a directory of weights: digests of its files, and where they come from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from selfee_cli.errors import MismatchError, NotFoundError, SelfeeError
from selfee_cli.weights.checkpoint import find_layout, is_weights
from selfee_cli.weights.digests import CHECKLIST_NAME, SUMS_NAME, read_sums
from selfee_cli.weights.manifest import MANIFEST_NAME, Manifest, read_manifest
from selfee_cli.weights.releases import TOKENIZER, candidates

Authority = Literal["manifest", "sums", "checklist", "releases"]


class DamagedListError(MismatchError):
    """What lists the digests of a directory cannot be read; ``file`` is its name."""

    def __init__(self, file: str, message: str, *, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.file = file


@dataclass(frozen=True, kw_only=True)
class Expectation:
    """What is known of a directory: digests by file name, and where they come from."""

    authority: Authority
    source: str
    """In words."""
    digests: Mapping[str, tuple[str, ...]]
    """File name to the digests that are right for it."""
    algorithm: Literal["sha256", "md5"] = "sha256"
    manifest: Manifest | None = None
    unchecked: tuple[str, ...] = ()
    """Weight files of a known release whose digests are not known, which is no fault of theirs."""

    def total_bytes(self, path: Path) -> int:
        """Give the bytes there are to hash."""
        files = [path / name for name in self.digests]
        return sum(file.stat().st_size for file in files if file.is_file())


def expectation(path: Path) -> Expectation:
    """Give the best that is known of a directory: manifest, sums, checklist, or known releases.

    :class:`~selfee_cli.errors.NotFoundError` where nothing is known,
    :class:`DamagedListError` where what is known cannot be read.
    """
    if not path.is_dir():
        raise NotFoundError(f"there is no directory {path}")
    manifest = _sound_manifest(path)
    if manifest is not None:
        digests = {name: (record.sha256,) for name, record in manifest.files.items()}
        return Expectation(
            authority="manifest", source=MANIFEST_NAME, digests=digests, manifest=manifest
        )
    lists: tuple[tuple[Authority, str], ...] = (("sums", SUMS_NAME), ("checklist", CHECKLIST_NAME))
    for authority, name in lists:
        if (path / name).exists():
            listed = _sound_sums(path / name)
            lengths = {len(digest) for digest in listed.values()}
            if len(lengths) != 1:
                raise DamagedListError(
                    name,
                    f"{path / name} lists no digests, or of two kinds",
                    hint="download it again",
                )
            return Expectation(
                authority=authority,
                source=name,
                digests={file: (digest,) for file, digest in listed.items()},
                # Meta's checklist.chk is of md5sum, though some tools read it as SHA-256
                algorithm="md5" if lengths == {32} else "sha256",
            )
    find_layout(path)  # refuses what holds no weights
    names = sorted(entry.name for entry in path.iterdir())
    known = {name: tuple(f.sha256 for f in candidates(name)) for name in names}
    known = {name: digests for name, digests in known.items() if digests}
    if not known.keys() - {TOKENIZER.name}:
        raise nothing_known(path)
    # An index holds no tensors, and opening a checkpoint holds it against those that do.
    weights = [n for n in names if is_weights(n) and not n.endswith(".index.json")]
    return Expectation(
        authority="releases",
        source="the known releases of LLaMA",
        digests=known,
        unchecked=tuple(name for name in weights if name not in known),
    )


def _sound_manifest(path: Path) -> Manifest | None:
    """Give the manifest, None where there is none or where only the sums can tell how it was."""
    try:
        return read_manifest(path)
    except SelfeeError as error:
        if (path / SUMS_NAME).exists():
            return None
        raise DamagedListError(MANIFEST_NAME, error.message, hint=error.hint) from error


def _sound_sums(path: Path) -> dict[str, str]:
    try:
        return read_sums(path)
    except SelfeeError as error:
        raise DamagedListError(path.name, error.message, hint=error.hint) from error


def nothing_known(path: Path) -> NotFoundError:
    """Say that there is nothing to hold a directory against."""
    return NotFoundError(
        f"nothing is known of {path}: no {MANIFEST_NAME}, {SUMS_NAME} or {CHECKLIST_NAME}, "
        "no file of a known release",
        hint=f"record it now, to check it later: selfee checksum {path}",
    )
