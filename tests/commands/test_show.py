from __future__ import annotations

import json
from pathlib import Path

import pytest
from cli import fails, selfee

from selfee_cli.protocol.prompt import render_prompt

RAW = (
    "The sky is blue.\n\n### Feedback 1:\nBad. 4/10. Revision is needed."
    "\n\n### Revision 1:\nThe sky is blue, mostly."
)


@pytest.fixture
def recorded(tmp_path: Path) -> Path:
    path = tmp_path / "answers.jsonl"
    lines = [
        {"question_id": n, "text": "B.", "whole_generation": render_prompt(f"Q{n}?") + RAW}
        for n in (1, 2)
    ]
    path.write_text("\n".join(map(json.dumps, lines)) + "\n")
    return path


def test_chains_are_rendered(recorded: Path) -> None:
    done = selfee("show", recorded, "--id", "2")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("2. Q2?\n\n── Answer\nThe sky is blue.\n")
    assert "Q1?" not in done.stdout
    diff = selfee("show", recorded, "--show", "diff")
    assert diff.stdout.count("The sky is blue{+, mostly+}.") == 2


def test_parsed_chains_a_line(recorded: Path) -> None:
    done = selfee("show", "-", "--jsonl", input=recorded.read_text())
    chains = [json.loads(line) for line in done.stdout.splitlines()]
    assert [chain["question_id"] for chain in chains] == [1, 2]
    assert chains[0]["final"] == "The sky is blue, mostly."
    assert chains[0]["turns"][1] == {
        "kind": "feedback",
        "index": 1,
        "text": "Bad. 4/10. Revision is needed.",
        "complete": True,
        "verdict": "needed",
        "score": 4.0,
    }


def test_what_cannot_be_shown(recorded: Path, tmp_path: Path) -> None:
    assert "no file" in fails(4, "show", tmp_path / "nowhere")
    assert "no chain with the id 9" in fails(4, "show", recorded, "--id", "9")
    assert "holds no chain" in fails(1, "show", "-", input="{}")
    (tmp_path / "bytes").write_bytes(b"\xff\xfe")
    assert "cannot read" in fails(1, "show", tmp_path / "bytes")


def test_published_files_are_read(published: list[dict]) -> None:
    text = "\n".join(json.dumps(record) for record in published)
    done = selfee("show", "-", "--jsonl", input=text)
    chains = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(chains) == len(published)
    same = sum(
        chain["final"].strip() == record["text"].strip()
        for chain, record in zip(chains, published, strict=True)
    )
    assert same / len(chains) > 0.9  # the rest are the original's own faults at cut-off chains
