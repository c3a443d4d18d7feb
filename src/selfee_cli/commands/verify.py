"""``selfee verify``: are these weights what they should be?"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from selfee_cli.commands import options as opt
from selfee_cli.errors import MismatchError, UsageError
from selfee_cli.ui.console import console

if TYPE_CHECKING:
    from selfee_cli.weights.verify import Fault


@opt.command
def verify(
    path: Annotated[Path, typer.Argument(metavar="PATH", help="A directory of weights.")],
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
    faults: list[Fault] = []
    checked: list[str] = []
    if base is None or delta is None:
        checked.append(_against_digests(path, faults, as_json))
    else:
        if _has_digests(path):
            checked.append(_against_digests(path, faults, as_json))
        checked.append(_against_sum(path, base, delta, faults, as_json))
    if as_json:
        console.json(_to_json(path, checked, faults))
    if faults:
        count = "1 fault" if len(faults) == 1 else f"{len(faults)} faults"
        raise MismatchError(
            f"{path} is not what it should be: {count}",
            hint="download or make the files that are named above again",
        )
    console.say(f"{path} is right: {'; '.join(checked)}")


def _has_digests(path: Path) -> bool:
    from selfee_cli.errors import NotFoundError
    from selfee_cli.weights.verify import expectation

    try:
        expectation(path)
    except NotFoundError:
        return False
    return True


def _against_digests(path: Path, faults: list[Fault], as_json: bool) -> str:
    from selfee_cli.ui.progress import ByteProgress
    from selfee_cli.weights import verify as weights

    expected = weights.expectation(path)
    with ByteProgress("verify", enabled=not console.quiet) as bar:
        bar.start(expected.total_bytes(path))
        found = list(weights.verify(path, expected, bar.advance))
    _tell(found, faults, as_json)
    return f"{len(expected.digests)} files as in {expected.source}"


def _against_sum(path: Path, base: str, delta: str, faults: list[Fault], as_json: bool) -> str:
    from selfee_cli.ui.progress import ByteProgress
    from selfee_cli.weights.delta import plan_delta
    from selfee_cli.weights.recompute import recompute

    plan = plan_delta(opt.weights_directory(base), opt.weights_directory(delta))
    with ByteProgress("recompute", enabled=not console.quiet) as bar:
        bar.start(plan.input_bytes)
        found = list(recompute(plan, path, bar.advance))
    _tell(found, faults, as_json)
    return f"{len(plan.tensors)} tensors are base + delta, bit for bit"


def _tell(found: Iterable[Fault], faults: list[Fault], as_json: bool) -> None:
    for fault in found:
        faults.append(fault)
        if not as_json:
            console.line(str(fault))


def _to_json(path: Path, checked: list[str], faults: list[Fault]) -> dict[str, Any]:
    return {
        "schema": "selfee.verify/1",
        "path": str(path),
        "ok": not faults,
        "checked": checked,
        "faults": [fault.to_json() for fault in faults],
    }
