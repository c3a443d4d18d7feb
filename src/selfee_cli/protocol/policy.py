"""When a chain must go on, and when it must stop."""

from __future__ import annotations

from dataclasses import dataclass

from selfee_cli.errors import UsageError
from selfee_cli.protocol.grammar import TurnId, TurnKind


@dataclass(frozen=True, kw_only=True)
class RevisionPolicy:
    """At least ``minimum`` and at most ``maximum`` revisions (None: as many as the model wants).

    With the defaults the model decides alone: the autonomous mode.
    """

    minimum: int = 0
    maximum: int | None = None

    def __post_init__(self) -> None:
        if self.minimum < 0:
            raise UsageError(f"--min-revisions is {self.minimum}; it cannot be negative")
        if self.maximum is not None and self.maximum < self.minimum:
            raise UsageError(
                f"--max-revisions {self.maximum} is less than --min-revisions {self.minimum}",
                hint="raise the one or lower the other",
            )

    def must_continue(self, id: TurnId) -> bool:
        """Whether a turn must follow ``id``, whatever the model would have."""
        if id.kind is TurnKind.FEEDBACK:
            return id.index <= self.minimum
        return id.index < self.minimum

    def is_last(self, id: TurnId) -> bool:
        """Whether nothing may follow ``id``: it is the last revision allowed, or beyond it."""
        if self.maximum is None or id.kind is TurnKind.FEEDBACK:
            return False
        return id.index >= self.maximum
