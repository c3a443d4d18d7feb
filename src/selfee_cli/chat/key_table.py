"""The keys of a session, by what it talks through: each table has those that do something there."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Key:
    """A key, or what is typed as one: its names, and what it does."""

    name: str
    also: str | None = None
    does: str

    @property
    def usage(self) -> str:
        """Its names as they are listed."""
        return f"{self.name}, {self.also}" if self.also else self.name


_ESC = Key(name="Esc", does="in a chain: finish this turn, then stop")
_CTRL_D = Key(name="Ctrl-D", does="at an empty prompt: leave")
_ENTER = Key(name="Enter", does="send")
_FENCE = Key(name='"""', does="on a line of its own: begins and ends an entry of several lines")

KEYS = (
    Key(
        name="Ctrl-C",
        does="at the prompt: clear the line; in a chain: stop; twice: save and leave",
    ),
    _ESC,
    _CTRL_D,
    Key(name="Ctrl-O", does="fold or unfold the feedback that follows"),
    _ENTER,
    Key(name="Alt-Enter", also="Ctrl-J", does="a new line"),
    Key(name="Ctrl-G", does="write the question in $EDITOR"),
    Key(name="Ctrl-R", does="search in earlier questions"),
    Key(name="Tab", does="complete a command"),
    Key(name="Ctrl-L", does="clear the screen"),
)
"""At a prompt that edits."""

PLAIN_KEYS = (
    KEYS[0],
    _ESC,
    _CTRL_D,
    Key(name="Ctrl-O", does="in a chain: fold or unfold the feedback that follows"),
    _ENTER,
    _FENCE,
)
"""At a terminal without cursor codes."""

SCRIPT_KEYS = (
    Key(name="Ctrl-C", does="end the session; what is complete is kept"),
    _FENCE,
)
"""Where entries are read from a file or a pipe."""


def find(name: str, keys: Iterable[Key]) -> Key | None:
    """Return the key of a name, in capitals or not; None where there is none."""
    wanted = name.casefold()
    for key in keys:
        if wanted in (key.name.casefold(), (key.also or "").casefold()):
            return key
    return None
