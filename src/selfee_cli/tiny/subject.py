"""The model under study: how its chains are written, many at once where that can be."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from selfee_cli.engine.base import is_out_of_memory
from selfee_cli.engine.hf import TransformersEngine, load_network
from selfee_cli.engine.loading import restore_threads
from selfee_cli.engine.session import Session
from selfee_cli.errors import SelfeeError
from selfee_cli.tiny.decode import write_chains
from selfee_cli.tiny.pace import Pace, pace, write_alone
from selfee_cli.tiny.revisions import Write
from selfee_cli.tiny.rows import agrees
from selfee_cli.tiny.tasks import Task


def prepare(
    load: Callable[[], Session],
    few: Sequence[Task],
    temperatures: Sequence[float],
    *,
    batch: int,
    say: Callable[[str], None] = lambda _: None,
) -> tuple[dict[float, Pace], Write]:
    """Time a few chains written one at a time; return that, and what writes the study's.

    Args:
        load: loads the model. Its engine is let go before a network takes its place.
        few: what the timed chains are asked.
        temperatures: at which they are timed, each from nothing.
        batch: chains at once; 0 writes one at a time, by the engine that was loaded.
        say: told what is under way.

    Raises:
        SelfeeError: the model cannot be loaded.
    """
    session = load()
    say("timing a few chains, one at a time")
    paces = {t: pace(Session(session.model), few, t) for t in temperatures}
    if not batch:
        return paces, partial(write_alone, session)
    path, tokenizer, engine = session.model.path, session.model.tokenizer, session.model.engine
    device, dtype = torch.device(engine.device.partition("+")[0]), getattr(torch, engine.dtype)
    context = engine.context_length
    network = engine.network if isinstance(engine, TransformersEngine) else None
    del session, engine
    restore_threads()
    network = _in_rows(network, path, device, dtype, say)
    if network is None:
        return paces, partial(write_alone, load())
    return paces, partial(write_chains, network, tokenizer, batch=batch, context=context)


def _in_rows(
    network: Any | None,
    path: Path,
    device: torch.device,
    dtype: torch.dtype,
    say: Callable[[str], None],
) -> Any | None:
    """Return the network, loaded if need be, where it is read in rows; else say why it is not."""
    try:
        network = network or load_network(path, device, dtype)
        if agrees(network):
            return network
        reason = "this architecture is not read in rows"
    except SelfeeError as error:
        reason = error.message
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        reason = f"{device} has no memory for transformers' network"
    say(f"one chain at a time, not in batches: {reason}")
    return None
