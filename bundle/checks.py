"""The check of parameters against the fields of lib.settings, and their description.

By hand: a prototype on pydantic kept every message and was no shorter, since its errors have to be
put into words again.
"""

import inspect
import math
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import Field, fields
from typing import Any, NamedTuple, cast, get_args, get_origin

from bundle import surroundings
from bundle.paths import RUN_NAME
from lib.errors import UserError
from lib.settings import COMMON, Network, Run, Train

# What a value must be, and what it is instead.
KINDS = {int: "a whole number", float: "a number", bool: "true or false", str: "text (quote it)"}
LIMIT = 5_000_000  # lib.model.PARAMETER_LIMIT, which would load PyTorch; a test holds them equal
LARGEST = 500_000_000  # parameters of a network for comparison: 6 GB while it trains
NAMES = KINDS | {float: "a fraction", str: "text", list: "a list", dict: "a section"}


def kind_of(item: Field) -> type:
    """Return the type of a field's value, of one element for a list."""
    return (get_args(item.type) or (item.type,))[0]


def limits_of(item: Field) -> str:
    """Return the values that a field takes, in words."""
    low, high, choices = (item.metadata[key] for key in ("low", "high", "choices"))
    words = KINDS[kind_of(item)].removesuffix(" (quote it)")
    named = ", ".join(choice or "empty" for choice in choices)
    words = f"one of {named}" if choices and low is None else words
    words += f", {low:,} to {high:,}" if low is not None else ""
    words += f", or {named}" if choices and low is not None else ""
    return f"list, each {words}" if get_origin(item.type) else words


def check(value: Any, item: Field, where: str) -> Any:
    """Return `value` as the type of the field `item`, or as a word that stands for a number.

    Raises UserError (one line: `where`, value, remedy) for a wrong type or a value out of range.
    """
    if get_origin(item.type) is not tuple:
        return _check_element(value, item, where)
    if not isinstance(value, list | tuple):
        example = list(cast(tuple, item.default))
        raise UserError(f"{where} = {value!r}: write a list, such as {example}")
    return tuple(_check_element(element, item, where) for element in value)


def _check_element(value: Any, item: Field, where: str) -> Any:
    low, high, choices = (item.metadata[key] for key in ("low", "high", "choices"))
    # A word beside a range stands for a number.
    words, choices = ((), choices) if low is None else (choices, ())
    if value in words:
        return value
    value = _typed(value, kind_of(item), where, words)
    if choices and value not in choices:
        raise UserError(f"{where} = {value!r}: must be one of {', '.join(choices)}")
    if low is not None and not low <= value <= high:
        raise UserError(f"{where} = {value!r}: must lie between {low} and {high}")
    return value


def _typed(value: Any, kind: type, where: str, words: tuple[str, ...]) -> Any:
    """`1e-3` reaches us from YAML as a string and means the number; nothing else is converted."""
    if kind is float and type(value) in (int, float, str):
        with suppress(ValueError, OverflowError):
            if math.isfinite(float(value)):
                return float(value)
    elif type(value) is kind:
        if isinstance(value, str) and not value.isprintable():
            raise UserError(f"{where} = {value!r}: holds a character that cannot be shown; mend it")
        return value
    name = NAMES.get(type(value), "nothing" if value is None else type(value).__name__)
    raise UserError(
        f"{where} = {value!r}: must be {', or '.join([KINDS[kind], *words])}, not {name}"
    )


def own_fields(section: type[Run]) -> dict[str, Field]:
    """Return the dataclass fields that belong to the section itself, not to the common values."""
    shared = {"run", *COMMON}
    return {item.name: item for item in fields(section) if item.name not in shared}


class Parameter(NamedTuple):
    """A row of the table that a notebook shows; `values`: its type, with range or choices."""

    name: str
    group: str
    default: Any
    meaning: str
    values: str


def described(section: type[Run]) -> list[Parameter]:
    """Return a row for each parameter of a notebook, group by group."""
    kinds = [kind for kind in section.__mro__[::-1] if issubclass(kind, Run)]
    groups = {name: kind.group for kind in kinds for name in inspect.get_annotations(kind)}
    return [
        Parameter(item.name, groups[item.name], item.default, item.metadata["doc"], limits_of(item))
        for item in fields(section)
    ]


def build(section: type[Run], values: dict[str, Any], where: str) -> Any:
    """Make the frozen dataclass from plain values, every one checked; other names are left out.

    ``threads: auto`` becomes the number of cores here, so that a run records it.

    Raises UserError (one line: `where`, key, value, remedy) for a wrong type, a value out of range,
    or values that do not go together.
    """
    given = [item for item in fields(section) if item.name in values]
    checked = {item.name: check(values[item.name], item, f"{where}: {item.name}") for item in given}
    if checked.get("threads") == "auto":
        checked["threads"] = surroundings.cores()
    made = section(**checked)
    for conflict in _conflicts(made):
        raise UserError(f"{where}: {conflict}")
    return made


def _conflicts(made: Run) -> Iterator[str]:
    """Yield what no single value can break."""
    if isinstance(made, Network):
        if len({len(made.blocks), len(made.widths), len(made.strides)}) != 1:
            yield "blocks, widths and strides need one value a stage each, as many of each"
        if not made.blocks:
            yield "blocks = []: name at least one stage"
        yield from _too_large(made)
    if isinstance(made, Train):
        yield from _mixing_conflicts(made)
        if made.teacher and not re.fullmatch(RUN_NAME, made.teacher):
            yield f"teacher = {made.teacher!r}: must name a folder of results/"
    for key in ("blur_sigma", "erasing_scale"):
        span = getattr(made, key, (0, 0))
        if len(span) != 2 or span[0] > span[1]:
            yield f"{key} = {list(span)}: write [lowest, highest]"
    if (kernel := getattr(made, "blur_kernel", 3)) % 2 == 0:
        yield f"blur_kernel = {kernel}: must be odd"
    if "original" not in (views := getattr(made, "views", ("original",))):
        yield f"views = {list(views)}: 'original' must be among them"


def _too_large(made: Network) -> Iterator[str]:
    """Yield where a network's 3x3 convolutions alone have too many weights: before it is built.

    Two each block, from width to width; the first of a stage is counted as if it had no weights.
    """
    stages = zip(made.blocks, made.widths, strict=False)
    least = sum(9 * (2 * count - 1) * width**2 for count, width in stages)
    limit = LARGEST if made.comparison else LIMIT
    if least > limit:
        remedy = "make it narrower" + ", or mark the run comparison: true" * (not made.comparison)
        yield f"widths, blocks: at least {least:,} parameters, more than {limit:,}: {remedy}"


def _mixing_conflicts(made: Train) -> Iterator[str]:
    for key, share in (("cutmix", made.cutmix), ("phase2_cutmix", made.phase2_cutmix)):
        if share + made.mixup > 1:
            yield f"{key} = {share:g} and mixup = {made.mixup:g}: together at most 1"
    if made.flip_mode == "alternating" and made.horizontal_flip != 0.5:
        yield f"horizontal_flip = {made.horizontal_flip:g}: flip_mode alternating means 0.5"
