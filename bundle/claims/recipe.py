"""Claims on training and evaluation, judged by computing: CutMix, rates, normalisation, views."""

import torch

from bundle.claims.claim import Finding, Reference, agreed, named
from bundle.runs import params
from bundle.words import listed
from lib import predict, schedule
from lib.augment import cutmix
from lib.data import CIFAR10_STATISTICS

DRAWS, SEED = 20_000, 0  # of CutMix's lambda; of the random images, too
PRINTED = 5e-7  # half the last of the six decimals the learning rates are printed with
CLASSES = 10


def mixed_entropy(alpha: float) -> float:
    """Return the mean entropy of CutMix's labels in nats over many draws; ten equal classes.

    A label that gives lambda to one class and 1 - lambda to another has the entropy h(lambda) =
    -lambda ln lambda - (1 - lambda) ln(1 - lambda), and 0 where both are one class. Were no box
    clipped, lambda ~ Beta(1, 1) and E[h(lambda)] = -2 times the integral of x ln x over [0, 1] =
    1/2; after clipping lambda is the share that stayed.
    """
    labels = torch.arange(DRAWS) % CLASSES
    images = torch.zeros(DRAWS, 1, 32, 32, dtype=torch.uint8)
    _, partners, lam = cutmix(images, labels, alpha, 1.0, torch.Generator().manual_seed(SEED))
    entropy = torch.special.entr(lam.double()) + torch.special.entr(1 - lam.double())
    return float((entropy * (partners != labels)).mean())


def cutmix_used(reference: Reference) -> Finding:
    """Whether the printed losses can be those of mixed labels.

    The cross entropy of an answer p against a label y is H(y) + KL(y || p), at least H(y) whatever
    p is (Gibbs): with a share q of the images mixed, an epoch's mean loss is at least q E[H(y)].
    """
    recipe = params.load("as_written").values["03_train"]
    share, entropy = recipe["cutmix"], mixed_entropy(recipe["cutmix_alpha"])
    losses = [reference[phase]["train_loss"] for phase in ("phase1", "phase2")]
    printed, most = [f"{loss:.4f}" for loss in losses], [f"{loss / entropy:.1%}" for loss in losses]
    said = next(row for row in reference["report_against_notebook"] if row["topic"] == "CutMix")
    return Finding(
        agreed(max(losses) >= share * entropy),
        f"With CutMix on {share:.0%} of the images the training loss cannot fall below "
        f"{share * entropy:.2f}; printed are {listed(printed)}, which leave room for at most "
        f"{listed(most)} of mixed images.",
        "Even a perfect network's loss on a mixed image is the entropy of its mixed label: on "
        f"average {entropy:.2f} nat over {DRAWS:,} draws of this bundle's CutMix (1/2 if no box "
        "were cut off at the border and no partner were of the same class). The notebook agrees: "
        f"{said['notebook']}.",
    )


def one_cosine(reference: Reference) -> Finding:
    """The stated schedule against the printed rates and the epochs trained."""
    said, first, second = (reference[key] for key in ("schedule_claimed", "phase1", "phase2"))
    rates = reference["learning_rates_phase2"]
    stated = (said["epochs"], said["learning_rate"])
    due = {k: schedule.learning_rate(said["schedule"], int(k), *stated) for k in rates}
    hits = sum(abs(due[k] - rate) <= PRINTED for k, rate in rates.items())
    total, steps = first["epochs"] + second["epochs"], listed(first["milestones"])
    return Finding(
        agreed(hits == len(rates) and total == said["epochs"]),
        f"{hits} of {len(rates)} printed rates agree: after epoch 1, {due['1']:.6f} was due and "
        f"{rates['1']:.6f} is printed. {total} epochs were trained.",
        f"The notebook trained twice: {first['epochs']} epochs from {first['learning_rate']:g}, a "
        f"tenth of it after epochs {steps}, then {second['epochs']} more with a cosine from "
        f"{second['learning_rate']:g}.",
    )


def printed_rates(reference: Reference) -> Finding:
    """The printed rates against phase 2's cosine 0.005 (1 + cos(pi k / 100)) after epoch k."""
    phase, rates = reference["phase2"], reference["learning_rates_phase2"]
    peak, epochs = phase["learning_rate"], phase["epochs"]
    due = {k: schedule.learning_rate("cosine", int(k), epochs, peak) for k in rates}
    hits = sum(abs(due[k] - rate) <= PRINTED for k, rate in rates.items())
    return Finding(
        agreed(hits == len(rates)),
        f"{hits} of {len(rates)} printed rates equal {peak / 2:g} (1 + cos(pi k / {epochs})) to "
        "the last digit, where k is the epoch just finished.",
        "They are printed after the scheduler's step, so each is the rate of the epoch to come.",
    )


def same_normalisation(reference: Reference) -> Finding:
    """The standard deviations of phase 2's training against those of the evaluation."""
    keys = ("phase1_and_test", "phase2_and_kaggle")
    test, train = (reference["normalisation"][key]["std"] for key in keys)
    wider = listed(f"{a / b - 1:.0%}" for a, b in zip(train, test, strict=True))
    shown = [listed(f"{std:.4f}" for std in values) for values in (train, test)]
    agrees = "are" if [round(value, 4) for value in CIFAR10_STATISTICS.std] == train else "are not"
    return Finding(
        agreed(train == test),
        f"The test images' red, green and blue spread {wider} wider than those that phase 2 "
        "learned from.",
        f"Phase 2 divided by {shown[0]}, the evaluation by {shown[1]}. The former {agrees} the "
        "standard deviations of the training set's pixels, as notebook 01 computes them. What "
        "that does to the accuracy is measured with the final one.",
    )


def five_views(reference: Reference) -> Finding:
    """Which of the averaged views give the same images, on random ones."""
    views = predict.COMBINATIONS["report"]
    seeded = torch.Generator().manual_seed(SEED)
    pixels = torch.randint(256, (64, 3, 32, 32), dtype=torch.uint8, generator=seeded)
    same = predict.distinct_views(pixels, views)
    twins = listed(view.replace("_", " ") for view, first in same.items() if view != first)
    weight = sum(first == "original" for first in same.values())
    return Finding(
        agreed(not twins),
        f"{len(set(same.values()))} of the {len(views)} differ. Equal to the original, pixel for "
        f"pixel: {twins or 'none'}; so the original counts {weight} times in {len(views)}.",
        "Padding all around and cutting the centre of the old size takes away just what was "
        f"added. Compared on {len(pixels)} images of random pixels.",
    )


def blur_view(reference: Reference) -> Finding:
    """Where the light of a purely red image goes, under the notebook's blur and a plane one."""
    red = torch.zeros(1, 3, 32, 32)
    red[:, 0] = 1
    blurs = (predict.mixed_blur, predict.spatial_blur)
    light = (blur(red).sum((0, 2, 3)) / red.sum() for blur in blurs)
    mixed, plane = ([round(share, 4) for share in shares.tolist()] for shares in light)
    return Finding(
        agreed(mixed == plane),
        f"Of the light of a purely red image {mixed[0]:.0%} stays red, {mixed[1]:.0%} turns green "
        f"and {mixed[2]:.0%} blue; a blur over height and width leaves {plane[0]:.0%} red.",
        "The notebook's filter ran over all three axes of the array, colour among them, as if "
        "red, green and blue were neighbouring pixels.",
    )


TESTS = named(cutmix_used, one_cosine, printed_rates, same_normalisation, five_views, blur_view)
