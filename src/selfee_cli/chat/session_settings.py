"""The settings of a session: those that were set in it hold again when it goes on."""

from __future__ import annotations

from collections.abc import Mapping

from selfee_cli.errors import SelfeeError
from selfee_cli.settings import Settings, written

_SET, _RESUMED = "/set", "session"
"""Where a setting came from: this run, or the session that goes on."""


def set_values(settings: Settings) -> dict[str, str]:
    """Return those that a reader set, in this run or before, as they are written."""
    return set_now(settings) | _from(settings, _RESUMED)


def set_now(settings: Settings) -> dict[str, str]:
    """Return those that a reader set in this run, as they are written."""
    return _from(settings, _SET)


def _from(settings: Settings, wanted: str) -> dict[str, str]:
    return {name: written(value) for name, value, source in settings.items() if source == wanted}


def resume(settings: Settings, values: Mapping[str, str]) -> list[str]:
    """Let the ``values`` that a session had hold, and no longer those that another one had.

    A flag of this command line is stronger; what was set in this run holds where it had none.
    Returns what is wrong with values that are passed over, as those of a later version are.
    """
    others = {key: "default" for key, _, source in settings.items() if source == _RESUMED}
    given = {key for key, _, source in settings.items() if source.startswith("--")}
    own = {key: value for key, value in values.items() if key not in given}
    return _set_together(settings, others) + _set_together(settings, own)


def _set_together(settings: Settings, values: Mapping[str, str]) -> list[str]:
    """Let the ``values`` hold, in whatever order they allow; return what is wrong with the rest.

    One that excludes what still stands, as a minimum above the maximum, waits for the others.
    """
    waiting = dict(values)
    while True:
        wrong = {}
        for key, value in waiting.items():
            try:
                settings.set(key, value, source=_RESUMED)
            except SelfeeError as error:
                wrong[key] = error.message
        if len(wrong) == len(waiting):
            return [*wrong.values()]
        waiting = {key: values[key] for key in wrong}
