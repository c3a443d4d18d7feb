"""Runs that are stopped, and the next ones, which go on: the result has the same bits."""

import os
import random
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from makers import Shape, write_big_pair

from selfee_cli.errors import MismatchError, ResourceError, SelfeeError
from selfee_cli.weights import disk as disk_module
from selfee_cli.weights import writer as writer_module
from selfee_cli.weights.delta import apply_delta, plan_delta
from selfee_cli.weights.disk import EarlySync, staging_of
from selfee_cli.weights.dtypes import DType
from selfee_cli.weights.verify import verify

SHAPE = Shape(vocabulary=600, hidden=256, mlp=688, layers=6, heads=8, kv_heads=8)
SHARD = 1_500_000
KILLS = int(os.environ.get("SELFEE_KILLS", "100"))


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    return write_big_pair(tmp_path_factory.mktemp("pair"), SHAPE)


@pytest.fixture(scope="module")
def wanted(pair, tmp_path_factory):
    """What an undisturbed run writes."""
    out = tmp_path_factory.mktemp("wanted") / "out"
    apply_delta(plan(pair), out)
    assert len(list(out.glob("*.safetensors"))) > 5
    return contents(out)


def plan(pair, **options):
    return plan_delta(*pair, **{"shard_size": SHARD, **options})


def contents(path: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in path.iterdir()}


def interrupt_after(share, pair):
    """A progress that presses Ctrl-C when a share of the inputs is done."""
    done, total = 0, plan(pair).input_bytes

    def progress(count):
        nonlocal done
        done += count
        if done > share * total:
            raise KeyboardInterrupt

    return progress


def stop(pair, out, share):
    with pytest.raises(KeyboardInterrupt):
        apply_delta(plan(pair), out, interrupt_after(share, pair))


def test_an_interrupted_run_goes_on(pair, wanted, tmp_path):
    out = tmp_path / "out"
    stop(pair, out, 0.3)
    assert sorted(p.name for p in tmp_path.iterdir()) == [".out.partial"]
    stop(pair, out, 0.7)
    done = []
    kept = {path.name: path.stat().st_size for path in (tmp_path / ".out.partial").glob("model-*")}
    result = apply_delta(plan(pair), out, done.append)
    assert result.resumed_files == len(kept) >= 3  # nothing unfinished took space
    assert result.resumed_bytes == sum(kept.values())
    assert result.bytes_written == plan(pair).output_bytes - result.resumed_bytes
    assert 0 < result.bytes_read < plan(pair).input_bytes
    assert sum(done) == plan(pair).input_bytes
    assert contents(out) == wanted
    assert not list(verify(out))
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_an_interrupt_with_nothing_finished_leaves_nothing(pair, tmp_path):
    stop(pair, tmp_path / "out", 0.0)
    assert not list(tmp_path.iterdir())


def test_a_torn_journal_and_foreign_files_count_for_nothing(pair, wanted, tmp_path):
    out, staging = tmp_path / "out", tmp_path / ".out.partial"
    stop(pair, out, 0.6)
    journal = staging / "selfee-journal.jsonl"
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join(lines[:-1]) + lines[-1][:25])
    (staging / "foreign.txt").write_text("not ours")
    shard = next(staging.glob("model-00001*"))
    shard.write_bytes(shard.read_bytes()[:-1])
    result = apply_delta(plan(pair), out)
    assert result.resumed_files == len(lines) - 3
    assert contents(out) == wanted


def test_other_work_starts_anew(pair, tmp_path):
    out = tmp_path / "out"
    stop(pair, out, 0.6)
    result = apply_delta(plan(pair, dtype=DType.BF16), out)
    assert result.resumed_files == 0
    assert not list(verify(out))
    os.utime(pair[0] / "model.safetensors")  # the base may have changed
    stop(pair, tmp_path / "again", 0.6)
    os.utime(pair[0] / "model.safetensors", ns=(1, 1))
    assert apply_delta(plan(pair), tmp_path / "again").resumed_files == 0


def test_a_small_file_that_cannot_be_read_costs_nothing(pair, tmp_path):
    """It is looked at before any work; here it fails later, as a disk that breaks would."""
    if not Path("/proc/self/mem").exists():
        pytest.skip("needs a file that cannot be read: Linux's /proc/self/mem")
    out, notice = tmp_path / "out", pair[1] / "NOTICE"
    notice.write_text("mine")
    planned = plan(pair)

    def breaks(_):
        if not notice.is_symlink():
            notice.unlink()
            notice.symlink_to("/proc/self/mem")

    try:
        with pytest.raises(SelfeeError, match="Input/output error"):
            apply_delta(planned, out, breaks)
    finally:
        notice.unlink()
    result = apply_delta(planned, out)
    assert (result.resumed_files, result.bytes_read) == (len(planned.shards), 0)
    assert not list(verify(out))


def test_a_full_disk_keeps_what_is_finished(pair, wanted, tmp_path, monkeypatch):
    """Where space cannot be reserved, a disk runs full while it is written to."""
    out = tmp_path / "out"

    class Full(EarlySync):
        def wrote(self, count):
            if Path(self._file.name).name.startswith("model-00004"):
                raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(writer_module, "EarlySync", Full)
        with pytest.raises(ResourceError, match="no space left"):
            apply_delta(plan(pair), out)
    assert apply_delta(plan(pair), out).resumed_files == 3
    assert contents(out) == wanted


def test_space_is_reserved_for_all_files_before_the_first(pair, tmp_path):
    sizes = []

    def look(_):
        staging = staging_of(tmp_path / "out")
        sizes.append({file.name: file.stat().st_size for file in staging.glob("model-*")})

    planned = plan(pair)
    apply_delta(planned, tmp_path / "out", look)
    assert sizes[0] == {shard.name: shard.nbytes for shard in planned.shards}


def test_what_the_disk_did_not_take_is_told_at_the_end(tmp_path, monkeypatch):
    """A file's sync reports a fault once, and that may be the early one."""
    monkeypatch.setattr(disk_module, "_SYNC_EVERY", 10)

    def broken(_):
        raise OSError(5, "Input/output error")

    with (tmp_path / "file").open("wb") as file:
        sync = EarlySync(file)
        sync.wrote(9)
        sync.finish()
        monkeypatch.setattr(os, "fdatasync", broken)
        sync.wrote(1)
        with pytest.raises(OSError, match="Input/output"):
            sync.finish()


def test_a_mismatch_leaves_nothing(pair, tmp_path):
    def damaged(count):
        raise MismatchError("found out midway")

    with pytest.raises(MismatchError):
        apply_delta(plan(pair), tmp_path / "out", damaged)
    assert not list(tmp_path.iterdir())


RUN = textwrap.dedent("""
    import sys
    from selfee_cli.weights.delta import apply_delta, plan_delta
    plan = plan_delta(sys.argv[1], sys.argv[2], shard_size=int(sys.argv[4]))
    apply_delta(plan, sys.argv[3], lambda count: print(flush=True))
""")


def start(pair, out):
    command = [sys.executable, "-c", RUN, *map(str, pair), str(out), str(SHARD)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def test_two_runs_keep_apart(pair, wanted, tmp_path):
    out = tmp_path / "out"
    with start(pair, out) as first:
        first.stdout.readline()
        first.send_signal(signal.SIGSTOP)
        with pytest.raises(SelfeeError, match="another selfee is making"):
            apply_delta(plan(pair), out)
        first.send_signal(signal.SIGCONT)
        first.stdout.read()
    assert first.returncode == 0
    assert contents(out) == wanted


def test_random_kills(pair, wanted, tmp_path):
    """SIGKILL at any moment, again and again; every run that is left alone completes."""
    rng, kills, number = random.Random(1), 0, 0
    while kills < KILLS:
        out = tmp_path / str(number)
        number += 1
        while kills < KILLS and not out.exists():
            with start(pair, out) as process:
                process.stdout.readline()
                time.sleep(rng.uniform(0, 0.12))
                process.kill()
                kills += 1
        if not out.exists():
            apply_delta(plan(pair), out)
        assert contents(out) == wanted
    assert not list(tmp_path.glob(".*"))
