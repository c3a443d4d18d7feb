"""Which advice follows from what base and delta look like."""

from __future__ import annotations

from pathlib import Path

import pytest
from makers import SMALL, random_tensors, write_checkpoint

from selfee_cli.errors import MismatchError, SelfeeError
from selfee_cli.weights.delta_plan import plan_delta


def write_pair(path: Path, *, delta: bool) -> tuple[Path, Path]:
    """A model with a row more than what is to be added to it."""
    base = random_tensors(SMALL, seed=1, rows_more=1)
    other = random_tensors(SMALL, seed=2, delta=delta)
    write_checkpoint(path / "base", base, SMALL, "safetensors", rows_more=1)
    write_checkpoint(path / "delta", other, SMALL, "safetensors")
    return path / "base", path / "delta"


def test_a_base_with_a_row_more_than_its_delta_is_not_swapped_with_it(tmp_path: Path) -> None:
    with pytest.raises(MismatchError) as caught:
        plan_delta(*write_pair(tmp_path, delta=True))
    assert "[51, 32] in the base, [50, 32] in the delta" in caught.value.message


def test_rows_tell_the_roles_where_norms_do_not(tmp_path: Path) -> None:
    with pytest.raises(SelfeeError, match=r"base and delta are swapped: .* has 51 rows"):
        plan_delta(*write_pair(tmp_path, delta=False))
