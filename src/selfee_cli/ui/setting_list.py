"""The settings of a session, as ``/set`` lists and names them."""

from __future__ import annotations

from collections.abc import Sequence

from selfee_cli.errors import UsageError
from selfee_cli.settings import Setting, Settings, find, written


def rows(settings: Settings, *, fixed: bool = False) -> list[str]:
    """Return a line a setting: name, value, source; those that are ``fixed`` where wanted."""
    shown = {each.name for each in settings.known if fixed or not each.fixed}
    cells = [(n, written(v), s) for n, v, s in settings.items() if n in shown]
    widths = [max(len(row[column]) for row in cells) + 2 for column in (0, 1)]
    return [f"{n:<{widths[0]}}{v:<{widths[1]}}{source}" for n, v, source in cells]


def named(settings: Settings, key: str) -> Setting:
    """Return the setting of a name.

    Raises:
        UsageError: there is none; the hint is what lists them in a session.
    """
    try:
        return find(settings.known, key)
    except UsageError as error:
        error.hint = (error.hint or "").replace("`selfee config`", "/set")
        raise


def words(settings: Settings, head: str) -> Sequence[str]:
    """Return what may follow ``head``, which is ``/set`` or that and a key."""
    _, *rest = head.split()
    if not rest:
        return [each.name for each in settings.known if not each.fixed]
    try:
        choices = find(settings.known, rest[0]).choices or ()
    except UsageError:
        choices = ()
    return [*choices, "default"]
