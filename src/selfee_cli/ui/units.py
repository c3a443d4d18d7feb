"""Sizes and counts as people read them, in powers of a thousand."""

from __future__ import annotations


def byte_text(count: float) -> str:
    """Return ``13.5 GB``, ``3.1 MB`` or ``512 bytes``."""
    return _scaled(count, ("bytes", "kB", "MB", "GB", "TB"))


def count_text(count: float) -> str:
    """Return ``6.7 B`` or ``1.5 M``, as sizes of models are told."""
    return _scaled(count, ("", "K", "M", "B", "T")).rstrip()


def time_text(seconds: float) -> str:
    """Return ``4 s``, ``3 min`` or ``1 h 20 min``."""
    if seconds < 99.5:
        return f"{max(1, round(seconds))} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def _scaled(value: float, units: tuple[str, ...]) -> str:
    for unit in units[:-1]:
        if value < 999.95:
            return f"{value:.0f} {unit}" if unit == units[0] else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} {units[-1]}"
