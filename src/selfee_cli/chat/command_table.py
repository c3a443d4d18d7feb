"""The commands of a session: names, aliases, what each does; and questions that look like one."""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches

from selfee_cli.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class Command:
    """A command: ``/name``, what may follow it, other names it has, and what it does."""

    name: str
    arguments: str = ""
    aliases: tuple[str, ...] = ()
    does: str
    more: str = ""
    """Told by ``/help NAME``."""

    @property
    def usage(self) -> str:
        """The command as it is typed."""
        return f"/{self.name} {self.arguments}".rstrip()


COMMANDS = (
    Command(name="help", arguments="[X]", aliases=("?",), does="commands and keys, or one of them"),
    Command(name="exit", aliases=("bye", "quit"), does="leave (also Ctrl-D)"),
    Command(
        name="clear",
        aliases=("new",),
        does="begin a new session",
        more="The old one stays on disk: /sessions, /load.",
    ),
    Command(
        name="set",
        arguments="[KEY [VALUE]]",
        does="list the settings, show one, or change it",
        more="KEY is a flag's long name; the VALUE default takes a change back.",
    ),
    Command(
        name="revise",
        arguments="[N|TEXT]",
        does="revise once more, N times more, or on your own criticism",
        more="It goes on from the accepted turn; TEXT becomes the feedback on it.",
    ),
    Command(
        name="accept",
        arguments="[K]",
        aliases=("use",),
        does="make the answer (0) or revision K the result",
        more="The model is shown the result when you ask on; without K it is the last one again.",
    ),
    Command(
        name="stop",
        does="typed while a chain runs: finish this turn, then stop",
    ),
    Command(
        name="continue",
        does="go on with a chain that was stopped",
        more="The broken turn is written anew: with the same seed as it would have been.",
    ),
    Command(
        name="regenerate",
        aliases=("regen", "retry"),
        does="ask the last question again, with the next seed",
    ),
    Command(name="undo", arguments="[N]", does="drop the last question, or the last N"),
    Command(name="edit", arguments="[TEXT]", does="edit the last question and ask it again"),
    Command(
        name="diff",
        arguments="[A B]",
        does="what changed between two turns, by word",
        more="0 is the answer, K revision K; by default the answer and the result.",
    ),
    Command(
        name="show",
        arguments="WHAT",
        does="chain, settings, info or context",
        more="chain: the last one, whole. info: the model. context: what the model is shown.",
    ),
    Command(name="fold", does="show each feedback in a line"),
    Command(name="unfold", does="show feedback in full"),
    Command(
        name="read",
        arguments="FILE",
        aliases=("file",),
        does="a text that the next question is about",
    ),
    Command(name="copy", arguments="[K]", does="copy the result, or turn K, to the clipboard"),
    Command(
        name="save",
        arguments="[FILE]",
        does="write a transcript: .md, .json or .jsonl",
        more="The session is kept anyway. A file that is there is not written over.",
    ),
    Command(name="load", arguments="ID|FILE", aliases=("resume",), does="open another session"),
    Command(name="sessions", does="list the sessions"),
)

_BY_NAME = {name: each for each in COMMANDS for name in (each.name, *each.aliases)}


def words() -> list[str]:
    """Every command and alias as it is typed."""
    return [f"/{name}" for name in _BY_NAME]


def escaped(question: str) -> str:
    """Return the entry that asks ``question``: one that begins with a slash gets another."""
    text = question.lstrip()
    return f"/{text}" if text.startswith("/") else question


def resolve(word: str) -> Command:
    """Return the command that ``word``, with its slash, names or begins.

    Raises:
        UsageError: it is none, or several begin so.
    """
    name = word.removeprefix("/")
    if name in _BY_NAME:
        return _BY_NAME[name]
    begin = {each.name: each for key, each in _BY_NAME.items() if name and key.startswith(name)}
    if len(begin) == 1:
        return next(iter(begin.values()))
    if begin:
        hint = "it may be " + ", ".join(f"/{each}" for each in begin)
    else:
        near = get_close_matches(name, _BY_NAME, n=1)
        hint = f"did you mean /{near[0]}?" if near else "/help lists the commands"
    raise UsageError(f"unknown command {word}", hint=f"{hint} (//x asks /x)")
