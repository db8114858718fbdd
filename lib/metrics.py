"""Scores from 0 to 1 with their uncertainty: intervals, tests, effects, classes, confusions."""

from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import optimize, special, stats
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

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
    """A paired comparison of two classifiers on the same images, with its two-sided p value."""

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
    """Test whether two predictions (N,) for the same images differ in accuracy (McNemar, 1947)."""
    one, other = (np.asarray(each) == np.asarray(labels) for each in (first, second))
    return mcnemar_of_counts(int((one & ~other).sum()), int((~one & other).sum()))


def mcnemar_of_counts(only_first: int, only_second: int) -> McNemar:
    """Return McNemar's two-sided test of the images that only one of two classifiers gets right.

    Exact binomial below EXACT_BELOW discordant images, otherwise chi-square with one degree of
    freedom and continuity correction.
    """
    b, c, n = only_first, only_second, only_first + only_second
    if n < EXACT_BELOW:
        return McNemar(b, c, float(stats.binomtest(b, n).pvalue) if n else 1.0, "exact binomial")
    p = float(stats.chi2.sf((abs(b - c) - 1) ** 2 / n, 1)) if b != c else 1.0
    return McNemar(b, c, p, "chi-square with continuity correction")


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
    precision, recall, f1, _ = precision_recall_fscore_support(
        labels, predictions, labels=range(len(classes)), zero_division=np.nan
    )
    matrix = confusion(predictions, labels, len(classes))
    columns, sums = {"images": matrix.sum(1)}, (matrix.sum(0), matrix.sum(1))
    for name, share, sizes in zip(("precision", "recall"), (precision, recall), sums, strict=True):
        counts = zip(matrix.diagonal(), sizes, strict=True)
        spans = [wilson(hits, n)[1:3] if n else (np.nan, np.nan) for hits, n in counts]
        columns |= {name: share, f"{name}_low": [low for low, _ in spans]}
        columns[f"{name}_high"] = [high for _, high in spans]
    return pd.DataFrame({**columns, "f1": f1}, index=pd.Index(classes, name="class"))


def top_k(probabilities: NDArray, labels: ArrayLike, k: int) -> Accuracy:
    """Return the share of images (N,) whose class is among the k most probable of (N, C)."""
    likeliest = np.argsort(-probabilities, axis=1, kind="stable")[:, :k]
    hits = (likeliest == np.asarray(labels)[:, None]).any(1)
    return wilson(int(hits.sum()), len(hits))


def calibration(probabilities: NDArray, labels: ArrayLike, bins: int = 15) -> dict[str, Any]:
    """Return how far probabilities (N, C), rows of sum 1, can be taken at their word.

    ece: the expected calibration error, a fraction: the mean distance of accuracy and confidence
    (the largest probability) over `bins` equal bins (low, high], weighted by their images (Guo et
    al., ICML 2017, equation 3). nll: mean negative log likelihood, nats (there, equation 6). brier:
    mean squared distance of probabilities and label, summed over classes, 0 to 2 (Brier, Monthly
    Weather Review 78, 1950). bins: rows of low, high, images, mean confidence, accuracy; the last
    two are None in an empty bin.
    """
    given, true = np.asarray(probabilities, dtype=np.float64), np.asarray(labels)
    confidence, hits = given.max(1), given.argmax(1) == true
    place = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    rows = [_bin(number, bins, place == number, confidence, hits) for number in range(bins)]
    likely = np.clip(given[np.arange(len(true)), true], np.finfo(np.float64).eps, 1)
    return {
        "ece": sum(n * abs(sure - right) for _, _, n, sure, right in rows if n) / len(true),
        "nll": float(-np.log(likely).mean()),
        "brier": float(((given - np.eye(given.shape[1])[true]) ** 2).sum(1).mean()),
        "bins": rows,
    }


def temperature(logits: ArrayLike, labels: ArrayLike) -> float:
    """Return what divides logits (N, C) for the least mean NLL of their softmax, 0.05 to 20.

    Guo et al., ICML 2017, section 4.2. Of images that were neither trained on nor are judged by it;
    it changes no prediction, above 1 it makes the network less sure. 1 if all are classified right.
    """
    given, true = np.asarray(logits, dtype=np.float64), np.asarray(labels)
    if (given.argmax(1) == true).all():  # the least would lie at 0
        return 1.0

    def nll(log: float) -> float:
        return -special.log_softmax(given / np.exp(log), axis=1)[np.arange(len(true)), true].mean()

    return float(np.exp(optimize.minimize_scalar(nll, bounds=(-3, 3), method="bounded").x))


def _bin(number: int, bins: int, inside: NDArray, confidence: NDArray, hits: NDArray) -> list:
    """Return one row of `calibration`'s bins; `inside` (N,) says which images lie in it."""
    images = int(inside.sum())
    means = [float(values[inside].mean()) if images else None for values in (confidence, hits)]
    return [number / bins, (number + 1) / bins, images, *means]


def confusion(predictions: ArrayLike, labels: ArrayLike, classes: int) -> NDArray[np.int64]:
    """Return counts (classes, classes), rows the true class, columns the predicted one."""
    return confusion_matrix(labels, predictions, labels=range(classes))


def confused_pairs(matrix: NDArray[np.int64], classes: tuple[str, ...]) -> pd.DataFrame:
    """Return all unordered pairs of classes, most confused first.

    Columns: first, second, confusions (both directions), first_as_second, second_as_first, share
    (of all errors).
    """
    i, j = np.triu_indices(len(classes), 1)
    there, back, names = matrix[i, j], matrix[j, i], np.array(classes)
    columns = {"first": names[i], "second": names[j], "confusions": there + back}
    table = pd.DataFrame({**columns, "first_as_second": there, "second_as_first": back})
    table["share"] = table["confusions"] / max(matrix.sum() - np.trace(matrix), 1)
    return table.sort_values("confusions", ascending=False, kind="stable", ignore_index=True)


def mistaken(predictions: ArrayLike, labels: ArrayLike, first: int, second: int) -> NDArray:
    """Return the positions of images of one of two classes that were taken for the other."""
    pairs = np.stack([labels, predictions], axis=1)
    wrong = (pairs == (first, second)).all(1) | (pairs == (second, first)).all(1)
    return np.flatnonzero(wrong)


def rank_pairs(claimed: list[list[str]], tables: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """Return each claimed pair's confusions and its rank in each table of `confused_pairs`.

    Ranks start at 1; ties share the best rank; NaN where a table does not have the classes.
    """
    rows: list[dict[str, Any]] = [{"pair": "/".join(pair)} for pair in claimed]
    for name, table in tables.items():
        pairs = map(frozenset, zip(table["first"], table["second"], strict=True))
        counts = dict(zip(pairs, table["confusions"], strict=True))
        for row, pair in zip(rows, claimed, strict=True):
            count = counts.get(frozenset(pair), np.nan)
            rank = (table["confusions"] > count).sum() + 1 if count == count else np.nan
            row |= {f"{name}: confusions": count, f"{name}: rank": rank}
    return pd.DataFrame(rows)
