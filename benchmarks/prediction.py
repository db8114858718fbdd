"""Prediction with the report's five views: the reference's image by image, ours in batches."""

import copy

import torch
from PIL import Image
from torch import Tensor

from benchmarks import baseline
from benchmarks.plan import VIEWS, Plan, settings
from benchmarks.timing import interleaved, ratios, seconds, seconds_for, spread
from lib import compute, model, predict
from lib.data import Dataset, Images, Statistics, normalise

CALIBRATION = 64  # images


def pictures(pixels: Tensor) -> list[Image.Image]:
    """Return uint8 images (N, 3, H, W) as PIL images, as the reference's dataset gave them."""
    return [Image.fromarray(image.permute(1, 2, 0).numpy()) for image in pixels]


def ours(network, images: Images, statistics: Statistics, precision: str, views=VIEWS) -> Tensor:
    """Return the probabilities of the views' mean, (N, classes) on the CPU, by lib's code."""
    names = predict.COMBINATIONS[views]
    by_view = predict.view_logits(network, images, names, statistics, precision, 0)
    return predict.combine(by_view, views)


@torch.no_grad()
def calibrate(network: torch.nn.Module, pixels: Tensor, statistics: Statistics) -> None:
    """Give batch norm some images' statistics, in place: random weights' answers then differ."""
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 1.0
    network.train()(normalise(pixels.float() / 255, statistics))
    network.eval()


class Pair:
    """Both ways of predicting, with the same weights."""

    def __init__(self, dataset: Dataset, quick: bool):
        chosen = settings(quick=quick)
        self.device, self.statistics = compute.prepare(chosen), dataset.statistics
        self.precision = compute.precision_of(chosen, self.device)
        made = model.build(chosen, len(dataset.classes), chosen.seed)
        calibrate(made, dataset.test.pixels[:CALIBRATION], dataset.statistics)
        self.plain = copy.deepcopy(made).to(self.device)
        self.fast = made.to(self.device, memory_format=torch.channels_last)
        self.views = baseline.views(dataset.statistics)

    def theirs(self, shown: list[Image.Image]) -> Tensor:
        """Return the reference's probabilities."""
        with baseline.switches():
            return baseline.predict(self.plain, shown, self.views, self.device)

    def ours(self, images: Images, precision: str = "", views: str = VIEWS) -> Tensor:
        """Return ours, in the training's precision or another, of a combination of views."""
        return ours(self.fast, images, self.statistics, precision or self.precision, views)


def parts(images: Images, count: int, rounds: int) -> list[Images]:
    """Return the first `count` images in equal parts, one a round."""
    return [images.take(part) for part in torch.arange(count).split(count // rounds)]


def measure(plan: Plan, dataset: Dataset, quick: bool) -> dict:
    """Return the seconds that the plan's `images` take, and how much faster ours is, by rounds.

    Ours predicts each of them once, a part a round; the baseline `baseline_images`, and its time is
    scaled. largest_difference: between the two in fp32, of any probability of the first part.
    """
    pair = Pair(dataset, quick)
    few, all_of_them = (
        parts(dataset.test, count, plan.rounds) for count in (plan.baseline_images, plan.images)
    )
    difference = (
        (pair.theirs(pictures(few[0].pixels)) - pair.ours(few[0], "fp32")).abs().max().item()
    )
    pair.ours(few[0])  # now everything is warm
    shown, images = iter([pictures(part.pixels) for part in few]), iter(all_of_them)
    measures = {
        "baseline": lambda: len(few[0]) / seconds(lambda: pair.theirs(next(shown)), pair.device),
        "ours": lambda: len(all_of_them[0]) / seconds(lambda: pair.ours(next(images)), pair.device),
    }
    found = interleaved(measures, plan.rounds)
    times = {f"{name}_seconds": seconds_for(plan.images, rates) for name, rates in found.items()}
    return {
        "rounds": found,
        "images": plan.images,
        "baseline_images": plan.baseline_images,
        **times,
        "ratio": spread(ratios(found["ours"], found["baseline"])),
        "largest_difference": difference,
    }


def measure_views(plan: Plan, dataset: Dataset, quick: bool) -> dict:
    """Return how much longer ours takes for the five views than for the single one, by rounds."""
    pair, rounds = Pair(dataset, quick), parts(dataset.test, plan.images, plan.rounds)
    pair.ours(rounds[0])  # now everything is warm
    left = {name: iter(rounds) for name in ("views", "single")}
    alone = {"views": VIEWS, "single": "original"}
    measures = {
        name: lambda name=name: (
            len(rounds[0])
            / seconds(lambda: pair.ours(next(left[name]), views=alone[name]), pair.device)
        )
        for name in alone
    }
    found = interleaved(measures, plan.rounds)
    return {"rounds": found, "cost": spread(ratios(found["single"], found["views"]))}
