"""Augmentations against torchvision's functional form by image; CutMix against areas by hand."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import torchvision.transforms.functional as TF
from scipy import stats
from torchvision.transforms import RandomErasing, v2

from lib import augment, trivial
from lib.data import Statistics
from lib.settings import Train

STATISTICS = Statistics((0.49, 0.48, 0.45), (0.25, 0.24, 0.26))
OFF = {"crop_padding": 0, "horizontal_flip": 0.0, "cutmix": 0.0}


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def random_images(count=8, size=32, dtype=torch.float32, seed=100):
    images = torch.rand(count, 3, size, size, generator=generator(seed), dtype=torch.float64)
    return (images * 256).to(torch.uint8) if dtype == torch.uint8 else images.to(dtype)


def near(share, probability, count):
    """Whether a share of `count` draws fits the probability: within four standard deviations."""
    return abs(share - probability) <= 4 * math.sqrt(probability * (1 - probability) / count)


LABELS = torch.arange(8)
RANDOM = {
    "crop": lambda x, g: augment.random_crop(x, 4, g),
    "crop reflect": lambda x, g: augment.random_crop(x, 4, g, "reflect"),
    "horizontal flip": lambda x, g: augment.random_horizontal_flip(x, 0.5, g),
    "vertical flip": lambda x, g: augment.random_vertical_flip(x, 0.5, g),
    "blur": lambda x, g: augment.random_gaussian_blur(x, 0.7, (0.5, 1.5), 5, g),
    "erasing": lambda x, g: augment.random_erasing(x, 0.7, (0.02, 0.3), g),
    "cutmix": lambda x, g: augment.cutmix(x, LABELS, 1.0, 0.7, g)[0],
    "mixup": lambda x, g: augment.mixup(x, LABELS, 1.0, 0.7, g)[0],
}
GEOMETRY = ("crop", "crop reflect", "horizontal flip", "vertical flip", "cutmix")


# What all of them promise


@pytest.mark.parametrize("name", RANDOM)
def test_input_is_unchanged_and_the_seed_decides(name):
    images = random_images()
    before = images.clone()
    result = RANDOM[name](images, generator(1))
    assert torch.equal(images, before)
    result.zero_()  # the result shares no memory with the input
    assert torch.equal(images, before)
    assert torch.equal(RANDOM[name](images, generator(1)), RANDOM[name](images, generator(1)))
    assert not torch.equal(RANDOM[name](images, generator(1)), RANDOM[name](images, generator(2)))


@pytest.mark.parametrize(
    ("name", "dtype"),
    [(name, dtype) for name in RANDOM for dtype in (torch.float32, torch.float64, torch.bfloat16)]
    + [(name, torch.uint8) for name in GEOMETRY],
)
def test_dtype_and_shape_are_kept(name, dtype):
    images = random_images(dtype=dtype)
    result = RANDOM[name](images, generator(1))
    assert result.dtype == dtype and result.shape == images.shape
    assert not torch.equal(result, images)


@pytest.mark.parametrize("name", list(RANDOM)[:-2])
def test_equal_images_get_different_draws(name):
    images = random_images(1).expand(8, -1, -1, -1)
    result = RANDOM[name](images, generator(1))
    assert len({one.numpy().tobytes() for one in result}) >= 2
    if name in ("crop", "crop reflect", "blur", "erasing"):
        assert len({one.numpy().tobytes() for one in result}) >= 4


@pytest.mark.parametrize("name", RANDOM)
def test_the_global_generator_is_not_used(name):
    torch.manual_seed(5)
    before = torch.get_rng_state()
    RANDOM[name](random_images(), generator(1))
    assert torch.equal(torch.get_rng_state(), before)


# Crop


@pytest.mark.parametrize("dtype", [torch.float32, torch.uint8])
@pytest.mark.parametrize("padding", [1, 4, 16, 31])
def test_padding(padding, dtype):
    images = random_images(3, dtype=dtype)
    assert torch.equal(augment.pad(images, padding), F.pad(images, [padding] * 4))
    reflected = F.pad(images.double(), [padding] * 4, mode="reflect")
    assert torch.equal(augment.pad(images, padding, "reflect").double(), reflected)


def test_crop_at_given_offsets():
    images = random_images(5, size=40)
    top, left = torch.tensor([0, 8, 3, 5, 8]), torch.tensor([0, 8, 7, 2, 0])
    expected = [
        TF.crop(one, int(t), int(c), 32, 32) for one, t, c in zip(images, top, left, strict=True)
    ]
    assert torch.equal(augment.crop(images, top, left, 32), torch.stack(expected))


@pytest.mark.parametrize(("mode", "padding"), [("zero", 2), ("reflect", 2), ("zero", 4)])
def test_random_crop_is_a_window_of_the_padded_image_at_uniform_offsets(mode, padding):
    images = random_images(300, size=8)
    padded = F.pad(images, [padding] * 4, mode="constant" if mode == "zero" else mode)
    result = augment.random_crop(images, padding, generator(3), mode)
    side, offsets = 2 * padding + 1, []
    for one, whole in zip(result, padded, strict=True):
        places = [
            (t, c)
            for t in range(side)
            for c in range(side)
            if torch.equal(one, TF.crop(whole, t, c, 8, 8))
        ]
        assert len(places) == 1
        offsets += places
    for axis in (0, 1):
        counts = np.bincount([place[axis] for place in offsets], minlength=side)
        assert stats.chisquare(counts).pvalue > 1e-3
    assert abs(np.corrcoef(np.array(offsets).T)[0, 1]) < 0.2  # top and left are drawn apart


def test_random_crop_without_padding_is_a_copy():
    images = random_images(2)
    result = augment.random_crop(images, 0, generator())
    assert torch.equal(result, images) and result.data_ptr() != images.data_ptr()


# Flips


@pytest.mark.parametrize(
    ("flip", "reference"),
    [(augment.random_horizontal_flip, TF.hflip), (augment.random_vertical_flip, TF.vflip)],
)
def test_flips(flip, reference):
    images = random_images(400, size=4)
    assert torch.equal(
        flip(images, 1.0, generator()), torch.stack([reference(one) for one in images])
    )
    assert torch.equal(flip(images, 0.0, generator()), images)
    result = flip(images, 0.3, generator())
    flipped = [torch.equal(mine, reference(one)) for mine, one in zip(result, images, strict=True)]
    kept = [torch.equal(mine, one) for mine, one in zip(result, images, strict=True)]
    assert all(a != b for a, b in zip(flipped, kept, strict=True))
    assert near(np.mean(flipped), 0.3, 400)


# Blur


@pytest.mark.parametrize("kernel_size", [3, 5, 9])
def test_blur_with_each_images_own_sigma(kernel_size):
    images = random_images(6)
    sigma = torch.tensor([0.1, 0.35, 0.8, 1.0, 1.5, 10.0])
    expected = [
        TF.gaussian_blur(one, kernel_size, float(own))
        for one, own in zip(images, sigma, strict=True)
    ]
    result = augment.gaussian_blur(images, sigma, kernel_size)
    torch.testing.assert_close(result, torch.stack(expected), rtol=1e-5, atol=1e-6)
    assert not torch.allclose(result[2:], images[2:], atol=1e-2)


def test_blur_of_an_oblong_image():
    images = torch.rand(2, 1, 9, 20, generator=generator())
    result = augment.gaussian_blur(images, torch.tensor([0.7, 1.2]), 5)
    for one, mine, sigma in zip(images, result, (0.7, 1.2), strict=True):
        torch.testing.assert_close(mine, TF.gaussian_blur(one, 5, sigma), rtol=1e-5, atol=1e-6)


def test_random_blur_draws_sigma_uniformly_and_blurs_with_it():
    count, low, high = 1500, 0.5, 1.5
    images = random_images(count, size=7, dtype=torch.float64)
    images[:, 0] = 0
    images[:, 0, 3, 3] = (
        1.0  # an impulse: its centre becomes the square of the kernel's middle weight
    )
    result = augment.random_gaussian_blur(images, 0.6, (low, high), 3, generator(4))
    middle = result[:, 0, 3, 3].sqrt().numpy()
    blurred = middle < 1
    assert near(blurred.mean(), 0.6, count)
    assert torch.equal(result[~torch.from_numpy(blurred)], images[~torch.from_numpy(blurred)])
    # middle = 1 / (1 + 2 exp(-1 / (2 sigma^2))), solved for sigma
    sigma = np.sqrt(-0.5 / np.log((1 / middle[blurred] - 1) / 2))
    assert sigma.min() > low - 1e-4 and sigma.max() < high + 1e-4
    assert stats.kstest(sigma, stats.uniform(low, high - low).cdf).pvalue > 1e-3
    for place, own in list(zip(np.flatnonzero(blurred), sigma, strict=True))[:50]:
        torch.testing.assert_close(
            result[place], TF.gaussian_blur(images[place], 3, float(own)), rtol=1e-4, atol=1e-5
        )


# Random erasing


def rectangles(result, images):
    """Return (image, top, left, height, width) of each changed region, all full rectangles."""
    changed = (result != images).all(1)
    assert torch.equal(changed, (result != images).any(1))  # all channels alike
    found = []
    for number, mask in enumerate(changed):
        if mask.any():
            rows, columns = mask.any(1).nonzero().flatten(), mask.any(0).nonzero().flatten()
            top, bottom, left, right = (
                int(rows[0]),
                int(rows[-1]) + 1,
                int(columns[0]),
                int(columns[-1]) + 1,
            )
            assert mask[top:bottom, left:right].all()
            found.append((number, top, left, bottom - top, right - left))
    return np.array(found)


@pytest.mark.parametrize(("scale", "ratio"), [((0.02, 0.2), (0.3, 3.3)), ((0.1, 0.1), (0.5, 0.6))])
def test_erased_rectangles_obey_scale_and_ratio(scale, ratio):
    images = torch.ones(800, 2, 32, 32)
    result = augment.random_erasing(images, 1.0, scale, generator(2), ratio, value=7.0)
    found = rectangles(result, images)
    assert len(found) == 800 and set(result.unique().tolist()) == {1.0, 7.0}
    height, width = found[:, 3], found[:, 4]
    # sides are rounded: some unrounded rectangle within half a pixel must obey both ranges
    assert ((height + 0.5) * (width + 0.5) >= scale[0] * 1024).all()
    assert ((height - 0.5) * (width - 0.5) <= scale[1] * 1024).all()
    assert ((height + 0.5) / (width - 0.5) >= ratio[0]).all()
    assert ((height - 0.5) / (width + 0.5) <= ratio[1]).all()
    assert (height < 32).all() and (width < 32).all()
    for start, side in ((found[:, 1], height), (found[:, 2], width)):  # every position is possible
        assert start.min() == 0 and (start + side).max() == 32
        place = (start + np.random.default_rng(0).random(800)) / (33 - side)
        assert stats.kstest(place, "uniform").pvalue > 1e-3


@pytest.mark.parametrize("probability", [0.25, 0.5])
def test_share_of_erased_images(probability):
    images = torch.ones(2000, 1, 16, 16)
    result = augment.random_erasing(images, probability, (0.05, 0.2), generator(6))
    found = rectangles(result, images)
    assert near(len(found) / 2000, probability, 2000)
    assert result.min() == 0.0
    assert torch.equal(augment.random_erasing(images, 0.0, (0.05, 0.2), generator(6)), images)


def test_erasing_draws_as_torchvisions_does():
    """Large areas often do not fit: the rule `h < H and w < W` and ten tries show in the sizes."""
    scale, ratio, count = (0.02, 1.0), (0.3, 3.3), 2500
    images = torch.ones(count, 1, 32, 32)
    mine = rectangles(augment.random_erasing(images, 1.0, scale, generator(8), ratio), images)
    torch.manual_seed(9)
    drawn = [RandomErasing.get_params(images[0], scale, ratio, [0.0]) for _ in range(count)]
    theirs = np.array(
        [one[:4] for one in drawn if one[4].shape[-1] != 32 or one[4].shape[-2] != 32]
    )
    theirs = np.array([(top, left, h, w) for top, left, h, w in theirs if h < 32 and w < 32])
    # A draw of ten hardly ever fails.
    assert abs(len(mine) - len(theirs)) <= 4 * math.sqrt(count) * 0.05 + 5
    for column in range(4):
        assert stats.ks_2samp(mine[:, column + 1], theirs[:, column]).pvalue > 1e-3
    areas = (mine[:, 3] * mine[:, 4], theirs[:, 2] * theirs[:, 3])
    assert stats.ks_2samp(*areas).pvalue > 1e-3


@pytest.mark.parametrize(
    ("scale", "ratio", "erased"),
    [
        ((1.0, 1.0), (1.0, 1.0), False),  # 32 x 32 does not fit strictly
        ((0.9385, 0.9385), (1.0, 1.0), True),  # 31 x 31 does
        ((0.5, 0.5), (2.0, 2.0), False),  # 32 x 16: too tall
        ((0.5, 0.5), (0.5, 0.5), False),  # 16 x 32: too wide
        ((0.46, 0.46), (2.0, 2.0), True),  # 31 x 15
    ],
)
def test_rectangles_must_fit_strictly_inside(scale, ratio, erased):
    images = torch.ones(20, 1, 32, 32)
    result = augment.random_erasing(images, 1.0, scale, generator(), ratio)
    theirs = [RandomErasing.get_params(images[0], scale, ratio, [0.0]) for _ in range(20)]
    # Get_params gives the whole image where none fits.
    assert all((one[2:4] != (32, 32)) == erased for one in theirs)
    assert [(result[i] != images[i]).any().item() for i in range(20)] == [erased] * 20


# CutMix


def mixed_batch(count=400, alpha=1.0, probability=0.7, seed=11, size=32):
    images, labels = random_images(count, size=size), torch.arange(count)
    return images, labels, *augment.cutmix(images, labels, alpha, probability, generator(seed))


def test_cutmix_labels_are_the_areas_counted_in_the_pixels():
    images, labels, mixed, partners, lam = mixed_batch()
    assert lam.dtype == torch.float32 and lam.shape == (400,) and partners.dtype == torch.int64
    own_box = 0
    for i in range(400):
        own = (mixed[i] == images[i]).all(0)
        # Labels are numbers of images: the label names the partner.
        other = (mixed[i] == images[partners[i]]).all(0)
        assert (own | other).all()
        if partners[i] == labels[i]:
            own_box += 1
            continue
        assert not (own & other).any()
        assert lam[i].item() == pytest.approx(int(own.sum()) / 1024, abs=1e-6)
        assert 1 - lam[i].item() == pytest.approx(int(other.sum()) / 1024, abs=1e-6)
    assert own_box < 10
    # A permutation: each image is a partner once.
    assert torch.equal(partners.sort().values, labels)


def test_cutmix_boxes_are_squares_clipped_at_the_border():
    images, labels, mixed, partners, _ = mixed_batch(1000, probability=1.0)
    different = partners != labels
    boxes = rectangles(mixed[different], images[different])
    top, left, height, width = boxes[:, 1:].T
    bottom, right = top + height, left + width
    inside = (top > 0) & (left > 0) & (bottom < 32) & (right < 32)
    assert inside.sum() > 100 and (~inside).sum() > 300
    assert (height[inside] == width[inside]).all() and (height[inside] % 2 == 0).all()
    # Hang over above or below only.
    vertical = ((top == 0) | (bottom == 32)) & (left > 0) & (right < 32)
    assert vertical.sum() > 20
    assert (height[vertical] <= width[vertical]).all() and (
        height[vertical] < width[vertical]
    ).any()
    assert top.min() == left.min() == 0 and bottom.max() == right.max() == 32


@pytest.mark.parametrize(
    ("lam", "side"), [(0.0, 32), (0.75, 16), (0.4375, 24), (0.99, 2), (1.0, 0)]
)
def test_cutmix_box_of_a_given_lambda(monkeypatch, lam, side):
    """Side sqrt(1 - lambda) W by the paper; clipped around a uniform centre, by hand."""
    monkeypatch.setattr(augment, "random_beta", lambda count, *_: torch.full((count,), lam))
    images, labels, mixed, partners, kept = mixed_batch(3000, probability=1.0, size=32)
    different = partners != labels
    extents = [min(32, centre + side // 2) - max(0, centre - side // 2) for centre in range(32)]
    allowed = {(1024 - a * b) / 1024 for a in extents for b in extents}
    assert {round(value, 6) for value in kept.tolist()} <= {round(value, 6) for value in allowed}
    mean = np.mean(extents)
    assert kept.mean().item() == pytest.approx(1 - (mean / 32) ** 2, abs=0.02)
    if lam == 0.0:  # by hand: extents 16..32 and 17..31, mean 24, so a share of 9/16 is replaced
        assert mean == 24 and kept.mean().item() == pytest.approx(0.4375, abs=0.02)
    if side:
        boxes = rectangles(mixed[different], images[different])
        assert boxes[:, 3].max() == side == boxes[:, 4].max()
        assert boxes[:, 3].min() == min(extents) == boxes[:, 4].min()
    else:
        assert torch.equal(mixed, images) and (kept == 1).all()


def test_cutmix_centres_are_uniform_over_all_pixels(monkeypatch):
    monkeypatch.setattr(augment, "random_beta", lambda count, *_: torch.full((count,), 0.99))
    images, labels, mixed, partners, _ = mixed_batch(3000, probability=1.0)
    different = partners != labels
    boxes = rectangles(mixed[different], images[different])
    for start, side in ((boxes[:, 1], boxes[:, 3]), (boxes[:, 2], boxes[:, 4])):
        centre = start + side - 1  # a box of side 2 reaches from centre - 1 to centre
        assert stats.chisquare(np.bincount(centre, minlength=32)).pvalue > 1e-3


def test_cutmix_box_of_an_oblong_image(monkeypatch):
    monkeypatch.setattr(augment, "random_beta", lambda count, *_: torch.full((count,), 0.75))
    images = torch.rand(500, 1, 16, 40, generator=generator())
    labels = torch.arange(500)
    mixed, partners, lam = augment.cutmix(images, labels, 1.0, 1.0, generator(1))
    different = partners != labels
    boxes = rectangles(mixed[different], images[different])
    assert (boxes[:, 3].max(), boxes[:, 4].max()) == (8, 20)
    areas = boxes[:, 3] * boxes[:, 4] / 640
    np.testing.assert_allclose(1 - lam[different].numpy(), areas, atol=1e-6)


def test_cutmix_lambda_is_one_where_nothing_was_mixed():
    images, _, mixed, _, lam = mixed_batch(probability=0.5, count=1000)
    untouched = (mixed == images).flatten(1).all(1)
    assert (lam[~untouched] < 1).all()
    assert ((lam == 1) <= untouched).all()
    # for alpha 1 a box of side 0 (lambda > 1 - 1/16^2) comes up with probability 1/256
    assert near((lam < 1).float().mean().item(), 0.5 * (1 - 1 / 256), 1000)
    result = augment.cutmix(images, torch.arange(1000), 1.0, 0.0, generator())
    assert torch.equal(result[0], images) and (result[2] == 1).all()


def test_cutmix_lambda_is_distributed_as_torchvisions():
    count = 2000
    *_, lam = mixed_batch(count, probability=1.0)
    torch.manual_seed(3)
    theirs = v2.CutMix(alpha=1.0, num_classes=10)
    image = torch.zeros(4, 3, 32, 32)
    drawn = [theirs.make_params([image])["lam_adjusted"] for _ in range(count)]
    assert stats.ks_2samp(lam.numpy(), np.array(drawn)).pvalue > 1e-3


@pytest.mark.parametrize(
    ("alpha", "expected"),
    [
        (1.0, stats.uniform(0, 1)),
        (0.2, stats.beta(0.2, 0.2)),
        (0.5, stats.beta(0.5, 0.5)),
        (4.0, stats.beta(4, 4)),
    ],
)
def test_lambda_before_clipping_is_beta(alpha, expected):
    drawn = augment.random_beta(5000, alpha, torch.device("cpu"), generator(5)).double().numpy()
    assert drawn.min() >= 0 and drawn.max() <= 1
    assert stats.kstest(drawn, expected.cdf).pvalue > 1e-3
    again = augment.random_beta(5000, alpha, torch.device("cpu"), generator(5)).double().numpy()
    np.testing.assert_array_equal(drawn, again)


@pytest.mark.parametrize("alpha", [0.01, 0.03])
def test_lambda_of_a_very_small_alpha(alpha):
    """lib.settings allows alpha from 0.01: nearly all mass is at 0 and 1, hardly any between."""
    drawn = augment.random_beta(5000, alpha, torch.device("cpu"), generator(5)).double()
    between = ((drawn > 0.01) & (drawn < 0.99)).double().mean().item()
    expected = stats.beta(alpha, alpha).cdf(0.99) - stats.beta(alpha, alpha).cdf(0.01)
    assert torch.isfinite(drawn).all()
    assert near(between, expected, 5000), (
        f"{between:.3f} of the draws lie in 0.01..0.99, expected {expected:.3f}"
    )


# Mixup


def test_mixup_is_the_convex_combination_its_labels_say():
    images, labels = random_images(300, size=8), torch.arange(300)
    mixed, partners, lam = augment.mixup(images, labels, 1.0, 0.6, generator(12))
    assert lam.min() >= 0 and lam.max() <= 1 and torch.equal(partners.sort().values, labels)
    for i in range(300):
        weight = lam[i].item()
        expected = weight * images[i].double() + (1 - weight) * images[int(partners[i])].double()
        torch.testing.assert_close(mixed[i].double(), expected, rtol=0, atol=1e-6)
    low, high = torch.minimum(images, images[partners]), torch.maximum(images, images[partners])
    assert (mixed >= low - 1e-6).all() and (mixed <= high + 1e-6).all()
    assert near((lam < 1).float().mean().item(), 0.6, 300)
    assert torch.equal(mixed[lam == 1], images[lam == 1])
    assert stats.kstest(lam[lam < 1].numpy(), "uniform").pvalue > 1e-3


# The whole chain


def raw(count=6):
    return random_images(count, dtype=torch.uint8), torch.arange(count) % 10


def normalised(pixels):
    return torch.stack(
        [TF.normalize(one.float() / 255, STATISTICS.mean, STATISTICS.std) for one in pixels]
    )


def test_train_batch_with_everything_off_is_plain_normalisation():
    pixels, labels = raw()
    before = pixels.clone()
    images, partners, lam = augment.train_batch(
        pixels, labels, Train(**OFF), STATISTICS, generator()
    )
    assert images.dtype == torch.float32 and torch.equal(pixels, before)
    torch.testing.assert_close(images, normalised(pixels), rtol=1e-6, atol=1e-6)
    assert torch.equal(partners, labels) and torch.equal(lam, torch.ones(6))


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"horizontal_flip": 1.0}, lambda pixels: normalised(TF.hflip(pixels))),
        ({"vertical_flip": 1.0}, lambda pixels: normalised(TF.vflip(pixels))),
        (
            {"horizontal_flip": 1.0, "vertical_flip": 1.0},
            lambda pixels: normalised(TF.rotate(pixels, 180)),
        ),
        (
            {"blur": 1.0, "blur_sigma": (0.8, 0.8), "blur_kernel": 5},
            lambda pixels: TF.normalize(
                TF.gaussian_blur(pixels.float() / 255, 5, 0.8), STATISTICS.mean, STATISTICS.std
            ),
        ),
    ],
)
def test_train_batch_with_one_thing_on(changes, expected):
    pixels, labels = raw()
    images, _, lam = augment.train_batch(
        pixels, labels, Train(**OFF | changes), STATISTICS, generator()
    )
    torch.testing.assert_close(images, expected(pixels), rtol=1e-5, atol=1e-5)
    assert (lam == 1).all()


@pytest.mark.parametrize("mode", ["zero", "reflect"])
def test_train_batch_crops_before_it_normalises(mode):
    pixels, labels = raw()
    recipe = Train(**OFF | {"crop_padding": 4, "crop_mode": mode})
    images, _, _ = augment.train_batch(pixels, labels, recipe, STATISTICS, generator())
    padded = F.pad(pixels.float(), [4] * 4, mode="constant" if mode == "zero" else mode)
    for mine, whole in zip(
        images, normalised(padded), strict=True
    ):  # padding is black, not the mean
        windows = [TF.crop(whole, top, left, 32, 32) for top in range(9) for left in range(9)]
        assert sum(torch.allclose(mine, one, atol=1e-5) for one in windows) == 1


def test_train_batch_erases_to_the_mean_colour():
    pixels, labels = raw(40)
    recipe = Train(**OFF | {"erasing": 1.0, "erasing_scale": (0.1, 0.2)})
    images, _, _ = augment.train_batch(pixels, labels, recipe, STATISTICS, generator())
    plain = normalised(pixels)
    changed = ((images - plain).abs() > 1e-5).any(1, keepdim=True).expand_as(images)
    assert (images[changed] == 0).all() and 0.08 < changed.float().mean() < 0.22


def test_train_batch_mixes_with_cutmix():
    pixels, labels = raw(60)
    labels = torch.arange(60)
    images, partners, lam = augment.train_batch(
        pixels, labels, Train(**OFF | {"cutmix": 1.0}), STATISTICS, generator()
    )
    plain = normalised(pixels)
    for i in range(60):
        if partners[i] != i:
            own = torch.isclose(images[i], plain[i], atol=1e-5).all(0)
            other = torch.isclose(images[i], plain[partners[i]], atol=1e-5).all(0)
            assert (own | other).all()
            assert lam[i].item() == pytest.approx(own.float().mean().item(), abs=2 / 1024)


def test_train_batch_needs_no_more_than_the_fields_it_names():
    recipe = SimpleNamespace(
        crop_padding=0,
        crop_mode="zero",
        horizontal_flip=0.0,
        vertical_flip=0.0,
        blur=0.0,
        trivial_augment=0.0,
        augmix=0.0,
        erasing=0.0,
        cutmix=0.0,
        mixup=0.0,
    )
    pixels, labels = raw(2)
    images, _, _ = augment.train_batch(pixels, labels, recipe, STATISTICS, generator())
    torch.testing.assert_close(images, normalised(pixels), rtol=1e-6, atol=1e-6)


def test_mix_pastes_a_share_blends_a_share_and_leaves_the_rest():
    """Of images of one value each, a pasted one holds two, a blended one a single value between."""
    count = 6000
    values = torch.arange(count, dtype=torch.float64)
    images = values[:, None, None, None].expand(count, 1, 8, 8).contiguous()
    recipe = SimpleNamespace(cutmix=0.3, cutmix_alpha=1.0, mixup=0.2, mixup_alpha=1.0)
    mixed, partners, lam = augment.mix(images, values.long(), recipe, generator())
    flat = mixed.flatten(1)
    torch.testing.assert_close(
        flat.mean(1), lam * values + (1 - lam) * partners, rtol=1e-5, atol=1e-2
    )
    same = flat == flat[:, :1]
    own = (flat == values[:, None]).all(1)
    pasted, blended = ~same.all(1), same.all(1) & ~own
    assert (lam[own] == 1).logical_or(partners[own] == values[own].long()).all()
    # some boxes cover all or nothing of an image of 8 x 8
    assert abs(int(blended.sum()) - 0.2 * count) < 0.02 * count
    assert 0.22 * count < int(pasted.sum()) < 0.31 * count
    assert abs(int(own.sum()) - 0.5 * count) < 0.06 * count


@pytest.mark.parametrize(("cutmix", "mixup"), [(1.0, 0.0), (0.0, 1.0)])
def test_mix_with_one_of_them_is_that_one(cutmix, mixup):
    pixels, labels = raw(64)
    images = pixels.float()
    recipe = SimpleNamespace(cutmix=cutmix, cutmix_alpha=1.0, mixup=mixup, mixup_alpha=1.0)
    alone = augment.cutmix if cutmix else augment.mixup
    for ours, theirs in zip(
        augment.mix(images, labels, recipe, generator(5)),
        alone(images, labels, 1.0, 1.0, generator(5)),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs)


def test_train_batch_mirrors_what_it_is_told():
    pixels, labels = raw(4)
    mirrored = torch.tensor([True, False, False, True])
    images, _, _ = augment.train_batch(
        pixels, labels, Train(**OFF), STATISTICS, generator(), mirrored=mirrored
    )
    expected = torch.stack(
        [image.flip(2) if turn else image for image, turn in zip(pixels, mirrored, strict=True)]
    )
    torch.testing.assert_close(images, normalised(expected), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", ["trivial_augment", "augmix"])
def test_train_batch_changes_the_cropped_and_mirrored_pixels(name):
    pixels, labels = raw(50)
    recipe = Train(**OFF | {name: 1.0})
    images, _, _ = augment.train_batch(
        pixels, labels, recipe, STATISTICS, generator(), generator(9)
    )
    expected = getattr(trivial, name)(pixels, 1.0, generator(9))
    torch.testing.assert_close(images, normalised(expected), rtol=1e-6, atol=1e-6)
    assert not torch.equal(expected, pixels)
