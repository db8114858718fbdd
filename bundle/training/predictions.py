"""What a run's single view predicts, with the test images: from predictions.npz and the dataset."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.special import softmax
from torch import Tensor

from bundle import words
from bundle.diagrams import overlay
from lib.data import Dataset
from lib.metrics import confused_pairs, confusion, mistaken, temperature
from lib.plots import image_grid


@dataclass(frozen=True)
class Predictions:
    """Images, what they are, and what a network says of each.

    pixels: uint8 (N, 3, H, W). labels: int (N,). probabilities: float (N, C), rows of sum 1.
    logits (N, C), index (N,) among all test images; held: logits and labels of hold-out images, ()
    without such; combination: of views, as chosen.
    """

    pixels: Tensor
    labels: NDArray
    probabilities: NDArray
    classes: tuple[str, ...]
    logits: NDArray
    index: NDArray
    held: tuple[NDArray, ...] = ()
    combination: str = "original"

    @property
    def classified(self) -> NDArray:
        """The most probable class of each image, int (N,)."""
        return self.probabilities.argmax(1)

    def surest(self, chosen: NDArray, count: int) -> NDArray:
        """Return the first `count` of the positions `chosen`, the highest probability first."""
        order = np.argsort(-self.probabilities[chosen].max(1), kind="stable")
        return chosen[order[:count]]

    def temperatures(self, index: NDArray | None = None) -> NDArray:
        """Return what divides the logits of the test images at `index`, these by default, (N,).

        One temperature, of the hold-out; without one each image has that of the images whose place
        is even where its own is odd, and the reverse: no image decides its own.
        """
        index = self.index if index is None else index
        if self.held:
            return np.full(len(index), temperature(*self.held))
        odd = self.index % 2 == 1
        halves = [temperature(self.logits[half], self.labels[half]) for half in (odd, ~odd)]
        return np.array(halves)[index % 2]

    @property
    def calibrated(self) -> NDArray:
        """The probabilities of the logits divided by their temperatures, (N, C)."""
        return softmax(self.logits / self.temperatures()[:, None], axis=1)

    @property
    def fitted_on(self) -> str:
        """What images the temperature is fitted on, in words."""
        return "the hold-out" if self.held else "the other half of the test images"

    def mistakes(self, count: int) -> NDArray:
        """Return the positions of the wrong images, the surest `count` of them."""
        return self.surest(np.flatnonzero(self.classified != self.labels), count)

    def confused(self, pairs: int, count: int) -> list[NDArray]:
        """Return the surest `count` mistakes of each of the most confused pairs of classes."""
        matrix = confusion(self.classified, self.labels, len(self.classes))
        table = confused_pairs(matrix, self.classes).head(pairs)
        named = zip(table["first"], table["second"], strict=True)
        places = [[self.classes.index(name) for name in pair] for pair in named]
        found = [mistaken(self.classified, self.labels, *pair) for pair in places]
        return [self.surest(group, count) for group in found if len(group)]

    def examples(self) -> list[int]:
        """Return the position of the first image of each class that is classified right."""
        right = self.classified == self.labels
        numbers = range(len(self.classes))
        found = [np.flatnonzero((self.labels == number) & right) for number in numbers]
        return [int(group[0]) for group in found if len(group)]

    def title(self, place: int) -> str:
        """Return what an image is and is said to be, with both probabilities, in two lines."""
        true, said = self.labels[place], self.classified[place]
        share = self.probabilities[place]
        return f"{self.classes[true]} {share[true]:.0%}\n→ {self.classes[said]} {share[said]:.0%}"

    def drawn(self, groups: Sequence[Sequence[int]], named: bool = False) -> tuple[Figure, Figure]:
        """Return the images of groups of positions, a row each, and the same for a narrow page.

        Titles are those of `title`; `named`: the class alone.
        """
        titled = [
            [self.classes[self.labels[i]] if named else self.title(i) for i in g] for g in groups
        ]
        images = [self.pixels[list(group)] for group in groups]
        wide = max(map(len, groups))
        figure = image_grid(images, titles=titled, size=8 / max(wide, 6))
        half = (wide + 1) // 2
        parts = [(row, slice(at, at + half)) for row in range(len(groups)) for at in (0, half)]
        parts = [(row, part) for row, part in parts if len(groups[row][part])]
        rows = [images[row][part] for row, part in parts]
        return figure, image_grid(
            rows, titles=[titled[row][part] for row, part in parts], size=3.7 / max(half, 3)
        )

    def explained(self, chosen: NDArray, falls: NDArray) -> tuple[Figure, Figure]:
        """Return images above the parts that decide, and the same for a narrow page.

        falls: (N, H, W), lib.predict.occlusion for the classes named, at the positions `chosen`.
        """
        images = self.pixels[chosen]
        parts = torch.from_numpy(overlay(images.numpy(), falls))
        named = [self.title(place) for place in chosen]
        points = [f"{words.points(-100 * fall, 0)} points" for fall in falls.max((1, 2))]

        def grid(wide: int, inches: float) -> Figure:
            cuts = [slice(start, start + wide) for start in range(0, len(chosen), wide)]
            rows = [row[cut] for cut in cuts for row in (images, parts)]
            titles = [row[cut] for cut in cuts for row in (named, points)]
            return image_grid(rows, titles=titles, size=inches / wide)

        return grid(6, 8), grid(3, 3.7)


def images(file: Path) -> tuple[int, int]:
    """Return how many test and hold-out images predictions.npz is of."""
    with np.load(file) as saved:
        return len(saved["labels"]), len(saved["holdout_labels"])


def read(file: Path, dataset: Dataset) -> Predictions:
    """Return the single view's predictions of predictions.npz, of the test images of `dataset`."""
    with np.load(file) as saved:
        assert np.array_equal(dataset.test.index, saved["index"])
        logits = saved["logits"][list(saved["views"]).index("original")]
        labels, combination = saved["labels"], str(saved["combination"])
        held: tuple[NDArray, ...] = ()
        if len(saved["holdout_labels"]):
            place = list(saved["holdout_views"]).index("original")
            held = saved["holdout_logits"][place], saved["holdout_labels"]
    says = (dataset.test.pixels, labels, softmax(logits, axis=1), dataset.classes)
    return Predictions(*says, logits, dataset.test.index.numpy(), held, combination)
