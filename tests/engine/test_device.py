"""Which number format a model gets, by what there is room for."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from selfee_cli.engine import memory
from selfee_cli.engine.device import pick_dtype
from selfee_cli.engine.memory import available_memory, total_memory


@pytest.mark.parametrize(
    ("left", "dtype"), [(1.2, torch.float32), (1.05, torch.bfloat16), (0.6, torch.bfloat16)]
)
def test_a_limit_of_the_container_decides_as_the_machine_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, left: float, dtype: torch.dtype
) -> None:
    whole = total_memory()
    assert whole is not None
    weights = whole // 100  # bytes in float32: of the machine's memory next to nothing
    (tmp_path / "memory.current").write_text("1000000\n")
    (tmp_path / "memory.max").write_text(f"{1_000_000 + int(left * weights)}\n")
    monkeypatch.setattr(memory, "_CGROUP", tmp_path)
    assert available_memory() == int(left * weights)
    cpu = torch.device("cpu")
    assert pick_dtype("auto", cpu, stored="float16", parameters=weights // 4) == dtype
    assert pick_dtype("float32", cpu, stored="float16", parameters=weights // 4) == torch.float32
