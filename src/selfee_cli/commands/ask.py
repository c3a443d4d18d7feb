"""``selfee ask``: one question, one chain."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from selfee_cli.commands import options as opt
from selfee_cli.commands.flags import ChainFlags, DisplayFlags, ModelFlags
from selfee_cli.errors import Interrupted, SelfeeError, UsageError
from selfee_cli.ui.console import console
from selfee_cli.ui.show import Show

if TYPE_CHECKING:
    from selfee_cli.protocol.chain import Chain, Event, StopReason


@opt.command
def ask(
    question: Annotated[
        str | None,
        typer.Argument(
            metavar="[QUESTION]", help="The question; `-` or nothing reads it from standard input."
        ),
    ] = None,
    *,
    input: Annotated[
        str | None,
        typer.Option("--input", metavar="TEXT|@FILE", help="A text that the question is about."),
    ] = None,
    loading: ModelFlags,
    chain: ChainFlags,
    display: DisplayFlags,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object at the end.")] = False,
    as_jsonl: Annotated[bool, typer.Option("--jsonl", help="One JSON event a line.")] = False,
    token_ids: Annotated[
        bool, typer.Option("--token-ids", help="Add the exact token ids to the JSON.")
    ] = False,
) -> None:
    """Ask one question and stream the answer, the feedback and the revisions.

    Example: selfee ask "What is 47 + 85?" --min-revisions 2
    """
    if as_json and as_jsonl:
        raise UsageError("--json and --jsonl exclude each other")
    if token_ids and not (as_json or as_jsonl):
        raise UsageError("--token-ids adds to JSON", hint="give --json or --jsonl with it")
    text = _question(question)
    context_text = None if input is None else opt.read_text(input)
    options = chain.options()
    session = loading.open()
    render = _renderer(display, as_json=as_json, as_jsonl=as_jsonl, token_ids=token_ids)
    with opt.interruptible() as cancelled:
        events = session.ask(text, input=context_text, options=options, cancelled=cancelled)
        written = _drain(events, render)
    _explain_end(written, chain.min_revisions)


def _question(question: str | None) -> str:
    if question is None and (sys.stdin is None or sys.stdin.isatty()):
        raise UsageError("no question", hint='selfee ask "What is 47 + 85?"')
    text = opt.read_stdin() if question in (None, "-") else question
    assert text is not None
    if not text.strip():
        raise UsageError("the question is empty", hint='selfee ask "What is 47 + 85?"')
    return text.strip("\n")


def _renderer(
    display: DisplayFlags, *, as_json: bool, as_jsonl: bool, token_ids: bool
) -> Callable[[Event], None]:
    if as_json or as_jsonl:
        return lambda event: _write_json(event, every=as_jsonl, token_ids=token_ids)
    from selfee_cli.ui.stream import ChainRenderer

    show = display.show or (Show.CHAIN if console.out.isatty() else Show.FINAL)
    style = console.style(console.out)
    return ChainRenderer(console.write, style, show, display.feedback).handle


def _write_json(event: Event, *, every: bool, token_ids: bool) -> None:

    from selfee_cli.protocol.chain import ChainEnded

    if isinstance(event, ChainEnded):
        if every:
            data = event.to_json(token_ids=token_ids)
        else:
            data = event.chain.to_json(token_ids=token_ids)
    elif every:
        data = event.to_json()
    else:
        return
    console.json(data)


def _drain(events: Iterator[Event], render: Callable[[Event], None]) -> Chain:
    from selfee_cli.protocol.chain import ChainEnded

    for event in events:
        render(event)
        if isinstance(event, ChainEnded):
            return event.chain
    raise SelfeeError(
        "the chain did not end", hint="a defect of selfee; --debug shows where it lies"
    )


def _explain_end(chain: Chain, min_revisions: int) -> None:
    from selfee_cli.protocol.chain import StopReason

    if chain.stop_reason is StopReason.INTERRUPTED:
        raise Interrupted("interrupted")
    if not chain.final_turn.complete:
        console.say(_cut_off_by(chain.stop_reason))
    elif chain.stop_reason is StopReason.CONTEXT:
        console.say("the context is full: the chain stops at its last complete turn")
    if chain.revisions < min_revisions:
        console.say(f"{chain.revisions} of {min_revisions} revisions were completed")


def _cut_off_by(reason: StopReason | None) -> str:
    from selfee_cli.protocol.chain import StopReason

    if reason is StopReason.CONTEXT:
        return "the answer is cut off: the context is full; a longer --context lets it go on"
    return "the answer is cut off: --max-new-tokens is reached; more, or none, lets it go on"
