"""The statistics of the claims: an effect with its interval, and the verdict that follows from it."""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from lib import metrics
from lib.claim import CONFIRMED, OPEN, REFUTED, points


class Effect(NamedTuple):
    """A difference of two accuracies (fractions) with its 95% interval and p value."""

    size: float
    low: float
    high: float
    p: float

    def __str__(self) -> str:
        return f"{points(self.size)} points (95% interval {points(self.low)} to {points(self.high)})"


def in_words(p: float) -> str:
    """Return "p = 0.03" or "p < 0.001"."""
    shown = metrics.p_value(p)
    return f"p {shown}" if shown.startswith("<") else f"p = {shown}"


def t_effect(size: float, error: float, degrees: float) -> Effect:
    """Return an effect whose standard error is `error`, by Student's t; without any spread it is what it is."""
    if error < 1e-9:
        return Effect(size, size, size, float(abs(size) < 1e-9))
    half = float(stats.t.ppf(0.975, degrees)) * error
    return Effect(size, size - half, size + half, float(2 * stats.t.sf(abs(size) / error, degrees)))


def welch(first: list[float], second: list[float]) -> Effect:
    """Return mean(first) - mean(second) over seeds with the interval of Welch's t-test (Welch, Biometrika 1947)."""
    a, b = (float(np.var(values, ddof=1)) / len(values) for values in (first, second))
    spread = a**2 / (len(first) - 1) + b**2 / (len(second) - 1)
    return t_effect(float(np.mean(first) - np.mean(second)), (a + b) ** 0.5, (a + b) ** 2 / spread if spread else 1.0)


def mcnemar(gained: float, lost: float, images: int) -> Effect:
    """Return (gained - lost) / images with McNemar's p and Wald's interval for paired shares.

    The interval is that of Agresti, Categorical Data Analysis, 2nd edition, section 10.1.1. The counts are means over
    seeds on the same images, so it is as wide as for one seed: more seeds do not make the set of images larger.
    """
    b, c = round(lost), round(gained)
    first, second = np.array([1] * b + [0] * c), np.array([0] * b + [1] * c)
    p = metrics.mcnemar(first, second, np.ones(b + c)).p
    half = 1.96 * (gained + lost - (gained - lost) ** 2 / images) ** 0.5 / images
    size = (gained - lost) / images
    return Effect(size, size - half, size + half, p)


def improves(effect: Effect, tolerance: float) -> str:
    """Confirmed above chance; refuted where the interval has no room for `tolerance`, the least gain that counts."""
    if effect.size > 0 and effect.p < 0.05:
        return CONFIRMED
    return REFUTED if effect.high < tolerance else OPEN


def holm(p: ArrayLike) -> NDArray[np.float64]:
    """Return p values (n,) corrected for their number (Holm, Scand. J. Statist. 1979), in their order."""
    p = np.asarray(p, dtype=float)
    order, corrected = np.argsort(p), np.empty(len(p))
    corrected[order] = np.minimum(1, np.maximum.accumulate(p[order] * (len(p) - np.arange(len(p)))))
    return corrected


def homogeneity(first: ArrayLike, second: ArrayLike) -> float:
    """Return p of the chi-square test that two rows of counts come from one distribution (Pearson, 1900).

    Cells with fewer than 5 expected counts, in which the approximation is poor, are taken together.
    """
    table = np.array([first, second], dtype=float)
    expected = np.outer(table.sum(1), table.sum(0)) / table.sum()
    rare = expected.min(0) < 5
    table = np.column_stack([table[:, ~rare], table[:, rare].sum(1)])
    table = table[:, table.sum(0) > 0]
    return float(stats.chi2_contingency(table, correction=False).pvalue) if table.shape[1] > 1 else 1.0


def same_share(first: float, second: float, of: int) -> float:
    """Return p of Fisher's exact test that two counts `of` as many each have the same share; the second is rounded."""
    counts = [round(first), round(second)]
    return float(stats.fisher_exact([counts, [of - count for count in counts]]).pvalue)
