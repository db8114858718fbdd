"""Scores and uncertainty: intervals, paired tests, per-class scores, confusions; from 0 to 1."""

from itertools import combinations
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import stats
from sklearn.metrics import precision_recall_fscore_support

EXACT_BELOW = 25  # discordant images; fewer make McNemar's chi-square approximation poor


class Accuracy(NamedTuple):
    """An accuracy with its 95% interval and what it was counted on."""

    accuracy: float
    low: float
    high: float
    correct: int
    images: int

    def __str__(self) -> str:
        return f"{self.accuracy:.2%} ({self.low:.2%} to {self.high:.2%})"


class McNemar(NamedTuple):
    """A paired comparison of two classifiers on the same images."""

    only_first: int  # images only the first gets right
    only_second: int
    p: float
    method: str


def wilson(correct: int, images: int) -> Accuracy:
    """Return the accuracy with its 95% Wilson score interval (Wilson, JASA 1927)."""
    interval = stats.binomtest(correct, images).proportion_ci(0.95, method="wilson")
    return Accuracy(correct / images, float(interval.low), float(interval.high), correct, images)


def accuracy(predictions: ArrayLike, labels: ArrayLike) -> Accuracy:
    """Return the accuracy of class numbers against labels, both (N,), with its interval."""
    hits = np.asarray(predictions) == np.asarray(labels)
    return wilson(int(hits.sum()), len(hits))


def mcnemar(first: ArrayLike, second: ArrayLike, labels: ArrayLike) -> McNemar:
    """Test whether two predictions (N,) for the same images differ in accuracy (McNemar, 1947).

    Two-sided: exact binomial below EXACT_BELOW discordant images, otherwise chi-square with one
    degree of freedom and continuity correction.
    """
    labels = np.asarray(labels)
    first, second = np.asarray(first) == labels, np.asarray(second) == labels
    b, c = int((first & ~second).sum()), int((~first & second).sum())
    if b + c < EXACT_BELOW:
        p = float(stats.binomtest(b, b + c).pvalue) if b + c else 1.0
        return McNemar(b, c, p, "exact binomial")
    statistic = (abs(b - c) - 1) ** 2 / (b + c) if b != c else 0.0
    return McNemar(
        b, c, float(stats.chi2.sf(statistic, 1)), "chi-square with continuity correction"
    )


def p_value(p: float) -> str:
    """Return a p value for reading."""
    return "< 0.001" if p < 0.001 else f"{p:.2g}"


def among(table: pd.Series) -> tuple[list[str], float]:
    """Return the names of all smallest entries, and their value: a tie has no single winner."""
    return [str(name) for name in table.index[table == table.min()]], float(table.min())


def per_class(predictions: ArrayLike, labels: ArrayLike, classes: tuple[str, ...]) -> pd.DataFrame:
    """Return precision, recall and F1 of each class, the first two with Wilson intervals.

    One row a class (in the order of `classes`), columns images, precision, precision_low,
    precision_high, recall, recall_low, recall_high, f1. A class never predicted has precision NaN.
    """
    predictions, labels = np.asarray(predictions), np.asarray(labels)
    scores = precision_recall_fscore_support(
        labels, predictions, labels=range(len(classes)), zero_division=np.nan
    )
    rows = []
    for number, (precision, recall, f1, support) in enumerate(zip(*scores, strict=True)):
        correct = int(((predictions == number) & (labels == number)).sum())
        spans = [
            wilson(correct, n)[1:3] if n else (np.nan, np.nan)
            for n in (int((predictions == number).sum()), support)
        ]
        rows.append((int(support), precision, *spans[0], recall, *spans[1], f1))
    columns = ["images", "precision", "precision_low", "precision_high"]
    columns += ["recall", "recall_low", "recall_high", "f1"]
    return pd.DataFrame(rows, columns=columns, index=pd.Index(classes, name="class"))


def scores_in_words(scores: pd.DataFrame) -> pd.DataFrame:
    """Return `per_class`'s table for reading: precision and recall in percent with intervals."""
    table = scores[["images"]].copy()
    for name in ("precision", "recall"):
        parts = zip(scores[name], scores[f"{name}_low"], scores[f"{name}_high"], strict=True)
        table[name] = [
            f"{value:.1%} ({low:.1%} to {high:.1%})" if value == value else "–"
            for value, low, high in parts
        ]
    table["F1"] = [f"{value:.1%}" if value == value else "–" for value in scores["f1"]]
    return table


def confusion(predictions: ArrayLike, labels: ArrayLike, classes: int) -> NDArray[np.int64]:
    """Return counts (classes, classes), rows the true class, columns the predicted one."""
    matrix = np.zeros((classes, classes), dtype=np.int64)
    np.add.at(matrix, (np.asarray(labels), np.asarray(predictions)), 1)
    return matrix


def confused_pairs(matrix: NDArray[np.int64], classes: tuple[str, ...]) -> pd.DataFrame:
    """Return all unordered pairs of classes, most confused first.

    Columns: first, second, confusions (both directions), first_as_second, second_as_first, share
    (of all errors).
    """
    errors = matrix.sum() - np.trace(matrix)
    rows = []
    for i, j in combinations(range(len(classes)), 2):
        one, other = int(matrix[i, j]), int(matrix[j, i])
        share = (one + other) / errors if errors else 0.0
        rows.append((classes[i], classes[j], one + other, one, other, share))
    columns = ["first", "second", "confusions", "first_as_second", "second_as_first", "share"]
    table = pd.DataFrame(rows, columns=columns)
    table = table.sort_values("confusions", ascending=False, kind="stable")
    return table.reset_index(drop=True)


def mistaken(
    predictions: ArrayLike, labels: ArrayLike, first: int, second: int
) -> NDArray[np.int64]:
    """Return the positions of images of one of two classes that were taken for the other."""
    predictions, labels = np.asarray(predictions), np.asarray(labels)
    one_way = (labels == first) & (predictions == second)
    other_way = (labels == second) & (predictions == first)
    return np.flatnonzero(one_way | other_way)


def rank_pairs(claimed: list[list[str]], tables: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """Return each claimed pair's confusions and its rank in each table of `confused_pairs`.

    Ranks start at 1; ties share the best rank; NaN where a table does not have the classes.
    """
    rows = []
    for pair in claimed:
        row = {"pair": "/".join(pair)}
        for name, table in tables.items():
            match = table[
                [set(pair) == {a, b} for a, b in zip(table["first"], table["second"], strict=True)]
            ]
            count = match["confusions"].iloc[0] if len(match) else np.nan
            row |= {
                f"{name}: confusions": count,
                f"{name}: rank": (table["confusions"] > count).sum() + 1 if len(match) else np.nan,
            }
        rows.append(row)
    return pd.DataFrame(rows)
