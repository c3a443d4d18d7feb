"""``selfee bench delta``: ``apply-delta`` beside a plain copy and the usual ways."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from selfee_cli.commands import options as opt
from selfee_cli.errors import Interrupted
from selfee_cli.ui.console import console
from selfee_cli.ui.units import byte_text, count_text

if TYPE_CHECKING:
    from selfee_cli.bench.delta import DeltaBench, DeltaFigures
    from selfee_cli.bench.figures import Measured
    from selfee_cli.ui.table import Table

_NONE = "-"


@opt.command
def delta(
    *,
    gigabytes: Annotated[
        float | None,
        typer.Option(
            "--gigabytes",
            metavar="G",
            help="Of base and delta together; default: 1.7, or what fits.",
            show_default=False,
        ),
    ] = None,
    rounds: Annotated[
        int, typer.Option("--rounds", metavar="N", min=1, help="Measure N times; medians count.")
    ] = 3,
    directory: Annotated[
        Path | None,
        typer.Option(
            "--dir",
            metavar="DIR",
            help="On which disk; default: where temporary files are.",
            show_default=False,
        ),
    ] = None,
    peers: Annotated[
        bool, typer.Option("--peers/--without-peers", help="Measure the common ways too.")
    ] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print the figures as one object.")] = (
        False
    ),
) -> None:
    """Apply a generated delta: time, speed and memory beside a plain copy and the common ways.

    Example: selfee bench delta
    """
    import json
    import signal

    from selfee_cli.bench.delta import DEFAULT_GIGABYTES, measuring, plan_bench
    from selfee_cli.ui.progress import ByteProgress
    from selfee_cli.ui.table import show_table

    planned = plan_bench(gigabytes=gigabytes, rounds=rounds, peers=peers, directory=directory)
    if planned.shrunk:
        size = byte_text(planned.shape.input_bytes)
        console.say(f"disk or memory are small here: {size} in place of {DEFAULT_GIGABYTES} GB")
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # it, too, leaves no files behind
    try:
        with measuring(planned) as run:
            console.say("each way once on a few bytes, unmeasured, to have its libraries loaded")
            run.warm_up()
            with ByteProgress("writing the inputs", enabled=not console.quiet) as bar:
                bar.start(planned.shape.input_bytes)
                run.write_inputs(bar.advance)
            for line in run.rounds():
                console.say(line)
            figures = run.figures()
    except KeyboardInterrupt:
        raise Interrupted("interrupted: the generated files are removed") from None
    if as_json:
        console.line(json.dumps(_delta_json(figures)))
    else:
        show_table(_delta_table(figures), console)


def _delta_table(figures: DeltaFigures) -> Table:
    from selfee_cli.bench.machine import this_machine
    from selfee_cli.ui.table import Column, Table

    columns = [
        Column(title="way"),
        Column(title="time", number=True),
        Column(title="start", number=True),
        Column(title="to copy", number=True),
        Column(title="CPU", number=True),
        Column(title="GB/s", number=True),
        Column(title="peak", number=True),
        Column(title="same bits"),
    ]
    rows = [
        [
            measured.way.title,
            _figure(measured.median, ".2f", " s"),
            _figure(measured.start_median, ".2f", " s"),
            _figure(figures.ratio(measured), ".2f", "x"),
            _figure(measured.cpu_median, ".2f", " s"),
            _figure(_scaled(figures.rate(measured), 1e9), ".2f"),
            _figure(_scaled(measured.peak_bytes, 1 << 20), ".0f", " MiB"),
            _same_bits(measured),
        ]
        for measured in figures.ways
    ]
    return Table(
        title=_what(figures.bench),
        columns=columns,
        rows=rows,
        strong=[0],
        note=f"on {this_machine()}",
    )


def _what(planned: DeltaBench) -> str:
    """Say what was measured, and how."""
    shape = planned.shape
    state = (
        "files warm (just written)" if planned.warm else "files larger than memory, read from disk"
    )
    rounds = "1 round" if planned.rounds == 1 else f"median of {planned.rounds} rounds"
    return (
        f"base + delta of {count_text(shape.parameters)} parameters, "
        f"{byte_text(shape.input_bytes)} in, {byte_text(shape.output_bytes)} out, "
        f"{state}, output synced, {rounds}"
    )


def _figure(value: float | None, form: str, unit: str = "") -> str:
    return _NONE if value is None else f"{value:{form}}{unit}"


def _scaled(value: float | None, unit: float) -> float | None:
    return None if value is None else value / unit


def _same_bits(measured: Measured) -> str:
    from selfee_cli.bench.delta import OURS

    if measured.failure is not None:
        return measured.failure[:100]
    if measured.different is None or (measured.way is OURS and not measured.different):
        return _NONE
    return f"no: {measured.different} of {measured.tensors} differ" if measured.different else "yes"


def _delta_json(figures: DeltaFigures) -> dict[str, Any]:
    from dataclasses import asdict

    from selfee_cli.bench.machine import this_machine

    planned = figures.bench
    return {
        "schema": "selfee.bench.delta/1",
        "machine": asdict(this_machine()),
        "directory": str(planned.directory),
        "parameters": planned.shape.parameters,
        "bytes_read": planned.shape.input_bytes,
        "bytes_written": planned.shape.output_bytes,
        "rounds": planned.rounds,
        "warm": planned.warm,
        "ways": [_way_json(figures, measured) for measured in figures.ways],
    }


def _way_json(figures: DeltaFigures, measured: Measured) -> dict[str, Any]:
    return {
        "name": measured.way.name,
        "title": measured.way.title,
        "seconds": measured.median,
        "start_seconds": measured.start_median,
        "seconds_by_round": measured.seconds,
        "cpu_seconds": measured.cpu_median,
        "ratio_to_copy": figures.ratio(measured),
        "gigabytes_per_second": _scaled(figures.rate(measured), 1e9),
        "peak_mib": _scaled(measured.peak_bytes, 1 << 20),
        "same_bits": None if measured.different is None else not measured.different,
        "different_tensors": measured.different,
        "tensors": measured.tensors,
        "failure": measured.failure,
    }
