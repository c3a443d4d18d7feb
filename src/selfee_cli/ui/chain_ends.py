"""How a chain ends that did not come to its end, and what a reader is told of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from selfee_cli.errors import SelfeeError
from selfee_cli.protocol.chain import Chain, StopReason

if TYPE_CHECKING:
    from selfee_cli.engine.options import AskOptions


def cut_off(options: AskOptions, model: Mapping[str, Any]) -> Chain:
    """Return the end of a chain that an error cut off, with what another try needs."""
    policy = options.policy
    revisions = {"min_revisions": policy.minimum, "max_revisions": policy.maximum}
    return Chain(
        instruction="",
        turns=(),
        stop_reason=StopReason.INTERRUPTED,
        sampling=options.sampling.to_json() | revisions,
        model=model,
    )


def not_computed(failure: RuntimeError) -> SelfeeError:
    """Return what is wrong where torch, or what it computes on, failed though there was memory."""
    first = (str(failure).strip().splitlines() or [type(failure).__name__])[0]
    error = SelfeeError(
        f"the model failed: {first}",
        hint="try again; if it stays, `selfee doctor` tells what this machine can do",
    )
    return error.with_traceback(failure.__traceback__)


def withdrawn(*, replaces: bool) -> str:
    """Return what becomes of a question of which nothing is complete."""
    return "the earlier answer stands" if replaces else "the question is withdrawn"


def no_answer(reason: StopReason | None, *, replaces: bool) -> SelfeeError:
    """Return what is wrong where there was no room for a whole answer."""
    if reason is StopReason.MAX_NEW_TOKENS:
        what, hint = "max-new-tokens cut the answer off", "/set max-new-tokens none"
    else:
        what, hint = "the context is full", "/clear begins anew, /undo drops the last question"
    return SelfeeError(f"{what}, none is complete: {withdrawn(replaces=replaces)}", hint=hint)
