"""Sessions on disk: nothing that was said is lost, whatever happens to the file or the process."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
from scripted_chat import Chat
from scripted_model import scripted_session

from selfee_cli.chat import session_file, session_folder, session_reader
from selfee_cli.chat.session_file import SessionFile
from selfee_cli.errors import NotFoundError, SelfeeError, UsageError
from selfee_cli.protocol.chain import Chain, StopReason
from selfee_cli.protocol.grammar import TurnKind


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A session with something of everything: steered, stopped, edited, dropped."""
    chat = Chat(tmp_path_factory.mktemp("recorded") / "sessions")
    for entry in ("Why 数?", "/revise", "/accept 0", "/revise Too vague 🙂", "/set top-k 5"):
        chat.enter(entry)
    chat.at_pass(20, chat.press)
    chat.enter("And then?\nOn two lines.")
    chat.at_pass(-1, chat.press)
    for entry in ("/continue", "/edit Why not?", "Once more?", "/undo"):
        chat.enter(entry)
    chat.repl.journal.close()
    (path,) = chat.folder.iterdir()
    return path.read_bytes()


def view(chain: Chain) -> tuple[object, ...]:
    turns = [(t.id, t.text, t.complete, t.enforced, t.verdict) for t in chain.turns]
    return (chain.instruction, chain.input, turns, chain.final, chain.accepted)


def test_the_records_are_the_contracts(recorded: bytes) -> None:
    records = [json.loads(line) for line in recorded.splitlines()]
    first = records[0]
    assert list(first) == ["type", "schema", "id", "created", "model", "settings"]
    assert first["schema"] == "selfee.session/1"
    assert first["settings"]["temperature"] == 0.7
    assert first["model"]["path"] == "scripted"
    by_type = {record["type"]: record for record in records}
    assert set(by_type) == {"session", "question", "turn", "chain", "set", "accept", "undo"}
    assert records[1] == {"type": "question", "text": "Why 数?", "input": None}
    assert {"kind", "index", "text", "tokens", "seconds", "complete"} <= set(by_type["turn"])
    assert {"final", "stop_reason", "usage"} <= set(by_type["chain"])
    assert by_type["accept"] == {"type": "accept", "kind": "answer", "index": 0}
    assert by_type["set"] == {"type": "set", "key": "top-k", "value": "5"}
    assert by_type["undo"] == {"type": "undo", "count": 1}


def test_cut_off_at_any_byte_it_is_a_session_up_to_there(recorded: bytes) -> None:
    lines = recorded.splitlines(keepends=True)
    whole = [session_reader.parse(b"".join(lines[:n]), "x") for n in range(len(lines) + 1)]
    seen = [[view(chain) for chain in saved.conversation.chains] for saved in whole]
    number = start = 0
    for size in range(len(recorded) + 1):
        if number < len(lines) and size == start + len(lines[number]):
            start += len(lines[number])
            number += 1
        cut = recorded[:size]
        assert session_reader.is_session(cut)
        saved = session_reader.parse(cut, "x")
        unharmed = size > start and recorded[size : size + 1] == b"\n"  # only that is missing
        assert saved.damaged == int(size > start and not unharmed)
        assert [view(chain) for chain in saved.conversation.chains] == seen[number + unharmed]
        for chain in saved.conversation.chains:
            assert all(turn.complete for turn in chain.turns[:-1])
            assert chain.final_turn.complete
            assert chain.stop_reason is not None
        turns = [turn for chain in saved.conversation.chains for turn in chain.turns]
        complete = {turn.text.strip() for turn in turns if turn.complete}
        assert {each.answer for each in saved.conversation.history()} <= complete


def test_a_torn_line_is_left_behind_and_written_on_after(recorded: bytes, tmp_path: Path) -> None:
    path = tmp_path / "sessions" / "20260101-000000-abcd.jsonl"
    path.parent.mkdir()
    path.write_bytes(recorded[:-5])
    chat = Chat(path.parent)
    chat.repl.open(path)
    assert "1 damaged line was skipped" in chat.err.getvalue()
    chat.enter("Go on?")
    chat.repl.journal.close()
    after = path.read_bytes()
    assert after.startswith(recorded[:-5] + b"\n{"), "what was written is never written over"
    saved = session_reader.read(path)
    assert saved.damaged == 1
    assert saved.conversation.last.instruction == "Go on?"


@pytest.mark.parametrize("size", [1, 10, 21, 60])
def test_one_whose_first_line_is_torn_is_a_session(
    recorded: bytes, tmp_path: Path, size: int
) -> None:
    path = tmp_path / "20260101-000000-abcd.jsonl"
    path.write_bytes(recorded[:size])
    chat = Chat(tmp_path)
    for entries in ((), ("/set top-k 9", "/set top-k 8"), ("Why?",)):
        chat.repl.open(path)
        for entry in entries:
            chat.enter(entry)
        chat.repl.journal.close()
        assert session_reader.read(path).damaged == 1
    assert asked(path) == ["Why?"]


def test_unknown_records_are_passed_over_and_damage_is_told(recorded: bytes) -> None:
    lines = recorded.splitlines(keepends=True)
    lines.insert(2, b'{"type": "weather", "sky": "blue"}\n{"no": "type"}\n\n')
    unknown = session_reader.parse(b"".join(lines), "x")
    assert unknown.notice is None
    damage = (
        b"\xff\xfe\x00\n",
        b"[1, 2]\n",
        b'{"type": "turn"}\n',
        b'{"type": "turn", "kind": "answer", "index": 0, "text": 5, "complete": true}\n',
        b'{"type": "turn", "kind": "answer", "index": Infinity, "text": "", "complete": true}\n',
        b'{"type": "question", "text": null}\n',
        b'{"type": "accept", "kind": "revision", "index": 99}\n',
        b'{"type": "set", "key": 1, "value": []}\n',
        b'{"type": "chain"}\n',
        b"[" * 100_000 + b"\n",
    )
    lines[3:3] = damage
    damaged = session_reader.parse(b"".join(lines), "x")
    assert damaged.notice == "10 damaged lines were skipped"
    for saved in (unknown, damaged):
        assert [view(c) for c in saved.conversation.chains] == [
            view(c) for c in session_reader.parse(recorded, "x").conversation.chains
        ]


def test_a_question_that_is_lost_does_not_touch_the_one_before(recorded: bytes) -> None:
    lines = recorded.splitlines(keepends=True)
    *_, last = (n for n, line in enumerate(lines) if b'"type": "question"' in line)
    whole = session_reader.parse(b"".join(lines[:last]), "x").conversation
    rest = lines[last + 1 :]
    assert b"undo" in rest[-1]
    damaged = session_reader.parse(b"".join([*lines[:last], b"{\n", *rest]), "x")
    assert damaged.damaged == len(rest)
    assert [view(chain) for chain in damaged.conversation.chains] == [
        view(chain) for chain in whole.chains
    ]


@pytest.fixture
def three(tmp_path: Path) -> Chat:
    """A session of three questions, whose last two were dropped for a fourth."""
    chat = Chat(tmp_path / "sessions")
    for entry in ("One?", "Two?", "Three?", "/undo 2", "Four?"):
        chat.enter(entry)
    chat.repl.journal.close()
    return chat


def asked(path: Path) -> list[str]:
    return [chain.instruction for chain in session_reader.read(path).conversation.chains]


@pytest.mark.parametrize("lost", ["Two?", "Three?", "answer to Two?"])
def test_a_question_that_is_lost_is_counted_by_what_follows(three: Chat, lost: str) -> None:
    (path,) = three.folder.iterdir()
    lines = path.read_bytes().splitlines(keepends=True)
    number = next(n for n, line in enumerate(lines) if lost.split()[-1].encode() in line)
    lines[number + lost.startswith("answer")] = b'{"type": "turn", "ki\n'
    path.write_bytes(b"".join(lines))
    assert asked(path) == ["One?", "Four?"]


def test_a_question_that_is_lost_and_was_withdrawn(tmp_path: Path) -> None:
    chat = Chat(tmp_path / "sessions", lookup=False)
    chat.enter("One?")
    chat.enter("Two?")
    for question, passes in (("Long? " * 2000, -1), ("Stopped?", 3)):
        chat.at_pass(passes, chat.press)
        chat.enter(question)
        assert len(chat.repl.talk.chains) == 2, "it is withdrawn"
    chat.enter("/undo")
    chat.repl.journal.close()
    (path,) = chat.folder.iterdir()
    lines = path.read_bytes().splitlines(keepends=True)
    for name in (b"Long?", b"Stopped?"):
        torn = [line[:30] + b"\n" if b'"text": "' + name in line else line for line in lines]
        assert torn != lines
        path.write_bytes(b"".join(torn))
        assert asked(path) == ["One?"]
        assert session_reader.read(path).conversation.last.stop_reason is StopReason.NOT_NEEDED


@pytest.mark.parametrize("lost", ["Two?", "Three?"])
def test_what_is_lost_is_no_longer_counted_once_it_goes_on(tmp_path: Path, lost: str) -> None:
    chat = Chat(tmp_path / "sessions")
    for entry in ("One?", "Two?", "Three?", "/accept 0"):
        chat.enter(entry)
    chat.repl.journal.close()
    (path,) = chat.folder.iterdir()
    before = path.read_bytes().replace(lost.encode(), b'"')
    path.write_bytes(before)
    chat.repl.open(path)
    left = [each for each in ("One?", "Two?", "Three?") if each != lost]
    assert [chain.instruction for chain in chat.repl.talk.chains] == left
    chat.enter("/undo 1")
    assert path.read_bytes().startswith(before)
    assert asked(path) == left[:1]
    chat.enter("Four?")
    chat.enter("/undo 2")
    assert asked(path) == []
    chat.repl.journal.close()


@pytest.mark.parametrize(
    "wrong",
    [
        {"usage": {"prompt_tokens": "x", "completion_tokens": None}},
        {"usage": 5},
        {"timing": {"tokens_per_second": "a"}},
        {"sampling": {"seed": "7"}},
        {"sampling": {"min_revisions": "2"}},
        {"model": ["tiny"]},
        {"stop_reason": "bored"},
    ],
)
def test_a_record_whose_values_are_of_another_kind_is_skipped(
    tmp_path: Path, wrong: dict[str, object]
) -> None:
    chat = Chat(tmp_path / "sessions")
    chat.enter("Why?")
    path = chat.path
    chat.repl.journal.close()
    *lines, last = path.read_text("utf-8").splitlines()
    path.write_text("\n".join([*lines, json.dumps(json.loads(last) | wrong)]), "utf-8")
    assert "1 damaged line was skipped" in chat.enter(f"/load {path.stem}")
    chain = chat.repl.talk.last
    assert chain.final_turn.complete
    assert chain.stop_reason is StopReason.INTERRUPTED
    for entry in ("/show context", "/show chain", "/set verbose on", "/continue", "/retry"):
        assert "error" not in chat.enter(entry)
    assert "error" not in chat.enter(f"/save {tmp_path / 'saved.json'}")
    chat.repl.journal.close()


def test_chains_that_were_saved_elsewhere_stay_as_they_are(tmp_path: Path) -> None:
    """Whole ones, one that was cut off, one of which nobody recorded how it ended."""
    answer = {"kind": "answer", "index": 0, "text": "It is.", "complete": True}
    begun = answer | {"text": "It", "complete": False}
    whole = {"schema": "selfee.chain/1", "instruction": "Whole?", "turns": [answer]}
    cut = {"instruction": "Cut off?", "turns": [begun], "stop_reason": "max_new_tokens"}
    file = tmp_path / "chains.jsonl"
    lines = (whole, whole | cut, whole | {"instruction": "Who knows?"})
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    chat = Chat(tmp_path / "sessions")
    chat.enter(f"/load {file}")
    assert "was not stopped" in chat.enter("/continue")
    chat.enter("/accept 0")
    chat.repl.journal.close()
    (path,) = chat.folder.iterdir()
    saved = session_reader.read(path)
    chains = saved.conversation.chains
    assert [view(chain) for chain in chains] == [view(chain) for chain in chat.repl.talk.chains]
    assert [chain.stop_reason for chain in chains] == [None, StopReason.MAX_NEW_TOKENS, None]
    assert (saved.damaged, saved.cut_off) == (0, False)
    chat.repl.open(path)
    assert "was not stopped" in chat.enter("/continue")
    assert "dropped 1 question; 2 left" in chat.enter("/undo")
    assert asked(path) == ["Whole?", "Cut off?"]
    assert "dropped 1 question; 1 left" in chat.enter("/undo")
    assert asked(path) == ["Whole?"]
    chat.repl.journal.close()


@pytest.mark.parametrize("entry", ["/revise 3", "Why not?"])
def test_one_that_was_killed_goes_on_as_it_was_asked_to(tmp_path: Path, entry: str) -> None:
    chat = Chat(tmp_path / "sessions", lookup=False, temperature=0.5)
    chat.enter("Why?")
    usage = chat.repl.talk.last.usage
    if not entry.startswith("/"):
        chat.enter("/set min-revisions 2")
    killed: list[bytes] = []
    chat.at_pass(45, lambda: killed.append(chat.path.read_bytes()))
    chat.enter(entry)
    whole = chat.repl.talk.last
    chat.repl.journal.close()
    assert killed
    path = chat.folder / "20260101-000000-abcd.jsonl"
    path.write_bytes(killed[0])
    later = Chat(chat.folder, lookup=False)
    later.repl.open(path)
    chain = later.repl.talk.last
    assert len(chain.turns) < len(whole.turns)
    assert chain.stop_reason is StopReason.INTERRUPTED
    assert chain.sampling == whole.sampling
    assert chain.usage == (usage if entry.startswith("/") else {})
    later.enter("/continue")
    assert later.repl.talk.last.sampling["seed"] == whole.sampling["seed"]
    assert [turn.text for turn in later.repl.talk.last.turns] == [t.text for t in whole.turns]
    assert later.repl.talk.last.stop_reason is whole.stop_reason
    later.repl.journal.close()


def test_a_line_is_one_write_and_a_chain_is_synced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    write, sync = os.write, os.fsync

    def recorded_write(descriptor: int, data: bytes) -> int:
        assert data.endswith(b"\n")
        assert data.count(b"\n") == 1
        done.append(json.loads(data)["type"])
        return write(descriptor, data)

    def recorded_sync(descriptor: int) -> None:
        done.append("sync")
        sync(descriptor)

    chat = Chat(tmp_path / "sessions", lookup=False)
    monkeypatch.setattr(os, "write", recorded_write)
    monkeypatch.setattr(os, "fsync", recorded_sync)

    def on_disk() -> None:  # while Feedback 1 is being written
        types = [json.loads(line)["type"] for line in chat.path.read_bytes().splitlines()]
        assert types == ["session", "question", "turn"]
        done.append("looked")

    chat.at_pass(22, on_disk)
    chat.enter("Why?")
    turns = len(chat.repl.talk.last.turns)
    assert [each for each in done if each != "looked"] == [
        "session",
        "question",
        *["turn"] * turns,
        "chain",
        "sync",
    ]
    assert done[3] == "looked"
    chat.repl.journal.close()


def test_files_and_folders_are_their_owners_alone(tmp_path: Path) -> None:
    previous = os.umask(0)
    try:
        chat = Chat(tmp_path / "home" / "sessions")
        chat.enter("Why?")
    finally:
        os.umask(previous)
    assert chat.path.stat().st_mode & 0o777 == 0o600
    for folder in (chat.folder, chat.folder.parent):
        assert folder.stat().st_mode & 0o777 == 0o700
    chat.repl.journal.close()


def test_nothing_asked_leaves_no_file(tmp_path: Path) -> None:
    chat = Chat(tmp_path / "sessions")
    chat.enter("/set top-k 3")
    chat.enter("/help")
    assert not chat.folder.exists()
    unsaved = Chat(tmp_path / "sessions", save=False)
    unsaved.enter("Why?")
    assert not chat.folder.exists()


def test_a_session_that_is_open_elsewhere_is_forked(tmp_path: Path) -> None:
    first = Chat(tmp_path / "sessions")
    first.enter("Why?")
    second = Chat(tmp_path / "sessions")
    second.repl.open(first.path)
    assert f"{first.path.stem} is open elsewhere: going on in a copy" in second.err.getvalue()
    assert second.repl.journal.id is None, "a copy is made once there is something to add"
    before = first.path.read_bytes()
    second.enter("And then?")
    assert second.path != first.path
    assert first.path.read_bytes() == before
    asked = [chain.instruction for chain in second.saved.conversation.chains]
    assert asked == ["Why?", "And then?"]
    path = first.path
    first.repl.journal.close()
    second.repl.open(path)
    assert second.path == path, "it is free now"
    second.repl.journal.close()


def test_one_that_was_killed_can_go_on(recorded: bytes, tmp_path: Path) -> None:
    folder = tmp_path / "sessions"
    folder.mkdir()
    lines = recorded.splitlines(keepends=True)
    first_turns = [n for n, line in enumerate(lines) if json.loads(line)["type"] == "turn"]
    path = folder / "20260101-000000-abcd.jsonl"
    path.write_bytes(b"".join(lines[: first_turns[1] + 1]))  # answer and feedback
    chat = Chat(folder)
    chat.repl.open(path)
    chain = chat.repl.talk.last
    assert chain.stop_reason is StopReason.INTERRUPTED
    assert chain.turns[-1].id.kind is TurnKind.FEEDBACK
    chat.enter("/continue")
    assert len(chat.repl.talk.last.turns) > 2
    assert [view(c) for c in chat.saved.conversation.chains] == [
        view(c) for c in chat.repl.talk.chains
    ]
    chat.repl.journal.close()


def test_each_chain_keeps_the_model_that_wrote_it(tmp_path: Path) -> None:
    first = Chat(tmp_path / "sessions")
    first.enter("First?")
    path = first.path
    first.repl.journal.close()
    session = scripted_session()
    session.model = replace(session.model, path=Path("other"))
    second = Chat(tmp_path / "sessions", session=session)
    second.repl.open(path)
    second.enter("Second?")
    second.at_pass(22, second.press)
    second.enter("Third?")
    second.repl.journal.close()
    copy = tmp_path / "copy.jsonl"
    copy.write_bytes(path.read_bytes())
    second.at_pass(-1, second.press)
    second.repl.open(copy)
    second.enter("Fourth?")
    expected = ["scripted", "other", "other"]
    for kept, models in ((path, expected), (second.path, [*expected, "other"])):
        saved = session_reader.read(kept)
        assert [chain.model["path"] for chain in saved.conversation.chains] == models
    second.repl.journal.close()


def test_a_model_that_is_not_the_sessions_is_told(tmp_path: Path) -> None:
    chat = Chat(tmp_path / "sessions", model="weights/a b")
    chat.enter("Why?")
    path = chat.path
    chat.repl.journal.close()
    for model, told in (
        ({"model": "weights/a b/"}, False),
        ({"model": "another"}, True),
        ({}, True),
    ):
        later = Chat(tmp_path / "sessions", **model)
        later.repl.open(path)
        written = later.err.getvalue()
        line = "it was held with --model 'weights/a b' and goes on with another"
        assert (line in written) == told
        later.repl.journal.close()
    bundled = Chat(tmp_path / "sessions")
    bundled.enter("Why?")
    path = bundled.path
    assert "held with" not in bundled.enter(f"/load {path.stem}")
    bundled.repl.journal.close()
    later = Chat(tmp_path / "sessions", model="another")
    assert "it was held with --model tiny" in later.enter(f"/load {path.stem}")
    later.repl.journal.close()


def test_a_first_line_without_settings_is_a_session(recorded: bytes, tmp_path: Path) -> None:
    first, _, rest = recorded.partition(b"\n")
    header = json.loads(first)
    del header["settings"]
    saved = session_reader.parse(json.dumps(header).encode() + b"\n" + rest, "x")
    assert (saved.damaged, saved.model_name) == (0, None)
    assert len(saved.notices("another")) == 1


def test_finding_one_by_its_name(tmp_path: Path) -> None:
    for name in ("20260101-000000-aaaa", "20260101-000000-aaab", "20260102-000000-aaaa"):
        (tmp_path / f"{name}.jsonl").write_text("")
    found = session_folder.find("20260102", tmp_path)
    assert found.stem == "20260102-000000-aaaa"
    assert session_folder.find("20260101-000000-aaaa", tmp_path).stem == "20260101-000000-aaaa"
    assert session_folder.find(str(found), Path("elsewhere")) == found
    with pytest.raises(UsageError, match="2 sessions begin with 20260101"):
        session_folder.find("20260101", tmp_path)
    for name in ("2025", "", "*"):
        with pytest.raises(NotFoundError, match="no session"):
            session_folder.find(name, tmp_path)
    with pytest.raises(NotFoundError, match="no session"):
        session_folder.find("2026", tmp_path / "nowhere")


def test_the_newest_is_the_one_written_to_last(tmp_path: Path) -> None:
    for age, name in enumerate(("b", "c", "a")):
        (tmp_path / f"{name}.jsonl").write_text("")
        os.utime(tmp_path / f"{name}.jsonl", (1000 - age, 1000 - age))
    (tmp_path / "note.txt").write_text("")
    assert [path.stem for path in session_folder.newest(tmp_path)] == ["b", "c", "a"]
    assert session_folder.newest(tmp_path / "missing") == []
    (tmp_path / "gone.jsonl").symlink_to(tmp_path / "nothing")
    assert len(session_folder.newest(tmp_path)) == 3


def test_names_of_sessions() -> None:
    import re

    assert re.fullmatch(r"\d{8}-\d{6}-[0-9a-f]{4}", session_file.new_id())


def test_what_is_no_session(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="no session"):
        session_reader.read(tmp_path / "missing.jsonl")
    with pytest.raises(SelfeeError, match="cannot read"):
        session_reader.read(tmp_path)
    (tmp_path / "other.jsonl").write_text("hello\n")
    with pytest.raises(SelfeeError, match="is not JSON"):
        session_reader.read(tmp_path / "other.jsonl")
    turn = {"kind": "answer", "index": 0, "text": "It is.", "complete": True}
    chain = {"schema": "selfee.chain/1", "instruction": "Why?", "turns": [turn]}
    for text in (
        "[" * 100_000,
        json.dumps(chain | {"instruction": 5}),
        json.dumps(chain | {"final_turn": {"kind": "answer", "index": float("inf")}}),
    ):
        (tmp_path / "other.jsonl").write_text(text)
        with pytest.raises(SelfeeError):
            session_reader.read(tmp_path / "other.jsonl")


def test_writing_goes_on_after_a_partial_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: write(descriptor, data[:7]))
    file = SessionFile.create(tmp_path / "sessions", {}, {})
    file.write(session_file.question("Why 数 \udcff?", None))
    file.close()
    assert session_reader.read(file.path).damaged == 0
