"""What the machine is, for figures that name it, and how much memory it has to spare."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from pathlib import Path

_CGROUP = Path("/sys/fs/cgroup")


@dataclass(frozen=True, kw_only=True)
class Machine:
    """Where figures were measured."""

    processor: str
    cores: int
    """Those this process may use."""
    memory: int | None
    """Bytes; None where the system does not tell."""
    system: str

    def __str__(self) -> str:
        cores = "1 core" if self.cores == 1 else f"{self.cores} cores"
        memory = f", {self.memory / 1e9:.0f} GB of memory" if self.memory else ""
        return f"{self.processor}, {cores}{memory}, {self.system}"


def this_machine() -> Machine:
    """Describe this machine."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return Machine(
        processor=_processor(),
        cores=cores or 1,
        memory=_pages("SC_PHYS_PAGES"),
        system=f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
    )


def available_memory() -> int | None:
    """Give the bytes a program may take without swapping; None where the system does not tell.

    A container's own limit counts where there is one.
    """
    free = _meminfo("MemAvailable") or _pages("SC_AVPHYS_PAGES")
    limit, used = _number(_CGROUP / "memory.max"), _number(_CGROUP / "memory.current")
    if limit is not None and used is not None:
        # Cached files count as used but are given up when memory is wanted.
        left = limit - used + (_inactive_file() or 0)
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


def _inactive_file() -> int | None:
    try:
        lines = (_CGROUP / "memory.stat").read_text("ascii").splitlines()
    except OSError:
        return None
    found = dict(line.split() for line in lines)
    return int(found.get("inactive_file", 0)) + int(found.get("active_file", 0))


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text("utf-8").splitlines():
            if line.startswith("model name"):
                return " ".join(line.partition(":")[2].split())
    except OSError:
        pass
    return platform.processor() or platform.machine()
