"""Perplexity and agreement, against a plain pass of transformers."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from cli import fails, selfee
from scripted_chat import Chat

from selfee_cli.api import TINY, load, resolve_model
from selfee_cli.bench.perplexity import Form, joined_texts, score_texts, texts_of
from selfee_cli.engine.session import Session
from selfee_cli.protocol.prompt import render_prompt
from selfee_cli.protocol.records import read_records


@pytest.fixture(scope="module")
def chains_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("chains") / "chains.jsonl"
    lines = []
    for question in ("What is 47 + 85?", "Which three days come after Monday?"):
        done = selfee("ask", question, "--seed", "1", "--min-revisions", "1", "--json", "-q")
        assert done.returncode == 0, done.stderr
        lines.append(json.dumps(json.loads(done.stdout)))
    path.write_text("\n".join(lines) + "\n", "utf-8")
    return path


@pytest.fixture(scope="module")
def tiny() -> Session:
    return load(TINY)


def test_it_is_the_mean_loss_of_what_the_model_wrote(tiny: Session, chains_file: Path) -> None:
    from transformers import AutoModelForCausalLM

    records = read_records(chains_file.read_text("utf-8"), source="chains")
    chains = [record.chain for record in records]
    tokenizer = tiny.model.tokenizer
    texts = list(texts_of(chains, tokenizer, 2048))
    score = score_texts(tiny.model.engine, Form(), texts, 2048)
    oracle = AutoModelForCausalLM.from_pretrained(resolve_model(TINY), dtype=torch.float32)
    nats, tokens = 0.0, 0
    for chain in chains:
        prompt = tokenizer.encode_prompt(render_prompt(chain.instruction))
        ids = torch.tensor([*prompt, *tokenizer.encode_continuation(chain.raw)])
        with torch.inference_mode():
            logits = oracle(input_ids=ids[None]).logits[0, len(prompt) - 1 : -1]
        nats += float(
            torch.nn.functional.cross_entropy(logits, ids[len(prompt) :], reduction="sum")
        )
        tokens += len(ids) - len(prompt)
    assert score.within.tokens == tokens == len(score.likeliest)
    assert score.within.perplexity == pytest.approx(math.exp(nats / tokens), rel=1e-3)
    assert score.beyond.perplexity is None
    # Positions from 50 on count as beyond.
    split = score_texts(tiny.model.engine, Form(), texts, 50)
    assert split.within.tokens + split.beyond.tokens == tokens
    assert split.within.nats + split.beyond.nats == pytest.approx(score.within.nats, rel=1e-6)


def test_joined_texts_have_the_length(tiny: Session, chains_file: Path) -> None:
    records = read_records(chains_file.read_text("utf-8"), source="chains")
    chains = [record.chain for record in records]
    texts = list(joined_texts(chains, tiny.model.tokenizer, 100))
    whole = [id for ids, _ in texts_of(chains, tiny.model.tokenizer, 2048) for id in ids]
    assert [len(ids) for ids, _ in texts] == [100] * (len(whole) // 100)
    assert [id for ids, _ in texts for id in ids] == whole[: len(texts) * 100]


def test_the_command_compares_forms(chains_file: Path) -> None:
    done = selfee(
        "bench", "perplexity", str(chains_file), "--model", "tiny", "--quant", "int8", "--json"
    )
    assert done.returncode == 0, done.stderr
    plain, eight = json.loads(done.stdout)["forms"]
    assert (plain["quant"], eight["quant"]) == ("none", "int8")
    assert plain["agreement"] is None
    assert eight["agreement"] > 0.9
    assert eight["perplexity"] == pytest.approx(plain["perplexity"], rel=0.2)
    assert eight["weight_bytes"] < 0.3 * plain["weight_bytes"]
    assert plain["tokens"] == eight["tokens"] > 100
    table = selfee("bench", "perplexity", str(chains_file), "--model", "tiny", "--quant", "int4")
    assert "int4" in table.stdout
    assert "as loaded" in table.stdout


def test_a_saved_session_is_scored(tmp_path: Path) -> None:
    chat = Chat(tmp_path / "sessions")
    chat.enter("Why?")
    path = chat.path
    chat.repl.journal.close()
    command = ("bench", "perplexity", path, "--model", "tiny", "--quant", "none", "--json")
    done = selfee(*command)
    assert done.returncode == 0, done.stderr
    plain, again = json.loads(done.stdout)["forms"]
    assert plain["tokens"] == again["tokens"] > 10


def test_what_cannot_be_meant(chains_file: Path) -> None:
    command = ("bench", "perplexity", str(chains_file), "--model", "tiny")
    told = fails(2, *command, "--context", "1024")
    assert "within the 2048" in told
    assert "hint: 2049 or more" in told
    for refused in (
        fails(2, *command, "--quant", "int8", "--quant", "int3"),
        fails(1, *command, "--context", "4096"),
    ):
        assert "--quant int3 is unknown" in refused or "fewer tokens than" in refused
        assert "reading 2 chains" not in refused  # nothing was scored that would be lost
    fails(4, "bench", "perplexity", "nowhere.jsonl", "--model", "tiny")
