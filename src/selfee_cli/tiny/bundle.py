"""The bundled model: reconstructed from its base and delta at first use, then checked at each.

It takes the road every model takes: ``apply_delta`` on two directories. What must come out is
known of every file by its digest (``assets/tuned.sha256``, in the form of ``sha256sum``), so a
result that differs by one bit is never used.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from pathlib import Path

from selfee_cli.errors import MismatchError, UsageError
from selfee_cli.folders import make_private
from selfee_cli.settings import cache_dir
from selfee_cli.tiny import ASSETS, BASE, DELTA

__all__ = ["BASE", "DELTA", "faults", "known_digests", "reconstruct", "reconstructed"]

_KNOWN = ASSETS / "tuned.sha256"


def known_digests() -> dict[str, str]:
    """Return the SHA-256 digests of the reconstructed files, by name.

    The manifest names the version that made it, so it is not among them, nor is ``SHA256SUMS``,
    which ends with the manifest's digest.
    """
    pairs = (line.split("  ", 1) for line in _KNOWN.read_text("ascii").splitlines())
    return {name: digest for digest, name in pairs}


def reconstructed() -> Path:
    """Return the directory of the tuned model, made now if it is not there.

    Raises:
        MismatchError: what came out is not the published bundled model.
    """
    known = known_digests()
    path = cache_dir() / f"tiny-{known['model.safetensors'][:12]}"
    if path.is_dir():
        if faults(path) == []:
            return path
        shutil.rmtree(path)  # our own cache, damaged
    make_private(path.parent)
    reconstruct(path)
    path.chmod(0o700)
    wrong = faults(path)
    if wrong:
        raise MismatchError(
            f"the bundled model came out wrong: {', '.join(wrong)} in {path}",
            hint="reinstall selfee; if it stays, the disk or memory of this machine is at fault",
        )
    return path


def reconstruct(path: Path) -> None:
    """Apply the bundled delta to the bundled base, into ``path``."""
    from selfee_cli.weights.delta import apply_delta, plan_delta

    try:
        apply_delta(plan_delta(BASE, DELTA), path)
    except UsageError:
        if not path.is_dir():  # another process was first: its result is as good
            raise


def faults(path: Path) -> list[str]:
    """Return the names of the reconstructed files that differ from what they must be."""
    from selfee_cli.weights.digests import SUMS_NAME, format_sums
    from selfee_cli.weights.manifest import MANIFEST_NAME

    known = known_digests()
    wrong = [name for name, digest in known.items() if _digest(path / name) != digest]
    sums = format_sums([*known.items(), (MANIFEST_NAME, str(_digest(path / MANIFEST_NAME)))])
    if _digest(path / SUMS_NAME) != hashlib.sha256(sums.encode()).hexdigest():
        wrong.append(f"{SUMS_NAME} or {MANIFEST_NAME}")
    return wrong


def _digest(path: Path) -> str | None:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return None


def _record() -> None:
    """Write down what the bundled base and delta come to: the last step of a training."""
    from selfee_cli.weights.digests import SUMS_NAME, format_sums, read_sums
    from selfee_cli.weights.manifest import MANIFEST_NAME

    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "tuned"
        reconstruct(out)
        sums = read_sums(out / SUMS_NAME)
    del sums[MANIFEST_NAME]
    _KNOWN.write_text(format_sums(sums.items()), "ascii")


if __name__ == "__main__":
    _record()
