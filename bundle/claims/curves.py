"""Claims on the learning rate and the curves, judged by what the notebook printed each epoch."""

import numpy as np

from bundle.claims.claim import CONFIRMED, REFUTED, Finding, Reference, agreed, decided, named
from bundle.words import listed
from lib import schedule

PRINTED = 5e-7  # half the last of the six decimals the learning rates are printed with


def _rates(reference: Reference) -> dict[int, float]:
    return {row["epoch"]: row["learning_rate"] for row in reference["log"]["phase2"]}


def one_cosine(reference: Reference) -> Finding:
    """The stated schedule against the printed rates and the epochs trained."""
    said, first, second = (reference[key] for key in ("schedule_claimed", "phase1", "phase2"))
    rates, stated = _rates(reference), (said["epochs"], said["learning_rate"])
    due = {k: schedule.learning_rate(said["schedule"], k, *stated) for k in rates}
    hits = sum(abs(due[k] - rate) <= PRINTED for k, rate in rates.items())
    total, steps = first["epochs"] + second["epochs"], listed(first["milestones"])
    return Finding(
        agreed(hits == len(rates) and total == said["epochs"]),
        f"It was trained twice, for {total} epochs in all, first with steps and then with a cosine "
        f"from {second['learning_rate']:g}. The stated cosine gives {hits} of the {len(rates)} "
        f"printed rates; after epoch 1, for example, {due[1]:.6f} was due and "
        f"{rates[1]:.6f} is printed.",
        f"The notebook trained {first['epochs']} epochs from {first['learning_rate']:g}, a tenth "
        f"of it after epochs {steps}, then {second['epochs']} more from the last weights with a "
        f"new optimiser and a cosine from {second['learning_rate']:g}.",
    )


def printed_rates(reference: Reference) -> Finding:
    """The printed rates against phase 2's cosine 0.005 (1 + cos(pi k / 100)) after epoch k."""
    phase, rates = reference["phase2"], _rates(reference)
    peak, epochs = phase["learning_rate"], phase["epochs"]
    due = {k: schedule.learning_rate("cosine", k, epochs, peak) for k in rates}
    hits = sum(abs(due[k] - rate) <= PRINTED for k, rate in rates.items())
    return Finding(
        agreed(hits == len(rates) == epochs),
        f"{hits} of the {len(rates)} printed rates lie on that cosine, to the last digit printed.",
        f"After epoch k, {peak / 2:g} (1 + cos(pi k / {epochs})) is due. The rates are printed "
        "after the scheduler's step, so each is the rate of the epoch to come. The report shows "
        f"{reference['rates_in_report']} of them.",
    )


def restlessness(accuracies: list[float], first: int, last: int) -> float:
    """Return the mean absolute change from one epoch to the next, in points, of epochs from 1."""
    return float(100 * np.abs(np.diff(accuracies[first - 1 : last])).mean())


def cosine_stable(reference: Reference) -> Finding:
    """How much the test accuracy changes from epoch to epoch, under steps and under the cosine."""
    steps, cosine = (
        [row["test_accuracy"] for row in reference["log"][phase]] for phase in ("phase1", "phase2")
    )
    second, third = reference["phase1"]["milestones"]
    stage, total = third - second, reference["phase2"]["epochs"]
    same_rate = restlessness(steps, second + 1, third), restlessness(cosine, 1, stage)
    end = restlessness(steps, third + 1, total), restlessness(cosine, total - stage + 1, total)
    high, gaps = restlessness(steps, 11, second), [b - a for a, b in (same_rate, end)]
    verdict = decided(all(gap < 0 for gap in gaps), all(gap > 0 for gap in gaps))
    steadier = {CONFIRMED: "show the cosine steadier", REFUTED: "show the steps steadier"}
    return Finding(
        verdict,
        f"The printed curves {steadier.get(verdict, 'speak for neither')}. From one epoch to the "
        "next the test accuracy changes, at a learning rate of 0.01, by "
        f"{same_rate[0]:.2f} points under the steps (epochs {second + 1}-{third}) and by "
        f"{same_rate[1]:.2f} under the cosine (1-{stage}). In the last {stage} epochs it is "
        f"{end[0]:.2f} and {end[1]:.2f}; under the steps' first stage, at a rate of 0.1, "
        f"{high:.2f} (11-{second}).",
        "Confirmed where the cosine changes less both at the same rate and in the last epochs, "
        "refuted where it changes more in both. The cosine began from trained weights and with "
        "more augmentation, so the schedules differ in more than the schedule.",
    )


TESTS = named(one_cosine, printed_rates, cosine_stable)
