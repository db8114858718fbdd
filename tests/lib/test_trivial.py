"""TrivialAugment and AugMix against torchvision's operations, draws against distributions."""

import math

import numpy as np
import pytest
import torch
from scipy import stats
from torchvision.transforms import AugMix, InterpolationMode, TrivialAugmentWide
from torchvision.transforms.autoaugment import _apply_op

from lib import trivial

SPACE = TrivialAugmentWide()._augmentation_space(31)
NAMES = list(SPACE)


@pytest.fixture(autouse=True)
def one_thread():
    """Thousands of calls on single images: a second thread costs more than it computes."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def pictures(height=32, width=32):
    """Noise, something like a photograph, low contrast, two levels, a dark corner, constants."""
    noise = torch.randint(256, (2, 3, height, width), generator=generator(1), dtype=torch.uint8)
    y, x = torch.meshgrid(torch.linspace(0, 3, height), torch.linspace(0, 3, width), indexing="ij")
    waves = torch.stack([torch.sin(x * y), torch.cos(x - y * 2), torch.sin(x + y)])
    photograph = (
        (waves * 90 + 120 + torch.randn(3, height, width, generator=generator(2)) * 6)
        .clamp(0, 255)
        .byte()
    )
    faint = 100 + noise[0] % 4
    binary = (noise[1] > 200) * 255
    corner = noise[0].clone()
    corner[:, : height - 2] = 0
    constants = [torch.full_like(noise[0], level) for level in (0, 7, 255)]
    flat_channel = torch.stack([noise[1, 0], constants[1][0], photograph[0]])
    each = [*noise, photograph, faint, binary, corner, *constants, flat_channel]
    return torch.stack([one.to(torch.uint8) for one in each])


def every(name):
    """All magnitudes of an operation with the signs it may have."""
    magnitudes, signed = SPACE[name]
    values = magnitudes.float().reshape(-1)
    return torch.cat([values, -values]) if signed else values


def torchvisions(image, name, magnitude):
    return _apply_op(image, name, magnitude, InterpolationMode.NEAREST, None)


def torchvisions_batch(images, plan):
    chosen = zip(images, plan.operation.tolist(), plan.magnitude.tolist(), strict=True)
    return torch.stack(
        [torchvisions(image, NAMES[operation], magnitude) for image, operation, magnitude in chosen]
    )


def near(share, probability, count):
    """Whether a share of `count` draws fits the probability: within four standard deviations."""
    return abs(share - probability) <= 4 * math.sqrt(probability * (1 - probability) / count)


# Operations


@pytest.mark.parametrize("name", NAMES)
def test_each_magnitude_and_sign_gives_torchvisions_pixels(name):
    images, magnitudes = pictures(), every(name)
    batch = images.repeat_interleave(len(magnitudes), 0)
    plan = trivial.Plan(
        torch.full((len(batch),), NAMES.index(name)), magnitudes.repeat(len(images))
    )
    expected = torchvisions_batch(batch, plan)
    result = trivial.apply(batch, plan)
    assert result.dtype == torch.uint8 and result.shape == batch.shape
    differ = (result != expected).sum(dim=(1, 2, 3))
    assert not differ.any(), (
        f"{int(differ.sum())} pixels, magnitudes {plan.magnitude[differ > 0].unique().tolist()}"
    )
    if name != "Identity":
        assert (expected != batch).any()


@pytest.mark.parametrize("name", [name for name in NAMES if SPACE[name][1]])
def test_oblong_images(name):
    images, magnitudes = pictures(16, 32)[:2], every(name)[::3]
    batch = images.repeat_interleave(len(magnitudes), 0)
    plan = trivial.Plan(
        torch.full((len(batch),), NAMES.index(name)), magnitudes.repeat(len(images))
    )
    assert torch.equal(trivial.apply(batch, plan), torchvisions_batch(batch, plan))


def test_autocontrast_of_every_range():
    """Each pair of darkest and brightest pixel, with every value between."""
    low, high = torch.triu_indices(256, 256)[:, ::7]
    values = torch.arange(256).clamp(low[:, None], high[:, None]).to(torch.uint8)
    batch = values.view(-1, 1, 16, 16).expand(-1, 3, -1, -1)
    plan = trivial.Plan(
        torch.full((len(batch),), NAMES.index("AutoContrast")), torch.zeros(len(batch))
    )
    result = trivial.apply(batch, plan)
    some = range(0, len(batch), 5)
    assert all(torch.equal(result[i], torchvisions(batch[i], "AutoContrast", 0.0)) for i in some)


def test_operations_by_hand():
    image = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16).expand(5, 3, -1, -1)
    chosen = {
        "TranslateX": 3.7,
        "Solarize": 0.0,
        "Posterize": 2.0,
        "Brightness": 0.5,
        "ShearY": 0.0,
    }
    operations = torch.tensor([NAMES.index(name) for name in chosen])
    plan = trivial.Plan(operations, torch.tensor(list(chosen.values())))
    moved, inverted, coarse, bright, same = trivial.apply(image, plan)
    assert (moved[:, :, :3] == 0).all() and torch.equal(moved[:, :, 3:], image[0, :, :, :-3])
    assert torch.equal(inverted, 255 - image[0])
    assert coarse.unique().tolist() == [0, 64, 128, 192]
    assert torch.equal(
        bright[0].flatten(), torch.tensor([min(value * 3 // 2, 255) for value in range(256)])
    )
    assert torch.equal(same, image[0])


def test_a_mixed_batch_keeps_its_order():
    images = torch.randint(256, (400, 3, 32, 32), generator=generator(3), dtype=torch.uint8)
    before = images.clone()
    result = trivial.trivial_augment(images, 0.8, generator(4))
    assert torch.equal(result, torchvisions_batch(images, trivial.draw(400, 0.8, generator(4))))
    assert torch.equal(images, before) and result.data_ptr() != images.data_ptr()


@pytest.mark.parametrize("count", [0, 1, 3])
def test_small_batches(count):
    images = pictures()[:count]
    result = trivial.trivial_augment(images, 1.0, generator(5))
    assert result.shape == images.shape and result.dtype == torch.uint8
    for image, mine, operation, magnitude in zip(
        images, result, *trivial.draw(count, 1.0, generator(5)), strict=True
    ):
        assert torch.equal(mine, torchvisions(image, NAMES[operation], float(magnitude)))


# Draws


def test_space_is_torchvisions():
    assert list(trivial.SPACE) == NAMES
    plan = trivial.draw(60_000, 1.0, generator(6))
    for index, name in enumerate(NAMES):
        drawn = plan.magnitude[plan.operation == index]
        assert torch.equal(drawn.unique(), every(name).unique()), name


def test_operations_and_bins_are_uniform():
    plan = trivial.draw(56_000, 1.0, generator(7))
    assert stats.chisquare(np.bincount(plan.operation, minlength=14)).pvalue > 1e-3
    for index, name in enumerate(NAMES):
        # Posterize has equal bins.
        values, bins = np.unique(SPACE[name][0].float().numpy(), return_counts=True)
        drawn, counts = np.unique(
            plan.magnitude[plan.operation == index].abs().numpy(), return_counts=True
        )
        np.testing.assert_array_equal(drawn, values)
        assert (
            len(values) == 1
            or stats.chisquare(counts, bins / bins.sum() * counts.sum()).pvalue > 1e-3
        ), name


def test_signs():
    plan = trivial.draw(56_000, 1.0, generator(8))
    for index, name in enumerate(NAMES):
        negative = plan.magnitude[plan.operation == index].signbit()
        count = len(negative)
        assert (
            near(negative.float().mean().item(), 0.5, count)
            if SPACE[name][1]
            else not negative.any()
        ), name


@pytest.mark.parametrize("probability", [0.0, 0.3, 0.5, 1.0])
def test_share_of_augmented_images(probability):
    operation = trivial.draw(20_000, probability, generator(9)).operation
    identity = 1 - probability * 13 / 14
    assert near((operation == 0).float().mean().item(), identity, 20_000)
    counts = np.bincount(operation, minlength=14)[1:]
    assert counts.sum() == 0 if probability == 0 else stats.chisquare(counts).pvalue > 1e-3


def test_operation_bin_and_sign_are_independent():
    plan = trivial.draw(40_000, 1.0, generator(10))
    geometric = (plan.operation >= 1) & (plan.operation <= 5)
    operation, magnitude = plan.operation[geometric], plan.magnitude[geometric]
    steepest = torch.stack([every(NAMES[index]).max() for index in range(1, 6)])[operation - 1]
    position = (magnitude.abs() / steepest * 30).round().long()
    for first, second in (
        (operation - 1, position),
        (operation - 1, magnitude.signbit()),
        (position, magnitude < 0),
    ):
        kept = position > 0
        table = np.zeros((31, 31))
        np.add.at(table, (first[kept].numpy(), second[kept].long().numpy()), 1)
        table = table[table.sum(1) > 0][:, table.sum(0) > 0]
        assert stats.chi2_contingency(table).pvalue > 1e-3


def test_probability_zero_returns_equal_images():
    images = pictures()
    result = trivial.trivial_augment(images, 0.0, generator())
    assert torch.equal(result, images) and result.data_ptr() != images.data_ptr()


def test_the_generator_alone_decides():
    images = pictures().repeat(4, 1, 1, 1)
    torch.manual_seed(0)
    first = trivial.trivial_augment(images, 0.9, generator(11))
    torch.manual_seed(1)
    state = torch.get_rng_state()
    assert torch.equal(trivial.trivial_augment(images, 0.9, generator(11)), first)
    assert torch.equal(torch.get_rng_state(), state)
    assert not torch.equal(trivial.trivial_augment(images, 0.9, generator(12)), first)


def test_what_follows_in_the_generator_does_not_depend_on_the_probability():
    states = []
    for probability in (0.0, 0.5, 1.0):
        source = generator(13)
        trivial.draw(100, probability, source)
        states.append(source.get_state())
    assert torch.equal(states[0], states[1]) and torch.equal(states[0], states[2])


# Devices


def test_nothing_is_read_back_from_the_device():
    """A meta tensor has no values: item, nonzero, masks and CPU tensors among operands raise."""
    images = torch.empty(200, 3, 32, 32, dtype=torch.uint8, device="meta")
    result = trivial.trivial_augment(images, 0.9, generator())
    assert (
        result.device.type == "meta"
        and result.dtype == torch.uint8
        and result.shape == images.shape
    )


def test_deterministic_algorithms_and_autocast_change_nothing():
    images = pictures().repeat(10, 1, 1, 1)
    plan = trivial.draw(len(images), 1.0, generator(14))
    expected = torchvisions_batch(images, plan)
    torch.use_deterministic_algorithms(True)
    try:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert torch.equal(trivial.apply(images, plan), expected)
    finally:
        torch.use_deterministic_algorithms(False)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_gives_the_same_pixels_without_waiting():
    images = torch.randint(256, (2000, 3, 32, 32), generator=generator(15), dtype=torch.uint8)
    plan = trivial.draw(len(images), 1.0, generator(16))
    on_gpu = images.cuda()
    torch.use_deterministic_algorithms(True)
    torch.cuda.set_sync_debug_mode("error")
    try:
        result = trivial.apply(on_gpu, plan)
    finally:
        torch.cuda.set_sync_debug_mode("default")
        torch.use_deterministic_algorithms(False)
    assert torch.equal(result.cpu(), torchvisions_batch(images, plan))


# AugMix


def test_augmix_has_torchvisions_operations_at_severity_three():
    space = AugMix(severity=3, all_ops=False)._augmentation_space(10, (32, 32))
    assert list(trivial.AUGMIX) == list(space)
    plan = trivial.draw(40_000, 1.0, generator(20), trivial.AUGMIX, trivial.AUGMIX_BINS)
    for name, (magnitudes, signed) in space.items():
        drawn = plan.magnitude[plan.operation == NAMES.index(name)]
        assert near(len(drawn) / 40_000, 1 / 9, 40_000), name
        wanted = magnitudes.float().reshape(-1)[:3]
        torch.testing.assert_close(drawn.abs().unique(), wanted.unique())
        negative = drawn[drawn != 0].signbit().float()
        if signed:
            assert near(negative.mean().item(), 0.5, len(negative)), name
        else:
            assert not negative.any(), name


def augmix_by_hand(images, probability, source):
    """The same draws, image by image through torchvision's operations, mixed in float64."""
    count = len(images)
    chosen = torch.rand(count, generator=source) < probability
    share = torch.rand(count, generator=source).double() * chosen
    weights = torch._sample_dirichlet(torch.ones(count, 3), generator=source).double()
    mixed = images.double() * (1 - share)[:, None, None, None]
    for chain in range(3):
        depth, changed = torch.randint(1, 4, (count,), generator=source), images
        for step in range(3):
            plan = trivial.draw(count, 1.0, source, trivial.AUGMIX, trivial.AUGMIX_BINS)
            after = torchvisions_batch(changed, plan)
            changed = torch.where((step < depth)[:, None, None, None], after, changed)
        mixed += changed.double() * (share * weights[:, chain])[:, None, None, None]
    return mixed


def test_augmix_by_hand():
    images = torch.cat([pictures()] * 3)
    before = images.clone()
    result = trivial.augmix(images, 0.7, generator(21))
    wanted = augmix_by_hand(images, 0.7, generator(21))
    assert result.dtype == torch.uint8 and torch.equal(images, before)
    assert (result.double() - wanted).abs().max() <= 0.5 + 1e-3  # rounded, not cut off
    assert (result != images).flatten(1).any(1).float().mean() > 0.4


def test_augmix_shares():
    """A probability p mixes that share of images; chains weigh half on average (Beta(1, 1))."""
    images = torch.zeros(4000, 3, 8, 8, dtype=torch.uint8)
    images[:, :, 4:] = 200
    result = trivial.augmix(images, 0.6, generator(22))
    same = (result == images).flatten(1).all(1).float().mean().item()
    assert 0.4 <= same < 0.5  # some chains change nothing here
    assert torch.equal(trivial.augmix(images, 0.0, generator(23)), images)


def test_augmix_reads_nothing_back_from_the_device():
    images = torch.empty(50, 3, 32, 32, dtype=torch.uint8, device="meta")
    assert trivial.augmix(images, 0.9, generator()).device.type == "meta"
