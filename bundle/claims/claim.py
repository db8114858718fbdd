"""A claim of the reference as params/studies/claims.yaml states it, and what judging one gives."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

Reference = dict[str, Any]  # docs/reference.json, and docs/reference_log.json as its "log"
VERDICTS = ("refuted", "confirmed", "undecided", "pending")
REFUTED, CONFIRMED, OPEN, PENDING = VERDICTS
SOURCES = {  # as `where` names them, and in words
    "report": "the report",
    "notebook": "the notebook",
    "both": "the report and its notebook",
}
KINDS = {  # of claims, and what they say
    "number": "a number that is printed",
    "choice": "a decision that was taken",
    "mechanism": "how something is said to work",
}


@dataclass(frozen=True)
class Claim:
    """One claim of the reference.

    where: one of SOURCES, with ": section, figure or cell" where that is known. words: its own
    words, in double quotes where they are cited, else in short. weight: 1 to 9, how much of the
    report hangs on it. reported: its number as text, "" for none. test: what judges it.
    """

    id: str
    kind: str
    claim: str
    where: str
    words: str
    weight: int
    test: str
    reported: str = ""
    tolerance: float | None = None


class Finding(NamedTuple):
    """What a test gives: one of VERDICTS, what was found, and why that decides.

    The first sentence of `found` is for a reader who knows CIFAR-10 and nothing else.
    """

    verdict: str
    found: str
    why: str = ""


class StudyTest(NamedTuple):
    """A test of the full study: the runs and the part of a job ("": none) it needs, its rule.

    The rule may name the claim's tolerance, with its unit, as {tolerance}. phase: for a test that
    looks no further than this phase, which an unfinished training may have behind it; else 0.
    """

    judge: Callable[..., Finding]
    runs: tuple[str, ...]
    part: str
    rule: str
    phase: int


def needs(
    *runs: str, rule: str, part: str = "", phase: int = 0
) -> Callable[[Callable[..., Finding]], StudyTest]:
    """Make a function a test of the full study."""
    return lambda judge: StudyTest(judge, runs, part, rule, phase)


def named(*tests: Any) -> dict[str, Any]:
    """Return name -> test, a function or a StudyTest, as claims.yaml names them."""
    return {getattr(test, "judge", test).__name__: test for test in tests}


def agreed(condition: bool) -> str:
    """Return the verdict of a claim that either holds or does not."""
    return CONFIRMED if condition else REFUTED


def decided(confirms: bool, refutes: bool) -> str:
    """Return the verdict of a claim that may stay open."""
    return CONFIRMED if confirms else REFUTED if refutes else OPEN
