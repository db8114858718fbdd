"""Claims on training and evaluation, judged by computing: CutMix, normalisation, views."""

import torch

from bundle.claims.claim import Finding, Reference, agreed, named
from bundle.runs import params
from bundle.words import listed
from lib import predict
from lib.augment import cutmix
from lib.data import CIFAR10_STATISTICS

DRAWS, SEED = 20_000, 0  # of CutMix's lambda; of the random images, too
CLASSES = 10
VIEW_NAMES = {"pad_center_crop": "the padded and centre-cropped view"}


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
        f"With CutMix on {share:.0%} of the images, the share of its paper, the training loss "
        f"cannot fall below {share * entropy:.2f}; the notebook prints {listed(printed)}. They "
        f"leave room for at most {listed(most)} of mixed images.",
        "Even a perfect network's loss on a mixed image is the entropy of its mixed label: on "
        f"average {entropy:.2f} nat over {DRAWS:,} draws of this bundle's CutMix (1/2 if no box "
        f"were cut off at the border and no partner were of the same class), and {share:.0%} of "
        f"that is {share * entropy:.2f}. The report names "
        "neither distribution nor probability; taken are the paper's, Beta(1, 1) and "
        f"{share:.0%} of the images. The notebook agrees: {said['notebook']}.",
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
        "The images of the test were scaled as those of the training before it."
        if train == test
        else "The images of the test were scaled otherwise than those of the training before it: "
        f"the values of red, green and blue were {wider} larger.",
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
    twins = listed(VIEW_NAMES.get(view, view) for view, first in same.items() if view != first)
    weight = sum(first == "original" for first in same.values())
    return Finding(
        agreed(not twins),
        f"{len(set(same.values()))} of the {len(views)} views differ: {twins or 'none of them'} "
        f"repeats the original image, pixel for pixel. So it counts {weight} times in "
        f"{len(views)}.",
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
        f"Under the code's blur {mixed[0]:.0%} of a purely red image's light stays red, "
        f"{mixed[1]:.0%} turns green and {mixed[2]:.0%} blue. A blur over height and width leaves "
        f"{plane[0]:.0%} red.",
        "The notebook's filter ran over all three axes of the array, colour among them, as if "
        "red, green and blue were neighbouring pixels. It also worked on whole levels from 0 to "
        "255 and cut down after each axis, which takes some light away.",
    )


TESTS = named(cutmix_used, same_normalisation, five_views, blur_view)
