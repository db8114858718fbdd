"""Claims on the reported results, judged by their figures: matrix, selection, Kaggle score."""

import numpy as np
from scipy import stats

from bundle.claims.claim import OPEN, Finding, Reference, agreed, named
from bundle.words import p_is, points
from lib import metrics


def phase1_reaches(reference: Reference) -> Finding:
    """The best epoch on the test set against the last one, whose weights were used."""
    phase, final = reference["phase1"], reference["phase2"]["last"]
    chosen = phase["best"] - phase["last"]
    return Finding(
        agreed(chosen <= 0),
        f"The last epoch, from which phase 2 went on, has {phase['last']:.2%}: {100 * chosen:.2f} "
        f"points of the best one's {phase['best']:.2%} are owed to the choice.",
        f"It is the best of {phase['epochs']} looks at the test set, and its weights were saved "
        f"but never used. Like with like, phase 2 adds {100 * (final - phase['last']):.2f} points "
        f"(last to last), not the {100 * (final - phase['best']):.2f} over the best.",
    )


def matrix_accuracy(reference: Reference) -> Finding:
    """The diagonal and the rows of the reported matrix against the reported accuracy."""
    matrix = np.array(reference["confusion_matrix"])
    score, rows = metrics.wilson(int(np.trace(matrix)), int(matrix.sum())), matrix.sum(1)
    equal, whole = np.ptp(rows) == 0, score.images == reference["test_images"]
    each = f"{rows.min():,}" + ("" if equal else f" to {rows.max():,}")
    return Finding(
        agreed(whole and equal and round(score.accuracy, 4) == reference["test_accuracy"]),
        f"{score.correct:,} of {score.images:,} lie on the diagonal, {score.accuracy:.2%}; the "
        f"95% Wilson interval is {score.low:.2%} to {score.high:.2%}.",
        f"Each class has {each} images. The interval, which the report does not give, tells of the "
        "choice of test images alone, not of other seeds.",
    )


def first_hardest_pair(reference: Reference) -> Finding:
    """Whether the first pair called hardest is of the two most confused in the reported matrix."""
    return _hardest(reference, 0)


def second_hardest_pair(reference: Reference) -> Finding:
    """Whether the second pair called hardest is of the two most confused in the reported matrix."""
    return _hardest(reference, 1)


def _hardest(reference: Reference, which: int) -> Finding:
    """Judge by rank; a binomial test compares with the border: first left out or last let in."""
    claimed = reference["hardest_pairs_claimed"]
    matrix, classes = np.array(reference["confusion_matrix"]), tuple(reference["classes"])
    pairs = metrics.confused_pairs(matrix, classes)
    row = metrics.rank_pairs(claimed, {"there": pairs}).iloc[which]
    count, rank, places = int(row["there: confusions"]), int(row["there: rank"]), len(claimed)
    number = places + (rank <= places)
    border = pairs.iloc[number - 1]
    p = float(stats.binomtest(count, count + int(border["confusions"])).pvalue)
    return Finding(
        agreed(rank <= places),
        f"{count} confusions in the reported matrix, both directions added: number {rank} of "
        f"{len(pairs)} pairs. Number {number}, {border['first']} and {border['second']}, has "
        f"{border['confusions']}.",
        f"The report names {places} pairs, so each must be number {places} or better. Were it as "
        f"hard as number {number}, so large a difference would come by chance with {p_is(p)} "
        "(binomial test).",
    )


def kaggle_images(reference: Reference) -> Finding:
    """Whether a whole number of right answers gives the Kaggle score, for the set or a part."""
    score, images = reference["kaggle_accuracy"], reference["kaggle_images"]
    sizes = np.arange(1, images + 1)
    fits = sizes[np.abs(np.round(score * sizes) / sizes - score) <= 5e-6]  # five decimals printed
    return Finding(
        agreed(images in fits),
        f"{score:.3%} of {images:,} would be {score * images:,.1f} right answers. Of all sizes up "
        f"to {images:,}, {len(fits):,} allow the score, the smallest is {fits.min()} images.",
        f"With {images:,} images an accuracy is a multiple of {1 / images:.2%}, so only a part of "
        "them was scored.",
    )


def shift_gap(reference: Reference) -> Finding:
    """The accuracy on the competition's images cannot be measured here."""
    score, images = reference["test_accuracy"], reference["test_images"]
    low = metrics.wilson(round(score * images), images).low
    gap = points(100 * (reference["kaggle_accuracy"] - score))
    return Finding(
        OPEN,
        f"By the reported figures {gap} points; the test accuracy's own 95% interval "
        f"begins at {low:.2%}.",
        "Neither the competition's images nor their labels are public, and how many of them were "
        "scored is not known.",
    )


# fmt: off
TESTS = named(
    phase1_reaches, matrix_accuracy, first_hardest_pair, second_hardest_pair, kaggle_images,
    shift_gap,
)
