"""How much memory there is to spare. No torch."""

from __future__ import annotations

import os
from pathlib import Path

_CGROUP = Path("/sys/fs/cgroup")


def total_memory() -> int | None:
    """Return the machine's main memory in bytes; None where the system does not tell."""
    return _pages("SC_PHYS_PAGES")


def available_memory() -> int | None:
    """Return the bytes a program may take without swapping; None where the system does not tell.

    A container's own limit counts where there is one.
    """
    free = _meminfo("MemAvailable") or _pages("SC_AVPHYS_PAGES")
    limit, used = _number(_CGROUP / "memory.max"), _number(_CGROUP / "memory.current")
    if limit is not None and used is not None:
        # Cached files count as used but are given up when memory is wanted.
        left = limit - used + (_cached_files() or 0)
        return left if free is None else min(free, left)
    return free


def _meminfo(key: str) -> int | None:
    try:
        lines = Path("/proc/meminfo").read_text("ascii").splitlines()
    except OSError:
        return None
    for line in lines:
        if line.startswith(f"{key}:"):
            return int(line.split()[1]) * 1024
    return None


def _pages(name: str) -> int | None:
    try:
        return os.sysconf(name) * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return None


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text("ascii"))
    except (OSError, ValueError):  # "max" is no limit
        return None


def _cached_files() -> int | None:
    try:
        lines = (_CGROUP / "memory.stat").read_text("ascii").splitlines()
    except OSError:
        return None
    found = dict(line.split() for line in lines)
    return int(found.get("inactive_file", 0)) + int(found.get("active_file", 0))
