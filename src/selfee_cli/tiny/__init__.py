"""The bundled small model: what it is taught, how it was trained, and its files.

:mod:`~selfee_cli.tiny.tasks`, :mod:`~selfee_cli.tiny.chains`, :mod:`~selfee_cli.tiny.drills`,
:mod:`~selfee_cli.tiny.vocabulary` and :mod:`~selfee_cli.tiny.recipe` are plain Python;
:mod:`~selfee_cli.tiny.train`, :mod:`~selfee_cli.tiny.export`, :mod:`~selfee_cli.tiny.decode`
and :mod:`~selfee_cli.tiny.evaluate` need torch.
"""

from __future__ import annotations

from pathlib import Path

ASSETS = Path(__file__).resolve().parent / "assets"
BASE = ASSETS / "base"
DELTA = ASSETS / "delta"

__all__ = ["ASSETS", "BASE", "DELTA"]
