"""``selfee apply-delta``: the tuned weights from a base and a delta."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from selfee_cli.commands import options as opt
from selfee_cli.errors import Interrupted, UsageError
from selfee_cli.ui.console import console
from selfee_cli.ui.units import byte_text, count_text

if TYPE_CHECKING:
    from selfee_cli.weights.delta import DeltaPlan, DeltaResult
    from selfee_cli.weights.dtypes import DType

_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
_UNITS |= {f"{unit}I": 2 ** (10 * power) for power, unit in enumerate("KMGT", 1)}


@opt.command
def apply_delta(
    *,
    base: Annotated[
        str, typer.Option("--base", metavar="DIR", help="The LLaMA weights, in any layout.")
    ],
    delta: Annotated[
        str, typer.Option("--delta", metavar="DIR", help="The published delta, in any layout.")
    ],
    out: Annotated[
        Path, typer.Option("--out", metavar="DIR", help="Where to; must not exist or be empty.")
    ],
    dtype: Annotated[
        str, typer.Option("--dtype", metavar="DTYPE", help="float16, bfloat16 or float32.")
    ] = "float16",
    shard_size: Annotated[
        str, typer.Option("--shard-size", metavar="SIZE", help="Largest file, as 5GB or 500MB.")
    ] = "5GB",
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the manifest and figures as one object.")
    ] = False,
) -> None:
    """Reconstruct the tuned weights: base + delta, rounded once, bit for bit.

    Example: selfee apply-delta --base llama-7b --delta selfee-7b-delta --out selfee-7b
    """
    import json
    import shlex

    from selfee_cli.ui.progress import ByteProgress
    from selfee_cli.weights import delta as weights
    from selfee_cli.weights.disk import check_target

    check_target(out)
    plan = weights.plan_delta(
        base, delta, dtype=parse_dtype(dtype), shard_size=parse_size(shard_size)
    )
    _say_base(plan)
    with ByteProgress("apply-delta", enabled=not console.quiet) as bar:
        bar.start(plan.input_bytes)
        try:
            result = weights.apply_delta(plan, out, bar.advance)
        except KeyboardInterrupt:
            raise Interrupted("interrupted: the same command goes on from here") from None
    if result.resumed_files:
        files = "1 file" if result.resumed_files == 1 else f"{result.resumed_files} files"
        console.say(f"resumed: {files} of an earlier run were already there")
    for note in result.notes:
        console.say(note)
    if as_json:
        console.line(json.dumps(_to_json(plan, result)))
    rate = (result.bytes_read + result.bytes_written) / max(result.seconds, 1e-9) / 1e9
    console.say(
        f"made {out}: {count_text(plan.parameters)} parameters as {dtype}, "
        f"{byte_text(result.bytes_written)}, in {result.seconds:.1f} s ({rate:.2f} GB/s); "
        f'next: selfee ask --model {shlex.quote(str(out))} "What is self-feedback?"'
    )


def _say_base(plan: DeltaPlan) -> None:
    base = plan.origins["base"]
    if base.release is not None:
        console.say(f"base: {base.release}")
    else:
        console.say(f"base: not a release known here; its fingerprint is {base.fingerprint}")


def _to_json(plan: DeltaPlan, result: DeltaResult) -> dict[str, object]:
    return {
        "schema": "selfee.apply-delta/1",
        "path": str(result.path),
        "parameters": plan.parameters,
        "seconds": result.seconds,
        "bytes_read": result.bytes_read,
        "bytes_written": result.bytes_written,
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
    import re

    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?I?)B?", text.strip().upper())
    if not match or match[2] not in _UNITS or float(match[1]) <= 0:
        raise UsageError(f"--shard-size {text} is no size", hint="for example 5GB or 500MB")
    return max(1, int(float(match[1]) * _UNITS[match[2]]))
