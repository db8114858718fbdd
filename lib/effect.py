"""Two accuracies' difference with 95% interval and p value: over seeds or on the same images."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

from bundle.claims.claim import points
from lib import metrics


class Effect(NamedTuple):
    """A difference of two accuracies (fractions) with its 95% interval and p value."""

    size: float
    low: float
    high: float
    p: float

    def __str__(self) -> str:
        return (
            f"{points(self.size)} points (95% interval {points(self.low)} to {points(self.high)})"
        )


def t_effect(size: float, error: float, degrees: float) -> Effect:
    """Return an effect of standard error `error`, by Student's t; without spread it is exact."""
    if error < 1e-9:
        return Effect(size, size, size, float(abs(size) < 1e-9))
    half = float(stats.t.ppf(0.975, degrees)) * error
    return Effect(size, size - half, size + half, float(2 * stats.t.sf(abs(size) / error, degrees)))


def welch(first: Sequence[float], second: Sequence[float]) -> Effect:
    """Return mean(first) - mean(second) over seeds with Welch's interval (Biometrika 1947)."""
    a, b = (float(np.var(values, ddof=1)) / len(values) for values in (first, second))
    spread = a**2 / (len(first) - 1) + b**2 / (len(second) - 1)
    return t_effect(
        float(np.mean(first) - np.mean(second)),
        (a + b) ** 0.5,
        (a + b) ** 2 / spread if spread else 1.0,
    )


def paired(gained: float, lost: float, images: int) -> Effect:
    """Return (gained - lost) / images with McNemar's p and Wald's interval for paired shares.

    The interval is that of Agresti, Categorical Data Analysis, 2nd edition, section 10.1.1. Where
    the counts are means over seeds on the same images, it is as wide as for one seed: more seeds do
    not make the set of images larger.
    """
    b, c = round(lost), round(gained)
    first, second = np.array([1] * b + [0] * c), np.array([0] * b + [1] * c)
    p = metrics.mcnemar(first, second, np.ones(b + c)).p
    half = 1.96 * (gained + lost - (gained - lost) ** 2 / images) ** 0.5 / images
    size = (gained - lost) / images
    return Effect(size, size - half, size + half, p)


def in_words(p: float) -> str:
    """Return "p = 0.03" or "p < 0.001"."""
    shown = metrics.p_value(p)
    return f"p {shown}" if shown.startswith("<") else f"p = {shown}"
