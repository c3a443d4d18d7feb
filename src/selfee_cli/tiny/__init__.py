"""The bundled small model: what it is taught, how it was trained, and its files.

- What it is asked: ``phrasings``, ``other``, ``tasks``.
- The texts it is trained on: ``checks``, ``chains``, ``drills``, ``recipe``, ``stages``,
  ``vocabulary``. All these are plain Python (and SentencePiece).
- Training: ``network``, ``optimizer``, ``train``, ``export``.
- Measuring it, or any model: ``written``, ``writer``, ``rows``, ``decode``, ``pace``,
  ``evaluate``, ``revisions``, ``subject``, ``plot``.
- The files that come with the package: ``bundle`` and the folder ``assets``.
"""

from __future__ import annotations

from pathlib import Path

ASSETS = Path(__file__).resolve().parent / "assets"
BASE = ASSETS / "base"
DELTA = ASSETS / "delta"

__all__ = ["ASSETS", "BASE", "DELTA"]
