"""``selfee inspect``: what is in this directory?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from selfee_cli.commands import options as opt
from selfee_cli.ui.console import console, printable
from selfee_cli.ui.units import byte_text, count_text

if TYPE_CHECKING:
    from selfee_cli.weights.inspect import Inspection


@opt.command
def inspect(
    path: opt.WeightsPath,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print one object.")] = False,
) -> None:
    """Say what a directory of weights is. Reads headers only, so it is quick for any size.

    Example: selfee inspect selfee-7b-delta
    """
    from selfee_cli.weights.inspect import inspect as inspect_weights

    found = inspect_weights(path)
    if as_json:
        console.json(found.to_json())
        return
    for label, value in _rows(found):
        line = printable(value).replace("\n", "\\n")  # no value can pass for a row of its own
        console.line(f"{label:<14}{line}")


def _rows(found: Inspection) -> list[tuple[str, str]]:
    shards = "1 file" if found.shards == 1 else f"{found.shards} shards"
    context = "unknown" if found.context is None else f"{found.context:,} tokens"
    return [
        ("format", f"{found.format}, {shards}, {byte_text(found.bytes)}"),
        ("architecture", _architecture(found)),
        ("parameters", f"{found.parameters:,} ({count_text(found.parameters)})"),
        ("dtype", ", ".join(found.dtypes)),
        ("vocabulary", "unknown" if found.vocabulary is None else f"{found.vocabulary:,}"),
        ("context", context),
        ("provenance", _provenance(found)),
        ("chat", "ready" if found.why_not is None else f"not ready: {found.why_not}"),
    ]


def _architecture(found: Inspection) -> str:
    name = found.architecture or "unknown"
    if found.layers is None or found.hidden is None:
        return name
    return f"{name}, {found.layers} layers of {found.hidden}"


def _provenance(found: Inspection) -> str:
    if found.provenance is None:
        return "unknown (no manifest)"
    parts = []
    for role, origin in found.provenance["made_from"].items():
        known_as = origin.get("release") or str(origin.get("fingerprint"))[:19]
        parts.append(f"{role} {origin.get('name')} ({known_as})")
    return f"{found.provenance['created_by']}, from {' and '.join(parts) or 'nothing named'}"
