"""What a model takes, and where its layers lie."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import torch

from selfee_cli.bench.random_weights import RandomCheckpoint
from selfee_cli.engine import loading
from selfee_cli.engine.base import Engine
from selfee_cli.engine.llama import LlamaConfig
from selfee_cli.engine.loading import LoadOptions, load_model
from selfee_cli.engine.placement import (
    RUNTIME,
    Footprint,
    does_not_fit,
    footprint,
    free_memory,
    place,
)
from selfee_cli.engine.quant import QUANTS
from selfee_cli.errors import ResourceError

GPUS = [torch.device("cuda", index) for index in range(3)]
NEEDS = Footprint(layer=100, ends=RUNTIME + 500, layers=10, read=0)


def config(name: str) -> LlamaConfig:
    return LlamaConfig.parse(RandomCheckpoint(name).config)


def test_selfee_13b_takes_what_its_sizes_say() -> None:
    half = torch.float16
    needed = {
        quant: footprint(config("13b"), half, quant, 2048).total / 1e9
        for quant in ("none", "int8", "int4")
    }
    assert needed["none"] == pytest.approx(26.0 + 1.7 + RUNTIME / 1e9, abs=0.2)
    assert needed["int8"] < 16.9  # a card of 16 GiB has about that
    assert needed["int4"] < 10.7  # and one of 10 GiB that


def test_matrices_that_are_restored_take_room_in_free_and_in_captured_passes() -> None:
    head = 32001 * 5120
    ends = {name: footprint(config("13b"), torch.float16, name, 2048).ends for name in QUANTS}
    assert ends["none"] == 2 * 2 * head + RUNTIME
    assert ends["int8"] == ends["fp8"] == (2 + 1) * head + 2 * 2 * head + RUNTIME
    assert ends["int4"] == (2 + 1) * head + 2 * head + RUNTIME  # of layers, none is restored


def test_the_head_of_a_tied_model_is_its_embedding() -> None:
    with_head = footprint(config("135m"), torch.float32, "none", 128)
    assert with_head.ends == pytest.approx(RUNTIME + 49152 * 576 * 4 * 2)


@pytest.mark.parametrize(
    ("rooms", "layers"),
    [
        ([RUNTIME + 5000] * 3, [10]),
        ([RUNTIME + 1500] * 3, [10]),
        ([RUNTIME + 1499] * 3, [9, 1]),
        ([RUNTIME + 800, RUNTIME + 300, RUNTIME + 400], [3, 3, 4]),
        ([RUNTIME + 800, RUNTIME + 50, RUNTIME + 700], [3, 7]),
        ([RUNTIME + 800, RUNTIME + 300, RUNTIME + 399], []),
        ([RUNTIME + 499, RUNTIME + 9000, 0], [10]),
        ([RUNTIME + 599] * 3, []),
    ],
)
def test_layers_go_on_as_few_devices_as_hold_them(rooms: list[int], layers: list[int]) -> None:
    placed = place(NEEDS, GPUS, rooms)
    assert [count for _, count in placed] == layers
    assert [device for device, _ in placed] == sorted(
        (device for device, _ in placed), key=lambda device: device.index
    )


@pytest.mark.parametrize(
    ("rooms", "placed"),
    [
        # One device holds all of it, wherever it stands.
        ([RUNTIME, RUNTIME + 1500, RUNTIME + 9000], {1: 10}),
        ([RUNTIME + 1499, RUNTIME + 1499, RUNTIME + 1500], {2: 10}),
        # The first has no room for embedding and head, or for nothing besides.
        ([0, RUNTIME + 900, RUNTIME + 600], {1: 4, 2: 6}),
        ([RUNTIME + 599, RUNTIME + 900, RUNTIME + 600], {1: 4, 2: 6}),
        # It may still take layers of those that follow.
        ([RUNTIME + 300, RUNTIME + 900, RUNTIME + 300], {1: 4, 2: 3, 0: 3}),
        ([RUNTIME + 300, RUNTIME + 900, RUNTIME + 299], {}),
    ],
)
def test_a_busy_device_does_not_bar_the_others(rooms: list[int], placed: dict[int, int]) -> None:
    found = [(device.index, count) for device, count in place(NEEDS, GPUS, rooms)]
    assert found == list(placed.items())


@pytest.mark.parametrize(
    ("gigabytes", "hint"),
    [
        (20, "--quant int8 takes"),
        (10, "--quant int4 takes"),
        (9.0, "--quant int4 --context 512 takes"),
        (4, "take a smaller model"),
    ],
)
def test_what_does_not_fit_is_told_with_what_would(gigabytes: float, hint: str) -> None:
    error = does_not_fit(config("13b"), torch.float16, "none", 2048, "cuda:0", int(gigabytes * 1e9))
    assert isinstance(error, ResourceError)
    assert f"cuda:0 has {gigabytes:.1f} GB free" in str(error)
    assert hint in (error.hint or "")


def test_a_model_larger_than_the_memory_is_refused_before_loading(
    llama_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = free_memory(torch.device("cpu"))
    assert free is not None
    assert free > 1 << 28
    monkeypatch.setattr(loading, "free_memory", lambda device: 1 << 20)
    started: list[int] = []
    with pytest.raises(ResourceError, match=r"0\.0 GB free"):
        load_model(llama_dir, LoadOptions(quant="int8"), progress=started.append)
    assert not started


class SlowerTogether(Engine):
    """A network so small that a second thread makes it slower."""

    name, context_length, vocab_size, device, dtype = "slow", 64, 4, "cpu", "float32"

    def _forward(self, ids, last):
        time.sleep(0.002 * (torch.get_num_threads() - 1))
        return torch.zeros(last, self.vocab_size)

    def _truncate(self, length):
        pass


def test_a_small_model_leaves_the_threads_to_the_next(
    llama_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = torch.get_num_threads()
    monkeypatch.setattr(loading, "_SMALL", 0)  # the model loaded below is large then
    try:
        torch.set_num_threads(2)
        loading._choose_threads(SlowerTogether())
        assert torch.get_num_threads() == 1
        load_model(llama_dir)
        assert torch.get_num_threads() == 2
        torch.set_num_threads(1)  # somebody else's wish
        load_model(llama_dir)
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)
