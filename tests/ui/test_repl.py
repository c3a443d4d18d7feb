"""What entries do, without a terminal: the commands, what is written where, what is refused."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import pytest
from scripted_chat import Chat, Stream
from scripted_model import scripted_session

from selfee_cli.protocol.chain import StopReason
from selfee_cli.protocol.prompt import render_prompt
from selfee_cli.ui.screen import Mode
from selfee_cli.ui.session_list import list_sessions


@pytest.fixture
def chat(tmp_path: Path):
    made = Chat(tmp_path / "sessions")
    yield made
    made.repl.journal.close()


def asked(chat: Chat) -> list[str]:
    return [chain.instruction for chain in chat.repl.talk.chains]


# -- a chain as it is written ------------------------------------------------------------------


def test_a_chain_and_its_meter(chat: Chat) -> None:
    text = chat.enter("What is up?")
    lines = text.splitlines()
    assert lines[0] == "── Answer"
    assert "── Feedback 1" in lines
    assert any(line.startswith("score ") and "/10 · revision" in line for line in lines)
    last = chat.repl.talk.last
    assert lines[-3].startswith(f"= {last.final_turn.id.title} is the answer · not_needed · ")
    assert lines[-3].endswith(" tok/s")
    used = last.usage["prompt_tokens"] + last.usage["completion_tokens"]
    assert lines[-2].startswith(f"context {used}/2000 · room for about ")
    assert "\x1b" not in text


def test_folding(chat: Chat) -> None:
    assert "feedback: line" in chat.enter("/fold")
    text = chat.enter("What is up?")
    assert "── Feedback 1 · " in text
    assert "Point 1" not in text
    assert "Point 1" in chat.enter("/show chain")
    assert "feedback: full" in chat.enter("/unfold")
    chat.enter("/set feedback hidden")
    chat.enter("/set min-revisions 1")
    text = chat.enter("What is up?")
    assert "Feedback" not in text
    assert "Revision 1" in text


def test_folding_while_a_chain_runs_holds_for_what_follows(tmp_path: Path) -> None:
    chat = Chat(tmp_path / "sessions", lookup=False, min_revisions=2)
    chat.at_pass(22, lambda: chat.keys("\x0f"))
    text = chat.enter("What is up?")
    assert "── Feedback 1\n" in text, "it had begun"
    assert "── Feedback 2 · " in text
    assert chat.repl.settings.get("feedback") == "line"


def test_diffs(chat: Chat) -> None:
    chat.enter("/set show diff")
    chat.enter("/set min-revisions 2")
    text = chat.enter("What is up?")
    assert "[-" in text
    assert "-]{+" in text
    again = chat.enter("/diff 0 1")
    assert again.startswith("── Answer to Revision 1\n")
    assert "[-Answer-]{+Revision 1+}" in again
    assert "unchanged" in chat.enter("/diff 1 1")
    assert "Answer to Revision" in chat.enter("/diff")
    assert "there is no revision 9" in chat.enter("/diff 0 9")
    assert "cannot compare one" in chat.enter("/diff one")


def test_final_only(chat: Chat) -> None:
    chat.enter("/set show final")
    text = chat.enter("What is up?")
    assert text.startswith(f"{chat.repl.talk.last.final}\ncontext ")


# -- steering ----------------------------------------------------------------------------------


def test_stopping_keeps_what_is_complete(tmp_path: Path) -> None:
    chat = Chat(tmp_path / "sessions", lookup=False)
    chat.at_pass(22, chat.press)
    text = chat.enter("What is up?")
    assert "(unfinished)" in text
    assert "no verdict" not in text, "there would have been one"
    assert "= Answer is the answer · interrupted" in text
    broken = chat.repl.talk.last.turns[-1]
    assert not broken.complete
    assert b'"complete": false' in chat.path.read_bytes()
    assert [each.answer for each in chat.repl.talk.history()] == [chat.repl.talk.last.final]
    assert chat.repl.talk.last.sampling["seed"] is not None
    chat.at_pass(-1, chat.press)
    chat.enter("/continue")
    assert chat.repl.talk.last.stop_reason is StopReason.NOT_NEEDED
    assert "was not stopped" in chat.enter("/continue")
    chat.repl.journal.close()


def test_stopping_with_nothing_complete_withdraws_the_question(chat: Chat) -> None:
    chat.at_pass(3, chat.press)
    text = chat.enter("//slashed?")
    assert "stopped; nothing was complete: the question is withdrawn" in text
    assert asked(chat) == []
    assert chat.repl.beginning == "//slashed?", "it is as it was typed"
    assert chat.saved.conversation.chains == []


def test_what_was_typed_meanwhile_comes_after_the_question(chat: Chat) -> None:
    chat.at_pass(3, lambda: (chat.keys("and this\n"), chat.press()))
    chat.enter("What is up?")
    assert chat.repl.beginning == "What is up?\nand this"


def test_an_edit_that_is_withdrawn_is_still_an_edit(chat: Chat) -> None:
    chat.enter("What is up?")
    chat.at_pass(3, chat.press)
    chat.enter("/edit What is down?")
    assert asked(chat) == ["What is up?"]
    assert (chat.repl.beginning, chat.repl.editing) == ("What is down?", True)
    chat.at_pass(-1, chat.press)
    chat.enter("What is down?")
    assert asked(chat) == ["What is down?"]


def test_an_answer_that_was_cut_off_elsewhere_is_written(chat: Chat, tmp_path: Path) -> None:
    begun = {"kind": "answer", "index": 0, "text": "Answer says", "complete": False}
    sampling = {"seed": 11, "min_revisions": 1, "max_revisions": 1}
    file = tmp_path / "cut off.json"
    record = {"schema": "selfee.chain/1", "instruction": "What is up?", "input": "The sky."}
    stop = {"stop_reason": "max_new_tokens", "sampling": sampling}
    file.write_text(json.dumps(record | {"turns": [begun]} | stop))
    chat.enter("/set lookup off")
    chat.enter("/set temperature 0")
    chat.enter(f"/load {file}")
    for entry in ("/accept", "/revise"):
        assert "hint: /continue writes" in chat.enter(entry)
    chat.at_pass(3, chat.press)
    assert "stopped; nothing was complete: the earlier answer stands" in chat.enter("/continue")
    assert [turn.text for turn in chat.repl.talk.last.turns] == ["Answer says"]
    assert asked(chat) == [c.instruction for c in chat.saved.conversation.chains]
    chat.at_pass(-1, chat.press)
    assert "= Revision 1 is the answer" in chat.enter("/continue")
    (chain,) = chat.saved.conversation.chains
    assert (chain.instruction, chain.input) == ("What is up?", "The sky.")
    assert {name: chain.sampling[name] for name in sampling} == sampling
    assert [t.text for t in chat.repl.talk.last.turns] == [t.text for t in chain.turns]


def test_a_chain_that_goes_on_keeps_to_its_most_revisions(tmp_path: Path) -> None:
    limits = {"min_revisions": 1, "max_revisions": 1}
    chat = Chat(tmp_path / "sessions", lookup=False, **limits)
    chat.enter("Why?")
    chat.enter("/accept 0")
    chat.at_pass(4, chat.press)
    chat.enter("/revise")
    chat.at_pass(-1, chat.press)
    text = chat.enter("/continue")
    assert text.startswith("── Feedback 1\n"), "from what was accepted"
    chain = chat.repl.talk.last
    assert (chain.revisions, chain.stop_reason) == (1, StopReason.MAX_REVISIONS)
    chat.repl.journal.close()


@pytest.mark.parametrize("resumed", [False, True])
def test_what_is_set_after_a_stop_holds_when_the_chain_goes_on(
    tmp_path: Path, resumed: bool
) -> None:
    chat = Chat(tmp_path / "sessions", lookup=False, min_revisions=3, max_revisions=3)
    chat.at_pass(50, lambda: chat.keys("\x1b"))
    chat.enter("Why?")
    chat.at_pass(-1, chat.press)
    assert chat.repl.talk.last.revisions == 1
    chat.enter("/set min-revisions 0")
    chat.enter("/set max-revisions 1")
    if resumed:
        path = chat.path
        chat.repl.journal.close()
        chat = Chat(tmp_path / "sessions", lookup=False)
        chat.repl.open(path)
    text = chat.enter("/continue")
    assert "error: it has 1 revision, and max-revisions is 1\nhint: " in text
    chat.enter("/set max-revisions 2")
    chat.enter("/continue")
    assert chat.repl.talk.last.revisions == 2
    assert chat.repl.talk.last.stop_reason is StopReason.MAX_REVISIONS
    chat.repl.journal.close()


@pytest.mark.parametrize("setting", ["", "/set min-revisions 1"])
def test_a_revision_that_was_stopped_goes_on_to_as_many_as_were_asked_for(
    tmp_path: Path, setting: str
) -> None:
    chat = Chat(tmp_path / "sessions", lookup=False)
    chat.enter(setting)
    chat.enter("Why?")
    count = chat.repl.talk.last.revisions
    chat.at_pass(20, chat.press)
    chat.enter("/revise 2")
    chat.at_pass(-1, chat.press)
    chat.enter("/continue")
    assert chat.repl.talk.last.revisions == count + 2
    assert chat.repl.talk.last.stop_reason is StopReason.MAX_REVISIONS
    chat.repl.journal.close()


def test_finishing_the_turn(tmp_path: Path) -> None:
    chat = Chat(tmp_path / "sessions", lookup=False)
    chat.at_pass(3, lambda: chat.keys("/stop\n"))
    text = chat.enter("What is up?")
    assert "= Answer is the answer · interrupted" in text
    assert [turn.complete for turn in chat.repl.talk.last.turns] == [True]
    assert "nothing to stop" in chat.enter("/stop")
    chat.repl.journal.close()


def test_revising(chat: Chat) -> None:
    chat.enter("/set max-revisions 0")
    chat.enter("What is up?")
    assert chat.repl.talk.last.revisions == 0
    assert "── Revision 1" in chat.enter("/revise")
    assert "── Revision 3" in chat.enter("/revise 2")
    text = chat.enter("/revise Name the parts")
    assert "── Feedback 4 · revision needed" in text, "the reader's own is told in a line"
    assert chat.repl.talk.last.turns[7].text == "Name the parts. Revision is needed."
    assert chat.repl.talk.last.revisions == 4
    assert "revise how often?" in chat.enter("/revise 0")


def test_accepting(chat: Chat) -> None:
    chat.enter("/set min-revisions 2")
    chat.enter("What is up?")
    assert "Revision 1 is the answer" in chat.enter("/use 1")
    assert "Revision 1 says" in chat.enter("/show context")
    assert "Answer is the answer" in chat.enter("/accept 0")
    assert "Answer says" in chat.enter("/show context")
    assert chat.saved.conversation.last.final.startswith("Answer says")
    assert "which turn is x?" in chat.enter("/accept x")


def test_regenerating(chat: Chat) -> None:
    assert "nothing was asked yet" in chat.enter("/regenerate")
    chat.enter("/set seed 7")
    chat.enter("/set lookup off")
    chat.enter("What is up?")
    chat.repl.input = "For the next question."
    chat.enter("/retry")
    assert asked(chat) == ["What is up?"]
    assert chat.repl.talk.last.sampling["seed"] == 8
    assert chat.repl.talk.last.input is None
    assert chat.repl.input == "For the next question."
    chat.at_pass(3, chat.press)
    assert "nothing was complete: the earlier answer stands" in chat.enter("/regen")
    assert chat.repl.beginning == "", "the answer of before stands"
    assert chat.repl.talk.last.sampling["seed"] == 8
    chat.enter("/set temperature 0")
    text = chat.enter("/regenerate")
    assert "at temperature 0 it would come out the same" in text
    assert "hint: /set temperature 0.7" in text


def test_undo_and_edit(chat: Chat) -> None:
    for question in ("A?", "B?", "C?", "D?"):
        chat.enter(question)
    assert "dropped 1 question; 3 left" in chat.enter("/undo")
    assert "dropped 2 questions; 1 left" in chat.enter("/undo 2")
    assert "undo how many, x?" in chat.enter("/undo x")
    assert "undo how many, -1?" in chat.enter("/undo -1")
    chat.enter("/edit B?")
    assert asked(chat) == ["B?"]
    assert "there is nothing to edit with" in chat.enter("/edit")
    assert [c.instruction for c in chat.saved.conversation.chains] == ["B?"]


def test_editing_at_a_prompt_that_edits(tmp_path: Path) -> None:
    chat = Chat(tmp_path / "sessions", mode=Mode.FULL)
    chat.enter("//slashed")
    chat.enter("/edit")
    assert (chat.repl.beginning, chat.repl.editing) == ("//slashed", True)
    chat.enter("Other?")
    assert asked(chat) == ["Other?"]
    chat.repl.journal.close()


def test_a_new_session(chat: Chat) -> None:
    chat.enter("What is up?")
    old = chat.path
    text = chat.enter("/new")
    assert f"resume: selfee chat --resume {old.stem}" in text
    assert "a new session" in text
    chat.enter("Why?")
    assert chat.path != old
    assert asked(chat) == ["Why?"]
    assert "2 sessions" not in chat.enter("/sessions")
    assert "1 question so far" in chat.enter(f"/resume {old.stem}")
    assert asked(chat) == ["What is up?"]
    assert "no session nowhere" in chat.enter("/load nowhere")
    assert asked(chat) == ["What is up?"]
    assert "which session?" in chat.enter("/load")


# -- entries -----------------------------------------------------------------------------------


def test_what_begins_with_a_slash(chat: Chat) -> None:
    for entry in ("/nonsense", "  /nonsense x", "/nonsense\nand more"):
        text = chat.enter(entry)
        assert "error: unknown command /nonsense\n" in text
        assert "hint: " in text
    assert "did you mean /help?" in chat.enter("/hlep")
    assert asked(chat) == []
    chat.enter("//usr/bin is what?")
    assert asked(chat) == ["/usr/bin is what?"]
    assert chat.enter("") == chat.enter("  \n ") == ""


@pytest.mark.parametrize(
    "entry", ["/usr/bin/foo is broken", "/usr/bin/foo\n  is broken\n", "  /dev is what?"]
)
@pytest.mark.parametrize("mode", [Mode.PLAIN, Mode.FULL])
def test_what_was_taken_for_a_command_need_not_be_typed_again(
    tmp_path: Path, mode: Mode, entry: str
) -> None:
    chat = Chat(tmp_path / "sessions", mode=mode)
    assert "; // alone asks it as it was typed" in chat.enter(entry)
    chat.enter("/set")  # a command between loses nothing
    assert "is the answer" in chat.enter("//")
    assert asked(chat) == [entry.strip()]
    chat.enter("//")
    assert asked(chat)[1:] == ["/"], "once"
    chat.repl.journal.close()


def test_what_was_refused_comes_back_when_it_is_stopped(chat: Chat) -> None:
    chat.enter("/etc is what?")
    chat.at_pass(3, chat.press)
    chat.enter("//")
    assert chat.repl.beginning == "//etc is what?"


def test_two_slashes_ask_after_spaces_as_well(chat: Chat) -> None:
    chat.enter("  //what is it?")
    chat.enter("\n//what\nis it?")
    assert asked(chat) == ["/what is it?", "/what\nis it?"]


def test_a_script_is_not_offered_what_was_refused(tmp_path: Path) -> None:
    chat = Chat(tmp_path / "sessions", mode=Mode.SCRIPT, terminal=False)
    assert "alone" not in chat.enter("/nonsense")
    chat.enter("//")
    assert asked(chat) == ["/"]
    chat.repl.journal.close()


def test_help(chat: Chat) -> None:
    text = chat.enter("/?")
    for word in ("/revise [N|TEXT]", "Ctrl-C", "//x"):
        assert word in text
    assert chat.enter("/help use").startswith("/accept [K]\n")
    assert "hint: " in chat.enter("/help nonsense")


@pytest.mark.parametrize(
    ("mode", "keys"),
    [
        (Mode.FULL, ["Ctrl-C", "Esc", "Ctrl-D", "Ctrl-O", "Alt-Enter", "Ctrl-R", "Tab", "Ctrl-L"]),
        (Mode.PLAIN, ["Ctrl-C", "Esc", "Ctrl-D", "Ctrl-O", '"""']),
        (Mode.SCRIPT, ["Ctrl-C", '"""']),
    ],
)
def test_help_tells_the_keys_that_do_something(tmp_path: Path, mode: Mode, keys: list[str]) -> None:
    chat = Chat(tmp_path / "sessions", mode=mode)
    told = {line.split(",")[0].split()[0] for line in chat.enter("/help").splitlines() if line}
    for key in ("Ctrl-C", "Esc", "Ctrl-D", "Ctrl-O", "Alt-Enter", "Ctrl-R", "Tab", "Ctrl-L", '"""'):
        assert (key in told) == (key in keys)
        about = chat.enter(f"/help {key}")
        assert about.startswith(key if key in keys else f"error: {key} does nothing here\nhint: ")
        assert (key in chat.repl._commands.words("/help")) == (key in keys)
    chat.repl.journal.close()


def test_help_finds_a_key_by_any_of_its_names(tmp_path: Path) -> None:
    chat = Chat(tmp_path / "sessions", mode=Mode.FULL)
    assert chat.enter("/help ctrl-j") == "Alt-Enter, Ctrl-J\na new line\n"
    assert chat.enter("/help ALT-ENTER") == chat.enter("/help ctrl-j")


def test_leaving(chat: Chat) -> None:
    for name in ("/exit", "/bye", "/quit", "/q"):
        chat.repl.done = False
        chat.enter(name)
        assert chat.repl.done


def test_lone_surrogates_are_replaced(chat: Chat) -> None:
    chat.enter("a \ud800 b \udcff")
    assert asked(chat) == ["a � b �"]
    assert chat.saved.conversation.last.instruction == "a � b �"


def test_empty_lines_around_a_question_do_not_count(chat: Chat) -> None:
    chat.enter("\n  One\nand two?\n\n")
    assert asked(chat) == ["  One\nand two?"]


def test_control_characters_are_visible(tmp_path: Path) -> None:
    evil = "a \x1b]0;title\x07 \x9b2J b?"
    chat = Chat(tmp_path / "sessions")
    chat.enter(evil)
    for text in (
        chat.enter("/show context"),
        chat.enter("/sessions"),
        chat.enter("/show chain"),
        chat.enter("/nonsense\x1b[2J"),
        chat.enter("/read nowhere\x1b[2J"),
        chat.enter(f"/save {tmp_path}/\x1b[2J.md"),
    ):
        assert "\x1b" not in text
        assert "\x9b" not in text
    assert "\\x1b]0;title\\x07" in chat.enter("/sessions")
    chat.repl.journal.close()


# -- settings ----------------------------------------------------------------------------------


def test_settings_are_listed_with_their_sources(tmp_path: Path) -> None:
    chat = Chat(tmp_path / "sessions", top_k=5)
    chat.enter("/set min_revisions 2")
    rows = {row.split()[0]: row.split()[1:] for row in chat.enter("/set").splitlines()}
    assert rows["min-revisions"] == ["2", "/set"]
    assert rows["top-k"] == ["5", "--top_k"]
    assert rows["temperature"] == ["0.7", "default"]
    assert rows["max-revisions"] == ["none", "default"]
    assert "model" not in rows
    assert "model" in chat.enter("/show settings")
    assert chat.enter("/set top-k") == "5 (--top_k)\n"
    chat.enter("/set --top-k 6")
    assert chat.enter("/set top_k") == "6 (/set)\n"
    chat.enter("/set top-k default")
    assert chat.enter("/set top-k") == "5 (--top_k)\n"


@pytest.mark.parametrize(
    ("entry", "told"),
    [
        ("/set temperature hot", "temperature is 'hot', not a number"),
        ("/set temperature -1", "temperature is -1"),
        ("/set temperature nan", "temperature is nan"),
        ("/set temperature inf", "temperature is inf"),
        ("/set top-p 0", "top-p is 0"),
        ("/set top-p 1.5", "top-p is 1.5"),
        ("/set top-k -1", "top-k is -1"),
        ("/set min-revisions -1", "min-revisions is -1"),
        ("/set min-revisions 1.5", "min-revisions is '1.5', not a whole number"),
        ("/set min-revisions none", "min-revisions is 'none'"),
        ("/set max-revisions 1", "max-revisions 1 is less than min-revisions 2"),
        ("/set max-new-tokens 0", "max-new-tokens is 0"),
        ("/set show all", "show cannot be 'all'"),
        ("/set feedback some", "feedback cannot be 'some'"),
        ("/set verbose maybe", "verbose"),
        ("/set tempratur 1", "unknown key tempratur\nhint: did you mean temperature?"),
        ("/set zzz 1", "unknown key zzz\nhint: /set lists the keys"),
        ("/set zzz", "unknown key zzz\nhint: /set lists the keys"),
        ("/set model other", "model cannot change in a session"),
    ],
)
def test_a_refused_value_changes_nothing(chat: Chat, entry: str, told: str) -> None:
    chat.enter("/set min-revisions 2")
    before = [*chat.repl.settings.items()]
    text = chat.enter(entry)
    assert f"error: {told}" in text
    assert [*chat.repl.settings.items()] == before


def test_verbose_tells_what_a_chain_cost(chat: Chat) -> None:
    assert "drafted" not in chat.enter("What is up?")
    chat.enter("/set verbose on")
    assert " drafted tokens held" in chat.enter("What is up?")


# -- texts and looking -------------------------------------------------------------------------


def test_a_text_for_the_next_question(chat: Chat, tmp_path: Path) -> None:
    note = tmp_path / "a note.txt"
    note.write_text("Roses are 红.\n", "utf-8")
    assert "13 characters for the next question" in chat.enter(f"/read {note}")
    assert "Roses are 红." in chat.enter("/show context")
    chat.enter("/set lookup off")
    seen: list[list[int]] = []
    chat.session.model.engine.on_ids = seen.append
    chat.enter("What colour?")
    prompt = chat.session.model.tokenizer.decode(seen[0])
    assert prompt == render_prompt("What colour?", input="Roses are 红.\n")
    assert chat.saved.conversation.last.input == "Roses are 红.\n"
    chat.enter("And violets?")
    assert chat.repl.talk.last.input is None
    chat.enter("/undo")
    chat.enter("/edit Which colour?")
    assert chat.repl.talk.last.input == "Roses are 红.\n", "an edited question keeps its text"


def test_what_cannot_be_read(chat: Chat, tmp_path: Path) -> None:
    (tmp_path / "bytes").write_bytes(b"\xff\xfe")
    (tmp_path / "empty").write_text(" \n")
    assert "which file?" in chat.enter("/read")
    assert "no file nowhere" in chat.enter("/file nowhere")
    assert "as UTF-8 text" in chat.enter(f"/read {tmp_path / 'bytes'}")
    assert "cannot read" in chat.enter(f"/read {tmp_path}")
    assert "is empty" in chat.enter(f"/read {tmp_path / 'empty'}")
    assert chat.repl.input is None
    (tmp_path / "note").write_text("Some text.")
    chat.enter(f"/read {tmp_path / 'note'}")
    assert "about no text" in chat.enter("/read")
    assert chat.repl.input is None


def test_what_cannot_be_a_path_costs_an_entry_alone(chat: Chat) -> None:
    chat.enter("What is up?")
    for entry in ("/read ~nosuchuser.txt", "/save ~nosuchuser.md"):
        assert "is no home directory" in chat.enter(entry)
    for name in (
        "~nosuchuser",
        "~nosuchuser/x.jsonl",
        "a\0.jsonl",
        "~\0.jsonl",
        "long" * 70 + ".md",
    ):
        assert "error: no session " in chat.enter(f"/load {name}")
    for entry in ("/read a\0b", "/save a\0.md"):
        assert "error: a file's name holds no NUL\nhint: " in chat.enter(entry)
    assert (asked(chat), chat.repl.input) == (["What is up?"], None)


def test_a_model_in_a_home_that_nobody_knows_is_another(tmp_path: Path) -> None:
    chat = Chat(tmp_path / "sessions", model="~nosuchuser/weights")
    chat.enter("Why?")
    path = chat.path
    assert "held with" not in chat.enter(f"/load {path.stem}")
    chat.repl.journal.close()
    later = Chat(tmp_path / "sessions")
    assert "it was held with --model '~nosuchuser/weights'" in later.enter(f"/load {path.stem}")
    later.repl.journal.close()


def test_looking(chat: Chat) -> None:
    assert "path         scripted" in chat.enter("/show info")
    assert "show what?" in chat.enter("/show")
    assert "hint: one of chain, settings, info, context" in chat.enter("/show nonsense")
    assert "nothing was asked yet" in chat.enter("/show chain")
    assert "nothing was asked yet" in chat.enter("/diff")
    chat.enter("What is up?")
    text = chat.enter("/show chain")
    assert text.startswith("── Answer\n")
    assert "= " in text
    assert "context " in chat.enter("/show context")


def test_copying_in_plain_mode_writes_no_codes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSH_CONNECTION", "1 2 3 4")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stdout", Stream(terminal=True))
    for mode in (Mode.FULL, Mode.PLAIN):
        chat = Chat(tmp_path / mode / "sessions", mode=mode)
        chat.enter("Why?")
        text = chat.enter("/copy")
        assert ("\x1b]52;" in text) == (mode is Mode.FULL)
        assert ("no clipboard here" in text) == (mode is Mode.PLAIN)
        chat.repl.journal.close()


def test_completion_words(chat: Chat) -> None:
    words = chat.repl._commands.words
    assert "/revise" in words("")
    assert "min-revisions" in words("/set")
    assert "model" not in words("/set")
    assert list(words("/set show")) == ["final", "chain", "diff", "default"]
    assert list(words("/set nonsense")) == ["default"]
    assert "chain" in words("/show")
    assert "revise" in words("/help")
    assert list(words("/undo")) == []


def test_sessions_are_listed_newest_first(tmp_path: Path) -> None:
    folder = tmp_path / "sessions"
    assert list_sessions(folder) == ["no sessions yet"]
    for question in ("First?\nMore.", "Second " + "long " * 20):
        chat = Chat(folder)
        chat.enter(question)
        chat.repl.journal.close()
    (folder / "20000101-000000-0000.jsonl").write_text("hello\n")
    (folder / "20000101-000000-0001.jsonl").write_text("[" * 100_000)
    (folder / "20000101-000000-0002.jsonl").symlink_to(folder / "nothing")
    lines = list_sessions(folder)
    assert lines[0] == "20000101-000000-0001  cannot be read"
    assert lines[1] == "20000101-000000-0000  cannot be read"
    assert "  1  Second long" in lines[2]
    assert lines[3].endswith("  1  First?")
    assert len(lines) == 4


# -- the context -------------------------------------------------------------------------------


def test_what_has_no_room_is_told(tmp_path: Path) -> None:
    session = scripted_session(context=250)
    for mode in Mode:
        chat = Chat(tmp_path / mode / "sessions", session=session, mode=mode)
        chat.repl.settings.set("show", "final")
        told = [chat.enter(f"Question number {number}?") for number in range(8)]
        dropped = [text for text in told if "dropped 1 oldest exchange\n" in text]
        assert dropped, mode
        assert all(text.count("dropped") == 1 for text in dropped)
        assert chat.repl.talk.forgotten >= len(dropped)
        assert len(chat.repl.talk.chains) == 8
        chat.repl.journal.close()


def test_a_question_too_long_alone_is_refused_and_costs_nothing(tmp_path: Path) -> None:
    chat = Chat(tmp_path / "sessions", session=scripted_session(context=400))
    chat.enter("What is up?")
    long = "word " * 500 + "?"
    text = chat.enter(long)
    assert "error: the question takes" in text
    assert "dropped" not in text, "what would have gone stays"
    assert chat.repl.beginning == long
    assert asked(chat) == ["What is up?"]
    assert len(chat.repl.talk.history()) == 1
    assert [c.instruction for c in chat.saved.conversation.chains] == ["What is up?"]
    chat.repl.journal.close()


def test_a_chain_that_fills_the_context(tmp_path: Path) -> None:
    session = scripted_session(context=139)
    chat = Chat(tmp_path / "sessions", session=session, min_revisions=9, lookup=False)
    text = chat.enter("What is up?")
    assert " · context · " in text
    assert "room for no more revision" in text
    chain = chat.repl.talk.last
    text = chat.enter("/revise 3")
    assert "the context has no room for more" in text
    assert "hint: /undo or /clear makes room" in text
    assert chat.repl.talk.last == chain, "what stands is as it was"
    assert "the context is full" in chat.enter("/continue")
    assert chat.saved.conversation.last.stop_reason is StopReason.CONTEXT
    chat.repl.journal.close()


def test_an_answer_that_is_cut_off_is_withdrawn(chat: Chat) -> None:
    chat.enter("What was?")
    chat.enter("/set max-new-tokens 5")
    assert "none is complete: the earlier answer stands" in chat.enter("/edit What is up?")
    chat.enter("/undo")
    text = chat.enter("What is up?")
    assert "max-new-tokens cut the answer off, none is complete" in text
    assert "hint: /set max-new-tokens none" in text
    assert chat.repl.beginning == "What is up?"
    assert asked(chat) == []


def test_out_of_memory_leaves_the_session_alive(tmp_path: Path) -> None:
    chat = Chat(tmp_path / "sessions", lookup=False)

    def fail() -> None:
        raise MemoryError

    chat.at_pass(3, fail)
    text = chat.enter("What is up?")
    assert "error: the memory of cpu ran out" in text
    assert chat.repl.beginning == "What is up?"
    chat.at_pass(22, fail)
    chat.enter("What is up?")
    assert asked(chat) == ["What is up?"]
    seed = chat.repl.talk.last.sampling["seed"]
    chat.at_pass(-1, fail)
    chat.enter("/continue")
    assert chat.repl.talk.last.stop_reason is StopReason.NOT_NEEDED
    assert chat.repl.talk.last.sampling["seed"] == seed
    log = (tmp_path / "selfee.log").read_text()
    assert "ResourceError at " in log
    assert "What is up" not in log, "never what was asked"
    assert (tmp_path / "selfee.log").stat().st_mode & 0o777 == 0o600
    chat.repl.journal.close()


def test_a_device_that_fails_costs_a_chain_alone(tmp_path: Path) -> None:
    chat = Chat(tmp_path / "sessions", lookup=False)

    def fail() -> None:
        raise RuntimeError("CUDA error: an illegal memory access\nCompile with TORCH_USE_CUDA_DSA")

    chat.at_pass(3, fail)
    text = chat.enter("What is up?")
    assert "error: the model failed: CUDA error: an illegal memory access\nhint: " in text
    assert chat.repl.beginning == "What is up?"
    chat.at_pass(22, fail)
    assert "the model failed" in chat.enter("What is up?")
    assert chat.saved.conversation.last.final.startswith("Answer says")
    assert chat.saved.conversation.last.model["path"] == "scripted"
    chat.at_pass(-1, fail)
    chat.enter("/continue")
    assert chat.repl.talk.last.stop_reason is StopReason.NOT_NEEDED
    assert "SelfeeError at test_repl.py:" in (tmp_path / "selfee.log").read_text()
    chat.repl.journal.close()


# -- where things are written -----------------------------------------------------------------


def test_a_script_prints_final_answers_and_what_commands_print(tmp_path: Path) -> None:
    chat = Chat(tmp_path / "sessions", mode=Mode.SCRIPT, terminal=False)
    chat.enter("What is up?")
    assert chat.out.getvalue() == chat.repl.talk.last.final + "\n"
    assert chat.err.getvalue() == ""
    chat.enter("/show chain")
    assert chat.out.getvalue().startswith("── Answer\n")
    chat.enter("/revise")
    assert chat.out.getvalue() == chat.repl.talk.last.final + "\n"
    chat.enter("/nonsense")
    assert chat.out.getvalue() == ""
    chat.enter("/set temperature 0")
    chat.enter("/show")
    assert chat.repl._code == 2
    chat.repl.journal.close()


def test_ctrl_c_in_a_script_ends_it_with_what_is_complete(tmp_path: Path) -> None:
    chat = Chat(tmp_path / "sessions", mode=Mode.SCRIPT, terminal=False, lookup=False)
    chat.at_pass(22, chat.press)
    chat.enter("What is up?")
    assert chat.out.getvalue().startswith("Answer says")
    assert (chat.repl.done, chat.repl._code) == (True, 130)
    chat.repl.journal.close()


def test_a_pipe_gets_final_answers_and_the_reader_the_rest(tmp_path: Path) -> None:
    chat = Chat(tmp_path / "sessions", mode=Mode.PLAIN, terminal=False)
    chat.enter("What is up?")
    assert chat.out.getvalue() == chat.repl.talk.last.final + "\n"
    assert chat.err.getvalue().startswith("── Answer\n")
    assert "context " in chat.err.getvalue()
    chat.enter("/help")
    assert chat.out.getvalue() == ""
    chat.enter("/set show final")
    chat.enter("What is up?")
    assert chat.out.getvalue() == chat.repl.talk.last.final + "\n"
    assert chat.err.getvalue() == ""
    chat.repl.journal.close()


def test_scripts_are_read_by_lines_and_blocks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = b"\xef\xbb\xbf/set seed 3\n"
    script += b'One?\r\n\n"""\nTwo\n\n  lines?\n"""\n/set top-k 3\n"""\nThree\xff\n"""\n"""\nopen'

    class Stdin:
        buffer = io.BytesIO(script)

        def isatty(self) -> bool:
            return False

    monkeypatch.setattr(sys, "stdin", Stdin())
    chat = Chat(tmp_path / "sessions", mode=Mode.SCRIPT, terminal=False)
    assert chat.repl.run("Zero?") == 0
    assert asked(chat) == ["Zero?", "One?", "Two\n\n  lines?", "Three�", "open"]
    assert chat.repl.settings.get("top-k") == 3
    assert chat.repl.settings.get("seed") == 3, "the mark that some editors write is no text"
    assert len(chat.out.getvalue().splitlines()) == 5
