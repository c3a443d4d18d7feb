"""How fast chains come one at a time: the package's engine, which looks its drafts up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from selfee_cli.engine.loading import load_model
from selfee_cli.engine.options import AskOptions
from selfee_cli.engine.session import Session
from selfee_cli.protocol.chain import ChainEnded
from selfee_cli.tiny.decode import Plan
from selfee_cli.tiny.tasks import Task


@dataclass(kw_only=True)
class Pace:
    """What ``chains`` with so many enforced ``revisions`` cost in all."""

    revisions: int
    chains: int = 0
    tokens: int = 0
    passes: int = 0
    """Of the network, that over the prompt included."""
    seconds: float = 0.0

    @property
    def tokens_a_pass(self) -> float:
        """How many tokens a pass of the network gives."""
        return self.tokens / max(1, self.passes)

    @property
    def seconds_a_chain(self) -> float:
        """How long a chain takes, its prompt included."""
        return self.seconds / max(1, self.chains)

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "chains": self.chains,
            "revisions": self.revisions,
            "tokens_a_chain": self.tokens / max(1, self.chains),
            "tokens_a_pass": self.tokens_a_pass,
            "seconds_a_chain": self.seconds_a_chain,
        }


def paces(
    path: Path, chosen: Sequence[Task], temperatures: Sequence[float], revisions: int = 3
) -> dict[float, Pace]:
    """Return the pace of the model at ``path`` at each temperature, a session for each."""
    threads = torch.get_num_threads()
    try:
        model = load_model(path)  # which may choose how many threads there are
        return {t: _pace(Session(model), chosen, t, revisions) for t in temperatures}
    finally:
        torch.set_num_threads(threads)


def _pace(session: Session, chosen: Sequence[Task], temperature: float, revisions: int) -> Pace:
    pace = Pace(revisions=revisions)
    for seed, task in enumerate(chosen):
        session.history.clear()
        options = AskOptions.make(
            min_revisions=revisions,
            max_revisions=revisions,
            max_new_tokens=(2 * revisions + 1) * Plan.turn_tokens,
            temperature=temperature,
            seed=seed,
        )
        for event in session.ask(task.question, options=options):
            if isinstance(event, ChainEnded):
                usage, timing = event.chain.usage, event.chain.timing
                pace.chains += 1
                pace.tokens += usage["completion_tokens"]
                pace.passes += usage["forward_passes"]
                pace.seconds += timing["prefill_seconds"] + timing["decode_seconds"]
    return pace
