"""What the machine is, for figures that name it."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from pathlib import Path

from selfee_cli.engine.memory import total_memory


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
        memory=total_memory(),
        system=f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
    )


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text("utf-8").splitlines():
            if line.startswith("model name"):
                return " ".join(line.partition(":")[2].split())
    except OSError:
        pass
    return platform.processor() or platform.machine()
