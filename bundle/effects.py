"""Differences of accuracies, over seeds and over images, with their intervals and tests."""

import warnings
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

from lib.metrics import Accuracy, mcnemar_of_counts


class Effect(NamedTuple):
    """A difference of two accuracies, or a mean, with its 95% interval and p value against 0."""

    size: float
    low: float
    high: float
    p: float


def t_effect(size: float, error: float, degrees: float) -> Effect:
    """Return an effect of standard error `error`, by Student's t; without spread it is exact."""
    if error < 1e-9:
        return Effect(size, size, size, float(abs(size) < 1e-9))
    half = float(stats.t.ppf(0.975, degrees)) * error
    return Effect(size, size - half, size + half, float(2 * stats.t.sf(abs(size) / error, degrees)))


def mean_effect(values: Sequence[float]) -> Effect:
    """Return the mean of n > 1 values over seeds, with Student's t of n - 1 degrees of freedom."""
    error = float(np.std(values, ddof=1)) / len(values) ** 0.5
    return t_effect(float(np.mean(values)), error, len(values) - 1)


def welch(first: Sequence[float], second: Sequence[float]) -> Effect:
    """Return mean(first) - mean(second) over seeds with Welch's interval (Biometrika 1947)."""
    size = float(np.mean(first) - np.mean(second))
    if max(np.ptp(first), np.ptp(second)) < 1e-9:
        return t_effect(size, 0.0, 1)
    with warnings.catch_warnings():  # of one side without spread, which is no loss of precision
        warnings.simplefilter("ignore", RuntimeWarning)
        test = stats.ttest_ind(first, second, equal_var=False)
    low, high = map(float, test.confidence_interval(0.95))
    return Effect(size, low, high, float(test.pvalue))


def paired(gained: float, lost: float, images: int) -> Effect:
    """Return (gained - lost) / images with McNemar's p and Wald's interval for paired shares.

    The interval is that of Agresti, Categorical Data Analysis, 2nd edition, section 10.1.1. Counts
    may be means over seeds on the same images. The interval is then as wide as for one seed: more
    seeds do not make the set of images larger.
    """
    half = 1.96 * (gained + lost - (gained - lost) ** 2 / images) ** 0.5 / images
    size, p = (gained - lost) / images, mcnemar_of_counts(round(lost), round(gained)).p
    return Effect(size, size - half, size + half, p)


def difference(first: Accuracy, second: Accuracy) -> Effect:
    """Return first - second of two accuracies whose images are not paired, with its 95% interval.

    The interval is Newcombe's hybrid score interval (Statistics in Medicine 17, 1998, method 10),
    p that of the two-sided z test of two shares. On the same images a paired comparison, which
    takes both predictions, would give a narrower interval.
    """
    size = first.accuracy - second.accuracy
    below = np.hypot(first.accuracy - first.low, second.high - second.accuracy)
    above = np.hypot(first.high - first.accuracy, second.accuracy - second.low)
    shared = (first.correct + second.correct) / (first.images + second.images)
    error = (shared * (1 - shared) * (1 / first.images + 1 / second.images)) ** 0.5
    p = float(2 * stats.norm.sf(abs(size) / error)) if error else 1.0
    return Effect(size, float(size - below), float(size + above), p)
