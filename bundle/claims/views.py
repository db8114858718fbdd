"""Claims about test-time augmentation that take a network trained at full length.

They are judged from the runs of as_run in the full study. A test takes `jobs`, `reference` and
`tolerance` as those of claims.trainings.
"""

import numpy as np

from bundle.claims.claim import CONFIRMED, OPEN, REFUTED, Finding, Reference, joined, needs, points
from bundle.claims.stats import improves
from bundle.claims.trainings import GAIN, Jobs
from lib.effect import Effect, in_words, paired, t_effect
from lib.predict import COMBINATIONS

MCNEMAR = "McNemar's test on the same images, counts averaged over seeds."
EACH = (
    MCNEMAR
    + " Refuted where a view is worse than the original above chance (Bonferroni's correction), "
    "confirmed where no interval reaches more than {tolerance} below zero."
)
BLUR = (
    "Confirmed where the 95% interval of the difference, paired by seed, lies within {tolerance} "
    "of zero; refuted where it reaches beyond and leaves out zero."
)


def _effect(jobs: Jobs, kind: str, name: str) -> Effect:
    """Return what a view or a combination does against the original view."""
    found = jobs["as_run"]
    gained, lost = (
        float(np.mean([job[kind][name][key] for job in found])) for key in ("gained", "lost")
    )
    return paired(gained, lost, found[0]["test"]["images"])


@needs("as_run", rule=f"{MCNEMAR} {GAIN}")
def tta_improves(jobs: Jobs, reference: Reference, tolerance: float) -> Finding:
    """The mean over the report's five views against the single view."""
    effect = _effect(jobs, "combinations", "report")
    pairs = [(job["combinations"]["report"], job["test"]["images"]) for job in jobs["as_run"]]
    seeds = joined([points((one["gained"] - one["lost"]) / images) for one, images in pairs])
    return Finding(
        improves(effect, tolerance), f"{effect}, {in_words(effect.p)}; seed by seed {seeds}."
    )


@needs("as_run", rule=EACH)
def tta_views(jobs: Jobs, reference: Reference, tolerance: float) -> Finding:
    """Each view by itself against the original; the padded and cropped one is the original."""
    views = [view for view in COMBINATIONS["report"] if view not in ("original", "pad_center_crop")]
    effects = {view: _effect(jobs, "views", view) for view in views}
    worse = any(one.size < 0 and one.p * len(views) < 0.05 for one in effects.values())
    equal = all(one.low >= -tolerance for one in effects.values())
    told = [
        f"{view.replace('_', ' ')} {points(one.size)} ({in_words(one.p)})"
        for view, one in effects.items()
    ]
    return Finding(
        REFUTED if worse else CONFIRMED if equal else OPEN,
        f"Points against the original: {joined(told)}.",
    )


@needs("as_run", rule=BLUR)
def blur_equivalent(jobs: Jobs, reference: Reference, tolerance: float) -> Finding:
    """The average with a blur that mixes colours against the one with one of the image plane."""
    both = [
        [job["combinations"][name]["accuracy"] for job in jobs["as_run"]]
        for name in ("report", "report_spatial")
    ]
    gaps = np.subtract(*both)
    effect = t_effect(float(gaps.mean()), float(gaps.std(ddof=1)) / len(gaps) ** 0.5, len(gaps) - 1)
    alone = [
        points(_effect(jobs, "views", view).size)
        for view in ("gaussian_blur_mixed", "gaussian_blur")
    ]
    within = effect.low >= -tolerance and effect.high <= tolerance
    return Finding(
        CONFIRMED if within else REFUTED if effect.p < 0.05 else OPEN,
        f"The average with the mixing blur against the one with the spatial blur: {effect}. "
        f"Alone, the first changes the accuracy by {alone[0]} points, the second by {alone[1]}.",
    )


_ALL = (tta_views, tta_improves, blur_equivalent)
TESTS = {test.judge.__name__: test for test in _ALL}
