"""``selfee verify``: are these weights what they should be?"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from selfee_cli.commands import options as opt
from selfee_cli.errors import MismatchError, NotFoundError, SelfeeError, UsageError
from selfee_cli.ui.console import console, printable

if TYPE_CHECKING:
    from selfee_cli.weights.verify import Fault


@opt.command
def verify(
    path: opt.WeightsPath,
    *,
    base: Annotated[
        str | None,
        typer.Option("--base", metavar="DIR|REPO", help="With --delta: compute the sum again."),
    ] = None,
    delta: Annotated[
        str | None, typer.Option("--delta", metavar="DIR|REPO", help="The delta applied.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one object.")] = False,
) -> None:
    """Hash every file again and compare; print one line a fault. Exit code 3 where there is one.

    Example: selfee verify selfee-7b --base llama-7b --delta selfee-7b-delta
    """
    if (base is None) != (delta is None):
        raise UsageError("--base and --delta go together", hint="give both or neither")
    report = _Report(as_json=as_json)
    if base is None or delta is None:
        _check_digests(path, report)
    else:
        with contextlib.suppress(NotFoundError):  # without known digests there is still the sum
            _check_digests(path, report)
        _check_sum(path, base, delta, report)
    if as_json:
        console.json(report.to_json(path))
    if report.faults:
        count = _count(len(report.faults))
        raise MismatchError(
            f"{path} is not what it should be: {count}",
            hint="download or make the files that are named above again",
        )
    known = "right as far as is known" if report.unchecked else "right"
    console.say(f"{path} is {known}: {'; '.join(report.checked)}")


@dataclass(kw_only=True)
class _Report:
    """What was checked, what was found and what could not be checked."""

    as_json: bool
    checked: list[str] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    unchecked: list[str] = field(default_factory=list)

    def add(self, found: list[Fault], *, right: str, wrong: str) -> None:
        """Add a check, in the words for a right outcome or a wrong one, and tell its faults."""
        self.checked.append(f"{wrong}: {_count(len(found))}" if found else right)
        self.faults += found
        if not self.as_json:
            for fault in found:
                console.line(printable(str(fault)).replace("\n", "\\n"))

    def to_json(self, path: Path) -> dict[str, Any]:
        return {
            "schema": "selfee.verify/1",
            "path": str(path),
            "ok": not self.faults,
            "checked": self.checked,
            "unchecked": self.unchecked,
            "faults": [fault.to_json() for fault in self.faults],
        }


def _count(faults: int) -> str:
    return "1 fault" if faults == 1 else f"{faults} faults"


def _check_digests(path: Path, report: _Report) -> None:
    from selfee_cli.ui.progress import ByteProgress
    from selfee_cli.weights import verify as weights

    try:
        expected = weights.expectation(path)
    except weights.DamagedListError as error:
        damage = weights.Fault(file=error.file, reason=error.message)
        report.add([damage], right=f"{error.file} is sound", wrong=error.file)
        return
    with ByteProgress("verify", enabled=not console.quiet) as bar:
        bar.start(expected.total_bytes(path))
        found = list(weights.verify(path, expected, bar.advance))
    count = len(expected.digests)
    files = f"{count} file{'s' * (count != 1)}"
    report.add(
        found, right=f"{files} as in {expected.source}", wrong=f"{files} against {expected.source}"
    )
    report.unchecked += expected.unchecked
    for name in expected.unchecked:
        console.say(f"{name} was not checked: no digest of it is known")


def _check_sum(path: Path, base: str, delta: str, report: _Report) -> None:
    from selfee_cli.ui.progress import ByteProgress
    from selfee_cli.weights.delta import plan_delta
    from selfee_cli.weights.recompute import recompute

    plan = plan_delta(opt.weights_directory(base), opt.weights_directory(delta))
    found = _unreadable(path, report)
    if not found:
        with ByteProgress("recompute", enabled=not console.quiet) as bar:
            bar.start(plan.input_bytes)
            found = list(recompute(plan, path, bar.advance))
    tensors = f"{len(plan.tensors)} tensors"
    report.add(
        found,
        right=f"{tensors} are base + delta, bit for bit",
        wrong=f"{tensors} against base + delta",
    )


def _unreadable(path: Path, report: _Report) -> list[Fault]:
    """Give as a fault that the weights cannot be opened, where they are known not to be right.

    Raises:
        SelfeeError: they cannot be opened, and nothing else speaks against them.
    """
    from selfee_cli.weights.checkpoint import open_checkpoint
    from selfee_cli.weights.verify import Fault

    try:
        open_checkpoint(path).close()
    except SelfeeError as error:
        if not report.faults and not isinstance(error, MismatchError):
            raise
        return [Fault(file=path.name, reason=error.message)]
    return []
