"""The corruptions against a plain form of each, one image at a time, with NumPy, SciPy and Pillow.

The plain forms follow the authors' description and order of work; where numbers are drawn, both
take the same ones.
"""

import io

import numpy as np
import pytest
import torch
from matplotlib.colors import hsv_to_rgb, rgb_to_hsv
from PIL import Image
from scipy import ndimage

from lib.corrupt import CORRUPTIONS, SEVERITIES, corrupt
from lib.step import generator_of

COUNT, SIZE = 6, 32


@pytest.fixture(scope="module")
def pixels():
    """Images with edges, smooth parts, saturated and black pixels."""
    generator = torch.Generator().manual_seed(3)
    coarse = torch.rand((COUNT, 3, 8, 8), generator=generator)
    smooth = torch.nn.functional.interpolate(coarse, size=(SIZE, SIZE), mode="bicubic")
    images = (smooth * 300 - 20).clamp(0, 255).byte()
    images[0, :, :4] = 0
    images[1, :, 20:, 20:] = 255
    images[2, 0, 10:14] = 255 - images[2, 0, 10:14]
    return images


class Draws:
    """The numbers that a corruption draws for a batch, handed out image by image."""

    def __init__(self, name, severity, seed):
        self.generator, self.kept = generator_of(seed, f"{name}/{severity}"), []
        self.image = self.at = 0

    def of(self, image):
        self.image, self.at = image, 0
        return self

    def take(self, draw, *shape, pair=False):
        """What `draw` gives for a batch, this image's part; `pair`: two for each image."""
        if self.at == len(self.kept):
            whole = (2, COUNT, *shape) if pair else (COUNT, *shape)
            self.kept.append(draw(whole, generator=self.generator).double().numpy())
        self.at += 1
        drawn = self.kept[self.at - 1]
        return drawn[:, self.image] if pair else drawn[self.image]


# Each takes an image (32, 32, 3) of levels, its strength and Draws; it gives levels


def gaussian_noise(x, sigma, draws):
    noise = draws.take(torch.randn, 3, SIZE, SIZE).transpose(1, 2, 0)
    return np.clip(x / 255 + sigma * noise, 0, 1) * 255


def impulse_noise(x, share, draws):
    hit, white = draws.take(torch.rand, 3, SIZE, SIZE, pair=True).transpose(0, 2, 3, 1)
    x = x.copy()
    x[hit <= share] = 0
    x[(hit <= share) & (white <= 0.5)] = 255
    return x


def defocus_blur(x, strength, draws):
    radius, soft = strength
    disk = np.array(
        [[float(i * i + j * j <= radius**2) for i in range(-8, 9)] for j in range(-8, 9)]
    )
    taps = np.exp(-np.array([1, 0, 1]) / (2 * soft**2))
    kernel = ndimage.correlate(disk / disk.sum(), np.outer(taps, taps) / taps.sum() ** 2)
    channels = [ndimage.correlate(x[..., c], kernel, mode="mirror") for c in range(3)]
    return np.stack(channels, -1)


def blurred(x, sigma):
    return ndimage.gaussian_filter(x, (sigma, sigma, 0), mode="nearest", truncate=4)


def glass_blur(x, strength, draws):
    sigma, rounds = strength
    x = np.uint8(blurred(x / 255, sigma) * 255 + 1e-9)
    for _ in range(rounds):
        up, left = draws.take(
            lambda shape, generator: torch.randint(2, shape, generator=generator),
            SIZE, SIZE, pair=True,
        ).astype(int)  # fmt: skip
        for h in range(31, 1, -1):
            for w in range(31, 1, -1):
                other = h - up[h, w], w - left[h, w]
                x[h, w], x[other] = x[other], x[h, w]  # of views: no swap, as theirs
    return blurred(x / 255, sigma) * 255


def motion_blur(x, strength, draws):
    radius, sigma = strength
    angle = np.radians(90 * draws.take(torch.rand, 1)[0] - 45)
    weights = np.exp(-(np.arange(2 * radius + 1) ** 2) / (2 * sigma**2))
    padded, result = np.pad(x, ((32, 32), (32, 32), (0, 0)), mode="edge"), 0
    for step, weight in enumerate(weights / weights.sum()):
        down, right = (int(np.ceil(step * way - 0.5)) for way in (np.sin(angle), np.cos(angle)))
        result = result + weight * padded[32 + down : 64 + down, 32 + right : 64 + right]
    return np.round(result)


def zoom_blur(x, largest, draws):
    factors, total = np.arange(1, largest, 0.01), 0
    for factor in factors:
        cut = int(np.ceil(SIZE / factor))
        top = (SIZE - cut) // 2
        part = x[top : top + cut, top : top + cut]
        large = ndimage.zoom(part, (factor, factor, 1), order=1)
        start = (len(large) - SIZE) // 2
        total = total + large[start : start + SIZE, start : start + SIZE]
    return (x + total) / (len(factors) + 1)


def fog(x, strength, draws):
    thickness, decay = strength
    x = x / 255
    brightest = x.max()
    x = x + thickness * cloud(decay, draws)[..., None]
    return np.clip(x * brightest / (brightest + thickness), 0, 1) * 255


def cloud(decay, draws):
    """Diamond-square, value by value, neighbours beyond the border taken from the other side."""
    field, step, wild = np.zeros((SIZE, SIZE)), SIZE, 100.0
    while step > 1:
        half, places = step // 2, range(0, SIZE, step)
        for down, right in ((half, half), (0, half), (half, 0)):
            noise = 2 * draws.take(torch.rand, len(places), len(places)) - 1
            # The centre of a square has its corners around it, a side its ends and two centres.
            near = [(-half, -half), (-half, half), (half, -half), (half, half)]
            if not (down and right):
                near = [(-half, 0), (half, 0), (0, -half), (0, half)]
            for i, row in enumerate(places):
                for j, column in enumerate(places):
                    place = row + down, column + right
                    around = [field[(place[0] + a) % SIZE, (place[1] + b) % SIZE] for a, b in near]
                    field[place] = sum(around) / 4 + wild**2 * noise[i, j]
        step, wild = half, wild / decay
    return (field - field.min()) / (field.max() - field.min())


def brightness(x, added, draws):
    hsv = rgb_to_hsv(x / 255)
    hsv[..., 2] = np.clip(hsv[..., 2] + added, 0, 1)
    return hsv_to_rgb(hsv) * 255


def contrast(x, factor, draws):
    means = x.mean((0, 1), keepdims=True)
    return (x - means) * factor + means


def elastic_transform(x, strength, draws):
    reach, sigma, bend = (SIZE * part for part in strength)
    points = np.array([[26.0, 26], [26, 6], [6, 6]])  # x, y: thirds around the middle
    moved = points + bend * (2 * draws.take(torch.rand, 3, 2) - 1)
    affine = np.linalg.solve(np.column_stack([moved, np.ones(3)]), points)
    y, x_at = np.mgrid[:SIZE, :SIZE].astype(float)
    from_x, from_y = np.moveaxis(np.stack([x_at, y, np.ones_like(y)], -1) @ affine, -1, 0)
    x = sampled(x, from_y, from_x, "mirror")
    fields = 2 * draws.take(torch.rand, SIZE, SIZE, pair=True) - 1
    smooth = [ndimage.gaussian_filter(field, sigma, mode="reflect", truncate=3) for field in fields]
    return sampled(x, y + reach * smooth[1], x_at + reach * smooth[0], "reflect")


def sampled(x, rows, columns, mode):
    channels = [
        ndimage.map_coordinates(x[..., c], [rows, columns], order=1, mode=mode) for c in range(3)
    ]
    return np.stack(channels, -1)


def pixelate(x, share, draws):
    small = Image.fromarray(x.astype(np.uint8)).resize(
        (int(SIZE * share),) * 2, Image.Resampling.BOX
    )
    return np.asarray(small.resize((SIZE, SIZE), Image.Resampling.BOX), dtype=float)


def jpeg_compression(x, quality, draws):
    with io.BytesIO() as buffer:
        Image.fromarray(x.astype(np.uint8)).save(buffer, "JPEG", quality=quality)
        return np.asarray(Image.open(buffer).convert("RGB"), dtype=float)


PLAIN = {
    plain.__name__: plain
    for plain in (
        gaussian_noise, impulse_noise, defocus_blur, glass_blur, motion_blur, zoom_blur, fog,
        brightness, contrast, elastic_transform, pixelate, jpeg_compression,
    )
}  # fmt: skip


@pytest.mark.parametrize("severity", SEVERITIES)
@pytest.mark.parametrize("name", PLAIN)
def test_a_batch_equals_the_plain_form_of_each_image(pixels, name, severity):
    found = corrupt(pixels, name, severity, seed=5)
    draws = Draws(name, severity, 5)
    strength = CORRUPTIONS[name][severity]
    for number, (image, ours) in enumerate(zip(pixels, found, strict=True)):
        x = image.permute(1, 2, 0).double().numpy()
        plain = np.clip(PLAIN[name](x, strength, draws.of(number)), 0, 255)
        ours = ours.permute(1, 2, 0).double().numpy()
        # A value within a thousandth of a whole level may be cut down to the one or the other.
        near = [np.abs(ours - np.floor(plain + side)) for side in (-1e-3, 1e-3)]
        apart = np.minimum(*near)
        # Glass is cut down between its blurs, too: there the next blur spreads such a level.
        assert apart.max() <= 1 and (apart > 0).mean() < (0.02 if name == "glass_blur" else 0.001)


@pytest.mark.parametrize("severity", SEVERITIES)
def test_shot_noise_has_the_variance_of_photons(severity):
    photons, level = CORRUPTIONS["shot_noise"][severity], 128
    grey = torch.full((8, 3, SIZE, SIZE), level, dtype=torch.uint8)
    noisy = corrupt(grey, "shot_noise", severity, seed=1).double()
    assert noisy.mean() == pytest.approx(level - 0.5, abs=0.5)  # cut down to whole levels
    assert noisy.var() == pytest.approx(255 * level / photons, rel=0.05)


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_it_is_seeded_and_leaves_its_input(pixels, name):
    before, torch_state = pixels.clone(), torch.get_rng_state()
    first, again = (corrupt(pixels, name, 3, seed=1) for _ in range(2))
    assert torch.equal(first, again) and torch.equal(pixels, before)
    assert torch.equal(torch.get_rng_state(), torch_state)
    assert first.dtype == torch.uint8 and first.shape == pixels.shape
    drawn = name not in ("defocus_blur", "zoom_blur", "brightness", "contrast") and (
        name not in ("pixelate", "jpeg_compression")
    )
    assert torch.equal(first, corrupt(pixels, name, 3, seed=2)) != drawn
    assert not torch.equal(first, corrupt(pixels, name, 5, seed=1))


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_a_higher_severity_changes_more(pixels, name):
    """But glass and elastic, which trade strengths, and pixelate, whose rasters differ in kind."""
    far = [
        (corrupt(pixels, name, severity, 0).double() - pixels).abs().mean()
        for severity in SEVERITIES
    ]
    if name not in ("glass_blur", "elastic_transform", "pixelate"):
        assert far == sorted(far)
    assert 0 < far[0] < far[-1] or name == "elastic_transform"


# Strengths at severities 1 to 5, as the authors' make_cifar_c.py has them (hendrycks/robustness);
# of the elastic transformation in shares of the side.
PUBLISHED = {
    "gaussian_noise": [0.04, 0.06, 0.08, 0.09, 0.10],
    "shot_noise": [500, 250, 100, 75, 50],
    "impulse_noise": [0.01, 0.02, 0.03, 0.05, 0.07],
    "defocus_blur": [(0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1, 0.2), (1.5, 0.1)],
    "glass_blur": [(0.05, 1), (0.25, 1), (0.4, 1), (0.25, 2), (0.4, 2)],
    "motion_blur": [(6, 1), (6, 1.5), (6, 2), (8, 2), (9, 2.5)],
    "zoom_blur": [1.06, 1.11, 1.16, 1.21, 1.26],
    "fog": [(0.2, 3), (0.5, 3), (0.75, 2.5), (1, 2), (1.5, 1.75)],
    "brightness": [0.05, 0.1, 0.15, 0.2, 0.3],
    "contrast": [0.75, 0.5, 0.4, 0.3, 0.15],
    "elastic_transform": [
        (0, 0, 0.08), (0.05, 0.2, 0.07), (0.08, 0.06, 0.06), (0.1, 0.04, 0.05), (0.1, 0.03, 0.03),
    ],
    "pixelate": [0.95, 0.9, 0.85, 0.75, 0.65],
    "jpeg_compression": [80, 65, 58, 50, 40],
}  # fmt: skip


def test_the_strengths_are_those_of_cifar_10_c():
    assert {name: strengths for name, (_, *strengths) in CORRUPTIONS.items()} == PUBLISHED
    assert list(SEVERITIES) == [1, 2, 3, 4, 5]


def test_white_and_black_stay_where_nothing_moves_them():
    for level in (0, 255):
        plain = torch.full((2, 3, SIZE, SIZE), level, dtype=torch.uint8)
        for name in ("defocus_blur", "motion_blur", "zoom_blur", "contrast", "pixelate"):
            assert torch.equal(corrupt(plain, name, 3, 0), plain), name
