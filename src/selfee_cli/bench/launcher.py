"""Runs one command and reports its time and its peak memory; a script of its own.

A process's peak resident memory, as the system counts it, begins at the peak of whoever started
it: a parent with 300 MB makes every child seem to need 300 MB. So what is measured is started by
this small script, which imports nothing but the standard library.

``python launcher.py COMMAND...`` passes the command's output on and adds one line of JSON.
"""

from __future__ import annotations

import json
import os
import sys
import time


def _run(command: list[str]) -> dict[str, float | None]:
    """Give the seconds, the processor's seconds, the exit code (below 0: a signal) and the peak."""
    began = time.perf_counter()
    if not hasattr(os, "wait4"):  # Windows tells no peak
        import subprocess

        code = subprocess.call(command)
        seconds = time.perf_counter() - began
        return {"seconds": seconds, "cpu_seconds": None, "exit_code": code, "peak_bytes": None}
    child = os.posix_spawn(command[0], command, os.environ)
    _, status, usage = os.wait4(child, 0)
    unit = 1 if sys.platform == "darwin" else 1024
    return {
        "seconds": time.perf_counter() - began,
        "cpu_seconds": usage.ru_utime + usage.ru_stime,
        "exit_code": os.waitstatus_to_exitcode(status),
        "peak_bytes": usage.ru_maxrss * unit,
    }


if __name__ == "__main__":
    report = _run(sys.argv[1:])
    sys.stdout.write("\n" + json.dumps(report) + "\n")
