"""A session as a file for others."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest
from scripted_chat import Chat

from selfee_cli.chat import session_reader, transcript
from selfee_cli.errors import SelfeeError, UsageError
from selfee_cli.protocol.chain import Chain, StopReason, parse_chain

RAW = (
    "A0.\n\n### Feedback 1:\nBad.\nVery. 4/10. Revision is needed.\n\n### Revision 1:\nA1."
    "\n\n### Feedback 2:\nGoo"
)
CHAIN = Chain(
    instruction="Why?\nAnd how 数?",
    input="Some\ntext.",
    turns=parse_chain(RAW, complete=False),
    stop_reason=StopReason.INTERRUPTED,
)


def test_markdown_to_read() -> None:
    assert transcript.markdown([CHAIN], "selfee 1") == (
        "# selfee 1\n\n## Why?\n\nAnd how 数?\n\n> Some\n> text.\n"
        "\n### Answer\n\nA0.\n"
        "\n### Feedback 1\n\n> Bad.\n> Very. 4/10. Revision is needed.\n"
        "\n### Revision 1 (the result)\n\nA1.\n"
        "\n### Feedback 2 (unfinished)\n\n> Goo\n"
    )
    empty = Chain(instruction=" ", turns=parse_chain("A.", complete=True))
    assert "\n## \n" in transcript.markdown([empty], "t")


@pytest.mark.parametrize("suffix", [".json", ".jsonl"])
def test_json_comes_back_as_it_was(tmp_path: Path, suffix: str) -> None:
    chat = Chat(tmp_path / "sessions")
    for entry in ("Why 数?", "/revise", "/accept 0", "And then?"):
        chat.enter(entry)
    path = tmp_path / f"talk{suffix}"
    assert f"written to {path}" in chat.enter(f"/save {path}")
    other = Chat(tmp_path / "sessions")
    assert "2 questions so far" in other.enter(f"/load {path}")
    for mine, theirs in zip(chat.repl.talk.chains, other.repl.talk.chains, strict=True):
        for turn, read in zip(mine.turns, theirs.turns, strict=True):
            assert turn.to_json() == read.to_json()
        assert (mine.instruction, mine.final) == (theirs.instruction, theirs.final)
    assert other.repl.talk.chains[0].accepted is not None
    other.enter("Going on?")
    assert [c.instruction for c in session_reader.read(other.path).conversation.chains] == [
        "Why 数?",
        "And then?",
        "Going on?",
    ]
    chat.repl.journal.close()
    other.repl.journal.close()


def test_nothing_is_written_over(tmp_path: Path) -> None:
    path = tmp_path / "talk.md"
    path.write_text("mine")
    with pytest.raises(SelfeeError, match=r"talk\.md is there already"):
        transcript.save(path, [CHAIN], "t")
    assert path.read_text() == "mine"


@pytest.mark.parametrize("name", ["talk", "talk.txt", "talk.MD.exe"])
def test_an_unknown_suffix(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match="unknown suffix") as refused:
        transcript.save(tmp_path / name, [CHAIN], "t")
    assert refused.value.hint == "name it .md, .json or .jsonl"
    with pytest.raises(UsageError, match="nothing was asked yet"):
        transcript.save(tmp_path / "talk.md", [], "t")
    assert list(tmp_path.iterdir()) == []


def test_where_writing_fails_no_part_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(SelfeeError, match="cannot write"):
        transcript.save(tmp_path / "nowhere" / "talk.md", [CHAIN], "t")
    path = tmp_path / "talk.json"
    real = Path.open

    class Full:
        def __init__(self, file: object) -> None:
            self.file = file

        def __enter__(self) -> Full:
            return self

        def __exit__(self, *_: object) -> None:
            self.file.close()

        def write(self, text: str) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "open", lambda self, *a, **k: Full(real(self, *a, **k)))
    with pytest.raises(SelfeeError, match="No space left"):
        transcript.save(path, [CHAIN], "t")
    assert not path.exists()


def test_the_default_name_is_the_sessions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    chat = Chat(tmp_path / "sessions")
    chat.enter("Why?")
    chat.enter("/save")
    path = tmp_path / f"{chat.repl.journal.id}.md"
    assert path.read_text().startswith(f"# selfee {chat.repl.journal.id}\n\n## Why?\n")
    assert "is there already" in chat.enter("/save")
    chat.repl.journal.close()
