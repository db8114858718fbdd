"""Claims on figures and choices that take full-length training, judged from the full study's jobs.

A test is given `jobs` (run file -> its jobs, one a seed), `reference` and the claim's `tolerance`
(a fraction). An effect is undecided, "not testable here", as long as its 95% interval leaves both
answers open.
"""

from typing import Any

import numpy as np

from bundle.claims.claim import CONFIRMED, OPEN, REFUTED, Finding, Reference, agreed, joined, needs
from bundle.claims.stats import holm, homogeneity, improves, same_share
from lib.effect import Effect, in_words, t_effect, welch

Jobs = dict[str, list[dict[str, Any]]]
SEEDS = (
    "The reported figure must lie where a further seed would in 95% of cases (Student's t over "
    "our seeds), within at most {tolerance} to each side."
)
GAIN = (
    "Confirmed above chance (p < 0.05), refuted where the 95% interval has no room for {tolerance}."
)
WELCH = "Final test accuracy over seeds, Welch's t-test."
COST = (
    WELCH
    + " Confirmed where the interval of the cost ends within {tolerance}, refuted where it begins "
    "above."
)
BEST = (
    "In both phases the best epoch on the test set, which cannot be below the last one, must not "
    "exceed it by more than {tolerance}."
)
CELLS = (
    "Chi-square test of homogeneity for each row, Fisher's exact test for each cell, both with "
    "Holm's correction, against the mean of our seeds, normalised as in training. Which images "
    "were mistaken there is not known, so the tests are unpaired: on the same images they see "
    "clear differences only."
)


def _against_seeds(
    values: list[float], reported: float, tolerance: float, aside: str = ""
) -> Finding:
    """Judge an accuracy by the 95% prediction interval of a further seed; open where too wide."""
    mean, sd, count = float(np.mean(values)), float(np.std(values, ddof=1)), len(values)
    gap = t_effect(reported - mean, sd * (1 + 1 / count) ** 0.5, count - 1)
    half = gap.high - gap.size
    inside = abs(gap.size) <= half + 5e-5  # printed to two decimals of a percent
    return Finding(
        (CONFIRMED if half <= tolerance else OPEN) if inside else REFUTED,
        f"{mean:.2%} on average over {count} seeds (standard deviation {100 * sd:.2f} points); a "
        f"further seed would lie within {mean - half:.2%} to {min(1, mean + half):.2%} (95%). For "
        f"{reported:.2%}, {in_words(gap.p)}.{aside}",
    )


def _phase(jobs: Jobs, number: int, key: str) -> list[float]:
    return [
        one[key]
        for job in jobs["audit"]
        for one in job["audit"]["phases"]
        if one["phase"] == number
    ]


@needs("audit", part="audit", rule=SEEDS)
def phase1_last(jobs: Jobs, reference: Reference, tolerance: float) -> Finding:
    """The accuracy after phase 1's last epoch."""
    return _against_seeds(_phase(jobs, 1, "last"), reference["phase1"]["last"], tolerance)


@needs("audit", part="audit", rule=f"{SEEDS} Ours is chosen on the test set, too, as theirs was.")
def phase1_best(jobs: Jobs, reference: Reference, tolerance: float) -> Finding:
    """The best accuracy of phase 1, chosen on the test set."""
    return _against_seeds(_phase(jobs, 1, "best"), reference["phase1"]["best"], tolerance)


@needs(
    "as_run",
    part="beside",
    rule=f"{SEEDS} Ours is measured by the normalisation of the notebook's evaluation.",
)
def phase2_last(jobs: Jobs, reference: Reference, tolerance: float) -> Finding:
    """The final accuracy, under the normalisation by which the notebook measured it."""
    own = np.mean([job["test"]["accuracy"] for job in jobs["as_run"]])
    values = [job["beside"]["accuracy"] for job in jobs["as_run"]]
    aside = f" Normalised as in training, the images give {own:.2%}."
    return _against_seeds(values, reference["phase2"]["last"], tolerance, aside)


@needs("audit", part="audit", rule=BEST)
def selection_bias(jobs: Jobs, reference: Reference, tolerance: float) -> Finding:
    """By how much the best epoch on the test set exceeds the last one."""
    bias = {n: 100 * np.subtract(_phase(jobs, n, "best"), _phase(jobs, n, "last")) for n in (1, 2)}
    told = [
        f"{one.mean():.2f} points in phase {n} ({one.min():.2f} to {one.max():.2f})"
        for n, one in bias.items()
    ]
    return Finding(
        agreed(max(one.mean() for one in bias.values()) <= 100 * tolerance),
        f"Best minus last epoch, on average over {len(jobs['audit'])} seeds: {joined(told)}.",
    )


@needs("as_run", rule=CELLS)
def matrix_cells(jobs: Jobs, reference: Reference) -> Finding:
    """The reported confusion matrix against the mean of ours, which counts as one classifier."""
    theirs, classes = np.array(reference["confusion_matrix"]), reference["classes"]
    ours, images = (
        np.mean([job["confusion"] for job in jobs["as_run"]], axis=0),
        int(theirs[0].sum()),
    )
    by_row = holm([homogeneity(*pair) for pair in zip(theirs, ours, strict=True)])
    by_cell = holm([same_share(*pair, images) for pair in zip(theirs.flat, ours.flat, strict=True)])
    rows = [name for name, p in zip(classes, by_row, strict=True) if p < 0.05]
    pairs = [f"{first} as {second}" for first in classes for second in classes]
    cells = [
        f"{pairs[at]} {theirs.flat[at]} there, {ours.flat[at]:.0f} here"
        for at in np.argsort(by_cell, kind="stable")
        if by_cell[at] < 0.05
    ]
    named = "; ".join(cells[:4]) + ("; and others" if len(cells) > 4 else "")
    return Finding(
        agreed(not rows and not cells),
        f"{len(rows)} of {len(classes)} rows differ{f' ({joined(rows)})' if rows else ''}, and "
        f"{len(cells)} of {theirs.size} cells{f' ({named})' if cells else ''}. On the diagonal "
        f"{np.trace(theirs):,} there, {np.trace(ours):,.0f} here.",
    )


def _runs(jobs: Jobs, first: str, second: str) -> tuple[Effect, str]:
    """Return the difference first - second of the final accuracies, and a sentence on it."""
    scores = [[job["test"]["accuracy"] for job in jobs[name]] for name in (first, second)]
    effect = welch(*scores)
    told = [
        f"{name} {np.mean(values):.2%}"
        for name, values in zip((first, second), scores, strict=True)
    ]
    return (
        effect,
        f"{joined(told)} on average over {len(scores[0])} seeds each: {effect}, "
        f"{in_words(effect.p)}.",
    )


@needs(
    "as_written",
    "steps",
    rule=f"{WELCH} {GAIN} What a smoother convergence would be, the report does not define.",
)
def cosine_better(jobs: Jobs, reference: Reference, tolerance: float) -> Finding:
    """The cosine against steps, in the recipe as written."""
    effect, found = _runs(jobs, "as_written", "steps")
    return Finding(improves(effect, tolerance), found)


@needs("as_written", "no_cutmix", rule=f"{WELCH} {GAIN}")
def cutmix_helps(jobs: Jobs, reference: Reference, tolerance: float) -> Finding:
    """CutMix against none, in the recipe as written."""
    effect, found = _runs(jobs, "as_written", "no_cutmix")
    return Finding(improves(effect, tolerance), found)


@needs("wide", "as_written", rule=COST)
def halving_cheap(jobs: Jobs, reference: Reference, tolerance: float) -> Finding:
    """What twice the channels gain, which is what halving them costs."""
    effect, found = _runs(jobs, "wide", "as_written")
    return Finding(
        CONFIRMED if effect.high <= tolerance else REFUTED if effect.low > tolerance else OPEN,
        found,
    )


# fmt: off
_ALL = (
    phase1_last, phase1_best, phase2_last, selection_bias, matrix_cells, cosine_better,
    cutmix_helps, halving_cheap,
)
# fmt: on
TESTS = {test.judge.__name__: test for test in _ALL}
