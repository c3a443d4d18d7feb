import shutil

import pytest

from selfee_cli.bench import delta
from selfee_cli.bench.delta import COPY, OURS, PEERS, measuring, plan_bench
from selfee_cli.errors import NotFoundError, ResourceError, UsageError


def measure(planned, *, warm_up=False):
    with measuring(planned) as run:
        if warm_up:
            run.warm_up()
        run.write_inputs()
        lines = list(run.rounds())
        return run.figures(), lines


def test_every_way_gives_the_same_bits(tmp_path):
    planned = plan_bench(gigabytes=0.004, rounds=1, directory=tmp_path)
    figures, lines = measure(planned)
    assert [measured.way for measured in figures.ways] == [OURS, COPY, *PEERS]
    ours, copy, *peers = figures.ways
    assert [measured.failure for measured in figures.ways] == [None] * 4
    assert copy.different is None and figures.ratio(copy) == 1
    for measured in (ours, *peers):
        assert measured.different == 0
        assert measured.tensors == 3 + 9 * planned.shape.layers
        assert 0 < measured.work_seconds[0] < measured.seconds[0]
        assert measured.cpu_seconds[0] > 0
    assert 0 < ours.peak_bytes < min(peer.peak_bytes for peer in peers)
    assert figures.bytes_moved == pytest.approx(planned.shape.input_bytes * 4 / 3, rel=0.02)
    assert len(lines) == 4 and lines[0].startswith("round 1 of 1: selfee apply-delta: ")
    assert not list(tmp_path.iterdir())


def test_rounds_are_counted_and_peers_left_out(tmp_path):
    figures, lines = measure(
        plan_bench(gigabytes=0.002, rounds=2, peers=False, directory=tmp_path), warm_up=True
    )
    assert [measured.way for measured in figures.ways] == [OURS, COPY]
    for measured in figures.ways:
        assert len(measured.seconds) == 2
        assert min(measured.seconds) <= measured.median <= max(measured.seconds)
    assert len(lines) == 4


def test_peers_that_would_not_fit_in_memory_are_not_tried(tmp_path, monkeypatch):
    monkeypatch.setattr(delta, "available_memory", lambda: 100 << 20)
    figures, _ = measure(plan_bench(gigabytes=0.002, rounds=1, directory=tmp_path))
    assert [measured.failure is None for measured in figures.ways] == [True, True, False, False]
    assert figures.ways[2].failure.startswith("not tried: needs 0.9 GB of memory, 0.1 GB are free")


def test_the_default_shrinks_to_the_memory_there_is(tmp_path, monkeypatch):
    monkeypatch.setattr(delta, "available_memory", lambda: 2 << 30)
    planned = plan_bench(directory=tmp_path)
    assert planned.shrunk and 0.1e9 < planned.shape.input_bytes < 1e9
    assert all(peer.memory(planned.shape) <= 2 << 30 for peer in PEERS)
    asked = plan_bench(gigabytes=3, directory=tmp_path)
    assert not asked.shrunk and not asked.warm


def test_what_cannot_be_measured_is_refused(tmp_path):
    free = shutil.disk_usage(tmp_path).free / 1e9
    with pytest.raises(ResourceError, match=r"has room for .* GB of inputs, not for"):
        plan_bench(gigabytes=free, directory=tmp_path)  # the output would not fit
    with pytest.raises(NotFoundError):
        plan_bench(directory=tmp_path / "none")
    for wrong in ({"gigabytes": 0.0}, {"gigabytes": float("nan")}, {"rounds": 0}):
        with pytest.raises(UsageError):
            plan_bench(directory=tmp_path, **wrong)
