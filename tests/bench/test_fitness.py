"""What ``selfee doctor`` says, held against what this machine is."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace

import pytest
import torch
from cli import selfee

from selfee_cli import __version__
from selfee_cli.bench import fitness
from selfee_cli.bench.fitness import Device, examine


def test_json_says_what_is_here() -> None:
    done = selfee("doctor", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["versions"]["selfee"] == __version__
    assert found["versions"]["torch"].split("+")[0] == torch.__version__.split("+")[0]
    assert found["devices"][-1]["name"] == "cpu"
    assert 0 < found["disk_free"] <= shutil.disk_usage(".").total
    assert {fit["model"] for fit in found["fits"]} == {"SelFee-7B", "SelFee-13B"}


def test_the_page_is_for_people() -> None:
    done = selfee("doctor")
    assert done.returncode == 0, done.stderr
    assert "SelFee-13B  cpu  bfloat16" in done.stdout
    assert "\x1b" not in done.stdout


def with_devices(monkeypatch: pytest.MonkeyPatch, tmp_path, *devices: Device):
    monkeypatch.setattr(fitness, "_devices", lambda: list(devices))
    return examine(tmp_path)


def test_a_card_of_24_gb_runs_7b_and_13b_in_eight_bits(monkeypatch, tmp_path) -> None:
    card = Device(name="cuda:0", title="a card", memory=24_000_000_000, bandwidth=9e11)
    found = with_devices(monkeypatch, tmp_path, card)
    fits = {(fit.model, fit.form): fit for fit in found.fits}
    assert {key for key, fit in fits.items() if not fit.fits} == {("SelFee-13B", "float16")}
    # Weights, 2048 tokens of keys and values, and some room: 13.48 + 1.07 + 0.73 GB.
    half = fits["SelFee-7B", "float16"]
    assert half.needed == pytest.approx(15.28e9, rel=0.01)
    # A token reads all but the embedding.
    read = 13_476_847_616 - 2 * 32001 * 4096
    assert half.tokens_per_second == pytest.approx(9e11 / read, rel=1e-3)
    assert fits["SelFee-13B", "int4"].tokens_per_second > 3 * half.tokens_per_second / 2
    assert not found.advice or all("disk" in advice.problem for advice in found.advice)


def test_a_machine_without_a_gpu_and_with_little_memory(monkeypatch, tmp_path) -> None:
    found = with_devices(
        monkeypatch, tmp_path, Device(name="cpu", title="old", memory=4_000_000_000, bandwidth=1e10)
    )
    assert not any(fit.fits for fit in found.fits)
    problems = " ".join(advice.problem for advice in found.advice)
    for words in ("no GPU", "SelFee-7B does not fit", "SelFee-13B does not fit"):
        assert words in problems
    assert all(advice.remedy for advice in found.advice)


def test_the_gpu_that_is_advised_is_large_enough(monkeypatch, tmp_path) -> None:
    cpu = Device(name="cpu", title="old", memory=4_000_000_000, bandwidth=1e10)
    (advice,) = (a for a in with_devices(monkeypatch, tmp_path, cpu).advice if "GPU" in a.problem)
    forms = re.findall(r"with ([\d.]+) GB .*?as (int\d)", advice.remedy)
    assert [form for _, form in forms] == ["int4", "int8"]
    for gigabytes, form in forms:
        for change, fits in ((0.0, True), (-0.2, False)):
            memory = int((float(gigabytes) + change) * 1e9)
            card = Device(name="cuda:0", title="a card", memory=memory, bandwidth=9e11)
            found = with_devices(monkeypatch, tmp_path, card).fits
            assert [f.fits for f in found if (f.model, f.form) == ("SelFee-13B", form)] == [fits]


def test_two_cards_hold_together_what_one_does_not(monkeypatch, tmp_path) -> None:
    cards = [
        Device(name=f"cuda:{at}", title="a card", memory=16_000_000_000, bandwidth=9e11)
        for at in range(2)
    ]
    found = with_devices(monkeypatch, tmp_path, *cards)
    both = {(fit.model, fit.form): fit for fit in found.fits if fit.device == "cuda:0+cuda:1"}
    assert ("SelFee-13B", "float16") in both
    assert ("SelFee-7B", "float16") not in both  # one holds it
    whole = next(f for f in found.fits if (f.model, f.form) == ("SelFee-13B", "float16"))
    half = both["SelFee-13B", "float16"]
    assert half.fits
    assert not whole.fits
    assert half.needed > whole.needed
    assert half.tokens_per_second == pytest.approx(whole.tokens_per_second)
    assert not any("does not fit" in advice.problem for advice in found.advice)
    unread = [replace(card, bandwidth=0.0) for card in cards]
    assert {fit.tokens_per_second for fit in with_devices(monkeypatch, tmp_path, *unread).fits} == {
        0
    }
