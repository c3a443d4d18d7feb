"""Whatever is typed and pressed, in whatever order: nothing is lost, nothing broken is kept."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scripted_chat import Chat
from scripted_model import scripted_session

from selfee_cli.chat import session_reader
from selfee_cli.engine.session import Session
from selfee_cli.protocol.chain import Chain
from selfee_cli.protocol.prompt import render_prompt
from selfee_cli.ui.repl import Repl


def new_repl(folder: Path, session: Session) -> Repl:
    return Chat(folder, session=session).repl


def view(chain: Chain) -> tuple[object, ...]:
    turns = [(t.id, t.text, t.complete, t.enforced, t.verdict) for t in chain.turns]
    return (chain.instruction, chain.input, turns, chain.stop_reason, chain.final, chain.accepted)


def check(repl: Repl, folder: Path) -> None:
    """The file says what the session says; the model is shown complete turns alone."""
    talk = repl.talk
    if repl.journal.id is not None:
        path = folder / f"{repl.journal.id}.jsonl"
        saved = session_reader.read(path)
        assert saved.damaged == 0
        assert [view(c) for c in saved.conversation.chains] == [view(c) for c in talk.chains]
        assert path.stat().st_mode & 0o777 == 0o600
    assert repl.writer.live is None
    for chain in talk.chains:
        *earlier, last = chain.turns
        assert all(turn.complete for turn in earlier)
        assert last.complete or chain.stop_reason is not None
        assert chain.final_turn.complete
        assert [turn.id.place for turn in chain.turns] == list(range(len(chain.turns)))
    complete = {turn.text.strip() for chain in talk.chains for turn in chain.turns if turn.complete}
    assert {exchange.answer for exchange in talk.history()} <= complete


KEYS = ("", "c", "cc", "esc", "fold", "text", "stop", "memory")
ENTRIES = (
    "Why?",
    "What is 数?",
    "//slash",
    "/revise",
    "/revise 2",
    "/revise Too vague 🙂",
    "/revise 0",
    "/accept",
    "/accept 0",
    "/accept 1",
    "/accept 7",
    "/continue",
    "/regenerate",
    "/undo",
    "/undo 2",
    "/edit Why not?",
    "/edit",
    "/set min-revisions 2",
    "/set min-revisions 0",
    "/set feedback hidden",
    "/set temperature 0",
    "/diff",
    "/show chain",
    "/show context",
    "/show settings",
    "/fold",
    "/stop",
    "/clear",
    "/nonsense",
    "",
)


@settings(
    max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.lists(
        st.tuples(st.sampled_from(ENTRIES), st.sampled_from(KEYS), st.integers(0, 120)),
        min_size=1,
        max_size=8,
    )
)
def test_any_order_of_entries_keys_and_interrupts(actions: list[tuple[str, str, int]]) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "sessions"
        session = scripted_session(context=700)
        repl = new_repl(folder, session)
        for entry, key, when in actions:
            engine = session.model.engine
            passes = 0

            def look(when: int = when, key: str = key) -> None:
                nonlocal passes
                passes += 1
                if passes == when and repl.writer.live is not None:
                    press(repl, key)

            engine.on_pass = look
            before = [view(chain) for chain in repl.talk.chains]
            beginning, repl.beginning = repl.beginning, ""
            entered = entry if entry.startswith("/") else beginning + entry
            repl.enter(entered)
            check(repl, folder)
            if entry.startswith("/s") or entered in ("/diff", "/fold", "/nonsense", ""):
                assert [view(chain) for chain in repl.talk.chains] == before
            if repl.done:
                assert key == "cc"
                repl.done = False
        repl.journal.close()


def press(repl: Repl, key: str) -> None:
    assert repl.writer.live is not None
    keys = repl.writer.live[1]
    match key:
        case "c":
            keys.press()
        case "cc":
            keys.press()
            keys.press()
        case "esc":
            keys.take("\x1b")
        case "fold":
            keys.take("\x0f")
        case "text":
            for char in "next?":
                keys.take(char)
        case "stop":
            for char in "/stop\n":
                keys.take(char)
        case "memory":
            raise MemoryError


@pytest.mark.parametrize("steer", ["/revise", "/revise 2", "/revise Be brief.", "/continue"])
@pytest.mark.parametrize("before", ["", "/accept 0"])
def test_the_model_sees_what_a_fresh_session_would(tmp_path: Path, steer: str, before: str) -> None:
    live, fresh = scripted_session(), scripted_session()
    first = new_repl(tmp_path, live)
    first.enter("What is up?")
    if steer == "/continue":
        live.model.engine.on_pass = stop_after(first, 25)
    first.enter("Why?")
    live.model.engine.on_pass = lambda: None
    if before and steer != "/continue":
        first.enter(before)
    assert first.journal.id is not None
    path = tmp_path / f"{first.journal.id}.jsonl"
    copied = tmp_path / "elsewhere.jsonl"
    copied.write_bytes(path.read_bytes())
    second = new_repl(tmp_path, fresh)
    second.open(copied)
    asked: dict[str, list[list[int]]] = {}
    for name, repl, session in (("live", first, live), ("fresh", second, fresh)):
        prompts = asked.setdefault(name, [])
        repl.enter(steer)
        session.model.engine.truncate(0)  # so that the first pass reads the whole prompt
        session.model.engine.on_ids = prompts.append
        repl.enter("And then?")
    assert [view(c) for c in first.talk.chains] == [view(c) for c in second.talk.chains]
    history = first.talk.history(less=1)
    for name, session in (("live", live), ("fresh", fresh)):
        prompt = session.model.tokenizer.decode(asked[name][0])
        assert prompt == render_prompt("And then?", history=history), name
    first.journal.close()
    second.journal.close()


def stop_after(repl: Repl, passes: int):
    count = 0

    def look() -> None:
        nonlocal count
        count += 1
        if count == passes and repl.writer.live is not None:
            repl.writer.live[1].press()

    return look
