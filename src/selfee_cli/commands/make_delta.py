"""``selfee make-delta``: the delta from a base to what was trained from it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from selfee_cli.commands import options as opt
from selfee_cli.commands.apply_delta import carry_out, parse_dtype, parse_size
from selfee_cli.ui.console import console
from selfee_cli.ui.units import byte_text, count_text

if TYPE_CHECKING:
    from selfee_cli.weights.make_delta import MakePlan, MakeResult


@opt.command
def make_delta(
    *,
    base: Annotated[
        str,
        typer.Option("--base", metavar="DIR|REPO", help="The weights before, in any layout."),
    ],
    tuned: Annotated[
        str,
        typer.Option("--tuned", metavar="DIR|REPO", help="The weights after, in any layout."),
    ],
    out: opt.Out,
    dtype: Annotated[
        str, typer.Option("--dtype", metavar="DTYPE", help="float32, float16 or bfloat16.")
    ] = "float32",
    exact: Annotated[
        bool, typer.Option("--exact", help="Store what the sum does not give back bit for bit.")
    ] = False,
    shard_size: Annotated[
        str, typer.Option("--shard-size", metavar="SIZE", help="Largest file, as 5GB or 500MB.")
    ] = "5GB",
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the manifest and figures as one object.")
    ] = False,
) -> None:
    """Make the delta that apply-delta adds to the base, and check that it leads back.

    Example: selfee make-delta --base llama-7b --tuned my-selfee-7b --out my-selfee-7b-delta
    """
    from selfee_cli.weights import make_delta as weights
    from selfee_cli.weights.disk import check_target, staging_of
    from selfee_cli.weights.journal import check_other_work

    check_target(out)
    storage, largest = parse_dtype(dtype), parse_size(shard_size)
    plan = weights.plan_make_delta(
        opt.weights_directory(base),
        opt.weights_directory(tuned),
        dtype=storage,
        exact=exact,
        shard_size=largest,
    )
    check_other_work(staging_of(out), plan.key())
    result = carry_out(plan, out, weights.make_delta)
    if as_json:
        console.json(_to_json(plan, result))
    rate = (result.bytes_read + result.bytes_written) / max(result.seconds, 1e-9) / 1e9
    size = byte_text(result.resumed_bytes + result.bytes_written)
    console.say(
        f"made {out}: {count_text(plan.parameters)} parameters as {dtype}, "
        f"{size}, in {result.seconds:.1f} s ({rate:.2f} GB/s); "
        f"next: selfee apply-delta --base {opt.quoted(plan.base)} --delta {opt.quoted(out)} "
        f"--dtype {plan.tuned_dtype.torch_name} --out DIR"
    )


def _to_json(plan: MakePlan, result: MakeResult) -> dict[str, Any]:
    return {
        "schema": "selfee.make-delta/1",
        "path": str(result.path),
        "parameters": plan.parameters,
        "seconds": result.seconds,
        "bytes_read": result.bytes_read,
        "bytes_written": result.bytes_written,
        "resumed_files": result.resumed_files,
        "resumed_bytes": result.resumed_bytes,
        "round_trip": result.round_trip.to_json(),
        "notes": list(result.notes),
        "manifest": result.manifest.to_json(),
    }
