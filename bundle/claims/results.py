"""Claims on the reported results, judged by their numbers: matrix, pairs, selection, shift."""

import numpy as np

from bundle.claims.claim import Finding, Reference, agreed, decided, named
from bundle.effects import mean_effect
from bundle.words import difference, listed, points, spelled
from lib import metrics


def phase1_reaches(reference: Reference) -> Finding:
    """The best epoch on the test set against the last one, whose weights were used."""
    phase, final = reference["phase1"], reference["phase2"]["last"]
    chosen = phase["best"] - phase["last"]
    return Finding(
        agreed(chosen <= 0),
        "Its epoch was chosen by the test images themselves; the last epoch, from which phase 2 "
        f"went on, has {phase['last']:.2%}, {100 * chosen:.2f} points less.",
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
        f"The matrix has {score.correct:,} of {score.images:,} test images on its diagonal, "
        f"{score.accuracy:.2%}. The 95% Wilson interval is {score.low:.2%} to {score.high:.2%}.",
        f"Each class has {each} images. The interval, which the report does not give, tells of the "
        "choice of test images alone, not of other seeds.",
    )


def cat_dog(reference: Reference) -> Finding:
    """Whether the first pair named has a high count among all pairs."""
    return _named_pair(reference, 0)


def deer_horse(reference: Reference) -> Finding:
    """Whether the second pair named has a high count among all pairs."""
    return _named_pair(reference, 1)


def _named_pair(reference: Reference, which: int) -> Finding:
    """Judge by the upper quarter and the mean of all pairs' counts in the final matrix."""
    classes, named_pairs = tuple(reference["classes"]), reference["similar_pairs_named"]
    matrices = reference["confusion_matrix"], reference["log"]["phase1_confusion_matrix"]
    tables = [metrics.confused_pairs(np.array(matrix), classes) for matrix in matrices]
    row = metrics.rank_pairs(named_pairs, dict(zip(("end", "early"), tables, strict=True)))
    count, rank, early, early_rank = (int(value) for value in row.iloc[which, 1:])
    counts = tables[0]["confusions"]
    mean, quarter = counts.mean(), counts.quantile(0.75)
    size = "a high" if count >= quarter else "an average" if count > mean else "a low"
    return Finding(
        decided(count >= quarter, count <= mean),
        f"{count} images of either class are taken for the other, {size} count: number {rank} of "
        f"{len(counts)} pairs. After phase 1 it was {early}, number {early_rank}.",
        f"High is what belongs to the upper quarter of the {len(counts)} pairs, {quarter:g} and "
        f"more; at or below their mean, {mean:.1f}, a count is not high. The report names the pair "
        "as an example, not as the hardest.",
    )


def shift_gap(reference: Reference) -> Finding:
    """The fall from the test set to the competition's, over the teams that report both."""
    drops = [pair["shifted"] - pair["test"] for pair in reference["shifted_pairs"]]
    effect = mean_effect(drops)
    return Finding(
        decided(effect.high < 0, effect.low > 0),
        f"Of the {spelled(len(drops))} teams known to report both accuracies, the one on the "
        f"competition's images differs by {listed(points(100 * drop) for drop in drops)} "
        f"points, on average {difference(*effect[:3])}.",
        "Student's t over the teams. The labels of the competition's images are not public, so the "
        "numbers are the teams' own; on how many images they were scored is not known, and one "
        "team calls its test accuracy a validation accuracy.",
    )


TESTS = named(phase1_reaches, matrix_accuracy, cat_dog, deer_horse, shift_gap)
