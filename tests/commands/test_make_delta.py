"""``make-delta`` as a user runs it: there and back on the bundled model, and what is wrong."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from cli import fails, selfee

from selfee_cli.tiny.bundle import BASE, DELTA


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundled base, and the tuned model as apply-delta makes it in float16."""
    place = tmp_path_factory.mktemp("models")
    shutil.copytree(BASE, place / "base")
    done = selfee("apply-delta", "--base", BASE, "--delta", DELTA, "--out", place / "tuned")
    assert done.returncode == 0, done.stderr
    return place


def make(models: Path, out: Path) -> list[str | Path]:
    return ["make-delta", "--base", models / "base", "--tuned", models / "tuned", "--out", out]


def apply(models: Path, delta: Path, out: Path) -> list[str | Path]:
    return ["apply-delta", "--base", models / "base", "--delta", delta, "--out", out]


def test_there_and_back_again(models: Path, tmp_path: Path) -> None:
    done = selfee(*make(models, tmp_path / "delta"))
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    assert "round trip: base + delta gives the tuned weights back bit for bit" in done.stderr
    assert "next: selfee apply-delta --base" in done.stderr
    assert "--dtype float16 --out DIR" in done.stderr
    assert selfee("verify", tmp_path / "delta").returncode == 0
    assert selfee(*apply(models, tmp_path / "delta", tmp_path / "out")).returncode == 0
    wanted = (models / "tuned" / "model.safetensors").read_bytes()
    assert (tmp_path / "out" / "model.safetensors").read_bytes() == wanted


def test_a_narrow_delta_counts_and_an_exact_one_leads_back(models: Path, tmp_path: Path) -> None:
    lossy = selfee(*make(models, tmp_path / "lossy"), "--dtype", "bfloat16", "--json")
    assert lossy.returncode == 0, lossy.stderr
    found = json.loads(lossy.stdout)
    told = found["round_trip"]
    assert found["schema"] == "selfee.make-delta/1"
    assert found["manifest"]["kind"] == "delta"
    assert set(found["manifest"]["made_from"]) == {"base", "tuned"}
    assert told["dtype"] == "float16" and not told["exact"] and not told["corrected"]
    assert 0 < told["different"] < told["elements"] == found["parameters"]
    assert told["share"] == told["different"] / told["elements"]
    assert told["worst"]["share"] >= told["share"]
    assert found["notes"][-1] in lossy.stderr and "--exact" in lossy.stderr
    check = ["verify", models / "tuned", "--base", models / "base", "--delta"]
    assert selfee(*check, tmp_path / "lossy").returncode == 3

    exact = selfee(*make(models, tmp_path / "exact"), "--dtype", "bfloat16", "--exact", "--json")
    again = json.loads(exact.stdout)["round_trip"]
    assert again == {**told, "exact": True, "corrected": True}
    assert selfee(*check, tmp_path / "exact").returncode == 0
    assert selfee(*apply(models, tmp_path / "exact", tmp_path / "out")).returncode == 0
    wanted = (models / "tuned" / "model.safetensors").read_bytes()
    assert (tmp_path / "out" / "model.safetensors").read_bytes() == wanted

    other = selfee(*apply(models, tmp_path / "exact", tmp_path / "wide"), "--dtype", "float32")
    assert other.returncode == 0
    assert "selfee-correction.safetensors was not applied: it holds for float16" in other.stderr


@pytest.mark.parametrize(
    ("changes", "code", "message"),
    [
        (["--tuned", "base"], 2, "same directory"),
        (["--base", "tuned"], 2, "same directory"),
        (["--tuned", DELTA], 1, "is itself a delta"),
        (["--base", DELTA], 1, "is itself a delta"),
        (["--base", "tuned", "--tuned", "base"], 3, "do not belong together"),
        (["--base", "./nowhere"], 4, "nowhere"),
        (["--dtype", "int8"], 2, "--dtype int8 is unknown"),
        (["--shard-size", "big"], 2, "--shard-size big is no size"),
        (["--out", "tuned"], 2, "is not empty"),
    ],
)
def test_what_cannot_be_meant_is_one_clear_line(
    models: Path, tmp_path: Path, changes: list[str | Path], code: int, message: str
) -> None:
    names = ("base", "tuned", "./nowhere")
    given = [models / change if change in names else change for change in changes]
    error = fails(code, *make(models, tmp_path / "delta"), *given)
    assert message in error
    assert error.startswith("error: ") and len(error.splitlines()) == 2
    assert not list(tmp_path.iterdir())
