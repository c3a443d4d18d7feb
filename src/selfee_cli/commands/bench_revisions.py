"""``selfee bench revisions``: does a model get better by revising?"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from selfee_cli.commands import options as opt
from selfee_cli.commands.flags import ModelFlags
from selfee_cli.errors import NotFoundError, SelfeeError, UsageError
from selfee_cli.tiny.tasks import Part
from selfee_cli.ui.console import console

if TYPE_CHECKING:
    from selfee_cli.tiny.evaluate import Tally
    from selfee_cli.tiny.pace import Pace
    from selfee_cli.tiny.revisions import Group, Groups
    from selfee_cli.ui.table import Table

_TIMED = 4  # questions of each family, at most


@opt.command
def revisions(
    *,
    model: ModelFlags,
    questions: Annotated[
        int, typer.Option("--questions", metavar="N", min=1, help="So many of each family.")
    ] = 200,
    temperature: Annotated[
        list[float] | None,
        typer.Option("--temperature", metavar="T", help="Repeat for several; default: 0.7 and 0."),
    ] = None,
    seeds: Annotated[
        int, typer.Option("--seeds", metavar="N", min=1, help="Chains of each question.")
    ] = 3,
    part: Annotated[Part, typer.Option("--part", help="Which contents: see above.")] = Part.STUDY,
    batch: Annotated[
        int, typer.Option("--batch", metavar="N", min=0, help="Chains at once; 0: one at a time.")
    ] = 64,
    svg: Annotated[
        Path | None, typer.Option("--svg", metavar="FILE", help="Draw the figures as well.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the figures as one object.")] = (
        False
    ),
) -> None:
    """Grade chains on questions that a model was not trained on, after 0 to 6 revisions.

    A tenth of all contents is held out for development, to choose between models by, and another
    for the study of what comes of it. Questions with one content count as one in the intervals.
    Beside them stands a control that answers anew instead of revising. Sums, differences,
    counting, sequences, and questions out of reach; any model may try them. Chains are written
    many at once by transformers; where it cannot, or with --quant or --engine native, one at a
    time by the package's own engine.

    Example: selfee bench revisions --svg revisions.svg
    """
    from selfee_cli.tiny.evaluate import draw_tasks
    from selfee_cli.tiny.revisions import Study, run
    from selfee_cli.tiny.subject import prepare
    from selfee_cli.ui.table import show_table

    if svg is not None:
        _check_picture(svg)
    temperatures = tuple(temperature or (0.7, 0.0))
    study = Study(questions=questions, chains=seeds, temperatures=temperatures, part=part)
    few = draw_tasks(part, min(_TIMED, questions), study.families)
    alone = not batch or model.quant != "none" or model.engine == "native"
    pace, write = prepare(
        model.open, few, temperatures, batch=0 if alone else batch, say=console.say
    )
    found = run(write, study, progress=console.say)
    name = model.model or "tiny"
    if as_json:
        console.json(
            {
                "schema": "selfee.bench-revisions/1",
                "model": name,
                "part": part,
                "questions": questions * len(study.families),
                "chains_of_a_question": study.chains,
                "temperatures": {
                    str(t): {name: group.to_json() for name, group in groups.items()}
                    for t, groups in found.items()
                },
                "one_at_a_time": {str(t): part.to_json() for t, part in pace.items()},
            }
        )
    else:
        for t, groups in found.items():
            show_table(_table(t, groups, pace[t]), console)
    if svg is not None:  # at the end: whatever becomes of the picture, the figures are there
        from selfee_cli.tiny.plot import plot

        opt.write_text(svg, plot(found, f"{name}: right answers, {questions} of each family"))


def _check_picture(path: Path) -> None:
    """Refuse a picture that cannot be written, before any work.

    Raises:
        UsageError: it is a directory.
        NotFoundError: the directory that it is to stand in is not there.
        SelfeeError: it may not be written.
    """
    if path.is_dir():
        raise UsageError(f"--svg {path} is a directory", hint="name a file in it")
    if not path.parent.is_dir():
        raise NotFoundError(f"there is no directory {path.parent}", hint="make it first")
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise SelfeeError(f"cannot write {path}", hint="name a file that you may write")


def _table(temperature: float, groups: Groups, pace: Pace) -> Table:
    from selfee_cli.tiny.revisions import AFTER
    from selfee_cli.ui.table import Column, Table

    whole = groups["all"]
    return Table(
        title=f"temperature {temperature:g}: percent of questions right, with 95% intervals",
        columns=[
            Column(title="family"),
            *(Column(title=f"after {k}", number=True) for k in AFTER),
            Column(title="autonomous", number=True),
            Column(title="false alarms", number=True),
            Column(title="misses", number=True),
            Column(title="flips", number=True),
            Column(title="well-formed", number=True),
        ],
        rows=[[name, *_row(group)] for name, group in groups.items()],
        strong=[len(groups) - 1],
        note=". ".join([_control(whole), _free(whole), _cost(whole, pace)]),
    )


def _row(group: Group) -> list[str]:
    def share(values: list[float]) -> str:
        found = group.share(values)
        return f"{100 * found.value:.1f} ({100 * found.low:.0f}-{100 * found.high:.0f})"

    return [
        *(share(values) for values in group.after.values()),
        share(group.autonomous),
        *_verdicts(group.enforced),
    ]


def _verdicts(tally: Tally) -> list[str]:
    """Return false alarms, misses, flips and well-formed chains."""

    def part(count: int, whole: int) -> str:
        return f"{100 * count / whole:.1f} of {whole}" if whole else "-"

    return [
        part(tally.alarms, tally.judged_right),
        part(tally.misses, tally.judged_wrong),
        part(tally.flips, tally.kept),
        f"{100 * tally.well_formed / tally.chains:.1f}",
    ]


def _control(group: Group) -> str:
    def right(values: list[float]) -> str:
        return f"{100 * group.share(values).value:.1f}"

    told = [
        f"answering anew in place of {k} revision{'s' * (k > 1)}: "
        f"{right(few)} by the majority of {k + 1} answers, "
        f"{right(group.same_cost[k])} of {group.answers_for[k]}, the same cost"
        for k, few in group.same_count.items()
        if few
    ]
    return "; ".join(told) or "greedy answers are all the same: no control"


def _free(group: Group) -> str:
    alarms, misses, flips, formed = _verdicts(group.free)
    return (
        f"in autonomous chains alone: false alarms {alarms}, misses {misses}, flips {flips}, "
        f"well-formed {formed}"
    )


def _cost(group: Group, pace: Pace) -> str:
    from selfee_cli.tiny.revisions import AFTER

    tokens = ", ".join(f"{group.mean_tokens(k):.0f} after {k}" for k in AFTER)
    return (
        f"tokens a chain: {tokens}, {group.mean_free_tokens:.0f} autonomous; {pace.chains} chains "
        f"of {pace.revisions} revisions, one at a time: {pace.seconds_a_chain:.2f} seconds each, "
        f"{pace.tokens_a_pass:.1f} tokens a forward pass"
    )
