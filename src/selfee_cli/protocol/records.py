"""Chains that somebody recorded, read back from any of the forms they are kept in.

Published answer files and ``batch`` output (a line a chain, ``whole_generation``), ``ask --json``
(one object) and ``ask --jsonl`` (one event a line, the last of them the chain).
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from selfee_cli.errors import SelfeeError
from selfee_cli.protocol.chain import (
    SCHEMA,
    Chain,
    ChainEnded,
    Event,
    StopReason,
    TextDelta,
    Turn,
    TurnEnded,
    TurnStarted,
    parse_chain,
)
from selfee_cli.protocol.fields import choice, figures, optional, required, within
from selfee_cli.protocol.grammar import ANSWER, TurnId, TurnKind, Verdict
from selfee_cli.protocol.prompt import split_prompt

_READABLE = "chains stand in published answer files, sessions, the output of ask --json or --jsonl"


@dataclass(frozen=True, kw_only=True)
class Record:
    """A recorded chain and the number of its question, where it has one."""

    question_id: int | str | None
    chain: Chain

    def to_json(self) -> dict[str, Any]:
        """Return the parsed chain as ``show --jsonl`` prints it."""
        chain = self.chain
        return {
            "question_id": self.question_id,
            "instruction": chain.instruction,
            "turns": [turn.to_json(measured=False) for turn in chain.turns],
            "final": chain.final,
            "final_turn": {
                "kind": chain.final_turn.id.kind.value,
                "index": chain.final_turn.id.index,
            },
            "revisions": chain.revisions,
        }


def read_records(text: str, *, source: str) -> Iterator[Record]:
    """Yield the chains recorded in ``text``; ``source`` names it in errors.

    Raises:
        SelfeeError: a line is not JSON or no chain, or the whole holds none.
    """
    found = False
    for number, data in _objects(text, source):
        record = _record(data, f"{source}:{number}")
        if record is not None:
            found = True
            yield record
    if not found:
        raise SelfeeError(f"{source} holds no chain", hint=_READABLE)


def replay(chain: Chain) -> Iterator[Event]:
    """Yield a finished chain's events, each turn's text as one piece."""
    for turn in chain.turns:
        yield TurnStarted(turn.id)
        yield TextDelta(turn.id, turn.text)
        yield TurnEnded(turn)
    yield ChainEnded(chain)


def _objects(text: str, source: str) -> Iterable[tuple[int, Any]]:
    """The numbered JSON values of a file that is one value or one a line."""
    try:
        whole = json.loads(text)
    except (ValueError, RecursionError):
        return _lines(text, source)
    return [(1, value) for value in (whole if isinstance(whole, list) else [whole])]


def _lines(text: str, source: str) -> Iterator[tuple[int, Any]]:
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            yield number, json.loads(line)
        except ValueError as error:
            raise SelfeeError(
                f"{source}:{number} is not JSON: {error}",
                hint="the file may be cut off; nothing after this line was read",
            ) from error
        except RecursionError as error:
            raise SelfeeError(
                f"{source}:{number} is not a chain: it is nested too deep", hint=_READABLE
            ) from error


def _record(data: Any, where: str) -> Record | None:
    if not isinstance(data, dict):
        raise SelfeeError(f"{where} is not a JSON object", hint=_READABLE)
    try:
        if data.get("schema") == SCHEMA:
            return Record(question_id=_question_id(data), chain=_measured(data))
        if isinstance(data.get("whole_generation"), str):
            return Record(question_id=_question_id(data), chain=_published(data, where))
    except ValueError as error:
        raise SelfeeError(
            f"{where} is not a chain: {error}", hint="correct it, or remove it"
        ) from error
    return None


def _question_id(data: dict[str, Any]) -> Any:
    id = data.get("question_id")
    if isinstance(id, dict | list):
        raise ValueError("question_id is neither a number nor text")
    if isinstance(id, float) and not math.isfinite(id):  # no JSON has a word for it
        raise ValueError("question_id is out of range")
    return id


def _published(data: dict[str, Any], where: str) -> Chain:
    parts = split_prompt(data["whole_generation"])
    if parts is None:
        raise SelfeeError(
            f"{where}: whole_generation does not begin with SelFee's prompt",
            hint="only chains written by SelFee can be shown",
        )
    instruction, input, raw = parts
    metadata = optional(data, "metadata", dict) or {}
    with within("metadata"):
        stop = choice(metadata, "stop_reason", StopReason)
    complete = None if stop is None else _is_complete(stop)
    return Chain(
        instruction=instruction,
        input=input,
        turns=parse_chain(raw, complete=complete),
        stop_reason=stop,
        raw=raw,
    )


def _is_complete(stop: StopReason) -> bool:
    return stop in (StopReason.NOT_NEEDED, StopReason.END, StopReason.MAX_REVISIONS)


def _measured(data: dict[str, Any]) -> Chain:
    turns = tuple(_turns(data))
    if not turns or turns[0].id != ANSWER:
        raise ValueError("it does not begin with an answer")
    sampling = optional(data, "sampling", dict) or {}
    with within("sampling"):
        for name in ("seed", "min_revisions", "max_revisions"):
            optional(sampling, name, int)
    chain = Chain(
        instruction=required(data, "instruction", str),
        input=optional(data, "input", str),
        turns=turns,
        stop_reason=choice(data, "stop_reason", StopReason),
        raw=optional(data, "raw", str) or "",
        usage=figures(data, "usage", int),
        timing=figures(data, "timing", float),
        sampling=sampling,
        model=optional(data, "model", dict) or {},
    )
    final = optional(data, "final_turn", dict)
    if final is None:
        return chain
    # Where it is not the last complete one, a reader chose it.
    with within("final_turn"):
        chosen = _turn_id(final)
    return chain if chosen == chain.final_turn.id else replace(chain, accepted=chosen)


def _turns(data: Mapping[str, Any]) -> Iterator[Turn]:
    for number, turn in enumerate(required(data, "turns", list)):
        if not isinstance(turn, dict):
            raise ValueError(f"turns[{number}] is not an object")
        with within(f"turns[{number}]"):
            read = read_turn_json(turn)
        yield read


def read_turn_json(data: Mapping[str, Any]) -> Turn:
    """Return the turn that :meth:`Turn.to_json` wrote.

    Raises:
        ValueError: it is none; the message names the field.
    """
    return Turn(
        id=_turn_id(data),
        text=required(data, "text", str),
        complete=required(data, "complete", bool),
        tokens=optional(data, "tokens", int) or 0,
        seconds=optional(data, "seconds", float) or 0.0,
        verdict=choice(data, "verdict", Verdict),
        score=optional(data, "score", float),
        enforced=optional(data, "enforced", bool) or False,
    )


def _turn_id(data: Mapping[str, Any]) -> TurnId:
    kind = choice(data, "kind", TurnKind)
    if kind is None:
        raise ValueError("kind is missing")
    return TurnId(kind, required(data, "index", int))
