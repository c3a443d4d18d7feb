from __future__ import annotations

import io
import json

import pytest

from selfee_cli.protocol.chain import (
    Chain,
    ChainEnded,
    HistoryDropped,
    StopReason,
    TextDelta,
    Turn,
    TurnEnded,
    TurnStarted,
    parse_chain,
)
from selfee_cli.protocol.grammar import ANSWER
from selfee_cli.protocol.records import replay
from selfee_cli.ui.console import Console, Style, printable
from selfee_cli.ui.diff import word_diff
from selfee_cli.ui.show import Show
from selfee_cli.ui.stream import ChainRenderer

PLAIN = Style(color=False, unicode=True)
RAW = (
    "The sum is 105.\n\n### Feedback 1:\nThe sum is 105? 132: wrong. 4/10. Revision is needed."
    "\n\n### Revision 1:\nThe sum is 132.\n\n### Feedback 2:\nFine. 10/10. Revision is not needed."
)


def chain(raw: str = RAW, **details: object) -> Chain:
    return Chain(
        instruction="What is 47 + 85?",
        turns=parse_chain(raw, complete=True),
        stop_reason=StopReason.NOT_NEEDED,
        raw=raw,
        **details,
    )


def render(show: Show | None, style: Style = PLAIN, recorded: Chain | None = None) -> str:
    out: list[str] = []
    renderer = ChainRenderer(out.append, style, show)
    for event in replay(recorded or chain()):
        renderer.handle(event)
    return "".join(out)


def test_a_chain_as_a_reader_sees_it() -> None:
    usage, timing = {"completion_tokens": 158}, {"tokens_per_second": 63.4}
    assert render(Show.CHAIN, recorded=chain(usage=usage, timing=timing)) == (
        "── Answer\nThe sum is 105.\n\n"
        "── Feedback 1\nThe sum is 105? 132: wrong. 4/10. Revision is needed.\n"
        "score 4/10 · revision needed\n\n"
        "── Revision 1\nThe sum is 132.\n\n"
        "── Feedback 2\nFine. 10/10. Revision is not needed.\n"
        "score 10/10 · revision not needed\n\n"
        "= Revision 1 is the answer · not_needed · 158 tokens · 63 tok/s\n"
    )


def test_final_and_diff() -> None:
    assert render(Show.FINAL) == "The sum is 132.\n"
    diff = render(Show.DIFF)
    assert "── Revision 1\nThe sum is [-105-]{+132+}.\n" in diff
    assert "── Answer\nThe sum is 105.\n" in diff


def test_a_revision_that_was_stopped_half_way_is_no_change() -> None:
    whole = "The sky is blue because short waves of light scatter in the air."
    raw = f"{whole}\n\n### Feedback 1:\nRevision is needed.\n\n### Revision 1:\n{whole[:29]}"
    turns = parse_chain(raw, complete=False)
    text = render(Show.DIFF, recorded=Chain(instruction="Q", turns=turns))
    assert "── Revision 1\nThe sky is blue because short\n(unfinished)\n" in text
    assert "[-" not in text


def test_figures_that_nobody_recorded_are_not_told() -> None:
    recorded = chain(usage={"prompt_tokens": 3}, timing={"load_seconds": 1.0})
    assert render(Show.CHAIN, recorded=recorded).endswith(
        "= Revision 1 is the answer · not_needed\n"
    )


def test_ascii_terminals_and_colour() -> None:
    ascii_only = render(Show.CHAIN, Style(color=False, unicode=False))
    assert ascii_only.isascii()
    assert ascii_only.startswith("-- Answer\n")
    colored = render(Show.CHAIN, Style(color=True, unicode=True))
    assert "\x1b[2mThe sum is 105? 132: wrong." in colored, "criticism is dim"
    bare = colored
    for code in ("\x1b[0m", "\x1b[2m", "\x1b[1m", *(f"\x1b[1;{n}m" for n in (32, 33, 36))):
        bare = bare.replace(code, "")
    assert bare == render(Show.CHAIN)


def test_enforced_missing_and_unfinished() -> None:
    turns = parse_chain("A.\n\n### Feedback 1:\nGood", complete=False)
    enforced = Turn(id=turns[1].id, text="Good. Revision is needed.", complete=True, enforced=True)
    text = render(Show.CHAIN, recorded=Chain(instruction="Q", turns=(turns[0], enforced)))
    assert "no verdict (enforced)" in text
    text = render(Show.CHAIN, recorded=Chain(instruction="Q", turns=turns))
    assert text.count("(unfinished)") == 1
    assert text.endswith("= Answer is the answer\n")
    assert "no verdict" not in text, "it might have come"
    text = render(
        Show.CHAIN, recorded=Chain(instruction="Q", turns=parse_chain("A", complete=False))
    )
    assert text.endswith("= Answer is unfinished\n")


def test_what_was_stopped_before_it_was_complete_is_no_result() -> None:
    turns = parse_chain("Half an ans", complete=False)
    stopped = Chain(instruction="Q", turns=turns, stop_reason=StopReason.INTERRUPTED)
    assert render(Show.FINAL, recorded=stopped) == ""
    short = Chain(instruction="Q", turns=turns, stop_reason=StopReason.MAX_NEW_TOKENS)
    assert render(Show.FINAL, recorded=short) == "Half an ans\n"
    assert render(None) == ""


@pytest.mark.parametrize("show", [None, *Show])
def test_what_leaves_the_context_is_always_told(show: Show | None) -> None:
    out: list[str] = []
    renderer = ChainRenderer(out.append, PLAIN, show)
    renderer.handle(HistoryDropped(1))
    assert out == ["dropped 1 oldest exchange\n"]


def test_streaming_is_append_only_and_exact() -> None:
    out: list[str] = []
    renderer = ChainRenderer(out.append, PLAIN, Show.CHAIN)
    for event in (
        HistoryDropped(2),
        TurnStarted(ANSWER),
        TextDelta(ANSWER, "The sum"),
        TextDelta(ANSWER, " is 4.\n"),
        TurnEnded(Turn(id=ANSWER, text="The sum is 4.\n", complete=True)),
    ):
        renderer.handle(event)
    assert out == ["dropped 2 oldest exchanges\n", "── Answer\n", "The sum", " is 4.\n", "\n"]
    renderer.handle(ChainEnded(chain()))


@pytest.mark.parametrize(
    ("old", "new", "marked"),
    [
        ("a b c", "a b c ", "unchanged"),
        ("The red cat sat.", "The old cat sat down.", "The [-red-]{+old+} cat sat{+ down+}."),
        ("one two three", "entirely other words here", "entirely other words here"),
        # Nothing but the spaces is kept.
        ("The cat sat on the mat.", "Dogs ran up that hill!", "Dogs ran up that hill!"),
        ("a b c", "a b c 4 5 6 7 8 9 10", "a b c{+ 4 5 6 7 8 9 10+}"),
        ("a b", "a b 3 4 5 6 7 8 9 10", "a b 3 4 5 6 7 8 9 10"),
        ("x y z", "x y z, and x", "x y z{+, and x+}"),
        ("天空是蓝色的。", "天空是红色的。", "天空是[-蓝-]{+红+}色的。"),
        ("Le cafe\u0301 est chaud.", "Le cafe est chaud.", "Le [-cafe\u0301-]{+cafe+} est chaud."),
    ],
)
def test_word_diff(old: str, new: str, marked: str) -> None:
    assert word_diff(old, new, PLAIN) == marked


def test_control_characters_are_harmless() -> None:
    assert printable("a\x1b[2Jb\n\tc\x07\x9b") == "a\\x1b[2Jb\n\tc\\x07\\x9b"
    assert printable("数 🙂 é") == "数 🙂 é"
    evil = parse_chain("\x1b]0;title\x07A.", complete=True)
    assert "\x1b" not in render(Show.CHAIN, recorded=Chain(instruction="Q", turns=evil))


def test_the_console_keeps_data_and_talk_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    out, err = io.StringIO(), io.StringIO()
    console = Console(out=out, err=err)
    console.line("data")
    console.say("talk")
    console.explain("detail")
    console.complain("it broke", "mend it")
    console.quiet = True
    console.say("more talk")
    assert out.getvalue() == "data\n"
    assert err.getvalue() == "talk\nerror: it broke\nhint: mend it\n"
    assert not console.style(out).color
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert console.style(out).color
    monkeypatch.setenv("NO_COLOR", "1")
    assert not console.style(out).color


@pytest.mark.parametrize(
    ("encoding", "written"),
    [
        ("utf-8", '"naïve “x” 東"\n'),
        ("latin-1", '"na\\u00efve \\u201cx\\u201d \\u6771"\n'),
        ("ascii", '"na\\u00efve \\u201cx\\u201d \\u6771"\n'),
    ],
)
def test_json_loses_nothing_in_any_encoding(encoding: str, written: str) -> None:
    raw = io.BytesIO()
    console = Console(out=io.TextIOWrapper(raw, encoding), err=io.StringIO())
    console.json("naïve “x” 東")
    assert raw.getvalue().decode("utf-8") == written


def test_json_has_no_control_codes() -> None:
    raw = io.BytesIO()
    console = Console(out=io.TextIOWrapper(raw, "utf-8"), err=io.StringIO())
    console.json({"name": "\x1b]0;a\x07\x7f\x9b\n東"})
    written = raw.getvalue().decode("utf-8")
    assert json.loads(written) == {"name": "\x1b]0;a\x07\x7f\x9b\n東"}
    assert written.rstrip("\n").isprintable()
    assert "東" in written


def test_what_an_encoding_cannot_say_is_replaced() -> None:
    raw = io.BytesIO()
    console = Console(out=io.TextIOWrapper(raw, "ascii"), err=io.StringIO())
    console.write("a🙂b\n")
    assert raw.getvalue() == b"a?b\n"
