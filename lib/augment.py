"""Augmentations: pure functions of a batch on its own device and a generator of that device.

Each draws per image, leaves its input as it was and returns a new batch of the same dtype. Images
are (N, C, H, W); geometry takes any dtype, the rest takes floats.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from lib.data import Statistics, normalise
from lib.settings import Train
from lib.trivial import augmix, trivial_augment

Range = Sequence[float]  # the lowest and the highest value
Mixed = tuple[Tensor, Tensor, Tensor]  # images, the partners' labels, lambda: see `cutmix`


def _uniform(count: int, limits: Range, images: Tensor, generator: Generator) -> Tensor:
    low, high = limits
    return torch.rand(count, device=images.device, generator=generator) * (high - low) + low


def random_mask(images: Tensor, probability: float, generator: Generator) -> Tensor:
    """Return (N, 1, 1, 1) bool, true with `probability` for each image."""
    drawn = torch.rand(len(images), device=images.device, generator=generator)
    return (drawn < probability)[:, None, None, None]


def pad(images: Tensor, padding: int, mode: str = "zero") -> Tensor:
    """Pad height and width on both sides by `padding` pixels: zeros or reflected; any dtype."""
    if mode == "zero":
        return F.pad(images, [padding] * 4)
    side = torch.arange(-padding, images.shape[-1] + padding, device=images.device).abs()
    side = (images.shape[-1] - 1) - ((images.shape[-1] - 1) - side).abs()
    return images[:, :, side[:, None], side]


def crop(images: Tensor, top: Tensor, left: Tensor, size: int) -> Tensor:
    """Cut a (size, size) window at each image's own `top`, `left` (int64, (N,))."""
    windows = images.unfold(2, size, 1).unfold(3, size, 1)  # (N, C, rows, columns, size, size)
    return windows[torch.arange(len(images), device=images.device), :, top, left]


def random_crop(images: Tensor, padding: int, generator: Generator, mode: str = "zero") -> Tensor:
    """Pad by `padding` and cut the original (square) size at a uniform position for each image."""
    if padding == 0:
        return images.clone()
    shape, device = (2, len(images)), images.device
    top, left = torch.randint(2 * padding + 1, shape, device=device, generator=generator)
    return crop(pad(images, padding, mode), top, left, images.shape[-1])


def random_horizontal_flip(images: Tensor, probability: float, generator: Generator) -> Tensor:
    """Mirror each image left to right with `probability`."""
    return torch.where(random_mask(images, probability, generator), images.flip(3), images)


def random_vertical_flip(images: Tensor, probability: float, generator: Generator) -> Tensor:
    """Mirror each image upside down with `probability`."""
    return torch.where(random_mask(images, probability, generator), images.flip(2), images)


def gaussian_blur(images: Tensor, sigma: Tensor, kernel_size: int) -> Tensor:
    """Blur each image over height and width with its own standard deviation.

    Args:
        images: float (N, C, H, W).
        sigma: (N,), pixels, above 0.
        kernel_size: odd width of the sampled, renormalised kernel; the border is reflected, both as
            in torchvision.transforms.functional.gaussian_blur.
    """
    reach = kernel_size // 2
    offsets = torch.arange(-reach, reach + 1, device=images.device)
    weights = torch.exp(-0.5 * (offsets / sigma[:, None]) ** 2)
    weights = (weights / weights.sum(1, keepdim=True)).to(images.dtype)
    for axis in (2, 3):
        sides = [reach * (axis == 3)] * 2 + [reach * (axis == 2)] * 2
        padded = F.pad(images, sides, mode="reflect")
        shifted = (padded.narrow(axis, start, images.shape[axis]) for start in range(kernel_size))
        taps = weights.T[:, :, None, None, None]
        images = sum(weight * part for weight, part in zip(taps, shifted, strict=True))
    return images


def random_gaussian_blur(
    images: Tensor, probability: float, sigma: Range, kernel_size: int, generator: Generator
) -> Tensor:
    """Blur each image with `probability` and a sigma (pixels) drawn uniformly from the range."""
    drawn = _uniform(len(images), sigma, images, generator)
    mask = random_mask(images, probability, generator)
    return torch.where(mask, gaussian_blur(images, drawn, kernel_size), images)


def box_mask(images: Tensor, top: Tensor, bottom: Tensor, left: Tensor, right: Tensor) -> Tensor:
    """Return (N, 1, H, W) bool, true in each image's rows top..bottom-1, columns left..right-1."""
    rows = torch.arange(images.shape[2], device=images.device)[None, :, None]
    columns = torch.arange(images.shape[3], device=images.device)[None, None, :]
    top, bottom, left, right = (edge[:, None, None] for edge in (top, bottom, left, right))
    return ((rows >= top) & (rows < bottom) & (columns >= left) & (columns < right))[:, None]


def random_erasing(
    images: Tensor, probability: float, scale: Range, generator: Generator,
    ratio: Range = (0.3, 3.3), value: float = 0.0, attempts: int = 10,
) -> Tensor:  # fmt: skip
    """Set a random rectangle of each image to `value` with `probability` (Zhong et al., AAAI 2020).

    Area uniform in `scale` (share of the image), log of the aspect ratio (height / width) uniform
    in `ratio`; a rectangle must fit strictly inside; of `attempts` draws the first that fits is
    taken, if none fits the image stays, as in torchvision.transforms.RandomErasing.
    """
    count, height, width = len(images), images.shape[2], images.shape[3]
    area = _uniform(count * attempts, scale, images, generator) * height * width
    logarithms = [math.log(limit) for limit in ratio]
    aspect = _uniform(count * attempts, logarithms, images, generator).exp()
    area, aspect = area.view(count, attempts), aspect.view(count, attempts)
    tall, wide = (area * aspect).sqrt().round(), (area / aspect).sqrt().round()
    fits = (tall < height) & (wide < width)
    first = fits.int().argmax(1, keepdim=True)
    tall, wide, fits = (each.gather(1, first).squeeze(1) for each in (tall, wide, fits))
    place = torch.rand(2, count, device=images.device, generator=generator)
    top = (place[0] * (height - tall + 1)).floor()
    left = (place[1] * (width - wide + 1)).floor()
    erased = random_mask(images, probability, generator) & fits[:, None, None, None]
    return images.masked_fill(box_mask(images, top, top + tall, left, left + wide) & erased, value)


def random_beta(count: int, alpha: float, device: torch.device, generator: Generator) -> Tensor:
    """Draw (count,) values from Beta(alpha, alpha)."""
    if alpha == 1.0:
        return torch.rand(count, device=device, generator=generator)
    # torch.distributions.Beta takes no generator; this is the sampler it calls.
    concentration = torch.full((count, 2), alpha, device=device)
    return torch._sample_dirichlet(concentration, generator=generator)[:, 0]


def cutmix(
    images: Tensor, labels: Tensor, alpha: float, probability: float, generator: Generator
) -> Mixed:
    """Paste a box of another image of the batch into each image.

    CutMix: Yun et al., ICCV 2019, section 3.1. A box of sides W sqrt(1 - lambda), H sqrt(1 -
    lambda) around a centre drawn uniformly is clipped at the border; lambda is then the share of
    pixels that stayed, so that labels are mixed by true areas.

    Args:
        images: (N, C, H, W); labels: int64 (N,).
        alpha: lambda ~ Beta(alpha, alpha); probability: share of the images that are mixed.

    Returns:
        the mixed images, the partners' labels (N,), and lambda (N,) in [0, 1], float32, the weight
        of an image's own label (1 where it was not mixed).
    """
    count, _, height, width = images.shape
    partner = torch.randperm(count, device=images.device, generator=generator)
    half = (1 - random_beta(count, alpha, images.device, generator)).sqrt() / 2
    centre = torch.rand(2, count, device=images.device, generator=generator)
    row, column = (centre[0] * height).floor(), (centre[1] * width).floor()
    half_height, half_width = (half * height).floor(), (half * width).floor()
    top, bottom = (row - half_height).clamp(0, height), (row + half_height).clamp(0, height)
    left, right = (column - half_width).clamp(0, width), (column + half_width).clamp(0, width)
    mixed = random_mask(images, probability, generator)
    inside = box_mask(images, top, bottom, left, right) & mixed
    lam = 1 - inside.flatten(1).float().mean(1)
    return torch.where(inside, images[partner], images), labels[partner], lam


def mixup(
    images: Tensor, labels: Tensor, alpha: float, probability: float, generator: Generator
) -> Mixed:
    """Blend each image with another of the batch (Zhang et al., mixup, ICLR 2018, equation 2).

    Arguments and results as in `cutmix`; images must be floats.
    """
    partner = torch.randperm(len(images), device=images.device, generator=generator)
    lam = random_beta(len(images), alpha, images.device, generator)
    lam = torch.where(random_mask(images, probability, generator).flatten(), lam, 1.0)
    weight = lam[:, None, None, None].to(images.dtype)
    return weight * images + (1 - weight) * images[partner], labels[partner], lam


def mix(images: Tensor, labels: Tensor, recipe: Train, generator: Generator) -> Mixed:
    """Mix a share `recipe.cutmix` of images by CutMix, `recipe.mixup` by mixup, none by both.

    Results as of `cutmix`.
    """
    pasted = cutmix(images, labels, recipe.cutmix_alpha, 1.0, generator) if recipe.cutmix else None
    blended = mixup(images, labels, recipe.mixup_alpha, 1.0, generator) if recipe.mixup else None
    draw = torch.rand(len(images), device=images.device, generator=generator)
    partners, lam = labels, torch.ones(len(labels), device=images.device)
    both = recipe.cutmix + recipe.mixup
    for mixed, low, high in ((pasted, 0.0, recipe.cutmix), (blended, recipe.cutmix, both)):
        if mixed:
            chosen = (draw >= low) & (draw < high)
            images = torch.where(chosen[:, None, None, None], mixed[0], images)
            partners = torch.where(chosen, mixed[1], partners)
            lam = torch.where(chosen, mixed[2], lam)
    return images, partners, lam


def train_batch(
    images: Tensor, labels: Tensor, recipe: Train, statistics: Statistics, generator: Generator,
    host: Generator | None = None, mirrored: Tensor | None = None,
) -> Mixed:  # fmt: skip
    """Turn raw images into what the network is trained on.

    Args:
        images: uint8 (N, 3, 32, 32); labels: int64 (N,); statistics: of the training images.
        generator: of the images' device; host: one of the CPU, for TrivialAugment and AugMix.
        mirrored: bool (N,), those to mirror left to right; None draws by recipe.horizontal_flip.

    Returns:
        float32 images, the partners' labels and lambda, the last two as `cutmix` returns them.
    """
    images = random_crop(images, recipe.crop_padding, generator, recipe.crop_mode)
    if mirrored is None:
        images = random_horizontal_flip(images, recipe.horizontal_flip, generator)
    else:
        images = torch.where(mirrored[:, None, None, None], images.flip(3), images)
    if recipe.vertical_flip:
        images = random_vertical_flip(images, recipe.vertical_flip, generator)
    for share, change in ((recipe.trivial_augment, trivial_augment), (recipe.augmix, augmix)):
        if share:
            assert host is not None
            images = change(images, share, host)
    images = images.float() / 255
    if recipe.blur:
        kernel = recipe.blur_kernel
        images = random_gaussian_blur(images, recipe.blur, recipe.blur_sigma, kernel, generator)
    images = normalise(images, statistics)
    if recipe.erasing:
        images = random_erasing(images, recipe.erasing, recipe.erasing_scale, generator)
    if recipe.cutmix or recipe.mixup:
        return mix(images, labels, recipe, generator)
    return images, labels, torch.ones(len(labels), device=images.device)
