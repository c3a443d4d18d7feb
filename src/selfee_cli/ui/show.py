"""How much of a chain a reader sees. By itself, so that `selfee --help` need import no renderer."""

from __future__ import annotations

from enum import StrEnum


class Show(StrEnum):
    """The values of ``--show``."""

    FINAL = "final"
    CHAIN = "chain"
    DIFF = "diff"
