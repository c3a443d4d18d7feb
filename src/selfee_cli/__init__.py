"""SelFee on your own machine: reconstruct the weights, then answer, criticise and revise.

The public API, everything else being internal::

    import selfee_cli

    session = selfee_cli.load("tiny")  # or a directory of weights
    options = selfee_cli.AskOptions.make(min_revisions=1, seed=1)
    for event in session.ask("What is 47 + 85?", options=options):
        if isinstance(event, selfee_cli.TextDelta):
            print(event.text, end="", flush=True)
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from selfee_cli.api import load
    from selfee_cli.engine.loading import LoadOptions
    from selfee_cli.engine.options import AskOptions
    from selfee_cli.engine.session import Session
    from selfee_cli.errors import SelfeeError
    from selfee_cli.protocol.chain import (
        Chain,
        ChainEnded,
        Event,
        HistoryDropped,
        TextDelta,
        Turn,
        TurnEnded,
        TurnStarted,
        parse_chain,
    )

__version__ = "0.1.0"

__all__ = [
    "AskOptions",
    "Chain",
    "ChainEnded",
    "Event",
    "HistoryDropped",
    "LoadOptions",
    "SelfeeError",
    "Session",
    "TextDelta",
    "Turn",
    "TurnEnded",
    "TurnStarted",
    "__version__",
    "load",
    "parse_chain",
]

_HOMES = {
    "load": "api",
    "LoadOptions": "engine.loading",
    "AskOptions": "engine.options",
    "Session": "engine.session",
    "SelfeeError": "errors",
} | dict.fromkeys(
    (
        "Chain",
        "ChainEnded",
        "Event",
        "HistoryDropped",
        "TextDelta",
        "Turn",
        "TurnEnded",
        "TurnStarted",
        "parse_chain",
    ),
    "protocol.chain",
)


def __getattr__(name: str) -> Any:
    """Import what is asked for when it is asked for: torch takes seconds."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
