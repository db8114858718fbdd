"""Intervals and tests by their formulae, scores against scikit-learn, the reference's pairs."""

import json
import math
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import special, stats
from sklearn import metrics as sklearn_metrics

from lib import metrics

REFERENCE = json.loads(
    (Path(__file__).resolve().parents[2] / "docs" / "reference.json").read_text(encoding="utf-8")
)
MATRIX, CLASSES = np.array(REFERENCE["confusion_matrix"]), tuple(REFERENCE["classes"])
Z = 1.959963984540054  # 97.5% quantile of the normal distribution


def predictions_of(matrix):
    """Predictions and labels that give a confusion matrix, in a shuffled order."""
    labels, predictions = np.nonzero(matrix)
    counts = matrix[labels, predictions]
    order = np.random.default_rng(0).permutation(counts.sum())
    return np.repeat(predictions, counts)[order], np.repeat(labels, counts)[order]


def paired(b, c, both=50, neither=10):
    """Predictions of two classifiers: `b` images only the first gets right, `c` only the second."""
    labels = np.zeros(b + c + both + neither, dtype=int)
    first, second = labels.copy(), labels.copy()
    first[b : b + c] = 3
    second[:b] = 4
    first[b + c + both :] = 5
    second[b + c + both :] = 6
    return first, second, labels


@pytest.fixture(scope="module")
def scored():
    rng = np.random.default_rng(3)
    labels = rng.integers(0, 6, 700)
    predictions = np.where(rng.random(700) < 0.6, labels, rng.integers(0, 6, 700))
    predictions[predictions == 5] = 4  # the last class is never predicted
    return predictions, labels


# Wilson's interval


@pytest.mark.parametrize(
    ("correct", "images"), [(9465, 10000), (0, 10), (10, 10), (1, 3), (470, 500), (1, 1)]
)
def test_wilson_by_its_formula(correct, images):
    p = correct / images
    centre = (p + Z**2 / (2 * images)) / (1 + Z**2 / images)
    half = Z / (1 + Z**2 / images) * math.sqrt(p * (1 - p) / images + Z**2 / (4 * images**2))
    found = metrics.wilson(correct, images)
    assert found.accuracy == p and (found.correct, found.images) == (correct, images)
    assert found.low == pytest.approx(centre - half, abs=1e-12)
    assert found.high == pytest.approx(centre + half, abs=1e-12)


def test_wilson_of_the_headline():
    found = metrics.wilson(9465, 10000)
    assert (round(100 * found.low, 2), round(100 * found.high, 2)) == (94.19, 95.07)
    assert str(found) == "94.65% (94.19% to 95.07%)"


def test_accuracy_counts(scored):
    predictions, labels = scored
    found = metrics.accuracy(predictions, labels)
    assert found.accuracy == pytest.approx(sklearn_metrics.accuracy_score(labels, predictions))
    assert found.correct == sum(int(a == b) for a, b in zip(predictions, labels, strict=True))
    assert found.images == 700 and found.low < found.accuracy < found.high


# McNemar's test


@pytest.mark.parametrize(
    ("b", "c"), [(3, 9), (9, 3), (0, 1), (1, 0), (0, 7), (12, 12), (5, 19), (24, 0)]
)
def test_mcnemar_exact_below_25(b, c):
    total = b + c
    tail = sum(math.comb(total, k) for k in range(min(b, c) + 1)) / 2**total
    found = metrics.mcnemar(*paired(b, c))
    assert (found.only_first, found.only_second, found.method) == (b, c, "exact binomial")
    assert found.p == pytest.approx(min(1.0, 2 * tail), rel=1e-9)


@pytest.mark.parametrize(
    ("b", "c"), [(10, 15), (25, 0), (0, 25), (12, 13), (20, 20), (147, 183), (300, 100)]
)
def test_mcnemar_chi_square_from_25(b, c):
    statistic = 0.0 if b == c else (abs(b - c) - 1) ** 2 / (b + c)
    found = metrics.mcnemar(*paired(b, c))
    assert (found.only_first, found.only_second) == (b, c)
    assert found.method == "chi-square with continuity correction"
    # the tail of a chi-square with one degree of freedom is that of a squared normal
    assert found.p == pytest.approx(special.erfc(math.sqrt(statistic / 2)), rel=1e-9)


def test_mcnemar_boundary():
    assert metrics.mcnemar(*paired(8, 16)).method == "exact binomial"
    assert metrics.mcnemar(*paired(8, 16)).p == pytest.approx(
        stats.binomtest(8, 24).pvalue, rel=1e-9
    )
    assert metrics.mcnemar(*paired(8, 17)).method == "chi-square with continuity correction"
    assert metrics.mcnemar(*paired(8, 17)).p == pytest.approx(stats.chi2.sf(64 / 25, 1), rel=1e-9)


@pytest.mark.parametrize(("b", "c"), [(0, 0), (12, 12), (13, 13), (200, 200)])
def test_mcnemar_without_a_difference(b, c):
    assert metrics.mcnemar(*paired(b, c)).p == 1.0


def test_mcnemar_sees_no_difference_where_both_are_wrong_in_other_ways():
    found = metrics.mcnemar([1, 2, 0, 0], [2, 1, 0, 0], [0, 0, 0, 0])
    assert (found.only_first, found.only_second, found.p) == (0, 0, 1.0)


def test_mcnemar_of_a_gap_like_the_references():
    """330 of 10,000 images discordant and a gap of .36 points: 147 against 183, p by hand 0.054."""
    first, second, labels = paired(147, 183, both=9500, neither=170)
    assert len(labels) == 10_000
    gap = (second == labels).mean() - (first == labels).mean()
    assert gap == pytest.approx(0.0036)
    assert metrics.mcnemar(first, second, labels).p == pytest.approx(0.054, abs=0.0005)
    assert metrics.mcnemar(second, first, labels).p == pytest.approx(0.054, abs=0.0005)


@pytest.mark.parametrize(
    ("p", "shown"), [(0.0, "< 0.001"), (0.00099, "< 0.001"), (0.001, "0.001"), (0.0123, "0.012")]
)
def test_p_value_for_reading(p, shown):
    assert metrics.p_value(p) == shown


# Class by class


def test_among_names_all_that_share_the_least():
    table = pd.Series([0.9, 0.7, 0.8, 0.7], index=["cat", "dog", "frog", "ship"])
    assert metrics.among(table) == (["dog", "ship"], 0.7)


def test_per_class_against_scikit_learn(scored):
    predictions, labels = scored
    names = tuple("abcdef")
    table = metrics.per_class(predictions, labels, names)
    report = sklearn_metrics.classification_report(
        labels, predictions, target_names=names, output_dict=True, zero_division=0.0
    )
    assert table.index.tolist() == list(names)
    for name in names:
        assert table.loc[name, "images"] == report[name]["support"]
        assert table.loc[name, "recall"] == pytest.approx(report[name]["recall"])
        assert table.loc[name, "f1"] == pytest.approx(report[name]["f1-score"])
        if name != "f":
            assert table.loc[name, "precision"] == pytest.approx(report[name]["precision"])
    assert math.isnan(table.loc["f", "precision"]) and math.isnan(table.loc["f", "precision_low"])
    assert table.loc["f", "recall"] == 0 and table.loc["f", "recall_low"] == pytest.approx(
        0, abs=1e-12
    )


def test_per_class_intervals_are_wilsons(scored):
    predictions, labels = scored
    table = metrics.per_class(predictions, labels, tuple("abcdef"))
    for number, row in enumerate(table.itertuples()):
        hits = int(((predictions == number) & (labels == number)).sum())
        spans = [(labels == number, row.recall_low, row.recall_high)]
        if number != 5:
            spans.append((predictions == number, row.precision_low, row.precision_high))
        for mask, low, high in spans:
            n, p = int(mask.sum()), hits / mask.sum()
            centre = (p + Z**2 / (2 * n)) / (1 + Z**2 / n)
            half = Z / (1 + Z**2 / n) * math.sqrt(p * (1 - p) / n + Z**2 / (4 * n**2))
            assert (low, high) == pytest.approx((centre - half, centre + half), abs=1e-12)


def test_per_class_without_images_of_a_class():
    table = metrics.per_class([0, 0, 1], [0, 0, 0], ("a", "b", "c"))
    assert table["images"].tolist() == [3, 0, 0]
    assert table.loc["b", "precision"] == 0 and math.isnan(table.loc["b", "recall"])
    assert math.isnan(table.loc["c", "precision"]) and math.isnan(table.loc["c", "recall_high"])


def test_per_class_of_the_references_matrix():
    table = metrics.per_class(*predictions_of(MATRIX), CLASSES)
    assert table["images"].tolist() == [1000] * 10
    assert table["recall"].tolist() == pytest.approx([count / 1000 for count in MATRIX.diagonal()])
    assert table["recall"].idxmin() == "dog" and table.loc["dog", "recall"] == pytest.approx(0.895)
    assert table.loc["cat", "precision"] == pytest.approx(903 / MATRIX[:, 3].sum())


# Confusions


def test_confusion_against_scikit_learn(scored):
    predictions, labels = scored
    expected = sklearn_metrics.confusion_matrix(labels, predictions, labels=range(7))
    found = metrics.confusion(predictions, labels, 7)
    np.testing.assert_array_equal(found, expected)
    assert found[1, 2] == ((labels == 1) & (predictions == 2)).sum() != found[2, 1]


def test_confusion_gives_the_references_matrix_back():
    np.testing.assert_array_equal(metrics.confusion(*predictions_of(MATRIX), 10), MATRIX)


def test_confused_pairs_of_the_references_matrix():
    table = metrics.confused_pairs(MATRIX, CLASSES)
    assert len(table) == 45
    top = table.iloc[0]
    assert {top["first"], top["second"]} == {"cat", "dog"}
    assert (top["first"], top["first_as_second"], top["second_as_first"]) == ("cat", 48, 65)
    assert top["confusions"] == 113 and top["share"] == pytest.approx(113 / 535)
    second = table.iloc[1]
    assert ({second["first"], second["second"]}, second["confusions"]) == (
        {"automobile", "truck"},
        44,
    )
    deer = table[(table["first"] == "deer") & (table["second"] == "horse")].iloc[0]
    assert deer["confusions"] == 13
    assert table["confusions"].is_monotonic_decreasing
    assert table["confusions"].sum() == 10_000 - 9_465 and table["share"].sum() == pytest.approx(1)
    assert {frozenset(pair) for pair in zip(table["first"], table["second"], strict=True)} == {
        frozenset(pair) for pair in combinations(CLASSES, 2)
    }


def test_confused_pairs_without_errors():
    table = metrics.confused_pairs(np.diag([3, 4, 5]), ("a", "b", "c"))
    assert table["confusions"].tolist() == [0, 0, 0] and table["share"].tolist() == [0, 0, 0]


def test_confused_pairs_of_one_error():
    table = metrics.confused_pairs(np.array([[3, 0, 0], [0, 4, 0], [0, 1, 5]]), tuple("abc"))
    assert table.index.tolist() == [0, 1, 2] and table["share"].tolist() == [1, 0, 0]
    assert (table["first"][0], table["second"][0], table["second_as_first"][0]) == ("b", "c", 1)


def test_mistaken_images():
    labels = [0, 0, 1, 1, 2, 1, 0]
    predictions = [1, 0, 0, 1, 1, 2, 1]
    assert metrics.mistaken(predictions, labels, 0, 1).tolist() == [0, 2, 6]
    assert metrics.mistaken(predictions, labels, 1, 0).tolist() == [0, 2, 6]
    assert metrics.mistaken(predictions, labels, 1, 2).tolist() == [4, 5]
    assert len(metrics.mistaken(*predictions_of(MATRIX), 3, 5)) == 113


def test_rank_pairs_of_the_references_claim():
    reported = metrics.confused_pairs(MATRIX, CLASSES)
    digits = metrics.confused_pairs(np.diag(range(10)), tuple("0123456789"))
    ranks = metrics.rank_pairs(
        REFERENCE["similar_pairs_named"], {"reference": reported, "digits": digits}
    )
    assert ranks["pair"].tolist() == ["cat/dog", "deer/horse"]
    assert ranks["reference: confusions"].tolist() == [113, 13]
    pairs = combinations(range(10), 2)
    harder = sum(MATRIX[i, j] + MATRIX[j, i] > 13 for i, j in pairs)
    assert ranks["reference: rank"].tolist() == [1, harder + 1] == [1, 13]
    assert ranks["digits: rank"].isna().all() and ranks["digits: confusions"].isna().all()


def test_ranks_share_the_best_place_and_pairs_may_be_named_either_way():
    matrix = np.array([[9, 2, 3], [1, 9, 4], [0, 0, 9]])  # a/b 3, a/c 3, b/c 4
    table = metrics.confused_pairs(matrix, ("a", "b", "c"))
    ranks = metrics.rank_pairs([["c", "b"], ["b", "a"], ["a", "c"]], {"run": table})
    assert ranks["run: rank"].tolist() == [1, 2, 2]
    assert ranks["run: confusions"].tolist() == [4, 3, 3]


# Probabilities

FOUR = np.array([[0.9, 0.1], [0.6, 0.4], [0.4, 0.6], [0.2, 0.8]])


def test_calibration_by_hand():
    """Confidences .9 and .6, .6, .8; two bins of a half: all four lie in the upper one."""
    found = metrics.calibration(FOUR, [0, 1, 1, 1], bins=2)
    assert found["bins"][0] == [0.0, 0.5, 0, None, None]
    assert found["bins"][1] == [0.5, 1.0, 4, pytest.approx(0.725), 0.75]
    assert found["ece"] == pytest.approx(0.025)
    wanted = -(math.log(0.9) + math.log(0.4) + math.log(0.6) + math.log(0.8)) / 4
    assert found["nll"] == pytest.approx(wanted)
    # .1² + .1², .6² + .6², .4² + .4², .2² + .2²
    assert found["brier"] == pytest.approx((0.02 + 0.72 + 0.32 + 0.08) / 4)


def test_a_hit_is_the_labels_own_class():
    """Predicted 0, 0, 1, 1: the first and the third are wrong, one in either direction."""
    assert metrics.calibration(FOUR, [1, 0, 0, 1], bins=2)["bins"][1][4] == 0.5


def test_calibration_weighs_bins_by_their_images():
    found = metrics.calibration(FOUR, [0, 1, 1, 1], bins=10)  # .6: one of two, .8 and .9: right
    assert [row[2] for row in found["bins"]] == [0, 0, 0, 0, 0, 2, 0, 1, 1, 0]
    assert found["ece"] == pytest.approx((2 * 0.1 + 0.2 + 0.1) / 4)


@pytest.mark.parametrize("confidence", [1.0, 0.5])
def test_a_confidence_on_an_edge_lies_in_the_bin_below(confidence):
    rows = metrics.calibration(np.array([[confidence, 1 - confidence]]), [0], bins=4)["bins"]
    assert [row[1] for row in rows if row[2]] == [confidence]


def test_nll_and_brier_against_scikit_learn():
    rng = np.random.default_rng(5)
    given, labels = rng.dirichlet(np.ones(6), 400), rng.integers(0, 6, 400)
    found = metrics.calibration(given, labels)
    expected = sklearn_metrics.log_loss(labels, given, labels=range(6))
    assert found["nll"] == pytest.approx(expected)
    each = [sklearn_metrics.brier_score_loss(labels == k, given[:, k]) for k in range(6)]
    assert found["brier"] == pytest.approx(sum(each))
    assert sum(row[2] for row in found["bins"]) == 400 and len(found["bins"]) == 15
    # a numpy histogram as an independent count of the bins
    counts, _ = np.histogram(given.max(1), np.linspace(0, 1, 16))
    assert [row[2] for row in found["bins"]] == counts.tolist()


def test_a_probability_of_zero_has_a_finite_loss():
    found = metrics.calibration(np.array([[1.0, 0.0]]), [1])
    assert math.isfinite(found["nll"]) and found["ece"] == 1.0 and found["brier"] == 2.0


@pytest.mark.slow
def test_temperature_is_that_of_the_least_loss():
    """Labels drawn from softmax(z / 2); then by a grid; z times 3 has three times as high a one."""
    rng = np.random.default_rng(7)
    logits = rng.normal(0, 3, (4000, 5))
    chances = special.softmax(logits / 2, axis=1).cumsum(1)
    labels = (rng.random((4000, 1)) > chances).sum(1).clip(0, 4)
    found = metrics.temperature(logits, labels)
    assert found == pytest.approx(2, rel=0.05)
    grid = np.linspace(1.5, 2.5, 1001)
    losses = [
        sklearn_metrics.log_loss(labels, special.softmax(logits / one, axis=1)) for one in grid
    ]
    assert found == pytest.approx(grid[np.argmin(losses)], abs=2e-3)
    assert metrics.temperature(3 * logits, labels) == pytest.approx(3 * found, rel=1e-4)


@pytest.mark.parametrize(("labels", "least"), [([0, 1], 0), ([1, 0], 3)])
def test_temperature_stays_within_its_bounds(labels, least):
    """All right: no temperature is too low, so it is 1. All wrong: it is at most e cubed."""
    assert math.log(metrics.temperature(np.eye(2), labels)) == pytest.approx(least, abs=1e-4)


def test_top_k_against_scikit_learn():
    rng = np.random.default_rng(6)
    given, labels = rng.dirichlet(np.ones(5), 300), rng.integers(0, 5, 300)
    for k in (1, 2, 4):
        expected = sklearn_metrics.top_k_accuracy_score(labels, given, k=k)
        assert metrics.top_k(given, labels, k).accuracy == pytest.approx(expected)
