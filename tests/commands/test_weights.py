"""``apply-delta``, ``verify``, ``checksum`` and ``inspect`` as a user runs them, mostly wrong."""

from __future__ import annotations

import json
import pickle
import shutil
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from cli import fails, selfee

from selfee_cli.tiny.bundle import BASE, DELTA


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    """Copies of the bundled base and delta, to be damaged."""
    for source, name in ((BASE, "base"), (DELTA, "delta")):
        shutil.copytree(source, tmp_path / name)
    return tmp_path / "base", tmp_path / "delta"


def apply(base: Path, delta: Path) -> list[str | Path]:
    return ["apply-delta", "--base", base, "--delta", delta, "--out", base.parent / "out"]


def test_reconstruct_verify_and_find_one_flipped_bit(pair: tuple[Path, Path]) -> None:
    base, delta = pair
    out = base.parent / "out"
    done = selfee(*apply(base, delta))
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    assert "not a release known here; its fingerprint is sha256:" in done.stderr
    assert "next: selfee ask --model" in done.stderr
    assert selfee("verify", out, "--base", base, "--delta", delta).returncode == 0
    sums = subprocess.run(
        ["sha256sum", "--check", "--quiet", "SHA256SUMS"], cwd=out, capture_output=True, check=False
    )
    assert sums.returncode == 0, sums.stderr
    found = json.loads(selfee("inspect", out, "--json").stdout)
    assert found["parameters"] > 1_000_000
    weights = out / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[len(data) // 2] ^= 4
    weights.write_bytes(data)
    broken = selfee("verify", out)
    assert broken.returncode == 3
    assert broken.stdout.startswith("model.safetensors: model.layers.")
    assert "expected" in broken.stdout
    assert len(broken.stdout.splitlines()) == 1


def test_checksum_records_what_verify_reads(pair: tuple[Path, Path]) -> None:
    base, _ = pair
    assert "nothing is known" in fails(4, "verify", base)
    printed = selfee("checksum", base, "-").stdout
    assert selfee("checksum", base).returncode == 0
    assert (base / "SHA256SUMS").read_text() == printed
    assert selfee("verify", base).returncode == 0
    (base / "config.json").write_text("{}")
    assert selfee("verify", base).returncode == 3


def empty(base: Path, delta: Path) -> None:
    shutil.rmtree(base)
    base.mkdir()


def gone(base: Path, delta: Path) -> None:
    shutil.rmtree(base)


def split(base: Path, names: list[str]) -> None:
    """Give the base an index that says its tensors lie in files of these names."""
    (base / "model.safetensors").rename(base / "model-00001-of-00002.safetensors")
    index = {"metadata": {}, "weight_map": {f"t{n}": name for n, name in enumerate(names)}}
    (base / "model.safetensors.index.json").write_text(json.dumps(index))


def missing_shard(base: Path, delta: Path) -> None:
    split(base, ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"])


def outside(base: Path, delta: Path) -> None:
    split(base, ["../delta/model.safetensors"])


def swapped(base: Path, delta: Path) -> None:
    base.rename(base.parent / "other")
    delta.rename(base)
    (base.parent / "other").rename(delta)


def other_shapes(base: Path, delta: Path) -> None:
    from safetensors.numpy import load_file, save_file

    tensors = load_file(base / "model.safetensors")
    name = "model.layers.0.mlp.down_proj.weight"
    tensors[name] = tensors[name][:, :-1].copy()
    save_file(tensors, base / "model.safetensors")


class Evil:
    def __reduce__(self) -> tuple[object, ...]:
        return print, ("executed!",)


def malicious(base: Path, delta: Path) -> None:
    (base / "model.safetensors").unlink()
    with zipfile.ZipFile(base / "pytorch_model.bin", "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({"a": Evil()}, protocol=2))


def truncated(base: Path, delta: Path) -> None:
    weights = delta / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])


def lfs_pointer(base: Path, delta: Path) -> None:
    (delta / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\n")


@pytest.mark.parametrize(
    ("damage", "code", "message"),
    [
        (gone, 4, "there is no"),
        (empty, 4, "holds no weights"),
        (missing_shard, 4, "model-00002-of-00002.safetensors"),
        (outside, 1, "../delta/model.safetensors"),
        (swapped, 1, "base and delta are swapped"),
        (other_shapes, 3, "model.layers.0.mlp.down_proj.weight is [128, 383] in the base"),
        (malicious, 1, "builtin"),
        (truncated, 3, "model.safetensors is not whole"),
        (lfs_pointer, 3, "git-LFS pointer"),
    ],
)
def test_bad_input_is_one_clear_line_and_leaves_nothing(
    pair: tuple[Path, Path], damage: Callable[[Path, Path], None], code: int, message: str
) -> None:
    damage(*pair)
    before = sorted(pair[0].parent.iterdir())
    error = fails(code, *apply(*pair))
    assert message in error
    assert "executed!" not in error
    assert 1 <= len(error.splitlines()) <= 2
    assert error.startswith("error: ")
    assert sorted(pair[0].parent.iterdir()) == before


def test_a_target_that_is_there_is_never_touched(pair: tuple[Path, Path]) -> None:
    out = pair[0].parent / "out"
    out.mkdir()
    (out / "letter.txt").write_text("mine")
    fails(2, *apply(*pair))
    assert [path.name for path in out.iterdir()] == ["letter.txt"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--dtype", "int3"], "--dtype int3 is unknown"),
        (["--shard-size", "big"], "--shard-size big is no size"),
    ],
)
def test_values_that_cannot_be_meant(
    pair: tuple[Path, Path], arguments: list[str], message: str
) -> None:
    assert message in fails(2, *apply(*pair), *arguments)
    assert not (pair[0].parent / "out").exists()
