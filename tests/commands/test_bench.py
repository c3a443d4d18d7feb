"""``selfee bench`` as a user runs it, on as few bytes as it takes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from cli import fails, selfee

SMALL = ["bench", "delta", "--gigabytes", "0.002", "--rounds", "1"]
# A machine where one library is missing and another way goes wrong in one value.
SITE = """
import sys

if "transformers" in sys.orig_argv:
    sys.modules["transformers"] = None
if "mapped" in sys.orig_argv:
    import safetensors.torch

    save = safetensors.torch.save_file

    def save_file(tensors, *rest, **more):
        tensors["model.norm.weight"][0] += 1
        save(tensors, *rest, **more)

    safetensors.torch.save_file = save_file
"""


def test_a_table_in_a_pipe(tmp_path: Path) -> None:
    done = selfee(*SMALL, "--without-peers", "--dir", tmp_path)
    assert done.returncode == 0, done.stderr
    title, heads, ours, copy, machine = done.stdout.splitlines()
    assert "files warm (just written)" in title
    assert heads.split()[:2] == ["way", "time"]
    assert ours.startswith("selfee apply-delta  ") and " MiB" in ours
    assert copy.startswith("plain copy of the same bytes  ") and " 1.00x " in copy
    assert machine.startswith("on ")
    assert "round 1 of 1: selfee apply-delta: " in done.stderr
    assert not list(tmp_path.iterdir())


def test_a_peer_that_fails_and_one_with_other_bits_are_rows(tmp_path: Path) -> None:
    site = tmp_path / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(SITE)
    path = os.pathsep.join(filter(None, [str(site), os.environ.get("PYTHONPATH")]))
    done = selfee(*SMALL, "--json", "--quiet", "--dir", tmp_path, PYTHONPATH=path)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    found = json.loads(done.stdout)
    assert found["schema"] == "selfee.bench.delta/1"
    assert found["bytes_read"] > 2.9 * found["bytes_written"]
    ours, copy, missing, wrong = found["ways"]
    assert [way["name"] for way in found["ways"]] == [
        "apply-delta",
        "copy",
        "transformers",
        "mapped",
    ]
    assert (ours["same_bits"], copy["same_bits"], copy["ratio_to_copy"]) == (True, None, 1.0)
    assert len(ours["seconds_by_round"]) == 1 and ours["failure"] is None
    assert "transformers" in missing["failure"] and missing["seconds"] is None
    assert (wrong["same_bits"], wrong["different_tensors"]) == (False, 1)


def test_what_cannot_be_is_refused_in_a_line(tmp_path: Path) -> None:
    assert "has room for" in fails(5, *SMALL[:2], "--gigabytes", "900000", "--dir", tmp_path)
    assert "there is no directory" in fails(4, *SMALL, "--dir", tmp_path / "none")
    for small in ("0", "0.001", "-1", "nan"):
        told = fails(2, *SMALL[:2], "--gigabytes", small)
        assert "too small or no size" in told
        assert "hint: 0.002 or more" in told
    for large in ("1e9", "inf"):
        told = fails(2, *SMALL[:2], "--gigabytes", large)
        assert "is too large" in told
        assert "hint: 1,000,000 or less" in told
    fails(2, *SMALL[:2], "--rounds", "0")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_leaves_no_files(tmp_path: Path, sent: signal.Signals) -> None:
    command = [sys.executable, "-m", "selfee_cli", "bench", "delta", "--dir", str(tmp_path)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 60
        while not list(tmp_path.glob("*/few/delta/config.json")):  # it is running the ways
            assert time.monotonic() < deadline and process.poll() is None
            time.sleep(0.05)
        process.send_signal(sent)
        assert process.wait(60) == 130
        assert process.stderr is not None
        assert "the generated files are removed" in process.stderr.read()
    assert not list(tmp_path.iterdir())


def test_its_help() -> None:
    _, _, listed = selfee("bench", "--help", COLUMNS="80").stdout.partition("\nCommands:\n")
    lines = listed.strip().splitlines()
    assert [line.split()[0] for line in lines] == [
        "delta",
        "decode",
        "lookup",
        "perplexity",
        "revisions",
    ]
    for line in lines:
        assert line.endswith((".", "?")) and not line.endswith("...")
    assert "Example: selfee bench delta" in selfee("bench", "delta", "--help").stdout
