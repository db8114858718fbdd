"""A claim of the reference as params/studies/claims.yaml states it, and what judging one gives."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

Reference = dict[str, Any]  # docs/reference.json
CONFIRMED, REFUTED = "confirmed", "refuted"
PENDING = "pending the full run"
OPEN = "not testable here"
VERDICTS = (REFUTED, CONFIRMED, PENDING, OPEN)
SOURCES = ("report", "notebook output", "both")


@dataclass(frozen=True)
class Claim:
    """One claim; `reported` is its figure as text, "" for none, `test` names what judges it."""

    id: str
    claim: str
    source: str
    test: str
    reported: str = ""
    tolerance: float | None = None


class Finding(NamedTuple):
    """What a test gives: one of VERDICTS, what was found, in numbers, and why that decides."""

    verdict: str
    found: str
    why: str = ""


class StudyTest(NamedTuple):
    """A test of the full study: the runs and the part of a job ("": none) it needs, its rule.

    The rule may name the claim's tolerance, with its unit, as {tolerance}.
    """

    judge: Callable[..., Finding]
    runs: tuple[str, ...]
    part: str
    rule: str


def needs(*runs: str, rule: str, part: str = "") -> Callable[[Callable[..., Finding]], StudyTest]:
    """Make a function a test of the full study."""
    return lambda judge: StudyTest(judge, runs, part, rule)


def points(fraction: float) -> str:
    """Return a difference of two accuracies (fractions) in percentage points, with its sign."""
    return f"{100 * fraction:+.2f}"


def agreed(condition: bool) -> str:
    """Return the verdict of a claim that either holds or does not."""
    return CONFIRMED if condition else REFUTED


def joined(words: list[str]) -> str:
    """Return "a", "a and b", "a, b and c"."""
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)
