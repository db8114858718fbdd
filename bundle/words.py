"""Numbers in words: percentages, points, counts, durations, lists, tables of Markdown."""

import math
from collections.abc import Iterable, Sequence
from typing import Any

# fmt: on
NONE = "–"


def clock(seconds: float) -> str:
    """Return a duration as "45 s", "3:20" (minutes) or "1:02:00" (hours)."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    hours, minutes = divmod(whole // 60, 60)
    return f"{hours}:{minutes:02}:{whole % 60:02}" if hours else f"{minutes}:{whole % 60:02}"


def points(value: float) -> str:
    """Return a difference in points with its sign, none if it rounds to 0, an en dash for NaN."""
    if value != value:
        return NONE
    text = f"{value:+.2f}"
    return text.replace("-", "−") if float(text) else "0.00"


def decimals(value: float) -> str:
    """Return a number with two decimals, an en dash for NaN."""
    return f"{value:.2f}" if value == value else NONE


def images(mean: float) -> str:
    """Return a mean count of images: whole where it is, else with one decimal."""
    return f"{mean:,.0f}" if mean == round(mean) else f"{mean:,.1f}"


def listed(values: Iterable[Any]) -> str:
    """Return values as a list in a sentence: "a, b and c"."""
    *most, last = map(str, values)
    return f"{', '.join(most)} and {last}" if most else last


def count(number: int, noun: str) -> str:
    """Return a number with its noun: "1 run", "2 runs"."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def markdown(lines: Sequence[Sequence[str]]) -> str:
    """Return rows of cells as a Markdown table, the first its heading."""
    heading, *body = lines
    return "\n".join(f"| {' | '.join(line)} |" for line in (heading, ["---"] * len(heading), *body))


MISSING = "–"


def number(metrics: dict[str, Any], *keys: str) -> float | None:
    """Return the finite number at `keys` of nested dictionaries, else None."""
    value: Any = metrics
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    usable = (
        isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    )
    return value if usable else None


def percent(value: float | None) -> str:
    """Return a fraction as a percentage with two decimals, an en dash for None."""
    return MISSING if value is None else f"{100 * value:.2f}%"
