"""Differences of accuracies against published tables and SciPy."""

import numpy as np
import pytest
from scipy import stats

from bundle import effects
from lib import metrics


def test_difference_is_newcombes():
    """56 of 70 and 48 of 80: Newcombe's table II, method 10 gives 0.0524 to 0.3339."""
    found = effects.difference(metrics.wilson(56, 70), metrics.wilson(48, 80))
    assert found.size == pytest.approx(0.2)
    assert (round(found.low, 4), round(found.high, 4)) == (0.0524, 0.3339)
    table = np.array([[56, 14], [48, 32]])
    assert found.p == pytest.approx(stats.chi2_contingency(table, correction=False).pvalue)


def test_difference_without_one():
    same = metrics.wilson(9465, 10000)
    found = effects.difference(same, same)
    assert found.size == 0 and found.p == 1 and found.low == pytest.approx(-found.high)
    assert effects.difference(metrics.wilson(10, 10), metrics.wilson(10, 10)).p == 1
