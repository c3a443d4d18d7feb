"""``apply-delta``, ``verify``, ``checksum`` and ``inspect`` as a user runs them, mostly wrong."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from cli import fails, selfee

from selfee_cli.commands.apply_delta import interrupted
from selfee_cli.tiny.bundle import BASE, DELTA
from selfee_cli.weights.delta import DeltaPlan, apply_delta, plan_delta
from selfee_cli.weights.disk import staging_of


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


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What apply-delta makes of the bundled pair."""
    out = tmp_path_factory.mktemp("made") / "out"
    apply_delta(plan_delta(BASE, DELTA), out)
    return out


def no_weights(out: Path) -> None:
    (out / "model.safetensors").unlink()


def empty_weights(out: Path) -> None:
    (out / "model.safetensors").write_bytes(b"")


def no_header(out: Path) -> None:
    with (out / "model.safetensors").open("r+b") as file:
        file.write(bytes([9, 0, 0, 0, 0, 0, 0, 0]))


def no_manifest_but_noise(out: Path) -> None:
    (out / "SHA256SUMS").unlink()
    (out / "selfee-manifest.json").write_text("noise")


def no_sums_but_noise(out: Path) -> None:
    (out / "selfee-manifest.json").unlink()
    (out / "SHA256SUMS").write_text("noise\n")


@pytest.mark.parametrize(
    ("damage", "file", "of_sum"),
    [
        (no_weights, "model.safetensors", 1),
        (empty_weights, "model.safetensors", 1),
        (no_header, "model.safetensors", 1),
        (no_manifest_but_noise, "selfee-manifest.json", 0),
        (no_sums_but_noise, "SHA256SUMS", 0),
    ],
)
def test_a_fault_is_told_whatever_else_cannot_be_read(
    made: Path, tmp_path: Path, damage: Callable[[Path], None], file: str, of_sum: int
) -> None:
    out = tmp_path / "out"
    shutil.copytree(made, out)
    damage(out)
    for sum, count in (((), 1), (("--base", BASE, "--delta", DELTA), 1 + of_sum)):
        done = selfee("verify", out, *sum)
        assert done.returncode == 3
        lines = done.stdout.splitlines()
        assert len(lines) == count and lines[0].startswith(f"{file}: ")
        assert "is not what it should be" in done.stderr
        done = selfee("verify", out, *sum, "--json")
        assert done.returncode == 3
        told = json.loads(done.stdout)
        assert (told["ok"], len(told["faults"])) == (False, count)
        assert told["faults"][0]["file"] == file


def test_what_is_no_fault_of_weights_is_another_error(made: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    sum = ["--base", BASE, "--delta", DELTA, "--json"]
    assert "holds no weights" in fails(4, "verify", tmp_path / "empty", *sum)
    assert "nowhere" in fails(4, "verify", made, "--base", BASE, "--delta", "./nowhere", "--json")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux's /dev/full")
def test_talk_that_nobody_takes_changes_nothing(made: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(made, broken)
    (broken / "config.json").write_text("{}")
    reader, gone = os.pipe()
    os.close(reader)
    with Path("/dev/full").open("w") as full, os.fdopen(gone, "w") as nobody:
        for talk in (full, nobody):
            for code, *arguments in (
                (0, "verify", made),
                (3, "verify", broken),
                (4, "ask", "x", "--model", "/nowhere"),
                (2, "ask", "--bogus"),
            ):
                command = [sys.executable, "-m", "selfee_cli", *map(str, arguments)]
                done = subprocess.run(command, stdout=subprocess.PIPE, stderr=talk, check=False)
                assert done.returncode == code
                assert done.stdout.startswith(b"config.json: " if code == 3 else b"")
        out = tmp_path / "out"
        command = [sys.executable, "-m", "selfee_cli", "apply-delta", "--base", str(BASE)]
        command += ["--delta", str(DELTA), "--out", str(out)]
        assert subprocess.run(command, stderr=full, check=False).returncode == 0
    assert selfee("verify", out).returncode == 0


def test_checksum_records_what_verify_reads(pair: tuple[Path, Path]) -> None:
    base, _ = pair
    assert "nothing is known" in fails(4, "verify", base)
    printed = selfee("checksum", base, "-").stdout
    assert selfee("checksum", base).returncode == 0
    assert (base / "SHA256SUMS").read_text() == printed
    verified = selfee("verify", base)
    assert verified.returncode == 0
    assert f" {len(printed.splitlines())} files as in SHA256SUMS" in verified.stderr
    (base / "config.json").write_text("{}")
    assert selfee("verify", base).returncode == 3


def test_one_file_is_one_file(pair: tuple[Path, Path]) -> None:
    base, _ = pair
    for file in base.iterdir():
        if file.name != "model.safetensors":
            file.unlink()
    assert "SHA256SUMS: 1 file; next: " in selfee("checksum", base).stderr
    assert "is right: 1 file as in SHA256SUMS" in selfee("verify", base).stderr
    with (base / "model.safetensors").open("ab") as file:
        file.write(b"x")
    told = json.loads(selfee("verify", base, "--json").stdout)
    assert told["checked"] == ["1 file against SHA256SUMS: 1 fault"]


def test_checksum_refuses_names_that_no_list_can_hold(pair: tuple[Path, Path]) -> None:
    base, _ = pair
    for name in (b"caf\xe9.txt", b"a\nb.txt", b"a\x1bb.txt"):
        file = base / os.fsdecode(name)
        file.write_text("x")
        for to in ((), ("-",)):
            assert "cannot stand in SHA256SUMS" in fails(1, "checksum", base, *to)
        file.unlink()
    assert not (base / "SHA256SUMS").exists()


def test_hostile_names_reach_no_pipe(pair: tuple[Path, Path]) -> None:
    base, delta = pair
    selfee(*apply(base, delta))
    out = base.parent / "out"
    (out / "\x1b]0;pwned\x07\nx.bin: it is missing").write_text("x")
    done = selfee("verify", out)
    assert done.returncode == 3
    shown = r"\x1b]0;pwned\x07\nx.bin: it is missing: selfee-manifest.json does not know this file"
    assert done.stdout == shown + "\n"

    manifest = out / "selfee-manifest.json"
    content = json.loads(manifest.read_text())
    content["created_by"] = "selfee\nchat          ready\x1b[2J"
    content["made_from"]["base"]["name"] = "llama\nchat          ready"
    manifest.write_text(json.dumps(content))
    for name in ("tokenizer.model", "tokenizer.json"):
        (out / name).unlink()
    lines = selfee("inspect", out).stdout.splitlines()
    assert [line for line in lines if line.startswith("chat")] == [
        "chat          not ready: tokenizer.model is missing"
    ]
    assert not any("\x1b" in line for line in lines)


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


def test_a_home_directory_is_meant_wherever_it_is_named(pair: tuple[Path, Path]) -> None:
    """A shell leaves the ``~`` of ``--out=~/out`` as it is."""
    home = str(pair[0].parent)
    done = selfee("apply-delta", "--base=~/base", "--delta=~/delta", "--out=~/out", HOME=home)
    assert done.returncode == 0, done.stderr
    for command in (["inspect", "~/out"], ["verify", "~/out"], ["checksum", "~/base", "-"]):
        done = selfee(*command, HOME=home)
        assert done.returncode == 0, done.stderr
    other = ["apply-delta", "--delta", pair[1], "--out", pair[0].parent / "other", "--base"]
    for command in (["inspect"], apply(*pair)[:-1], other, ["ask", "hi", "--model"]):
        error = fails(4, *command, "~nosuchuser/x")
        assert "~nosuchuser is no home directory" in error and len(error.splitlines()) == 2
    for command in (["ask", "hi", "--input", "@~nosuchuser/x"], ["show", "~nosuchuser/x"]):
        assert "~nosuchuser is no home directory" in fails(4, *command)
    assert "~nosuchuser is no home" in fails(4, "config", SELFEE_HOME="~nosuchuser/x")


def stop(plan: DeltaPlan, out: Path) -> None:
    """Begin the work and press Ctrl-C when most of it is done."""
    done = 0

    def press(count: int) -> None:
        nonlocal done
        done += count
        if done > 0.7 * plan.input_bytes:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        apply_delta(plan, out, press)


def test_finished_work_is_not_dropped_for_other_options(pair: tuple[Path, Path]) -> None:
    out = pair[0].parent / "out"
    plan = plan_delta(*pair, shard_size=300_000)
    stop(plan, out)
    kept = sorted(staging_of(out).iterdir())
    error = fails(2, *apply(*pair), "--shard-size", "400KB")
    assert "unfinished work of other options or inputs" in error
    assert sorted(staging_of(out).iterdir()) == kept
    done = selfee(*apply(*pair), "--shard-size", "300KB", "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["resumed_files"] == len(kept) - 1  # the other is the journal
    assert told["resumed_bytes"] + told["bytes_written"] == plan.output_bytes
    assert told["bytes_read"] < plan.input_bytes


def test_an_interruption_says_what_it_left(pair: tuple[Path, Path]) -> None:
    out = pair[0].parent / "out"
    plan = plan_delta(*pair, shard_size=300_000)
    assert "nothing is kept" in interrupted(out).message
    stop(plan, out)
    assert "goes on from here" in interrupted(out).message
    apply_delta(plan, out)
    assert "is complete" in interrupted(out).message


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--dtype", "int3"], "--dtype int3 is unknown"),
        (["--shard-size", "big"], "--shard-size big is no size"),
        (["--shard-size", "0GB"], "--shard-size 0GB is no size"),
        (["--shard-size", "9" * 400], "999 is no size"),
        (["--shard-size", "9" * 300 + "TB"], "999TB is no size"),
    ],
)
def test_values_that_cannot_be_meant(
    pair: tuple[Path, Path], arguments: list[str], message: str
) -> None:
    assert message in fails(2, *apply(*pair), *arguments)
    assert not (pair[0].parent / "out").exists()


def listing(place: Path) -> list[Path]:
    return sorted(place.rglob("*"))


def test_a_dry_run_foretells_and_writes_nothing(pair: tuple[Path, Path]) -> None:
    place = pair[0].parent
    before = listing(place)
    done = selfee(*apply(*pair), "--dry-run", "--shard-size", "300KB")
    assert done.returncode == 0, done.stderr
    rows = [line[:12].strip() for line in done.stdout.splitlines()]
    assert rows == ["parameters", "read", "written", "space", "memory", "time"]
    told = json.loads(selfee(*apply(*pair), "--dry-run", "--json").stdout)
    assert listing(place) == before
    assert told["schema"] == "selfee.apply-delta-plan/1"
    assert told["path"] == str(place / "out")
    assert (told["dtype"], told["fits"], told["finished_bytes"]) == ("float16", True, 0)
    assert set(told["made_from"]) == {"base", "delta"}
    made = json.loads(selfee(*apply(*pair), "--json").stdout)
    assert told["files"] == {"model.safetensors": told["output_bytes"]}
    assert made["bytes_written"] == told["output_bytes"]
    assert made["parameters"] == told["parameters"]
    assert "is not empty" in fails(2, *apply(*pair), "--dry-run")


def place_that_is_no_directory(place: Path) -> Path:
    (place / "file").touch()
    return place / "file" / "below" / "out"


def place_of_a_name_too_long(place: Path) -> Path:
    return place / ("long" * 64)


def place_where_nobody_can_write(place: Path) -> Path:
    if not Path("/proc/self").exists():
        pytest.skip("needs Linux's /proc")
    return Path("/proc/out")


@pytest.mark.parametrize(
    "choose", [place_that_is_no_directory, place_of_a_name_too_long, place_where_nobody_can_write]
)
def test_a_dry_run_refuses_what_the_run_would(
    pair: tuple[Path, Path], choose: Callable[[Path], Path]
) -> None:
    place = pair[0].parent
    out = choose(place)
    before = listing(place)
    error = fails(1, *apply(*pair)[:-1], out)
    assert error.startswith("error: cannot write to ")
    assert error.endswith("\nhint: choose another place\n")
    for more in ([], ["--json"]):
        assert fails(1, *apply(*pair)[:-1], out, "--dry-run", *more) == error
    assert listing(place) == before


def test_a_dry_run_refuses_a_disk_that_is_too_small(pair: tuple[Path, Path]) -> None:
    disk = pair[0].parent / "disk"
    disk.mkdir()
    mounted = ["unshare", "--map-root-user", "--mount", "sh", "-c"]
    mounted += ['mount -t tmpfs -o size=1m none "$0" && exec "$@"', str(disk)]
    if not shutil.which("unshare") or subprocess.run([*mounted, "true"], check=False).returncode:
        pytest.skip("nothing can be mounted here")
    command = [sys.executable, "-m", "selfee_cli", *map(str, apply(*pair)[:-1]), str(disk / "out")]
    command = [*mounted, *command, "--dry-run"]
    table = subprocess.run(command, capture_output=True, text=True, check=False)
    assert table.returncode == 5
    assert "problem     the disk is too small" in table.stdout
    assert table.stderr.splitlines()[-1] == "hint: free some space or choose another place"
    told = subprocess.run([*command, "--json"], capture_output=True, text=True, check=False)
    assert told.returncode == 5
    assert json.loads(told.stdout)["fits"] is False
