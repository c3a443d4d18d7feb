"""What a header may claim, and how what it claims is shown.

Headers come from strangers. The bounds are many times what the largest LLaMA needs, and small
enough that reading a hostile header costs tens of MiB at most.
"""

from __future__ import annotations

from typing import Any

MAX_TENSORS = 30_000
"""Tensors in a checkpoint; a LLaMA of 13 billion parameters has 363."""
MAX_NAME = 512
"""Characters of a tensor's or an entry's name."""
MAX_RANK = 8
"""Dimensions of a tensor."""
MAX_COUNT = 2**63 - 1
"""Any size or offset: what a file system can address."""


def is_count(value: object) -> bool:
    """Whether a value is a size or an offset: an integer, no bool, from 0 to ``MAX_COUNT``."""
    return type(value) is int and 0 <= value <= MAX_COUNT


def is_shape(value: Any, kind: type[list[Any]] | type[tuple[Any, ...]]) -> bool:
    """Whether a value is a ``kind`` (list or tuple) of at most ``MAX_RANK`` sizes."""
    return type(value) is kind and len(value) <= MAX_RANK and all(is_count(n) for n in value)


def is_name(value: object) -> bool:
    """Whether a name can stand in a message: text, not too long, without control characters."""
    return isinstance(value, str) and 0 < len(value) <= MAX_NAME and value.isprintable()


def shown(value: object) -> str:
    """Give a value from a header for a message: one line, short, control characters escaped.

    Of anything but text only the kind is told: a nested value may be endless when written out.
    """
    if not isinstance(value, str):
        return f"a value of type {type(value).__name__}"
    return repr(value if len(value) <= 80 else value[:77] + "...")
