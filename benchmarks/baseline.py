"""The pipeline as the reference built it, to hold ours against, as docs/reference.md states it.

Torchvision's transforms on PIL images, a DataLoader with two workers, fp32 in PyTorch's default
memory layout, one operation after the other; prediction one image at a time. Where the report and
its notebook differ, the report's recipe is taken, since ours is timed on the same one: crop out of
36x36, CutMix at work, all augmentations in one phase.
"""

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
import torchvision.transforms as T
from PIL import Image, ImageFilter
from scipy.ndimage import gaussian_filter
from torch import Tensor
from torch.utils.data import DataLoader
from torchvision.datasets import CIFAR10

from lib.data import Statistics

WORKERS = 2
View = Callable[[Image.Image], Tensor]


@contextmanager
def switches() -> Iterator[None]:
    """Set PyTorch's switches as the reference did (cuDNN deterministic), then set them back."""
    exact = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(False)
    try:
        with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True):
            yield
    finally:
        torch.use_deterministic_algorithms(exact)


class RandomBlur:
    """PIL's Gaussian blur, radius uniform in 0.1 to 1.5 pixels, with probability 0.3.

    It is the faster one: torchvision's 3x3 blur, of which the report speaks, turns a PIL image into
    a tensor and back.
    """

    def __call__(self, image: Image.Image) -> Image.Image:
        """Return the image, blurred or as it is."""
        if random.random() >= 0.3:
            return image
        return image.filter(ImageFilter.GaussianBlur(random.uniform(0.1, 1.5)))


def train_transform(statistics: Statistics) -> T.Compose:
    """Return one image's augmentation: PIL (32x32 RGB) to normalised float32 tensor (3, 32, 32)."""
    return T.Compose(
        [
            T.RandomCrop(32, padding=2),
            T.RandomHorizontalFlip(0.5),
            T.RandomVerticalFlip(0.05),
            RandomBlur(),
            T.ToTensor(),
            T.Normalize(statistics.mean, statistics.std),
        ]
    )


def loader(root: Path, statistics: Statistics, batch_size: int, pin: bool) -> DataLoader:
    """Return batches of the 50,000 training images under `root`; `pin`: page-locked for a GPU."""
    images = CIFAR10(root, train=True, transform=train_transform(statistics))
    return DataLoader(images, batch_size, shuffle=True, num_workers=WORKERS, pin_memory=pin)


def cutmix(
    images: Tensor,
    labels: Tensor,
    rng: np.random.Generator,
    alpha: float = 1.0,
    probability: float = 0.5,
) -> tuple[Tensor, Tensor, float]:
    """Paste one box into all images of a batch , the usual code's form.

    CutMix: Yun et al., ICCV 2019, section 3.1.

    Args:
        images: (N, C, H, W); labels: (N,).
        alpha: lambda ~ Beta(alpha, alpha); probability: that the batch is mixed (0.5: the paper's
            for CIFAR).

    Returns:
        the mixed images, the partners' labels, and lambda: the share of pixels that stayed.
    """
    if rng.random() >= probability:
        return images, labels, 1.0
    height, width = images.shape[2:]
    side, partner = (
        np.sqrt(1 - rng.beta(alpha, alpha)),
        torch.randperm(len(images), device=images.device),
    )
    row, column = rng.integers(height), rng.integers(width)
    tall, wide = int(height * side) // 2, int(width * side) // 2
    top, bottom = max(row - tall, 0), min(row + tall, height)
    left, right = max(column - wide, 0), min(column + wide, width)
    mixed = images.clone()
    mixed[:, :, top:bottom, left:right] = images[partner, :, top:bottom, left:right]
    return mixed, labels[partner], 1 - (bottom - top) * (right - left) / (height * width)


def make_optimiser(model: torch.nn.Module) -> torch.optim.SGD:
    """Return the reference's SGD: decay on every parameter, no Nesterov."""
    return torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4)


def train_step(
    model, optimiser, images: Tensor, labels: Tensor, rng: np.random.Generator
) -> tuple[float, int]:
    """Do one step; return its loss and how many images were right, as a notebook adds them up."""
    images, partners, lam = cutmix(images, labels, rng)
    logits = model(images)
    loss = lam * F.cross_entropy(logits, labels) + (1 - lam) * F.cross_entropy(logits, partners)
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()
    return loss.item(), (logits.argmax(1) == labels).sum().item()


def train_steps(model, optimiser, batches: DataLoader, device: torch.device, rng) -> Iterator[int]:
    """Train on the loader's batches, one step for each value taken: the number of its images."""
    model.train()
    for images, labels in batches:
        train_step(model, optimiser, images.to(device), labels.to(device), rng)
        yield len(labels)


def blur_all_axes(image: Image.Image) -> np.ndarray:
    """Blur over height, width and channel, as the reference did: uint8 (32, 32, 3)."""
    return gaussian_filter(np.asarray(image), sigma=1.0)


def views(statistics: Statistics) -> list[View]:
    """The five views of test-time augmentation, each from a PIL image to a normalised tensor."""
    finish = [T.ToTensor(), T.Normalize(statistics.mean, statistics.std)]
    steps = [
        [],
        [T.RandomHorizontalFlip(1.0)],
        [T.RandomVerticalFlip(1.0)],
        [T.Pad(4), T.CenterCrop(32)],
        [blur_all_axes],
    ]
    return [T.Compose([*first, *finish]) for first in steps]


@torch.no_grad()
def predict(
    model, images: Sequence[Image.Image], transforms: list[View], device: torch.device
) -> Tensor:
    """Return the softmax of the views' mean logits, (N, classes) on the CPU, image by image."""
    model.eval()
    rows = []
    for image in images:
        seen = [model(view(image)[None].to(device)) for view in transforms]
        rows.append(torch.cat(seen).mean(0).softmax(0).cpu())
    return torch.stack(rows)
