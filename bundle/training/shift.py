"""What a network says under shift: of corrupted test images, made here or the user's own files."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from scipy.special import softmax
from torch import Tensor

from bundle.dataset import shifted
from bundle.effects import Effect, mean_effect
from bundle.training.identity import Training
from lib import compute, metrics, predict
from lib.corrupt import CORRUPTIONS, SEVERITIES, corrupt
from lib.data import Dataset, Images, normalise
from lib.metrics import Accuracy
from lib.settings import Robustness

Views = Callable[[Tensor, Sequence[str]], dict[str, Tensor]]  # (pixels, views) -> view -> logits
Show = Callable[[int, int, str], None]
SINGLE = ("original",)
# The severity at which averaged views stand beside the single one, and on how many images at most.
AVERAGED_AT, AVERAGED = 3, 1000
NOISE_IMAGES = 500  # enough: the shares below are means over all of their pixels


@dataclass(frozen=True)
class Shift:
    """Logits of the same images, clean and corrupted.

    names: K corruptions. given: those of them from files. labels, index int (N,). clean (N, C) and
    logits (K, 5, N, C), of the single view. averaged: the classes of the first images, (K, M), by
    the mean over the views of `combination`, at severity AVERAGED_AT. newer: version of CIFAR-10.1
    and score. noise: as from `noise_shares`.
    """

    names: tuple[str, ...]
    given: tuple[str, ...]
    labels: NDArray
    index: NDArray
    clean: NDArray
    logits: NDArray
    averaged: NDArray
    combination: str
    newer: tuple[str, Accuracy] | None = None
    noise: tuple[float, float] | None = None

    @property
    def hits(self) -> NDArray:
        """Whether each image is classified right, bool (K, 5, N)."""
        return self.logits.argmax(-1) == self.labels

    @property
    def clean_score(self) -> Accuracy:
        """The accuracy on the same images, not corrupted."""
        return metrics.accuracy(self.clean.argmax(1), self.labels)

    def mean(self, names: Sequence[str] = ()) -> Effect:
        """Return the mean accuracy over corruptions (`names`, else all) and severities.

        Its interval is over the images: the versions of one image are not independent.
        """
        chosen = [self.names.index(name) for name in names or self.names]
        found = mean_effect(self.hits[chosen].mean((0, 1)))
        return found._replace(low=max(0.0, found.low), high=min(1.0, found.high))

    def table(self) -> pd.DataFrame:
        """Return a row a corruption: columns 1 to 5 (severities), mean, low, high, fractions."""
        rows = pd.DataFrame(self.hits.mean(2), index=self.names, columns=list(SEVERITIES))
        ends = [self.mean([name]) for name in self.names]
        low, high = [end.low for end in ends], [end.high for end in ends]
        return rows.assign(mean=rows.mean(axis=1), low=low, high=high).rename_axis("corruption")

    def averaging(self) -> pd.DataFrame:
        """Return a row a corruption: single, averaged (fractions), gained, lost (images), p.

        At severity AVERAGED_AT, on the same images; p is McNemar's.
        """
        rows, labels = {}, self.labels[: self.averaged.shape[1]]
        for name, logits, mean in zip(self.names, self.logits, self.averaged, strict=True):
            single = logits[AVERAGED_AT - 1, : len(labels)].argmax(1)
            test = metrics.mcnemar(single, mean, labels)
            scores = (float((each == labels).mean()) for each in (single, mean))
            rows[name] = (*scores, test.only_second, test.only_first, test.p)
        columns = ["single", "averaged", "gained", "lost", "p"]
        return pd.DataFrame.from_dict(rows, orient="index", columns=columns)

    def gain(self) -> Effect:
        """Return averaged minus single view, mean over the corruptions, interval over images."""
        count = self.averaged.shape[1]
        single = self.hits[:, AVERAGED_AT - 1, :count].astype(float)
        return mean_effect(((self.averaged == self.labels[:count]) - single).mean(0))

    def trust(self, temperatures: NDArray) -> pd.DataFrame:
        """Return a row a severity, 0 the clean images: ece, nll, brier as of metrics.calibration.

        Of the single view over all corruptions; with "_after": the logits divided by temperatures
        (N,).
        """
        rows, parts = {}, [self.clean[None], *self.logits.swapaxes(0, 1)]
        for severity, logits in enumerate(parts):
            labels, row = np.tile(self.labels, len(logits)), dict[str, float]()
            for end, divided in (("", logits), ("_after", logits / temperatures[:, None])):
                shares = softmax(divided, axis=-1).reshape(len(labels), -1)
                found = metrics.calibration(shares, labels)
                row |= {f"{key}{end}": found[key] for key in ("ece", "nll", "brier")}
            rows[severity] = row
        return pd.DataFrame.from_dict(rows, orient="index").rename_axis("severity")


def measure(
    training: Training, dataset: Dataset, settings: Robustness, combination: str, show: Show
) -> Shift:
    """Return what a network says of the test images of `dataset` under every corruption.

    settings: of notebook 07. combination: of views that are averaged (lib.predict.COMBINATIONS).
    show: called before each corruption with how many are done, of how many, and its name. Raises
    UserError where `CIFAR10C_ROOT` is set and holds no sound files.
    """
    images, views = dataset.test, _reader(training, dataset, settings)
    root = shifted.folder() if dataset.name == "cifar10" else None
    given = shifted.corruptions(root, images)
    names, parts = list(dict.fromkeys([*CORRUPTIONS, *given])), []
    for done, name in enumerate(names):
        show(done, len(names), name)
        source = (settings.corruption_seed, root if name in given else None)
        versions = (version(images, name, severity, *source) for severity in SEVERITIES)
        parts.append(_corruption(views, versions, combination))
    show(len(names), len(names), "")
    logits, averaged = (torch.stack(part).numpy() for part in zip(*parts, strict=True))
    clean = views(images.pixels, SINGLE)["original"].numpy()
    about = (tuple(names), tuple(given), images.labels.numpy(), images.index.numpy())
    noise = noise_shares(training, dataset, settings.corruption_seed)
    return Shift(*about, clean, logits, averaged, combination, _newer(views, root), noise)


def noise_shares(training: Training, dataset: Dataset, seed: int) -> tuple[float, float]:
    """Return the mean square of Gaussian noise of severity 1 over the variance of clean images.

    In the normalised pixels, and behind the network's first convolution; variance within a channel.
    """
    pixels, first = dataset.test.pixels[:NOISE_IMAGES], training.network.conv
    pair = (pixels, corrupt(pixels, "gaussian_noise", 1, seed))
    statistics = dataset.normalisation(training.normalisation)
    inputs = [normalise(each.float() / 255, statistics).to(first.weight.device) for each in pair]
    with torch.no_grad():
        outputs = [first(each) for each in inputs]
    return _share(*inputs), _share(*outputs)


def _share(clean: Tensor, noisy: Tensor) -> float:
    return float((noisy - clean).square().mean() / clean.var((0, 2, 3)).mean())


def _reader(training: Training, dataset: Dataset, settings: Robustness) -> Views:
    """Return what gives the network's logits of images, by view."""
    machine = compute.prepare(settings)
    network, precision = training.network.to(machine), compute.precision_of(settings, machine)
    options = (dataset.normalisation(training.normalisation), precision, settings.batch_size)

    def views(pixels: Tensor, chosen: Sequence[str]) -> dict[str, Tensor]:
        images = Images(pixels, *[torch.arange(len(pixels))] * 2)
        return predict.view_logits(network, images, chosen, *options)

    return views


def _corruption(
    views: Views, versions: Iterable[Tensor], combination: str
) -> tuple[Tensor, Tensor]:
    """Return a corruption's logits (5, N, C), and the averaged views' classes (up to AVERAGED,)."""
    found, by_view = list[Tensor](), dict[str, Tensor]()
    for severity, pixels in enumerate(versions, 1):
        found.append(views(pixels, SINGLE)["original"])
        if severity == AVERAGED_AT:
            others = [view for view in predict.COMBINATIONS[combination] if view not in SINGLE]
            by_view = views(pixels[:AVERAGED], others) | {"original": found[-1][:AVERAGED]}
    return torch.stack(found), predict.combine(by_view, combination).argmax(1)


def version(
    images: Images, name: str, severity: int, seed: int, root: Path | None = None
) -> Tensor:
    """Return the images' corrupted version, uint8 (N, 3, S, S): from files in `root`, or made."""
    if root:
        return shifted.corrupted(root, name, severity, images.index)
    return corrupt(images.pixels, name, severity, seed)


def _newer(views: Views, root: Path | None) -> tuple[str, Accuracy] | None:
    if (newer := shifted.newer_images(root)) is None:
        return None
    found, images = newer
    predicted = views(images.pixels, SINGLE)["original"].argmax(1)
    return found, metrics.accuracy(predicted, images.labels)
