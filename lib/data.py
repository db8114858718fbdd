"""Images as tensors: CIFAR-10 or embedded handwritten digits, their splits and their statistics."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from numpy.typing import ArrayLike
from torch import Tensor

from lib.errors import UserError

# fmt: off
CIFAR10_CLASSES = (
    "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
)
# fmt: on
CIFAR10_CHECKSUM = "d8ae88150aa4e61d545420901487eaa9444a4e420e00dd34c63dd249a0cee83b"
SPLIT_SEED = 20_250_415  # the same split for every seed of a run, so that seeds can be compared


@dataclass(frozen=True)
class Statistics:
    """Each channel's mean and standard deviation over all training pixels, range [0, 1]."""

    mean: tuple[float, float, float]
    std: tuple[float, float, float]


# Over the 50,000 training images; notebook 01 computes them anew and asserts these.
CIFAR10_STATISTICS = Statistics(
    (0.49139968, 0.48215841, 0.44653091), (0.24703223, 0.24348513, 0.26158784)
)
# With the mean of the images' own standard deviations, to the digits that much code uses.
CIFAR10_BY_IMAGE = Statistics(CIFAR10_STATISTICS.mean, (0.2023, 0.1994, 0.2010))


@dataclass(frozen=True)
class Images:
    """Images: pixels uint8 (N, 3, 32, 32), labels, index in the full split, int64 (N,)."""

    pixels: Tensor
    labels: Tensor
    index: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, positions: Tensor) -> "Images":
        """Return the images at `positions` (int64)."""
        return Images(self.pixels[positions], self.labels[positions], self.index[positions])

    def to(self, device: torch.device | str) -> "Images":
        """Return the images on `device`."""
        return Images(*(part.to(device) for part in (self.pixels, self.labels, self.index)))


@dataclass(frozen=True)
class Dataset:
    """A dataset as a run sees it: what is trained on, what choices are made on, the test images."""

    name: str  # "cifar10" or "digits"
    classes: tuple[str, ...]
    train: Images
    holdout: Images  # empty where the run trains on everything
    test: Images
    statistics: Statistics
    checksum: str
    all_train: Images  # every training image, before the split and before any subset
    by_image: Statistics  # with the mean of the images' own standard deviations

    def normalisation(self, name: str) -> Statistics:
        """Return what "pixel" or "image" (settings.NORMALISATIONS) normalise by."""
        return {"pixel": self.statistics, "image": self.by_image}[name]

    @property
    def is_subset(self) -> bool:
        """Whether training images are left out beyond the hold-out."""
        return len(self.train) + len(self.holdout) < len(self.all_train)


def load(
    name: str, root: Path | tuple | None = None, train_images: int = 0, holdout: int = 5000
) -> Dataset:
    """Load a dataset and split it.

    Args:
        name: "cifar10" or "digits".
        root: the folder with cifar-10-batches-py, or CIFAR-10's training and test Images.
        train_images: images to train on, drawn stratified; 0 takes all but the hold-out.
        holdout: hold-out images of CIFAR-10; of other data always a tenth (none for 0).

    Raises:
        UserError: another name, or no root where it is needed.
    """
    if name == "cifar10" and root is not None:
        train, test, classes, checksum = _cifar10(root)
    elif name == "digits":
        train, test, classes, checksum = _digits()
        holdout = len(train) // 10 if holdout else 0
    else:
        raise UserError(f"dataset = {name!r}: write 'digits', or 'cifar10' and its root folder")
    kept, held = split(train.labels, holdout)
    if train_images and train_images < len(kept):
        kept = kept[stratified(train.labels[kept], train_images)]
    statistics, by_image = CIFAR10_STATISTICS, CIFAR10_BY_IMAGE
    if name != "cifar10":
        statistics = channel_statistics(train.pixels)
        by_image = Statistics(statistics.mean, tuple(per_image_std(train.pixels).tolist()))
    parts = (train.take(kept), train.take(held), test)
    return Dataset(name, classes, *parts, statistics, checksum, train, by_image)


def split(labels: Tensor, holdout: int) -> tuple[Tensor, Tensor]:
    """Return the sorted positions to train on and, `holdout`, to hold out: stratified, fixed."""
    held = stratified(labels, holdout)
    mask = torch.ones(len(labels), dtype=torch.bool)
    mask[held] = False
    return mask.nonzero().flatten(), held


def stratified(labels: Tensor, count: int) -> Tensor:
    """Return `count` sorted positions drawn with SPLIT_SEED, classes as frequent as in `labels`."""
    generator = torch.Generator().manual_seed(SPLIT_SEED)
    shuffled = torch.randperm(len(labels), generator=generator)
    by_class = labels[shuffled].argsort(stable=True)
    sizes = labels.bincount()
    rank = torch.cat([(torch.arange(size) + 0.5) / size for size in sizes.tolist()])
    chosen = shuffled[by_class[rank.argsort(stable=True)[:count]]]
    return chosen.sort().values


def subset(images: Images, count: int) -> Images:
    """Return `count` of the images, stratified and always the same ones; all of them for 0."""
    return images.take(stratified(images.labels, count)) if 0 < count < len(images) else images


def channel_statistics(pixels: Tensor) -> Statistics:
    """Compute uint8 images' mean and (population) standard deviation by channel, over 255."""
    planes = pixels.transpose(0, 1).flatten(1).int()
    counts = torch.stack([plane.bincount(minlength=256) for plane in planes]).double()
    weights, levels = counts / counts.sum(1, keepdim=True), torch.arange(256).double() / 255
    mean = (weights * levels).sum(1)
    std = ((weights * levels**2).sum(1) - mean**2).sqrt()
    return Statistics(tuple(mean.tolist()), tuple(std.tolist()))


def per_image_std(pixels: Tensor) -> Tensor:
    """Return the mean of the images' own (unbiased) standard deviations, fractions of 255: (3,)."""
    chunks = (chunk.float().flatten(2) for chunk in pixels.split(2000))
    parts = [chunk.std(2, correction=1).double().sum(0) for chunk in chunks]
    return torch.stack(parts).sum(0) / len(pixels) / 255


def exact_copies(train: Tensor, test: Tensor) -> int:
    """Return how many test images (uint8, (N, 3, 32, 32)) equal a training image in every pixel."""
    known = {image.tobytes() for image in train.numpy()}
    return sum(image.tobytes() in known for image in test.numpy())


def nearest_pairs(train: Tensor, test: Tensor, count: int) -> pd.DataFrame:
    """Return the `count` test images nearest to a training image, nearest first.

    Columns test, train (positions) and distance: root mean square difference of their 8 by 8
    thumbnails, 0 to 255.
    """
    small, probes = (F.avg_pool2d(part.float(), 4).flatten(1) for part in (train, test))
    lengths, best = small.square().sum(1), []
    for chunk in probes.split(500):
        # |a - b|^2 without the constant |a|^2.
        best.append(torch.addmm(lengths, chunk, small.T, alpha=-2).min(1))
    values, places = (torch.cat(parts) for parts in zip(*best, strict=True))
    order = (values + probes.square().sum(1)).argsort()[:count]
    # The expansion loses digits where two images nearly agree: the few that are shown, anew.
    distance = (small[places[order]] - probes[order]).square().mean(1).sqrt()
    pairs = pd.DataFrame({"test": order, "train": places[order], "distance": distance.tolist()})
    return pairs.sort_values("distance", kind="stable").reset_index(drop=True)


def normalise(images: Tensor, statistics: Statistics) -> Tensor:
    """Return (images - mean) / std for float images (N, 3, H, W) in [0, 1]."""
    mean, std = _as_tensors(statistics, images)
    return (images - mean) / std


def denormalise(images: Tensor, statistics: Statistics) -> Tensor:
    """Return images * std + mean, the inverse of `normalise`, for looking at them."""
    mean, std = _as_tensors(statistics, images)
    return images * std + mean


def _as_tensors(statistics: Statistics, images: Tensor) -> tuple[Tensor, Tensor]:
    both = torch.tensor((statistics.mean, statistics.std), device=images.device, dtype=images.dtype)
    return both[0, :, None, None], both[1, :, None, None]


def _cifar10(source: Path | tuple[Images, Images]) -> tuple[Images, Images, tuple[str, ...], str]:
    from torchvision.datasets import CIFAR10

    if isinstance(source, tuple):
        return *source, CIFAR10_CLASSES, CIFAR10_CHECKSUM
    try:  # torchvision holds every file against its MD5
        parts = [CIFAR10(source, train=train, download=False) for train in (True, False)]
    except (OSError, RuntimeError) as error:
        raise UserError(f"{source}: not the files of CIFAR-10 ({error})") from error
    train, test = (_images(part.data, part.targets) for part in parts)
    return train, test, CIFAR10_CLASSES, CIFAR10_CHECKSUM


def _digits() -> tuple[Images, Images, tuple[str, ...], str]:
    """1,797 digits of scikit-learn (8x8, 17 greys) as 32x32 RGB; a stratified fifth is test."""
    from sklearn.datasets import load_digits

    raw = load_digits()
    small = torch.from_numpy(raw.images).float()[:, None] / 16
    large = F.interpolate(small, size=(32, 32), mode="bilinear", align_corners=False)
    pixels = (large * 255).round().to(torch.uint8).expand(-1, 3, -1, -1).permute(0, 2, 3, 1).numpy()
    kept, held = split(torch.from_numpy(raw.target), len(pixels) // 5)
    checksum = hashlib.sha256(raw.images.tobytes() + raw.target.tobytes()).hexdigest()
    train, test = (_images(pixels[part], raw.target[part]) for part in (kept.numpy(), held.numpy()))
    return train, test, tuple(str(digit) for digit in range(10)), checksum


def _images(pixels: np.ndarray, numbers: ArrayLike) -> Images:
    """Make Images from uint8 (N, 32, 32, 3) and class numbers."""
    labels = torch.as_tensor(np.asarray(numbers), dtype=torch.int64)
    turned = torch.from_numpy(np.ascontiguousarray(pixels.transpose(0, 3, 1, 2)))
    return Images(turned, labels, torch.arange(len(labels)))
