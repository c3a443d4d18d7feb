"""What a model takes, and where its layers lie."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from selfee_cli.bench.random_weights import RandomCheckpoint
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
        ([RUNTIME + 499, RUNTIME + 9000, 0], []),
    ],
)
def test_layers_go_on_as_few_devices_as_hold_them(rooms: list[int], layers: list[int]) -> None:
    placed = place(NEEDS, GPUS, rooms)
    assert [count for _, count in placed] == layers
    assert [device for device, _ in placed] == sorted(
        (device for device, _ in placed), key=lambda device: device.index
    )


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
    from selfee_cli.engine import loading

    free = free_memory(torch.device("cpu"))
    assert free is not None
    assert free > 1 << 28
    monkeypatch.setattr(loading, "free_memory", lambda device: 1 << 20)
    started: list[int] = []
    with pytest.raises(ResourceError, match=r"0\.0 GB free"):
        load_model(llama_dir, LoadOptions(quant="int8"), progress=started.append)
    assert not started
