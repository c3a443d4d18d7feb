"""Replayed chains: the counts add up, and repeated text costs few passes."""

from __future__ import annotations

import json
from pathlib import Path

import models
import pytest
from cli import fails, selfee
from scripted_chat import Chat

from selfee_cli.bench.lookup import replay
from selfee_cli.engine.tokenizer import load_tokenizer
from selfee_cli.protocol.prompt import render_prompt

ANSWER = "Red, green and blue are three colours that most people name first when asked."
CHAIN = (
    f"{ANSWER}\n\n### Feedback 1:\nIt is clear. 8/10. Revision is needed."
    f"\n\n### Revision 1:\n{ANSWER} Yellow is a fourth."
    "\n\n### Feedback 2:\nIt is clear. 8/10. Revision is not needed."
)


@pytest.fixture
def recorded(tmp_path: Path) -> Path:
    (tmp_path / "tokenizer.model").write_bytes(models.tokenizer_model())
    line = {"question_id": 1, "whole_generation": render_prompt("Name 3 colours.") + CHAIN}
    (tmp_path / "chains.jsonl").write_text(f"{json.dumps(line)}\n" * 2)
    return tmp_path


def test_json_has_every_figure(recorded: Path) -> None:
    done = selfee(
        "bench", "lookup", recorded / "chains.jsonl", "--tokenizer", recorded, "--json", "-q"
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert set(found) >= {"tokens_per_pass", "by_turn", "peer"}
    assert list(found["by_turn"]) == ["Answer", "Feedback 1", "Revision 1", "Feedback 2"]
    assert found["chains"] == 2
    # The second chain is the first again, so the memory of the session gives nearly all of it.
    assert found["tokens_per_pass"] > found["alone"] > 1
    assert found["by_turn"]["Revision 1"] > found["by_turn"]["Answer"]
    assert found["peer"]["tokens_per_pass"] > 1


def test_a_table_without_peers(recorded: Path) -> None:
    tokenizer = recorded / "tokenizer.model"
    done = selfee(
        "bench", "lookup", recorded / "chains.jsonl", "--tokenizer", tokenizer, "--without-peers"
    )
    assert done.returncode == 0, done.stderr
    assert "Revision 1" in done.stdout
    assert "transformers" not in done.stdout


def test_every_token_is_counted_once(recorded: Path) -> None:
    from selfee_cli.protocol.records import read_records

    text = (recorded / "chains.jsonl").read_text()
    chains = [record.chain for record in read_records(text, source="here")]
    tokenizer = load_tokenizer(recorded)
    found = replay(chains, tokenizer, peer=False)
    tokens = 2 * len(tokenizer.encode_continuation(CHAIN))
    assert found.session.tokens == found.alone.tokens == tokens
    assert sum(count.passes for count in found.by_turn.values()) == found.session.passes
    assert found.peer is None


def test_a_saved_session_is_replayed(recorded: Path) -> None:
    chat = Chat(recorded / "sessions")
    chat.enter("Why 数?")
    chat.enter("And then?")
    turns = [turn for chain in chat.repl.talk.chains for turn in chain.turns]
    path = chat.path
    chat.repl.journal.close()
    done = selfee("bench", "lookup", path, "--tokenizer", recorded, "--without-peers", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["chains"] == 2
    assert set(found["by_turn"]) == {turn.id.title for turn in turns}


def test_the_tokenizer_named_is_the_one_that_is_read(recorded: Path, tmp_path: Path) -> None:
    chains, command = recorded / "chains.jsonl", ("bench", "lookup", recorded / "chains.jsonl")
    other = tmp_path / "llama.model"
    other.write_bytes(models.tokenizer_model(300))
    told = fails(2, *command, "--tokenizer", other)
    assert "named neither tokenizer.model nor tokenizer.json" in told
    assert "hint: " in told
    fast = tmp_path / "tokenizer.json"
    fast.write_text("{}")
    assert "a tokenizer.model beside it" in fails(2, *command, "--tokenizer", fast)
    fails(2, *command, "--tokenizer", chains)


def test_what_is_missing_is_told(recorded: Path) -> None:
    told = fails(4, "bench", "lookup", recorded / "none.jsonl", "--tokenizer", recorded)
    assert "none.jsonl" in told
    assert "--input" not in told
    fails(4, "bench", "lookup", recorded / "chains.jsonl", "--tokenizer", recorded / "nowhere")


def test_published_chains_give_more_than_three_tokens_a_pass(
    published: list[dict], llama_tokenizer_dir: Path
) -> None:
    from selfee_cli.protocol.records import read_records

    lines = [line for line in published if "enforce_3" in line["file"]][:12]
    text = "\n".join(json.dumps(line) for line in lines)
    chains = [record.chain for record in read_records(text, source="published")]
    found = replay(chains, load_tokenizer(llama_tokenizer_dir), peer=False)
    assert found.session.tokens_per_pass > 3.2
