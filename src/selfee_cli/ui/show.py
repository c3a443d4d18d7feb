"""How much of a chain is shown; a module of its own, so that flags name it without the renderer."""

from __future__ import annotations

from enum import StrEnum


class Show(StrEnum):
    """What a reader sees of a chain."""

    FINAL = "final"
    CHAIN = "chain"
    DIFF = "diff"


class FeedbackView(StrEnum):
    """What a reader sees of a feedback."""

    FULL = "full"
    LINE = "line"
    HIDDEN = "hidden"
