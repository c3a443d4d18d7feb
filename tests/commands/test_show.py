from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from cli import fails, no_defect, selfee
from scripted_chat import Chat

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
    for turns in ([], [{"kind": "answer", "index": 0, "text": 5, "complete": True}]):
        chain = {"schema": "selfee.chain/1", "instruction": "Q?", "turns": turns}
        assert "is not a chain" in fails(1, "show", "-", input=json.dumps(chain))
    for foreign in ("null", "[" * 100_000):
        assert "\nhint: " in fails(1, "show", "-", input=foreign)
    (tmp_path / "bytes").write_bytes(b"\xff\xfe")
    for unreadable in (tmp_path / "bytes", tmp_path):
        error = fails(1, "show", unreadable)
        assert "cannot read" in error and "\nhint: " in error
    assert "no file" in fails(4, "show", tmp_path / ("long" * 64))


def test_a_file_saved_with_a_byte_order_mark(recorded: Path) -> None:
    plain = selfee("show", recorded).stdout
    recorded.write_bytes(b"\xef\xbb\xbf" + recorded.read_bytes())
    done = selfee("show", recorded)
    assert (done.returncode, done.stdout) == (0, plain), done.stderr


@pytest.mark.parametrize("number", ["1e999", "-Infinity", "NaN"])
def test_a_number_that_json_cannot_print(recorded: Path, number: str) -> None:
    line = recorded.read_text().replace('"question_id": 1,', f'"question_id": {number},')
    for more in ([], ["--jsonl"]):
        error = fails(1, "show", "-", *more, input=line)
        assert "error: -:1 is not a chain: question_id is out of range\n" in error


def test_a_foreign_record_is_named_with_its_line_and_field(tmp_path: Path) -> None:
    path = tmp_path / "foreign.jsonl"
    turn = {"kind": "answer", "index": 0, "text": "A.", "complete": True}
    good = {"schema": "selfee.chain/1", "instruction": "Q?", "turns": [turn]}
    bad = good | {"turns": [turn, turn | {"kind": "feedback", "index": 1, "score": "8"}]}
    path.write_text(f"{json.dumps(good)}\n{json.dumps(bad)}\n")
    done = selfee("show", path)
    assert done.returncode == 1
    assert done.stdout.startswith("Q?\n\n── Answer\nA.\n")
    what = f"{path}:2 is not a chain: turns[1].score is text, not a number"
    assert done.stderr == f"error: {what}\nhint: correct it, or remove it\n"


def test_json_lines_are_whole_where_output_is_not_utf_8() -> None:
    whole = render_prompt("naïve “x” 東") + "A."
    line = json.dumps({"whole_generation": whole})
    done = selfee("show", "-", "--jsonl", input=line, PYTHONIOENCODING="latin-1")
    assert json.loads(done.stdout)["instruction"] == "naïve “x” 東"


def test_standard_input_may_be_closed() -> None:
    code = f"{sys.executable} -m selfee_cli show - <&-"
    done = subprocess.run(["bash", "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert "error: standard input is closed\n" in done.stderr
    no_defect(done.stderr)


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


def test_sessions_are_shown(tmp_path: Path) -> None:
    chat = Chat(tmp_path / "sessions")
    chat.enter("Why \x1b[2J 数?")
    chat.enter("/revise")
    chat.enter("/accept 0")
    chat.enter("And then?")
    path = chat.path
    final = chat.repl.talk.chains[0].final
    chat.repl.journal.close()
    done = selfee("show", path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("1. Why \\x1b[2J 数?\n\n── Answer\n")
    assert "\n2. And then?\n" in done.stdout
    assert "= Answer is the answer · " in done.stdout
    chains = [json.loads(line) for line in selfee("show", path, "--jsonl").stdout.splitlines()]
    assert [chain["question_id"] for chain in chains] == [1, 2]
    assert (chains[0]["final"], chains[0]["revisions"] > 0) == (final, True)
    assert "no chain with the id 3" in fails(4, "show", path, "--id", "3")


def test_damaged_sessions_are_shown_as_far_as_they_go(tmp_path: Path) -> None:
    chat = Chat(tmp_path / "sessions")
    chat.enter("Why 数?")
    data = chat.path.read_bytes()
    chat.repl.journal.close()
    cut = data[: data.rindex("数".encode()) + 1]
    (tmp_path / "cut.jsonl").write_bytes(cut)
    done = selfee("show", tmp_path / "cut.jsonl")
    assert done.returncode == 0, done.stderr
    assert "1 damaged line was skipped" in done.stderr
    assert "── Answer" in done.stdout
    (tmp_path / "unasked.jsonl").write_bytes(data[: data.index(b"\n") + 1])
    unasked = fails(1, "show", tmp_path / "unasked.jsonl")
    assert "holds no chain" in unasked
    assert "nothing was asked in this session" in unasked


def test_what_is_empty_is_no_session() -> None:
    for told in (fails(1, "show", "-", input=""), fails(1, "show", "/dev/null")):
        assert "holds no chain\nhint: chains stand in published answer files" in told


def test_transcripts_are_shown(tmp_path: Path) -> None:
    chat = Chat(tmp_path / "sessions")
    for entry in ("Why?", "/revise", "/accept 0"):
        chat.enter(entry)
    final = chat.repl.talk.last.final
    for suffix in (".json", ".jsonl"):
        chat.enter(f"/save {tmp_path}/talk{suffix}")
        done = selfee("show", tmp_path / f"talk{suffix}", "--show", "final")
        assert done.stdout == f"Why?\n\n{final}\n\n"
    chat.repl.journal.close()
