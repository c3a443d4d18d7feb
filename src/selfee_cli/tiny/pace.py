"""Chains one at a time, by the package's engine, which looks its drafts up: what they cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from selfee_cli.engine.options import AskOptions
from selfee_cli.engine.sampling import Sampling
from selfee_cli.protocol.chain import Chain, ChainEnded
from selfee_cli.tiny.tasks import Task
from selfee_cli.tiny.written import Plan, Written

if TYPE_CHECKING:
    from selfee_cli.engine.session import Session


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


def write_alone(session: Session, questions: Sequence[str], plan: Plan) -> list[Written]:
    """Write one chain for each question: as the batched decoder does, for any model there is."""
    return [Written.of(_ask(session, *asked, plan)) for asked in enumerate(questions)]


def pace(session: Session, chosen: Sequence[Task], temperature: float, revisions: int = 3) -> Pace:
    """Return what chains on ``chosen`` with so many enforced revisions cost."""
    plan = Plan(enforced=revisions, at_most=revisions, temperature=temperature)
    found = Pace(revisions=revisions)
    for index, task in enumerate(chosen):
        chain = _ask(session, index, task.question, plan)
        found.chains += 1
        found.tokens += chain.usage["completion_tokens"]
        found.passes += chain.usage["forward_passes"]
        found.seconds += chain.timing["prefill_seconds"] + chain.timing["decode_seconds"]
    return found


def _ask(session: Session, index: int, question: str, plan: Plan) -> Chain:
    session.history.clear()
    options = AskOptions(
        policy=plan.policy,
        sampling=Sampling(temperature=plan.temperature, seed=plan.seed_of(index)),
        max_new_tokens=plan.max_new_tokens,
    )
    *_, last = session.ask(question, options=options)
    assert isinstance(last, ChainEnded)
    return last.chain
