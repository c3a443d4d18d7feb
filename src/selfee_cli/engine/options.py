"""How to write a chain: revisions, sampling, length. No torch: a wrong value is told at once."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field

from selfee_cli.engine.sampling import Sampling
from selfee_cli.errors import UsageError
from selfee_cli.protocol.policy import RevisionPolicy

LEAST_CONTEXT = 128
"""Tokens that a context must have: fewer hold no prompt with its chain."""


@dataclass(frozen=True, kw_only=True)
class AskOptions:
    """How to write a chain. ``seed`` None draws one; the chain records which."""

    policy: RevisionPolicy = field(default_factory=RevisionPolicy)
    sampling: Sampling = field(default_factory=Sampling)
    max_new_tokens: int | None = None
    lookup: bool = True
    """Whether tokens are drafted from what was said. The text is the same, only sooner there.

    In fewer bits than float32 a near tie may fall otherwise: wide passes round differently.
    """

    def __post_init__(self) -> None:
        if self.max_new_tokens is not None and self.max_new_tokens < 1:
            raise UsageError(f"--max-new-tokens is {self.max_new_tokens}; it must be at least 1")

    @staticmethod
    def make(
        *,
        min_revisions: int = 0,
        max_revisions: int | None = None,
        max_new_tokens: int | None = None,
        temperature: float = 0.7,
        top_p: float = 1.0,
        top_k: int = 0,
        seed: int | None = None,
        lookup: bool = True,
    ) -> AskOptions:
        """Return the options by the names of their flags.

        Raises:
            UsageError: a value that cannot be meant.
        """
        return AskOptions(
            policy=RevisionPolicy(minimum=min_revisions, maximum=max_revisions),
            sampling=Sampling(
                temperature=temperature,
                top_p=top_p,
                top_k=top_k,
                seed=secrets.randbits(32) if seed is None else seed,
            ),
            max_new_tokens=max_new_tokens,
            lookup=lookup,
        )
