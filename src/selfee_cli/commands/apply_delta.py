"""``selfee apply-delta``: the tuned weights from a base and a delta."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from selfee_cli.commands import options as opt
from selfee_cli.errors import Interrupted, UsageError
from selfee_cli.ui.console import console
from selfee_cli.ui.units import byte_text, count_text, time_text

if TYPE_CHECKING:
    from selfee_cli.weights.delta import DeltaPlan, DeltaResult
    from selfee_cli.weights.delta_plan import PairPlan
    from selfee_cli.weights.digests import Advance
    from selfee_cli.weights.dtypes import DType
    from selfee_cli.weights.forecast import Forecast
    from selfee_cli.weights.make_delta import MakeResult

Plan = TypeVar("Plan", bound="PairPlan")
Result = TypeVar("Result", "DeltaResult", "MakeResult")

_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
_UNITS |= {f"{unit}I": 2 ** (10 * power) for power, unit in enumerate("KMGT", 1)}


@opt.command
def apply_delta(
    *,
    base: Annotated[
        str,
        typer.Option("--base", metavar="DIR|REPO", help="The LLaMA weights, in any layout."),
    ],
    delta: Annotated[
        str,
        typer.Option("--delta", metavar="DIR|REPO", help="The published delta, in any layout."),
    ],
    out: opt.Out,
    dtype: Annotated[
        str, typer.Option("--dtype", metavar="DTYPE", help="float16, bfloat16 or float32.")
    ] = "float16",
    shard_size: Annotated[
        str, typer.Option("--shard-size", metavar="SIZE", help="Largest file, as 5GB or 500MB.")
    ] = "5GB",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check everything, say what it takes, write nothing.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the manifest and figures as one object.")
    ] = False,
) -> None:
    """Reconstruct the tuned weights: base + delta, rounded once, bit for bit.

    Example: selfee apply-delta --base llama-7b --delta selfee-7b-delta --out selfee-7b
    """
    from selfee_cli.weights import delta as weights
    from selfee_cli.weights.disk import check_target, staging_of
    from selfee_cli.weights.journal import check_other_work

    check_target(out)
    storage, largest = parse_dtype(dtype), parse_size(shard_size)
    plan = weights.plan_delta(
        opt.weights_directory(base),
        opt.weights_directory(delta),
        dtype=storage,
        shard_size=largest,
    )
    check_other_work(staging_of(out), plan.key())
    _say_origins(plan)
    if dry_run:
        _foretell(plan, out, as_json)
        return
    result = carry_out(plan, out, weights.apply_delta)
    if as_json:
        console.json(_to_json(plan, result))
    rate = (result.bytes_read + result.bytes_written) / max(result.seconds, 1e-9) / 1e9
    size = byte_text(result.resumed_bytes + result.bytes_written)
    console.say(
        f"made {out}: {count_text(plan.parameters)} parameters as {dtype}, "
        f"{size}, in {result.seconds:.1f} s ({rate:.2f} GB/s); "
        f'next: selfee ask --model {opt.quoted(out)} "What is self-feedback?"'
    )


def carry_out(plan: Plan, out: Path, work: Callable[[Plan, Path, Advance], Result]) -> Result:
    """Do the ``work`` of a plan; say what an earlier run had finished of it, and its notes.

    Raises:
        Interrupted: Ctrl-C stopped it; the message says what it left.
        SelfeeError: what else ``work`` raises.
    """
    from selfee_cli.ui.progress import ByteProgress

    with ByteProgress(plan.work, enabled=not console.quiet) as bar:
        bar.start(plan.input_bytes)
        try:
            result = work(plan, out, bar.advance)
        except KeyboardInterrupt:
            raise interrupted(out) from None
    if result.resumed_files:
        files = "1 file" if result.resumed_files == 1 else f"{result.resumed_files} files"
        console.say(f"resumed: {files} of an earlier run were already there")
    for note in result.notes:
        console.say(note)
    return result


def interrupted(out: Path) -> Interrupted:
    """Say what an interrupted run into ``out`` has left."""
    from selfee_cli.weights.disk import staging_of
    from selfee_cli.weights.journal import holds_finished

    if holds_finished(staging_of(out)):
        return Interrupted("interrupted: the same command goes on from here")
    if out.is_dir() and any(out.iterdir()):
        return Interrupted(f"interrupted at the very end: {out} is complete")
    return Interrupted("interrupted: no file was finished, so nothing is kept")


def _say_origins(plan: DeltaPlan) -> None:
    from selfee_cli.weights.releases import presumed_release

    for role, origin in plan.origins.items():
        claim = presumed_release(plan.base) if role == "base" else None
        if origin.release is not None:
            console.say(f"{role}: {origin.release}")
        elif claim is not None:
            proof = f"selfee verify {opt.quoted(plan.base)}"
            console.say(f"{role}: {claim} by its params.json; to prove it: {proof}")
        else:
            console.say(
                f"{role}: {plan.size}, not a release known here; "
                f"its fingerprint is {origin.fingerprint}"
            )


def _foretell(plan: DeltaPlan, out: Path, as_json: bool) -> None:
    from selfee_cli.weights.disk import no_room
    from selfee_cli.weights.forecast import forecast

    found = forecast(plan, out)
    if as_json:
        origins = {role: origin.to_json() for role, origin in plan.origins.items()}
        console.json(
            {
                "schema": "selfee.apply-delta-plan/1",
                "path": str(out),
                "parameters": plan.parameters,
                "dtype": plan.dtype.torch_name,
                "files": {shard.name: shard.nbytes for shard in plan.shards},
                "made_from": origins,
                **found.to_json(),
            }
        )
    else:
        for label, value in _rows(plan, found):
            console.line(f"{label:<12}{value}")
    if not found.fits:
        raise no_room(out, found.needed_bytes, found.free_bytes)


def _rows(plan: DeltaPlan, found: Forecast) -> list[tuple[str, str]]:
    files = "1 file" if len(plan.shards) == 1 else f"{len(plan.shards)} files"
    rows = [
        ("parameters", f"{plan.parameters:,} ({count_text(plan.parameters)})"),
        ("read", byte_text(found.input_bytes)),
        ("written", f"{byte_text(found.output_bytes)} as {plan.dtype.torch_name}, {files}"),
        ("space", f"{byte_text(found.free_bytes)} free, {byte_text(found.needed_bytes)} needed"),
        ("memory", f"about {byte_text(found.memory_bytes)}"),
        ("time", f"at least {time_text(found.seconds)}; a slow disk takes longer"),
    ]
    if found.finished_bytes:
        there = f"{byte_text(found.finished_bytes)} of an interrupted run are there"
        rows.append(("resumes", there))
    if not found.fits:
        rows.append(("problem", "the disk is too small: free some space or choose another place"))
    return rows


def _to_json(plan: DeltaPlan, result: DeltaResult) -> dict[str, Any]:
    return {
        "schema": "selfee.apply-delta/1",
        "path": str(result.path),
        "parameters": plan.parameters,
        "seconds": result.seconds,
        "bytes_read": result.bytes_read,
        "bytes_written": result.bytes_written,
        "resumed_files": result.resumed_files,
        "resumed_bytes": result.resumed_bytes,
        "notes": list(result.notes),
        "manifest": result.manifest.to_json(),
    }


def parse_dtype(name: str) -> DType:
    """Give the :class:`~selfee_cli.weights.dtypes.DType` of a ``--dtype``."""
    from selfee_cli.weights.dtypes import DType

    try:
        return DType.from_torch_name(name)
    except ValueError:
        raise UsageError(
            f"--dtype {name} is unknown", hint="float16, bfloat16 or float32"
        ) from None


def parse_size(text: str) -> int:
    """Give the bytes of a size such as ``5GB``, ``500MB`` or ``2GiB``."""
    import math
    import re

    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?I?)B?", text.strip().upper())
    size = float(match[1]) * _UNITS[match[2]] if match and match[2] in _UNITS else 0.0
    if not 0 < size < math.inf:
        raise UsageError(f"--shard-size {text} is no size", hint="for example 5GB or 500MB")
    return max(1, int(size))
