"""Fields of a JSON object that anybody may have written: each of its kind, or named in an error."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from enum import StrEnum
from typing import Any, TypeVar, cast

T = TypeVar("T")
Choice = TypeVar("Choice", bound=StrEnum)

_KINDS: dict[type, str] = {
    bool: "true or false",
    dict: "an object",
    float: "a number",
    int: "a whole number",
    list: "a list",
    str: "text",
}


def optional(data: Mapping[str, Any], name: str, kind: type[T]) -> T | None:
    """Return a field; None where it is missing or null.

    Raises:
        ValueError: it is of another kind, or a number without bounds.
    """
    value: Any = data.get(name)
    if value is None:
        return None
    if type(value) is not kind and not (kind is float and type(value) is int):
        raise ValueError(f"{name} is {_KINDS[type(value)]}, not {_KINDS[kind]}")
    if isinstance(value, int | float) and not abs(value) <= sys.float_info.max:  # NaN is not
        raise ValueError(f"{name} is out of range")
    return cast(T, value)


def required(data: Mapping[str, Any], name: str, kind: type[T]) -> T:
    """Return a field.

    Raises:
        ValueError: it is missing, of another kind, or a number without bounds.
    """
    value = optional(data, name, kind)
    if value is None:
        raise ValueError(f"{name} is missing")
    return value


def choice(data: Mapping[str, Any], name: str, kind: type[Choice]) -> Choice | None:
    """Return a field whose values have names; None where it is missing or null.

    Raises:
        ValueError: it is none of them.
    """
    text = optional(data, name, str)
    if text is None:
        return None
    if text not in [*kind]:
        raise ValueError(f"{name} is none of {', '.join(kind)}")
    return kind(text)


def figures(data: Mapping[str, Any], name: str, kind: type[T]) -> dict[str, T]:
    """Return a field that is an object of numbers; those that are null are left out.

    Raises:
        ValueError: it, or something in it, is of another kind.
    """
    found: dict[str, Any] = optional(data, name, dict) or {}
    with within(name):
        known = {key: optional(found, key, kind) for key in found}
    return {key: value for key, value in known.items() if value is not None}


@contextmanager
def within(name: str) -> Iterator[None]:
    """Put the name of an object before its field's, in errors: ``usage.prompt_tokens``."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{name}.{error}") from error
