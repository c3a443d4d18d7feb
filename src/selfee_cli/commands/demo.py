"""``selfee demo``: the whole job on the bundled model, offline, in seconds."""

from __future__ import annotations

from selfee_cli.commands import options as opt
from selfee_cli.commands.apply_delta import apply_delta
from selfee_cli.commands.ask import ask
from selfee_cli.commands.verify import verify
from selfee_cli.ui.console import console
from selfee_cli.ui.show import Show

QUESTION = "What is 47 + 85?"


@opt.command
def demo() -> None:
    """Show the whole job on the bundled model: reconstruct, verify, ask. Offline, in seconds.

    Example: selfee demo
    """
    import tempfile
    from pathlib import Path

    from selfee_cli.tiny.bundle import BASE, DELTA

    with tempfile.TemporaryDirectory(prefix="selfee-demo-") as folder:
        out = Path(folder) / "selfee-tiny"
        console.line("1. The published weights are a difference to LLaMA's: add the two.\n")
        _announce("apply-delta", "--base", str(BASE), "--delta", str(DELTA), "--out", str(out))
        apply_delta(base=str(BASE), delta=str(DELTA), out=out)
        console.line("\n2. Every byte of the result can be checked, now and later.\n")
        _announce("verify", str(out))
        verify(path=out)
        console.line("\n3. Ask. The model answers, criticises its answer and revises it.\n")
        _announce("ask", QUESTION, "--model", str(out), "--min-revisions", "1", "--seed", "4")
        ask(QUESTION, model=str(out), min_revisions=1, seed=4, show=Show.CHAIN)
    console.line("\nNow you: selfee chat")


def _announce(*words: str) -> None:
    import shlex

    style = console.style(console.out)
    console.line(style.paint("$ " + shlex.join(["selfee", *words]), "bold") + "\n")
