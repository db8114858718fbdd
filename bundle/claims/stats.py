"""The statistics of the claims: tests of several at once, and the verdict from an effect."""

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from bundle.claims.claim import CONFIRMED, OPEN, REFUTED
from lib.effect import Effect


def improves(effect: Effect, tolerance: float) -> str:
    """Confirmed above chance; refuted where the interval ends below `tolerance`, the least gain."""
    if effect.size > 0 and effect.p < 0.05:
        return CONFIRMED
    return REFUTED if effect.high < tolerance else OPEN


def holm(p: ArrayLike) -> NDArray[np.float64]:
    """Return p values (n,) corrected for number (Holm, Scand. J. Statist. 1979), in order."""
    p = np.asarray(p, dtype=float)
    order, corrected = np.argsort(p), np.empty(len(p))
    corrected[order] = np.minimum(1, np.maximum.accumulate(p[order] * (len(p) - np.arange(len(p)))))
    return corrected


def homogeneity(first: ArrayLike, second: ArrayLike) -> float:
    """Return Pearson's chi-square p (1900) that two rows of counts are of one distribution.

    Cells with fewer than 5 expected counts, in which the approximation is poor, are taken together.
    """
    table = np.array([first, second], dtype=float)
    expected = np.outer(table.sum(1), table.sum(0)) / table.sum()
    rare = expected.min(0) < 5
    table = np.column_stack([table[:, ~rare], table[:, rare].sum(1)])
    table = table[:, table.sum(0) > 0]
    return (
        float(stats.chi2_contingency(table, correction=False).pvalue) if table.shape[1] > 1 else 1.0
    )


def same_share(first: float, second: float, of: int) -> float:
    """Return Fisher's exact p that two counts `of` as many share a rate; the second is rounded."""
    counts = [round(first), round(second)]
    return float(stats.fisher_exact([counts, [of - count for count in counts]]).pvalue)
