"""What a dry run says, held against what the run then does."""

import time

import pytest
from makers import SELFEE_13B, SMALL, random_tensors, write_checkpoint, write_sparse

from selfee_cli.weights.delta import apply_delta, plan_delta
from selfee_cli.weights.disk import staging_of
from selfee_cli.weights.dtypes import DType
from selfee_cli.weights.forecast import forecast
from selfee_cli.weights.journal import JOURNAL_NAME


@pytest.fixture
def pair(tmp_path):
    base = random_tensors(SMALL, seed=1)
    delta = random_tensors(SMALL, seed=2, delta=True, rows_more=1, dtype="float32")
    write_checkpoint(tmp_path / "base", base, SMALL, "safetensors")
    write_checkpoint(tmp_path / "delta", delta, SMALL, "safetensors", rows_more=1)
    return tmp_path / "base", tmp_path / "delta"


@pytest.mark.parametrize("dtype", list(DType))
def test_sizes_are_those_of_the_run_and_nothing_is_written(pair, tmp_path, dtype):
    plan = plan_delta(*pair, dtype=dtype, shard_size=20_000)
    before = sorted(tmp_path.rglob("*"))
    found = forecast(plan, tmp_path / "deep" / "out")
    assert sorted(tmp_path.rglob("*")) == before
    assert (found.finished_bytes, found.fits) == (0, True)
    assert found.seconds > 0
    made = apply_delta(plan, tmp_path / "out")
    assert found.output_bytes == sum(
        f.stat().st_size for f in made.path.glob("model-*.safetensors")
    )
    assert found.needed_bytes > found.output_bytes


def test_what_an_interrupted_run_left_is_counted(pair, tmp_path):
    plan = plan_delta(*pair, shard_size=20_000)
    out = tmp_path / "out"

    done = 0

    def interrupt(count):
        nonlocal done
        done += count
        if done > plan.input_bytes / 2:  # the writer is a few chunks behind
            until = time.monotonic() + 20
            while not forecast(plan, out).finished_bytes and time.monotonic() < until:
                time.sleep(0.01)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        apply_delta(plan, out, interrupt)
    found = forecast(plan, out)
    there = [shard for shard in plan.shards if (staging_of(out) / shard.name).exists()]
    assert 0 < found.finished_bytes <= sum(shard.nbytes for shard in there)
    assert (
        found.needed_bytes == forecast(plan, tmp_path / "new").needed_bytes - found.finished_bytes
    )
    other = plan_delta(*pair, dtype=DType.BF16, shard_size=20_000)
    assert forecast(other, out).finished_bytes == 0


def test_what_a_kill_left_unfinished_counts_as_free(pair, tmp_path, monkeypatch):
    monkeypatch.setattr("selfee_cli.weights.forecast.free_space", lambda _: 1_000)
    plan = plan_delta(*pair)
    out = tmp_path / "out"
    staging = staging_of(out)
    staging.mkdir()
    (staging / plan.shards[0].name).write_bytes(bytes(500))
    assert forecast(plan, out).free_bytes == 1_000  # nobody knows whose that is
    (staging / JOURNAL_NAME).touch()
    assert forecast(plan, out).free_bytes == 1_500


def test_a_disk_too_small_is_foretold(pair, tmp_path, monkeypatch):
    monkeypatch.setattr("selfee_cli.weights.forecast.free_space", lambda _: 1_000)
    assert not forecast(plan_delta(*pair), tmp_path / "out").fits


def test_a_pair_of_the_real_size(tmp_path):
    """Headers, norms and sampled rows alone are read, so 78 GB are checked at once."""
    base = write_sparse(tmp_path / "base", SELFEE_13B)
    delta = write_sparse(tmp_path / "delta", SELFEE_13B, delta=True)
    plan = plan_delta(base, delta)
    assert (plan.size, plan.parameters) == ("13B", 13_015_874_560)
    found = forecast(plan, tmp_path / "out")
    assert found.input_bytes == 26_031_728_640 + 52_063_498_240
    assert found.memory_bytes < 128 << 20
