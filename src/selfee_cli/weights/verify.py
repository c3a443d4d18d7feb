"""Comparing a directory of weights with what is known of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path

from selfee_cli.errors import SelfeeError
from selfee_cli.weights.checkpoint import is_weights, open_checkpoint
from selfee_cli.weights.digests import (
    CHECKLIST_NAME,
    SUMS_NAME,
    Advance,
    format_sums,
    hash_file,
    ignore_progress,
    read_sums,
)
from selfee_cli.weights.expectation import (
    DamagedListError,
    Expectation,
    expectation,
    nothing_known,
)
from selfee_cli.weights.fingerprint import sampled_fingerprint
from selfee_cli.weights.manifest import MANIFEST_NAME, FileRecord, Manifest
from selfee_cli.weights.releases import RELEASES, TOKENIZER, recognise, remember
from selfee_cli.weights.safetensors_file import read_safetensors_header
from selfee_cli.weights.storage import DataFile

__all__ = ["DamagedListError", "Expectation", "Fault", "expectation", "verify"]


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One thing that is not as it should be."""

    file: str
    reason: str
    tensor: str | None = None
    expected: str | None = None
    found: str | None = None

    def __str__(self) -> str:
        where = f"{self.file}: {self.tensor}" if self.tensor else self.file
        digests = f": expected {self.expected}, found {self.found}" if self.expected else ""
        return f"{where}: {self.reason}{digests}"

    def to_json(self) -> dict[str, str | None]:
        """Give the JSON form."""
        return {
            "file": self.file,
            "tensor": self.tensor,
            "reason": self.reason,
            "expected": self.expected,
            "found": self.found,
        }


def verify(
    path: Path | str, expected: Expectation | None = None, progress: Advance = ignore_progress
) -> Iterator[Fault]:
    """Hash every file that is known and give each fault, as it is found.

    Args:
        path: A directory of weights.
        expected: What :func:`expectation` gave; computed where it is None.
        progress: Is told how many more bytes were hashed.
    """
    path = Path(path)
    expected = expected or expectation(path)
    if expected.authority == "releases":
        release = yield from _check_releases(path, expected, progress)
        if release is not None and not expected.unchecked:
            with open_checkpoint(path) as checkpoint:
                remember(sampled_fingerprint(checkpoint), release)
        return
    for name, digests in expected.digests.items():
        record = expected.manifest.files.get(name) if expected.manifest else None
        fault = _check_file(path / name, digests, record, expected, progress)
        if fault is not None:
            yield from _by_tensor(path / name, fault, expected.manifest)
    if expected.manifest is not None:
        yield from _check_sums(path, expected.manifest)
    yield from _extra_files(path, expected)


def _check_file(
    file: Path,
    digests: tuple[str, ...],
    record: FileRecord | None,
    expected: Expectation,
    progress: Advance,
) -> Fault | None:
    if not file.is_file():
        return Fault(file=file.name, reason="it is missing")
    size = file.stat().st_size
    if record is not None and size < record.size:
        return Fault(
            file=file.name, reason=f"it is truncated: {size:,} bytes instead of {record.size:,}"
        )
    found = hash_file(file, algorithm=expected.algorithm, advance=progress)
    if found in digests:
        return None
    return Fault(
        file=file.name, reason="the digest differs", expected=" or ".join(digests), found=found
    )


def _check_releases(
    path: Path, expected: Expectation, progress: Advance
) -> Generator[Fault, None, str | None]:
    """Find the release that most files belong to and hold every file against it; return which.

    None is returned where a file is not the release's. Names such as
    ``pytorch_model-00001-of-00002.bin`` are everyone's, so a digest that is not known means
    something only beside others that are.
    """
    found = {name: hash_file(path / name, advance=progress) for name in expected.digests}
    matched = Counter(f.release for f in recognise(found.values()) if f is not TOKENIZER)
    if not matched:
        raise nothing_known(path)
    ((release, _),) = matched.most_common(1)
    whole = True
    names = {file.name for file in (*RELEASES, TOKENIZER) if file.release == release}
    for name in filter(is_weights, found):
        if name not in names:
            whole = False
            yield Fault(file=name, reason=f"{release} has no such file")
    for file in (*RELEASES, TOKENIZER):
        if file.release == release and file.name not in found:
            whole = False
            yield Fault(file=file.name, reason=f"it is missing from {release}")
        elif (
            file.release in (release, TOKENIZER.release)
            and found.get(file.name, file.sha256) != file.sha256
        ):
            whole = False
            yield Fault(
                file=file.name,
                reason=f"it is not that of {release}",
                expected=file.sha256,
                found=found[file.name],
            )
    return release if whole else None


def _by_tensor(file: Path, fault: Fault, manifest: Manifest | None) -> Iterator[Fault]:
    """Say which tensors of a faulty file are wrong; the file itself where none is."""
    records = manifest.tensors if manifest else {}
    wanted = {name: record for name, record in records.items() if record.file == file.name}
    if not wanted or fault.found is None:
        yield fault
        return
    try:
        with DataFile(file) as data:
            stored = read_safetensors_header(data)
    except SelfeeError as error:
        yield Fault(
            file=fault.file, reason=error.message, expected=fault.expected, found=fault.found
        )
        return
    named = False
    for name, record in wanted.items():
        if name not in stored:
            named = True
            yield Fault(file=file.name, tensor=name, reason="it is missing")
            continue
        start, count = stored[name].offset, stored[name].nbytes
        found = hash_file(file, algorithm="crc32", start=start, count=count)
        if found != record.crc32:
            named = True
            yield Fault(
                file=file.name,
                tensor=name,
                reason="the checksum differs",
                expected=record.crc32,
                found=found,
            )
    if not named:
        yield Fault(
            file=fault.file,
            reason="every tensor is right, but the header differs",
            expected=fault.expected,
            found=fault.found,
        )


def _check_sums(path: Path, manifest: Manifest) -> Iterator[Fault]:
    """Hold the manifest and ``SHA256SUMS`` against each other."""
    if not (path / SUMS_NAME).exists():
        yield Fault(file=SUMS_NAME, reason="it is missing")
        return
    try:
        sums = read_sums(path / SUMS_NAME)
    except SelfeeError as error:
        yield Fault(file=SUMS_NAME, reason=error.message)
        return
    wanted = {name: record.sha256 for name, record in manifest.files.items()}
    wanted[MANIFEST_NAME] = hash_file(path / MANIFEST_NAME)
    for name in sorted(wanted.keys() | sums.keys()):
        expected, found = sums.get(name, "no digest"), wanted.get(name, "no digest")
        if expected == found:
            continue
        # A changed file changes its whole digest; a digest changed in place keeps most of it.
        alike = sum(a == b for a, b in zip(expected, found, strict=False))
        if name == MANIFEST_NAME and name in sums and alike < len(found) - 2:
            reason = f"the digest is not that in {SUMS_NAME}"
            yield Fault(file=name, reason=reason, expected=expected, found=found)
        else:
            reason = f"it and {MANIFEST_NAME} do not agree on {name}"
            yield Fault(file=SUMS_NAME, reason=reason, expected=expected, found=found)
    if sums == wanted and (path / SUMS_NAME).read_bytes() != format_sums(wanted.items()).encode():
        yield Fault(file=SUMS_NAME, reason="every digest is right, but its text was changed")


def _extra_files(path: Path, expected: Expectation) -> Iterator[Fault]:
    """Name what is there and not known: any of it might be loaded in place of what is.

    Meta's list is of the weights alone; what lies beside them there is nobody's fault.
    """
    known = {*expected.digests, MANIFEST_NAME, SUMS_NAME, CHECKLIST_NAME}
    for entry in sorted(path.iterdir()):
        hidden = entry.name.startswith(".")  # .cache and .gitattributes, as downloads leave them
        beside = expected.authority == "checklist" and not is_weights(entry.name)
        if entry.name not in known and not entry.is_dir() and not hidden and not beside:
            yield Fault(file=entry.name, reason=f"{expected.source} does not know this file")
