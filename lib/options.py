"""A parameter as a dataclass field that knows its meaning and its limits, and the check of a value.

By hand: a prototype on pydantic kept every message and was no shorter, since its errors have to be
put into words again.
"""

import math
from contextlib import suppress
from dataclasses import Field, field
from typing import Any, get_args, get_origin

from lib.errors import UserError

# What a value must be, and what it is instead.
KINDS = {int: "a whole number", float: "a number", bool: "true or false", str: "text (quote it)"}
NAMES = KINDS | {float: "a fraction", str: "text", list: "a list", dict: "a section"}


def option(
    default: Any, doc: str, low: float | None = None, high: float | None = None, choices=()
) -> Any:
    """A dataclass field with its meaning and the inclusive range or the choices it allows."""
    limits = {"doc": doc, "low": low, "high": high, "choices": tuple(choices)}
    return field(default=default, metadata=limits)


def kind_of(item: Field) -> type:
    """Return the type of a field's value, of one element for a list."""
    return (get_args(item.type) or (item.type,))[0]


def limits_of(item: Field) -> str:
    """Return the values that a field takes, in words."""
    low, high, choices = (item.metadata[key] for key in ("low", "high", "choices"))
    words = KINDS[kind_of(item)].removesuffix(" (quote it)")
    words = f"one of {', '.join(choice or 'empty' for choice in choices)}" if choices else words
    words += f", {low:,} to {high:,}" if low is not None else ""
    return f"list, each {words}" if get_origin(item.type) else words


def check(value: Any, item: Field, where: str) -> Any:
    """Return `value` as the type of the field `item`.

    Raises UserError (one line: `where`, value, remedy) for a wrong type or a value out of range.
    """
    if get_origin(item.type) is not tuple:
        return _check_element(value, item, where)
    if not isinstance(value, list | tuple):
        raise UserError(f"{where} = {value!r}: write a list, such as {list(item.default)}")
    return tuple(_check_element(element, item, where) for element in value)


def _check_element(value: Any, item: Field, where: str) -> Any:
    value = _typed(value, kind_of(item), where)
    low, high, choices = (item.metadata[key] for key in ("low", "high", "choices"))
    if choices and value not in choices:
        raise UserError(f"{where} = {value!r}: must be one of {', '.join(choices)}")
    if low is not None and not low <= value <= high:
        raise UserError(f"{where} = {value!r}: must lie between {low} and {high}")
    return value


def _typed(value: Any, kind: type, where: str) -> Any:
    """`1e-3` reaches us from YAML as a string and means the number; nothing else is converted."""
    if kind is float and type(value) in (int, float, str):
        with suppress(ValueError, OverflowError):
            if math.isfinite(float(value)):
                return float(value)
    elif type(value) is kind:
        return value
    name = NAMES.get(type(value), "nothing" if value is None else type(value).__name__)
    raise UserError(f"{where} = {value!r}: must be {KINDS[kind]}, not {name}")
