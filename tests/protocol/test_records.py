from __future__ import annotations

import json

import pytest

from selfee_cli.errors import SelfeeError
from selfee_cli.protocol.chain import ChainEnded, parse_chain
from selfee_cli.protocol.prompt import render_prompt
from selfee_cli.protocol.records import read_records, replay

RAW = "A.\n\n### Feedback 1:\nBad. 4/10. Revision is needed.\n\n### Revision 1:\nB."
LINE = {"question_id": 7, "text": "B.", "whole_generation": render_prompt("Q?") + RAW}


def records(*values: object) -> list:
    return list(read_records("\n".join(map(json.dumps, values)), source="file"))


def test_a_published_line() -> None:
    (record,) = records(LINE)
    assert record.to_json() == {
        "question_id": 7,
        "instruction": "Q?",
        "turns": [
            {"kind": "answer", "index": 0, "text": "A.", "complete": True}
            | {"verdict": None, "score": None},
            {"kind": "feedback", "index": 1, "text": "Bad. 4/10. Revision is needed."}
            | {"complete": True, "verdict": "needed", "score": 4.0},
            {"kind": "revision", "index": 1, "text": "B.", "complete": True}
            | {"verdict": None, "score": None},
        ],
        "final": "B.",
        "final_turn": {"kind": "revision", "index": 1},
        "revisions": 1,
    }


def test_an_unfinished_revision_is_not_the_final_one() -> None:
    cut = LINE | {"whole_generation": LINE["whole_generation"][:-2] + "B and then the"}
    (record,) = records(cut)
    assert not record.chain.turns[-1].complete
    assert record.chain.final == "A."
    assert record.chain.revisions == 0
    batch = LINE | {"metadata": {"stop_reason": "context"}}
    assert records(batch)[0].chain.final == "A."


def test_json_and_event_lines_come_back_as_they_were() -> None:
    (record,) = records(LINE)
    whole = record.chain.to_json()
    (again,) = records(whole)
    assert again.chain.to_json() == whole
    (event,) = [e for e in replay(record.chain) if isinstance(e, ChainEnded)]
    lines = [{"type": "turn_started", "kind": "answer", "index": 0}, event.to_json()]
    assert records(*lines)[0].chain.turns == record.chain.turns


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "holds no chain"),
        ("{}", "holds no chain"),
        ('{"a": 1}\n{"b"', "file:2 is not JSON"),
        ("[1]", "is not a JSON object"),
        ('{"whole_generation": "Hello"}', "does not begin with SelFee's prompt"),
        ('{"schema": "selfee.chain/1", "turns": [{}]}', "is not a chain"),
    ],
)
def test_what_is_no_record(text: str, message: str) -> None:
    with pytest.raises(SelfeeError, match=message):
        list(read_records(text, source="file"))


MEASURED = {
    "schema": "selfee.chain/1",
    "question_id": 1,
    "instruction": "Q?",
    "turns": [{"kind": "answer", "index": 0, "text": "A.", "complete": True}],
}
HUGE = "9" * 400


def turn_with(**fields: object) -> dict[str, object]:
    return {"turns": [MEASURED["turns"][0] | fields]}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"instruction": 5}, "instruction is a whole number, not text"),
        ({"instruction": None}, "instruction is missing"),
        ({"input": ["a"]}, "input is a list, not text"),
        ({"raw": True}, "raw is true or false, not text"),
        ({"question_id": [1]}, "question_id is neither a number nor text"),
        ({"stop_reason": "stop"}, "stop_reason is none of not_needed, end, "),
        ({"usage": {"completion_tokens": "9"}}, "usage.completion_tokens is text, not a whole"),
        ({"usage": [9]}, "usage is a list, not an object"),
        ({"timing": {"tokens_per_second": {}}}, "timing.tokens_per_second is an object, not a"),
        ({"timing": {"load_seconds": float("nan")}}, "timing.load_seconds is out of range"),
        ({"sampling": {"seed": "x"}}, "sampling.seed is text, not a whole number"),
        ({"model": "tiny"}, "model is text, not an object"),
        ({"final_turn": {"index": 0}}, "final_turn.kind is missing"),
        ({"turns": "A."}, "turns is text, not a list"),
        ({"turns": ["A."]}, r"turns\[0\] is not an object"),
        ({"turns": []}, "it does not begin with an answer"),
        (turn_with(kind="question"), r"turns\[0\].kind is none of answer, feedback, revision"),
        (turn_with(index=1.5), r"turns\[0\].index is a number, not a whole number"),
        (turn_with(text=None), r"turns\[0\].text is missing"),
        (turn_with(complete=1), r"turns\[0\].complete is a whole number, not true or false"),
        (turn_with(score="8"), r"turns\[0\].score is text, not a number"),
        (turn_with(score=int(HUGE)), r"turns\[0\].score is out of range"),
        (turn_with(tokens=True), r"turns\[0\].tokens is true or false, not a whole number"),
        (turn_with(verdict="maybe"), r"turns\[0\].verdict is none of needed, not_needed"),
    ],
)
def test_a_field_of_another_kind_is_named(fields: dict[str, object], message: str) -> None:
    with pytest.raises(SelfeeError, match=f"^file:2 is not a chain: {message}"):
        records(MEASURED, MEASURED | fields)


def test_what_is_missing_or_null_where_it_may_be() -> None:
    optional = ("input", "raw", "usage", "timing", "sampling", "model", "final_turn", "stop_reason")
    nulls = MEASURED | dict.fromkeys(optional) | turn_with(tokens=None, score=None, verdict=None)
    bare, null = records(MEASURED, nulls)
    assert bare.chain == null.chain
    (partly,) = records(MEASURED | {"usage": {"prompt_tokens": 3, "completion_tokens": None}})
    assert partly.chain.usage == {"prompt_tokens": 3}


def test_published_metadata_of_another_kind() -> None:
    with pytest.raises(SelfeeError, match="file:1 is not a chain: metadata is text, not an object"):
        records(LINE | {"metadata": "none"})
    with pytest.raises(SelfeeError, match=r"metadata.stop_reason is none of not_needed"):
        records(LINE | {"metadata": {"stop_reason": "stop"}})


def test_a_line_that_is_nested_too_deep() -> None:
    text = f"{json.dumps(LINE)}\n{'[' * 100_000}\n"
    with pytest.raises(SelfeeError, match="file:2 is not a chain: it is nested too deep"):
        list(read_records(text, source="file"))


def test_completeness_where_nobody_recorded_it() -> None:
    assert parse_chain("Done.")[-1].complete
    assert parse_chain("```\ncode\n```")[-1].complete
    assert not parse_chain("Not yet d")[-1].complete
