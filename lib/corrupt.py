"""The corruptions of CIFAR-10-C over a batch: 13 of its 15, at its own five severities.

Hendrycks & Dietterich, Benchmarking neural network robustness to common corruptions and
perturbations (ICLR 2019). Strengths and order of work are those of the authors' script for CIFAR-10
(hendrycks/robustness, make_cifar_c.py); those for ImageNet are 1.2 to 17 times as harsh. Frost
takes photographs and snow another program's blur: these two are not here. Each function takes and
gives levels from 0 to 255, float32 (N, 3, S, S), on the CPU, and draws for each image.
"""

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from scipy.ndimage import gaussian_filter
from torch import Generator, Tensor
from torchvision.transforms.v2.functional import jpeg

from lib.step import generator_of

SEVERITIES = range(1, 6)
TINY = 1e-4  # float32 must not cost a whole level where nothing changed


def corrupt(pixels: Tensor, name: str, severity: int, seed: int) -> Tensor:
    """Return images uint8 (N, 3, S, S), corrupted; the input stays as it is.

    What is drawn follows from (seed, name, severity) and the images' places; a value is cut down to
    a whole level, as theirs.

    Args:
        pixels: uint8, on the CPU; S is 32, or another power of two.
        name: a key of CORRUPTIONS.
        severity: 1 to 5.
    """
    function, *strengths = CORRUPTIONS[name]
    generator = generator_of(seed, f"{name}/{severity}")
    levels = function(pixels.float(), strengths[severity - 1], generator)
    return (levels + TINY).clamp(0, 255).byte()


def _impulse(levels: Tensor, share: float, generator: Generator) -> Tensor:
    """A `share` of the values becomes 0 or 255."""
    hit, white = torch.rand((2, *levels.shape), generator=generator)
    return torch.where(hit <= share, 255.0 * (white <= 0.5), levels)


def _smooth(values: Tensor, sigma: float, mode: str = "nearest", truncate: float = 4.0) -> Tensor:
    """Gaussian blur over height and width by two matrix products; borders as SciPy's `mode`."""
    one = np.eye(values.shape[-1])
    along = torch.from_numpy(gaussian_filter(one, (sigma, 0), mode=mode, truncate=truncate)).float()
    return along @ values @ along.T


def _defocus(levels: Tensor, strength: tuple[float, float], generator: Generator) -> Tensor:
    """Convolve with a disk, itself blurred a little over 3 by 3 pixels."""
    radius, soft = strength
    place = torch.arange(-3.0, 4.0)
    disk = (place**2 + place[:, None] ** 2 <= radius**2).float()
    taps = torch.exp(-0.5 * (torch.arange(-1.0, 2.0) / soft) ** 2)
    small = taps * taps[:, None] / taps.sum() ** 2
    kernel = F.conv2d((disk / disk.sum())[None, None], small[None, None], padding=1)
    padded = F.pad(levels.flatten(0, 1)[:, None], [3] * 4, mode="reflect")
    return F.conv2d(padded, kernel).view_as(levels)


def _picked(levels: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Return the pixels at each image's rows and columns, which broadcast to (N, S, S)."""
    number = torch.arange(len(levels))[:, None, None]
    return levels.permute(0, 2, 3, 1)[number, rows, columns].permute(0, 3, 1, 2)


def _glass(levels: Tensor, strength: tuple[float, int], generator: Generator) -> Tensor:
    """Each pixel takes its own value or that of a neighbour above or left, between two blurs.

    Theirs is written as a swap of neighbours, but NumPy's views make it a copy.
    """
    sigma, rounds = strength
    levels, side = (_smooth(levels, sigma) + TINY).floor(), torch.arange(levels.shape[-1])
    for _ in range(rounds):
        back = torch.randint(2, (2, len(levels), len(side), len(side)), generator=generator)
        back = back * ((side > 1) & (side > 1)[:, None])  # two rows and columns stay
        levels = _picked(levels, side[:, None] - back[0], side - back[1])
    return _smooth(levels, sigma)


def _motion(levels: Tensor, strength: tuple[int, float], generator: Generator) -> Tensor:
    """A Gaussian's half along a line of -45 to 45 degrees, as ImageMagick's MotionBlurImage."""
    radius, sigma = strength
    steps, side = torch.arange(2 * radius + 1.0), torch.arange(levels.shape[-1])
    weights = torch.exp(-0.5 * (steps / sigma) ** 2)
    angle = (torch.rand(len(levels), 1, generator=generator) - 0.5) * torch.pi / 2
    ways = torch.stack([angle.sin() * steps, angle.cos() * steps])
    down, right = torch.ceil(ways - 0.5).long()[..., None, None]
    result, last = torch.zeros_like(levels), len(side) - 1
    for step, weight in enumerate(weights / weights.sum()):
        rows = (side[:, None] + down[:, step]).clamp(0, last)
        result += weight * _picked(levels, rows, (side + right[:, step]).clamp(0, last))
    return result.round()


def _zoom(levels: Tensor, largest: float, generator: Generator) -> Tensor:
    """The mean of the image and of its middle, magnified by 1, 1.01, ... `largest`."""
    result, size = levels.clone(), levels.shape[-1]
    factors = np.arange(1, largest, 0.01)  # their call: 1.06 and 1.11 are among what it gives
    for factor in factors:
        part = int(np.ceil(size / factor))
        shape, middle = (round(part * factor),) * 2, _middle(levels, part)
        large = F.interpolate(middle, shape, mode="bilinear", align_corners=True)
        result += _middle(large, size)
    return result / (len(factors) + 1)


def _middle(levels: Tensor, size: int) -> Tensor:
    start = (levels.shape[-1] - size) // 2
    return levels[..., start : start + size, start : start + size]


def _fog(levels: Tensor, strength: tuple[float, float], generator: Generator) -> Tensor:
    """Add a cloud of 0 to 255 times a thickness, then scale back to the brightest value."""
    thickness, decay = strength
    brightest = levels.amax((1, 2, 3), keepdim=True)
    foggy = levels + 255 * thickness * _cloud(len(levels), levels.shape[-1], decay, generator)
    return foggy * brightest / (brightest + 255 * thickness)


def _cloud(count: int, size: int, decay: float, generator: Generator) -> Tensor:
    """Return (count, 1, size, size) in [0, 1] by the diamond-square algorithm on a torus."""
    field, step, wild = torch.zeros(count, size, size), size, 100.0

    def filled(*near: Tensor) -> Tensor:  # the mean of the four values around, and something
        return sum(near) / 4 + wild**2 * (2 * torch.rand(near[0].shape, generator=generator) - 1)

    while step > 1:
        half = slice(step // 2, None, step)
        corners = field[:, ::step, ::step].clone()
        below, right = corners.roll(-1, 1), corners.roll(-1, 2)
        centres = filled(corners, below, right, below.roll(-1, 2))
        field[:, half, half] = centres
        field[:, ::step, half] = filled(centres, centres.roll(1, 1), corners, right)
        field[:, half, ::step] = filled(centres, centres.roll(1, 2), corners, below)
        step, wild = step // 2, wild / decay
    low, high = field.amin((1, 2), keepdim=True), field.amax((1, 2), keepdim=True)
    return ((field - low) / (high - low))[:, None]


def _brightness(levels: Tensor, added: float, generator: Generator) -> Tensor:
    """Raise the value of HSV, the largest channel: at a fixed hue and saturation all scale."""
    value = levels.amax(1, keepdim=True)
    lighter = (value + 255 * added).clamp(max=255)
    return torch.where(value > 0, levels * lighter / value.clamp(min=1), lighter)


def _elastic(levels: Tensor, strength: tuple, generator: Generator) -> Tensor:
    """Move three points by up to a bend, then each pixel along smooth random fields (pixels)."""
    size, count = levels.shape[-1], len(levels)
    reach, sigma, bend = (size * part for part in strength)
    middle, third = size // 2, size // 3
    far, near = float(middle + third), float(middle - third)
    points = torch.tensor([[far, far], [far, near], [near, near]])
    moved = points + bend * (2 * torch.rand((count, 3, 2), generator=generator) - 1)
    affine = torch.linalg.solve(F.pad(moved, (0, 1), value=1.0), points.expand(count, 3, 2))
    side = torch.arange(float(size))
    place = torch.stack([side.expand(size, size), side[:, None].expand(size, size)], -1)  # x, y
    levels = _sampled(levels, F.pad(place, (0, 1), value=1.0) @ affine[:, None], corners=True)
    fields = 2 * torch.rand((2, count, size, size), generator=generator) - 1
    shift = reach * _smooth(fields, sigma, "reflect", truncate=3.0)
    return _sampled(levels, place + shift.movedim(0, -1), corners=False)


def _sampled(levels: Tensor, places: Tensor, corners: bool) -> Tensor:
    """Sample at (x, y) in pixels (N, S, S, 2); the border mirrors at a pixel's centre or edge."""
    size = levels.shape[-1]
    grid = 2 * places / (size - 1) - 1 if corners else (2 * places + 1) / size - 1
    return F.grid_sample(levels, grid, padding_mode="reflection", align_corners=corners)


def _pixelate(levels: Tensor, share: float, generator: Generator) -> Tensor:
    """Make it smaller and large again; a value is the mean of the pixels that it covers."""
    size = levels.shape[-1]
    small, large = _boxes(size, int(size * share)), _boxes(int(size * share), size)
    rows = (levels @ small.T + 0.5).floor()  # whole levels after each axis
    return large @ (small @ rows + 0.5).floor() @ large.T


def _boxes(before: int, after: int) -> Tensor:
    """Return (after, before): the weights of pixels in a resized row, as Pillow's filter BOX."""
    ratio = before / after
    centre = (torch.arange(after)[:, None] + 0.5) * ratio
    apart = (torch.arange(before) + 0.5 - centre) / max(ratio, 1)
    inside = ((apart > -0.5) & (apart <= 0.5)).float()
    return inside / inside.sum(1, keepdim=True)


# fmt: off
CORRUPTIONS: dict[str, tuple[Any, ...]] = {  # name: function, its strength at each severity
    "gaussian_noise": (  # standard deviation, of 1
        lambda levels, sigma, g: levels + 255 * sigma * torch.randn(levels.shape, generator=g),
        .04, .06, .08, .09, .10),
    "shot_noise": (  # photons in a white pixel
        lambda levels, white, g: torch.poisson(levels / 255 * white, generator=g) * 255 / white,
        500, 250, 100, 75, 50),
    "impulse_noise": (_impulse, .01, .02, .03, .05, .07),
    "defocus_blur": (_defocus, (.3, .4), (.4, .5), (.5, .6), (1, .2), (1.5, .1)),
    "glass_blur": (_glass, (.05, 1), (.25, 1), (.4, 1), (.25, 2), (.4, 2)),
    "motion_blur": (_motion, (6, 1), (6, 1.5), (6, 2), (8, 2), (9, 2.5)),
    "zoom_blur": (_zoom, 1.06, 1.11, 1.16, 1.21, 1.26),
    "fog": (_fog, (.2, 3), (.5, 3), (.75, 2.5), (1, 2), (1.5, 1.75)),
    "brightness": (_brightness, .05, .1, .15, .2, .3),
    "contrast": (
        lambda levels, factor, g: levels.mean((2, 3), True).lerp(levels, factor),
        .75, .5, .4, .3, .15),
    "elastic_transform": (
        _elastic, (0, 0, .08), (.05, .2, .07), (.08, .06, .06), (.1, .04, .05), (.1, .03, .03)),
    "pixelate": (_pixelate, .95, .9, .85, .75, .65),
    "jpeg_compression": (  # quality
        lambda levels, quality, g: jpeg(levels.byte(), quality).float(), 80, 65, 58, 50, 40),
}
# fmt: on
