"""``selfee ask`` on the bundled model, as a user runs it."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from cli import fails, no_defect, selfee
from models import make_model
from terminal import CTRL_C, Terminal

from selfee_cli.api import load
from selfee_cli.errors import NotFoundError
from selfee_cli.protocol.chain import parse_chain
from selfee_cli.tiny.bundle import DELTA

QUESTION = "What is 47 + 85?"
JSON_KEYS = [
    "schema",
    "instruction",
    "input",
    "turns",
    "final",
    "final_turn",
    "revisions",
    "stop_reason",
    "raw",
    "usage",
    "timing",
    "sampling",
    "model",
]


def test_json_is_the_contracts_and_reproducible() -> None:
    arguments = ("ask", QUESTION, "--min-revisions", "2", "--seed", "1", "--json", "--token-ids")
    first, second = selfee(*arguments), selfee(*arguments, "--engine", "transformers")
    assert first.returncode == second.returncode == 0, first.stderr + second.stderr
    chain, again = json.loads(first.stdout), json.loads(second.stdout)
    assert list(chain) == [*JSON_KEYS, "token_ids"]
    assert chain["schema"] == "selfee.chain/1"
    assert chain["instruction"] == QUESTION
    assert chain["revisions"] >= 2
    kinds = [(turn["kind"], turn["index"]) for turn in chain["turns"]]
    assert kinds[:5] == [
        ("answer", 0),
        ("feedback", 1),
        ("revision", 1),
        ("feedback", 2),
        ("revision", 2),
    ]
    for turn in chain["turns"]:
        assert {"kind", "index", "text", "tokens", "seconds", "complete"} <= set(turn)
        if turn["kind"] == "feedback":
            assert {"verdict", "score", "enforced"} <= set(turn)
    turns = parse_chain(chain["raw"], complete=True)
    assert [t.text for t in turns] == [turn["text"] for turn in chain["turns"]]
    assert chain["usage"]["completion_tokens"] == len(chain["token_ids"]["generated"])
    assert sum(turn["tokens"] for turn in chain["turns"]) == chain["usage"]["completion_tokens"]
    assert re.fullmatch(r"sha256:[0-9a-f]{64}", chain["model"]["fingerprint"])
    assert chain["sampling"]["seed"] == 1
    # The same seed gives the same ids, whichever engine computes them.
    assert again["token_ids"] == chain["token_ids"]
    assert "using the bundled tiny model" in first.stderr


@pytest.mark.parametrize("quant", ["int8", "fp8"])
def test_quantised_weights_still_add(quant: str) -> None:
    done = selfee("ask", QUESTION, "--quant", quant, "--temperature", "0", "--json", "-q")
    assert done.returncode == 0, done.stderr
    chain = json.loads(done.stdout)
    assert chain["model"]["quant"] == quant
    assert "132" in chain["final"]


def test_a_pipe_gets_the_final_answer_alone() -> None:
    done = selfee("ask", "-", "--verbose", "--seed", "4", input=f"{QUESTION}\n", FORCE_COLOR="")
    assert done.returncode == 0
    assert "native engine, float32 on cpu, 2048 tokens of context" in done.stderr
    assert len(done.stdout.splitlines()) == 1
    assert "\x1b" not in done.stdout
    assert "###" not in done.stdout


def test_jsonl_streams_the_events() -> None:
    done = selfee("ask", QUESTION, "--jsonl", "--seed", "3", "-q")
    assert done.stderr == ""
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert events[0] == {"type": "turn_started", "kind": "answer", "index": 0}
    assert events[-1]["type"] == "chain_ended"
    for turn in events[-1]["turns"]:
        text = "".join(
            event["text"]
            for event in events
            if event["type"] == "text"
            and (event["kind"], event["index"]) == (turn["kind"], turn["index"])
        )
        assert text == turn["text"]


def test_show_chain_in_a_pipe_is_plain_text(tmp_path: Path) -> None:
    note = tmp_path / "note.txt"
    note.write_text("Some text.")
    seen = ("--show", "chain", "--input", f"@{note}", "--min-revisions", "1", "--seed", "4")
    done = selfee("ask", QUESTION, *seen)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("── Answer\n")
    assert "── Feedback 1\n" in done.stdout
    assert "\x1b" not in done.stdout


def test_a_question_longer_than_the_context() -> None:
    error = fails(2, "ask", "-", "--context", "200", input="word " * 500)
    assert re.search(r"error: the question takes \d+ tokens; the context holds 200", error)


def test_ctrl_c_prints_what_is_complete() -> None:
    command = [sys.executable, "-m", "selfee_cli", "ask", QUESTION, "--jsonl"]
    command += ["--min-revisions", "40", "--seed", "4", "-q"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=dict(os.environ)
    ) as process:
        lines = []
        for line in process.stdout:
            lines.append(json.loads(line))
            if lines[-1]["type"] == "turn_ended" and len(lines) > 3:
                process.send_signal(signal.SIGINT)
                break
        rest = [json.loads(line) for line in process.stdout]
        error = process.stderr.read()
    assert process.returncode == 130
    ended, answer = rest[-1], lines[-1]
    assert ended["type"] == "chain_ended"
    assert ended["stop_reason"] == "interrupted"
    assert answer["kind"] == "answer"
    assert ended["turns"][0]["text"] == answer["text"]
    *complete, broken = ended["turns"]
    assert not broken["complete"]
    final = [turn for turn in complete if turn["kind"] != "feedback"][-1]
    assert ended["final"] == final["text"]
    assert ended["final_turn"] == {"kind": final["kind"], "index": final["index"]}
    no_defect(error)


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["hi", "--min-revisions", "3", "--max-revisions", "1"], 2, "--max-revisions 1 is less"),
        (["hi", "--min-revisions", "-1"], 2, "cannot be negative"),
        (["hi", "--temperature", "-1"], 2, "--temperature is -1"),
        (["hi", "--top-p", "0"], 2, "--top-p is 0"),
        (["hi", "--max-new-tokens", "0"], 2, "--max-new-tokens is 0"),
        (["hi", "--json", "--jsonl"], 2, "exclude each other"),
        (["hi", "--token-ids"], 2, "--token-ids adds to JSON"),
        (["hi", "--input", "@nowhere.txt"], 4, "no file nowhere.txt"),
        (["hi", "--model", "nowhere"], 4, "no model at nowhere"),
        (["hi", "--model", "kaist-ai/selfee-7b"], 4, "hf download kaist-ai/selfee-7b"),
        (["hi", "--model", str(DELTA)], 1, "is a delta, not a model"),
        (["hi", "--quant", "int3"], 2, "--quant int3 is unknown"),
        (["hi", "--quant", "int8", "--engine", "transformers"], 2, "needs the native engine"),
        (["hi", "--bogus"], 2, "No such option"),
        (["  "], 2, "the question is empty"),
        ([], 2, "the question is empty"),
    ],
)
def test_bad_input_is_one_clear_line(arguments: list[str], code: int, message: str) -> None:
    error = fails(code, "ask", *arguments, input="")
    assert message in error
    assert len(error.splitlines()) <= 4


def test_standard_input_may_be_closed() -> None:
    for arguments, told in (("ask", "no question"), ("ask -", "standard input is closed")):
        code = f"{sys.executable} -m selfee_cli {arguments} <&-"
        done = subprocess.run(["bash", "-c", code], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout) == (2, "")
        assert f"error: {told}\n" in done.stderr
        no_defect(done.stderr)


def test_standard_output_and_error_may_be_closed() -> None:
    ask = f"{sys.executable} -m selfee_cli ask 'Add 48 and 57.' --temperature 0 --min-revisions 1"
    for closed, told in (("2>&-", "The sum is 105.\n"), (">&-", ""), (">&- 2>&-", "")):
        done = subprocess.run(
            ["bash", "-c", f"{ask} {closed}"], capture_output=True, text=True, check=False
        )
        assert (done.returncode, done.stdout) == (0, told)
        no_defect(done.stderr)


@pytest.fixture(scope="module")
def untrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model in a directory named tiny; what it writes never ends."""
    return make_model(tmp_path_factory.mktemp("models") / "tiny")


def test_a_directory_named_tiny_is_no_bundled_model(
    untrained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(untrained.parent)
    done = selfee("ask", "Why?", "--model", "./tiny", "--max-new-tokens", "1", "--json")
    assert json.loads(done.stdout)["model"]["path"] == "tiny"
    for path in (Path("tiny"), untrained):
        assert load(path).model.path == path
    assert load("tiny").model.path != Path("tiny")
    with pytest.raises(NotFoundError, match="no model at kaist-ai/selfee-7b"):
        load(Path("kaist-ai/selfee-7b"))  # a path is no repository


LITTLE_MEMORY = """
import resource, sys
from pathlib import Path
import selfee_cli.commands.ask, selfee_cli.engine.loading, selfee_cli.engine.session
from selfee_cli.cli import main

pages = int(Path("/proc/self/statm").read_text().split()[0])
most = pages * resource.getpagesize() + 24 * 2**20
resource.setrlimit(resource.RLIMIT_AS, (most, most))
sys.argv = ["selfee", "ask", "Why?", "--model", sys.argv[1]]
main()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the limit is reckoned as Linux does")
def test_memory_that_runs_out_while_loading(tmp_path: Path) -> None:
    model = make_model(tmp_path / "wide", intermediate_size=50_000, num_hidden_layers=1)  # 38 MB
    done = subprocess.run(
        [sys.executable, "-c", LITTLE_MEMORY, str(model)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (5, ""), done.stderr
    assert "do not fit into the memory of cpu" in done.stderr
    no_defect(done.stderr)


def test_an_answer_that_is_cut_off_is_told_as_such(untrained: Path) -> None:
    short = selfee("ask", QUESTION, "--max-new-tokens", "2", "--min-revisions", "1", "--seed", "4")
    assert short.returncode == 0
    assert "the answer is cut off: --max-new-tokens is reached; more" in short.stderr
    assert "0 of 1 revisions were completed" in short.stderr
    full = selfee("ask", "Why?", "--model", untrained, "--context", "180", "--temperature", "0")
    assert full.returncode == 0
    assert "the answer is cut off: the context is full; a longer --context" in full.stderr
    assert "complete turn" not in full.stderr


# -- with a scripted model ---------------------------------------------------------------------

WHY = ("ask", "Why?", "--model", "scripted", "--no-lookup")
THREE = ("--min-revisions", "3", "--max-revisions", "3")
SLACK = 1.0  # seconds that a busy machine may add


def scripted(model: dict[str, object], *arguments: str) -> subprocess.Popen[str]:
    """Start ``selfee ARGUMENTS`` with a scripted model, its streams pipes."""
    script = str(Path(__file__).parents[1] / "slow_chat.py")
    return subprocess.Popen(
        [sys.executable, script, json.dumps(model), *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    )


@pytest.mark.parametrize(
    ("held", "shown"),
    [(1, r"── Answer\r\n"), (6, "Answer says 1, then"), (26, "Point 1"), (42, "Revision 1 says")],
)
def test_ctrl_c_stops_within_half_a_second(held: int, shown: str) -> None:
    with Terminal(*WHY, *THREE, model={"hold": held}) as terminal:
        terminal.expect(shown)
        began = time.monotonic()
        terminal.send(CTRL_C)
        assert terminal.end() == 130
        assert time.monotonic() - began < 0.5 + SLACK
        assert "(unfinished)" in terminal.text
        assert " · interrupted" in terminal.text
        no_defect(terminal.text)


@pytest.mark.parametrize(
    ("held", "final"), [(1, ""), (6, ""), (26, "Answer says 1, then 56 more words. It ends.\n")]
)
def test_ctrl_c_in_a_pipe_prints_the_last_complete_turn(held: int, final: str) -> None:
    with scripted({"hold": held, "tell": True}, *WHY, *THREE) as process:
        assert process.stderr is not None
        assert process.stderr.readline() == "holding\n"
        process.send_signal(signal.SIGINT)
        out, error = process.communicate(timeout=60)
    assert (process.returncode, out, error) == (130, final, "interrupted\n")


def test_what_is_complete_when_the_context_is_full_is_no_cut_off_answer() -> None:
    with scripted({"context": 140}, *WHY, *THREE) as process:
        out, error = process.communicate(timeout=60)
    assert process.returncode == 0
    assert out.endswith("It ends.\n")
    assert "the context is full: the chain stops at its last complete turn\n" in error
    assert "cut off" not in error
    no_defect(error)


def test_ctrl_c_twice_ends_at_once() -> None:
    with scripted({"hold": 26, "tell": True, "deaf": True}, *WHY, *THREE) as process:
        assert process.stderr is not None
        assert process.stderr.readline() == "holding\n"
        process.send_signal(signal.SIGINT)
        time.sleep(0.2)
        process.send_signal(signal.SIGINT)
        began = time.monotonic()
        _, error = process.communicate(timeout=60)
    assert time.monotonic() - began < 10
    assert process.returncode == 130
    no_defect(error)


def test_a_reader_that_goes_away_is_no_error() -> None:
    with scripted({}, *WHY, *THREE, "--show", "chain") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "── Answer\n"
        process.stdout.close()
        process.stdout = None
        _, error = process.communicate(timeout=60)
    assert process.returncode != 0
    assert error == ""


def test_an_input_reaches_the_prompt(tmp_path: Path) -> None:
    note = tmp_path / "note.txt"
    note.write_text("Roses are 红.\n", "utf-8")
    done = selfee("ask", "Why?", "--input", f"@{note}", "--json", "-q", "--token-ids")
    chain = json.loads(done.stdout)
    assert chain["input"] == "Roses are 红.\n"
    bare = json.loads(selfee("ask", "Why?", "--json", "-q").stdout)
    assert chain["usage"]["prompt_tokens"] > bare["usage"]["prompt_tokens"]
