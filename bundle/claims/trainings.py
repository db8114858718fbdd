"""Claims that take trainings at full length, judged from the full study's jobs.

A test is given `jobs` (its runs, in order -> their jobs, one a seed), `reference` and the claim's
`tolerance` (a fraction). A claim is undecided, "undecided", as long as the 95% interval
of the effect leaves both answers open. A run with a single seed shows no spread: then the one that
others measured for such trainings, SPREAD, stands for it, and the sentence says "one seed".
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from bundle.claims.claim import Finding, Reference, agreed, decided, named, needs
from bundle.effects import Effect, paired, t_effect, welch
from bundle.study.compare import holm
from bundle.words import difference, listed, p_is, points
from lib.predict import COMBINATIONS

Jobs = dict[str, list[dict[str, Any]]]
# Standard deviation of the test accuracy between seeds: 0.1 to 0.15 points in trainings of others
# that end at 94 to 96% (airbench, 200 to 1,000 seeds each); the larger.
SPREAD = 0.0015
KNOWN = float("inf")  # degrees of freedom of a spread that is not estimated from our seeds
SEEDS = (
    "The reported number must lie where a further seed would in 95% of cases (Student's t over "
    "our seeds), within at most {tolerance} to each side."
)
GAIN = (
    "Confirmed above chance (p < 0.05), refuted where the 95% interval has no room for {tolerance}."
)
WELCH = "Final test accuracy over seeds, Welch's t-test."
MCNEMAR = "McNemar's test on the same images, counts averaged over seeds."


# Accuracies over seeds


def _spread(values: Sequence[float]) -> tuple[float, float]:
    """Return the standard deviation between seeds and its degrees of freedom."""
    if len(values) == 1:
        return SPREAD, KNOWN
    return float(np.std(values, ddof=1)), len(values) - 1


TAKEN = f"taken as others measured it, {100 * SPREAD:.2f} points"


def _over(count: int) -> str:
    return "one seed" if count == 1 else f"mean of {count} seeds"


def _mean(values: Sequence[float]) -> Effect:
    """Return a mean over seeds with its interval."""
    sd, degrees = _spread(values)
    return t_effect(float(np.mean(values)), sd / len(values) ** 0.5, degrees)


def between(first: Sequence[float], second: Sequence[float]) -> Effect:
    """Return mean(first) - mean(second) over seeds: Welch's, or with SPREAD where one has one."""
    if min(len(first), len(second)) > 1:
        return welch(first, second)
    error = SPREAD * (1 / len(first) + 1 / len(second)) ** 0.5
    return t_effect(float(np.mean(first) - np.mean(second)), error, KNOWN)


def _against_seeds(
    values: list[float], reported: float, tolerance: float, note: str = ""
) -> Finding:
    """Judge an accuracy by the 95% prediction interval of a further seed; open where too wide."""
    mean, count, (sd, degrees) = float(np.mean(values)), len(values), _spread(values)
    gap = t_effect(reported - mean, sd * (1 + 1 / count) ** 0.5, degrees)
    half = gap.high - gap.size
    own = f"{100 * sd:.2f} points" if count > 1 else TAKEN
    outside = abs(gap.size) > half + 5e-5  # printed to two decimals of a percent
    return Finding(
        decided(half <= tolerance and not outside, outside),
        f"{mean:.2%}, {_over(count)} (standard deviation {own}); a "
        f"further seed would lie within {mean - half:.2%} to {min(1, mean + half):.2%} (95%). For "
        f"{reported:.2%}, {p_is(gap.p)}.{note}",
    )


def _phase(jobs: Jobs, number: int, key: str) -> list[float]:
    phases = [phase for job in jobs["audit"] for phase in job["audit"]["phases"]]
    return [phase[key] for phase in phases if phase["phase"] == number]


@needs("audit", part="audit", phase=1, rule=SEEDS)
def phase1_last(jobs: Jobs, reference: Reference, tolerance: float) -> Finding:
    """The accuracy after phase 1's last epoch."""
    return _against_seeds(_phase(jobs, 1, "last"), reference["phase1"]["last"], tolerance)


CHOSEN = "Ours is chosen on the test set, too, as theirs was."


@needs("audit", part="audit", phase=1, rule=f"{SEEDS} {CHOSEN}")
def phase1_best(jobs: Jobs, reference: Reference, tolerance: float) -> Finding:
    """The best accuracy of phase 1, chosen on the test set."""
    return _against_seeds(_phase(jobs, 1, "best"), reference["phase1"]["best"], tolerance)


MEASURED = "Ours is measured by the normalisation of the notebook's evaluation."


@needs("as_run", part="beside", rule=f"{SEEDS} {MEASURED}")
def phase2_last(jobs: Jobs, reference: Reference, tolerance: float) -> Finding:
    """The final accuracy, under the normalisation by which the notebook measured it."""
    values = [job["beside"]["accuracy"] for job in jobs["as_run"]]
    own = np.mean([job["test"]["accuracy"] for job in jobs["as_run"]])
    note = f" Normalised as in training, the images give {own:.2%}."
    return _against_seeds(values, reference["phase2"]["last"], tolerance, note)


@needs(
    "audit",
    part="audit",
    rule="In both phases the best epoch on the test set, which cannot be below the last one, must "
    "not exceed it by more than {tolerance}.",
)
def selection_bias(jobs: Jobs, reference: Reference, tolerance: float) -> Finding:
    """By how much the best epoch on the test set exceeds the last one."""
    bias = {n: 100 * np.subtract(_phase(jobs, n, "best"), _phase(jobs, n, "last")) for n in (1, 2)}
    phases = [
        f"{gaps.mean():.2f} points in phase {n}"
        + f" ({gaps.min():.2f} to {gaps.max():.2f})" * (gaps.size > 1)
        for n, gaps in bias.items()
    ]
    return Finding(
        agreed(max(gaps.mean() for gaps in bias.values()) <= 100 * tolerance),
        f"Best minus last epoch, {_over(len(jobs['audit']))}: {listed(phases)}.",
    )


# The confusion matrix


def homogeneity(first: ArrayLike, second: ArrayLike) -> float:
    """Return Pearson's chi-square p (1900) that two rows of counts are of one distribution.

    Cells with fewer than 5 expected counts, in which the approximation is poor, are taken together.
    """
    table = np.array([first, second], dtype=float)
    rare = stats.contingency.expected_freq(table).min(0) < 5
    table = np.column_stack([table[:, ~rare], table[:, rare].sum(1)])
    table = table[:, table.sum(0) > 0]
    alike = table.shape[1] == 1
    return 1.0 if alike else float(stats.chi2_contingency(table, correction=False).pvalue)


def _same_share(first: float, second: float, of: int) -> float:
    """Return Fisher's exact p that two counts `of` as many share a rate; the second is rounded."""
    counts = [round(first), round(second)]
    return float(stats.fisher_exact([counts, [of - count for count in counts]]).pvalue)


@needs(
    "as_run",
    rule="Chi-square test of homogeneity for each row, Fisher's exact test for each cell, both "
    "with Holm's correction, against the mean of our seeds, normalised as in training. Which "
    "images were mistaken there is not known, so the tests are unpaired: on the same images they "
    "see clear differences only.",
)
def matrix_cells(jobs: Jobs, reference: Reference) -> Finding:
    """The reported confusion matrix against the mean of ours, which counts as one classifier."""
    theirs, classes = np.array(reference["confusion_matrix"]), reference["classes"]
    ours, images = np.mean([job["confusion"] for job in jobs["as_run"]], 0), int(theirs[0].sum())
    by_row = holm([homogeneity(*pair) for pair in zip(theirs, ours, strict=True)])
    pairs = zip(theirs.flat, ours.flat, strict=True)
    by_cell = holm([_same_share(*pair, images) for pair in pairs])
    rows = [name for name, p in zip(classes, by_row, strict=True) if p < 0.05]
    names = [f"{first} as {second}" for first in classes for second in classes]
    cells = [
        f"{names[cell]} {theirs.flat[cell]} there, {ours.flat[cell]:.0f} here"
        for cell in np.argsort(by_cell, kind="stable")
        if by_cell[cell] < 0.05
    ]
    some = "; ".join(cells[:4]) + ("; and others" if len(cells) > 4 else "")
    return Finding(
        agreed(not rows and not cells),
        f"Beyond chance {len(rows)} of {len(by_row)} rows differ{f' ({listed(rows)})' * bool(rows)}"
        f", and {len(cells)} of {theirs.size} cells{f' ({some})' if cells else ''}. On the "
        f"diagonal {np.trace(theirs):,} there, {np.trace(ours):,.0f} here.",
    )


# One run against another


def improves(effect: Effect, tolerance: float) -> str:
    """Confirmed above chance; refuted where the interval ends below `tolerance`, the least gain."""
    return decided(effect.size > 0 and effect.p < 0.05, effect.high < tolerance)


def _runs(jobs: Jobs) -> tuple[Effect, str]:
    """Return the first run's final accuracy minus the second's, and a sentence on it."""
    scores = {run: [job["test"]["accuracy"] for job in done] for run, done in jobs.items()}
    counts = [len(values) for values in scores.values()]
    means = listed(
        f"{run} {np.mean(values):.2%} ({_over(len(values))})" for run, values in scores.items()
    )
    said = f" The interval counts the spread between seeds, {TAKEN}, and not that of the images."
    taken = "" if min(counts) > 1 else said
    effect = between(*scores.values())
    return effect, f"{means}: {difference(*effect[:3])}, {p_is(effect.p)}.{taken}"


@needs("as_written", "no_cutmix", rule=f"{WELCH} {GAIN}")
def cutmix_helps(jobs: Jobs, reference: Reference, tolerance: float) -> Finding:
    """CutMix against none, in the recipe as written."""
    effect, sentence = _runs(jobs)
    return Finding(improves(effect, tolerance), sentence)


@needs(
    "wide",
    "as_written",
    rule=f"{WELCH} Confirmed where the interval of the cost ends within {{tolerance}}, refuted "
    "where it begins above.",
)
def halving_cheap(jobs: Jobs, reference: Reference, tolerance: float) -> Finding:
    """What twice the channels gain, which is what halving them costs."""
    effect, sentence = _runs(jobs)
    return Finding(decided(effect.high <= tolerance, effect.low > tolerance), sentence)


# Views at test time


def _view(jobs: Jobs, kind: str, name: str) -> Effect:
    """Return what a view or a combination does against the original view."""
    counts = [[job[kind][name][key] for job in jobs["as_run"]] for key in ("gained", "lost")]
    gained, lost = np.mean(counts, axis=1).tolist()
    return paired(gained, lost, jobs["as_run"][0]["test"]["images"])


@needs("as_run", rule=f"{MCNEMAR} {GAIN}")
def tta_improves(jobs: Jobs, reference: Reference, tolerance: float) -> Finding:
    """The mean over the report's five views against the single view."""
    effect = _view(jobs, "combinations", "report")
    alone = [_view({"as_run": [job]}, "combinations", "report") for job in jobs["as_run"]]
    seeds = listed(points(100 * each.size) for each in alone)
    sentence = f"{difference(*effect[:3])}, {p_is(effect.p)}; seed by seed {seeds}."
    return Finding(improves(effect, tolerance), sentence)


@needs(
    "as_run",
    rule=f"{MCNEMAR} Refuted where a view is worse than the original above chance (Bonferroni's "
    "correction), confirmed where no interval reaches more than {tolerance} below zero.",
)
def tta_views(jobs: Jobs, reference: Reference, tolerance: float) -> Finding:
    """Each view by itself against the original; the padded and cropped one is the original."""
    views = [view for view in COMBINATIONS["report"] if view not in ("original", "pad_center_crop")]
    effects = {view: _view(jobs, "views", view) for view in views}
    worse = any(each.size < 0 and each.p * len(views) < 0.05 for each in effects.values())
    equal = all(each.low >= -tolerance for each in effects.values())
    changes = [
        f"{view.replace('_', ' ')} {points(100 * each.size)} ({p_is(each.p)})"
        for view, each in effects.items()
    ]
    verdict = decided(equal and not worse, worse)
    return Finding(verdict, f"Points against the original: {listed(changes)}.")


@needs(
    "as_run",
    rule="Confirmed where the 95% interval of the difference, paired by seed, lies within "
    "{tolerance} of zero; refuted where it reaches beyond and leaves out zero.",
)
def blur_equivalent(jobs: Jobs, reference: Reference, tolerance: float) -> Finding:
    """The average with the code's blur against the one with a blur of the image plane."""
    both = ("report", "report_spatial")
    first, second = (
        [job["combinations"][name]["accuracy"] for job in jobs["as_run"]] for name in both
    )
    effect = _mean(np.subtract(first, second).tolist())
    views = ("gaussian_blur_mixed", "gaussian_blur")
    mixed, plane = (points(100 * _view(jobs, "views", view).size) for view in views)
    return Finding(
        decided(max(-effect.low, effect.high) <= tolerance, effect.p < 0.05),
        "The average with the code's blur against the one with a blur of height and width: "
        f"{difference(*effect[:3])}. Alone, the first changes the accuracy by {mixed} points, the "
        f"second by {plane}.",
    )


# fmt: off
TESTS = named(
    phase1_last, phase1_best, phase2_last, selection_bias, matrix_cells, cutmix_helps,
    halving_cheap, tta_views, tta_improves, blur_equivalent,
)
