"""A session as a file for others: Markdown to read, JSON to work with."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from selfee_cli.errors import SelfeeError, UsageError
from selfee_cli.protocol.chain import Chain
from selfee_cli.protocol.grammar import TurnKind

SUFFIXES = (".md", ".json", ".jsonl")


def save(path: Path, chains: Sequence[Chain], title: str) -> None:
    """Write ``chains`` in the form that the suffix names.

    Raises:
        UsageError: an unknown suffix, or nothing to write.
        SelfeeError: the file is there already, or cannot be written.
    """
    if path.suffix not in SUFFIXES:
        raise UsageError(f"{path.name}: unknown suffix", hint="name it .md, .json or .jsonl")
    if not chains:
        raise UsageError("nothing was asked yet")
    if path.suffix == ".md":
        text = markdown(chains, title)
    elif path.suffix == ".jsonl":
        text = "".join(_json(chain.to_json()) + "\n" for chain in chains)
    else:
        text = _json([chain.to_json() for chain in chains], indent=1) + "\n"
    _write_new(path, text)


def _write_new(path: Path, text: str) -> None:
    """Write a file that is not there yet: whole, or not at all."""
    made = False
    try:
        with path.open("x", encoding="utf-8", errors="replace") as file:
            made = True
            file.write(text)
    except FileExistsError as error:
        raise SelfeeError(f"{path} is there already", hint="give another name") from error
    except OSError as error:
        if made:
            path.unlink(missing_ok=True)
        raise SelfeeError(f"cannot write {path}: {error.strerror}") from error


def markdown(chains: Sequence[Chain], title: str) -> str:
    """Return the chains for reading: questions as headings, the result marked."""
    parts = [f"# {title}\n"]
    for chain in chains:
        first, *rest = chain.instruction.strip().splitlines() or [""]
        parts.append(f"\n## {first}\n")
        parts += [f"\n{line}" for line in rest]
        if rest:
            parts.append("\n")
        if chain.input:
            parts.append(f"\n{_quoted(chain.input)}\n")
        for turn in chain.turns:
            marks = ["the result"] if turn == chain.final_turn else []
            marks += [] if turn.complete else ["unfinished"]
            mark = f" ({', '.join(marks)})" if marks else ""
            text = turn.text.strip()
            if turn.id.kind is TurnKind.FEEDBACK:
                text = _quoted(text)
            parts.append(f"\n### {turn.id.title}{mark}\n\n{text}\n")
    return "".join(parts)


def _quoted(text: str) -> str:
    return "\n".join(f"> {line}".rstrip() for line in text.splitlines())


def _json(value: object, indent: int | None = None) -> str:
    return json.dumps(value, ensure_ascii=False, indent=indent)
