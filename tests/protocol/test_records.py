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


def test_completeness_where_nobody_recorded_it() -> None:
    assert parse_chain("Done.")[-1].complete
    assert parse_chain("```\ncode\n```")[-1].complete
    assert not parse_chain("Not yet d")[-1].complete
