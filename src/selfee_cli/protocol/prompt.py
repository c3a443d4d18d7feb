"""The prompt that SelFee was trained on (the Alpaca template with ``### Answer:``).

Source: the 400 chains published with the SelFee models, May 2023.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

_WITHOUT_INPUT = (
    "Below is an instruction that describes a task. "
    "Write a response that appropriately completes the request.\n\n"
)
_WITH_INPUT = (
    "Below is an instruction that describes a task, paired with an input that provides further "
    "context. Write a response that appropriately completes the request.\n\n"
)


@dataclass(frozen=True, kw_only=True)
class Exchange:
    """One finished question of a session and its final answer, as the model is shown it."""

    instruction: str
    input: str | None = None
    answer: str


def render_prompt(
    instruction: str, *, input: str | None = None, history: Sequence[Exchange] = ()
) -> str:
    """Return the text the model continues with its answer.

    The opening sentence stands once, chosen by the first question of the session; every
    earlier question is followed by its final answer alone, without the chain that led to it.
    """
    first_input = history[0].input if history else input
    parts = [_WITH_INPUT if first_input else _WITHOUT_INPUT]
    for past in history:
        parts.append(_question(past.instruction, past.input) + past.answer + "\n\n")
    parts.append(_question(instruction, input))
    return "".join(parts)


def _question(instruction: str, input: str | None) -> str:
    context = f"### Input:\n{input}\n\n" if input else ""
    return f"### Instruction:\n{instruction}\n\n{context}### Answer:\n"


def split_prompt(whole: str) -> tuple[str, str | None, str] | None:
    """Take a recorded prompt + chain apart: (instruction, input, text after the prompt).

    A question may itself hold ``### Answer:``; the first one that stands where the template has
    it ends the prompt. None where ``whole`` does not begin with the template.
    """
    for opening in (_WITHOUT_INPUT, _WITH_INPUT):
        head = opening + "### Instruction:\n"
        if not whole.startswith(head):
            continue
        question, found, raw = whole[len(head) :].partition("\n\n### Answer:\n")
        if not found:
            return None
        input = None
        if opening is _WITH_INPUT and "\n\n### Input:\n" in question:
            question, _, input = question.partition("\n\n### Input:\n")
        return question, input, raw
    return None
