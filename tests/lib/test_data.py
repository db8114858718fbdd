"""Splits, statistics, copies against NumPy, brute force; the digits; real CIFAR-10 where it is."""

import hashlib
import inspect
import pickle

import numpy as np
import pytest
import torch
import torchvision.transforms.functional as TF
from sklearn.datasets import load_digits

from bundle import words
from bundle.dataset import cifar10 as dataset_cifar10
from bundle.dataset.cifar10 import load as load_here
from lib import data
from lib.errors import UserError

STATISTICS = data.Statistics((0.49, 0.48, 0.45), (0.25, 0.24, 0.26))


def random_pixels(count, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(256, (count, 3, 32, 32), generator=generator, dtype=torch.uint8)


def random_labels(sizes, seed=0):
    labels = torch.cat([torch.full((size,), label) for label, size in enumerate(sizes)])
    return labels[torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))]


def counts(labels, classes=10):
    return np.bincount(np.asarray(labels), minlength=classes)


def images_of(pixels):
    """The images as a sorted list of bytes, to compare sets whatever their order."""
    return sorted(image.tobytes() for image in pixels.numpy())


@pytest.fixture(scope="module")
def digits():
    return data.load("digits")


@pytest.fixture(scope="module")
def cifar10():
    """The arrays of CIFAR-10's own files, read here without lib, and what lib makes of them."""
    root = dataset_cifar10.locate(verify=False)
    if root is None:
        pytest.skip("no CIFAR-10 here: set CIFAR10_ROOT or run make data")
    folder = root / "cifar-10-batches-py"
    parts = {
        name: pickle.loads((folder / name).read_bytes(), encoding="bytes")
        for name in [f"data_batch_{number}" for number in range(1, 6)] + ["test_batch"]
    }
    train = np.concatenate([parts[f"data_batch_{number}"][b"data"] for number in range(1, 6)])
    labels = np.concatenate([parts[f"data_batch_{number}"][b"labels"] for number in range(1, 6)])
    test = parts["test_batch"]
    return load_here("cifar10"), train, labels, test[b"data"], np.array(test[b"labels"])


# Splits


@pytest.mark.parametrize(
    "sizes", [(500,) * 10, (178, 182, 177, 183, 181, 182, 181, 179, 174, 180), (40, 7, 1)]
)
@pytest.mark.parametrize("share", [0.1, 0.33])
def test_split_is_complete_disjoint_and_stratified(sizes, share):
    labels = random_labels(sizes)
    wanted = int(len(labels) * share)
    kept, held = data.split(labels, wanted)
    assert len(held) == wanted and len(kept) == len(labels) - wanted
    assert sorted(kept.tolist() + held.tolist()) == list(range(len(labels)))
    assert kept.tolist() == sorted(kept.tolist()) and held.tolist() == sorted(held.tolist())
    ideal = np.array(sizes) * wanted / len(labels)
    assert (np.abs(counts(labels[held], len(sizes)) - ideal) <= 1).all()


def test_split_does_not_depend_on_any_seed():
    labels = random_labels((100,) * 10)
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first = data.split(labels, 100)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(2)
    second = data.split(labels, 100)
    assert all(torch.equal(one, two) for one, two in zip(first, second, strict=True))
    assert "seed" not in inspect.signature(data.load).parameters


def test_split_is_drawn_not_cut_off():
    labels = torch.arange(1000) % 10
    _, held = data.split(labels, 100)
    assert held.float().mean().item() == pytest.approx(499.5, abs=100)
    assert held[-1] - held[0] > 800


def test_split_of_nothing():
    kept, held = data.split(random_labels((5, 5)), 0)
    assert kept.tolist() == list(range(10)) and len(held) == 0


@pytest.mark.parametrize("count", [1, 9, 10, 11, 101, 333, 999, 1000])
def test_stratified_counts_differ_by_at_most_one(count):
    labels = random_labels((100,) * 10)
    chosen = data.stratified(labels, count)
    per_class = counts(labels[chosen])
    assert per_class.sum() == count == len(set(chosen.tolist()))
    assert per_class.max() - per_class.min() <= 1
    assert torch.equal(chosen, data.stratified(labels, count))


def test_larger_subsets_contain_the_smaller():
    labels = random_labels((100,) * 10)
    small, large = (set(data.stratified(labels, count).tolist()) for count in (77, 500))
    assert small < large


def test_subset_of_images():
    labels = random_labels((30,) * 10)
    images = data.Images(random_pixels(300), labels, torch.arange(300) + 1000)
    part = data.subset(images, 47)
    assert len(part) == 47 and counts(part.labels).max() == 5 and counts(part.labels).min() == 4
    for pixels, label, index in zip(part.pixels, part.labels, part.index, strict=True):
        place = int(index) - 1000
        assert torch.equal(pixels, images.pixels[place]) and label == labels[place]
    assert (
        data.subset(images, 0) is images
        and data.subset(images, 300) is images
        and len(data.subset(images, 999)) == 300
    )


# The handwritten digits


def upscaled(small):
    """Bilinear enlargement by four of (8, 8), pixel centres aligned: 0 to 255, not rounded."""
    place = np.clip((np.arange(32) + 0.5) / 4 - 0.5, 0, 7)
    low = np.floor(place).astype(int)
    high, part = np.minimum(low + 1, 7), place - low
    matrix = np.zeros((32, 8))
    matrix[np.arange(32), low] += 1 - part
    matrix[np.arange(32), high] += part
    return matrix @ small @ matrix.T / 16 * 255


def test_digits_are_the_1797_images_of_scikit_learn(digits):
    raw = load_digits()
    parts = [digits.train, digits.holdout, digits.test]
    assert [len(part) for part in parts] == [1295, 143, 359] and sum(map(len, parts)) == 1797
    assert len(digits.all_train) == 1438
    pixels = torch.cat([part.pixels for part in parts])
    labels = torch.cat([part.labels for part in parts])
    assert (
        pixels.shape == (1797, 3, 32, 32)
        and pixels.dtype == torch.uint8
        and labels.dtype == torch.int64
    )
    assert torch.equal(pixels[:, 0], pixels[:, 1]) and torch.equal(pixels[:, 0], pixels[:, 2])
    expected = np.array([upscaled(image).ravel() for image in raw.images])
    flat = pixels[:, 0].flatten(1).double().numpy()
    # The nearest, by squared distance.
    places = (np.square(expected).sum(1) - 2 * flat @ expected.T).argmin(1)
    # Rounded to whole levels, nothing else.
    assert np.abs(flat - expected[places]).max() <= 0.5 + 1e-3
    np.testing.assert_array_equal(raw.target[places], labels.numpy())
    # Each exactly once: nothing shared between the parts.
    assert sorted(places) == list(range(1797))


def test_digits_splits_are_stratified(digits):
    assert digits.classes == tuple("0123456789") and digits.name == "digits"
    whole = counts(load_digits().target)
    for part in (digits.train, digits.holdout, digits.test):
        assert (np.abs(counts(part.labels) - whole * len(part) / 1797) <= 1.5).all()
    everything = digits.all_train.pixels
    for part in (digits.train, digits.holdout):
        assert torch.equal(everything[part.index], part.pixels)
        assert torch.equal(digits.all_train.labels[part.index], part.labels)
    assert not set(digits.train.index.tolist()) & set(digits.holdout.index.tolist())


def test_digits_statistics_are_numpys(digits):
    values = digits.all_train.pixels.numpy() / 255
    assert digits.statistics.mean == pytest.approx(values.mean((0, 2, 3)).tolist(), abs=1e-12)
    assert digits.statistics.std == pytest.approx(values.std((0, 2, 3)).tolist(), abs=1e-12)


def test_digits_twice_are_the_same(digits):
    again = data.load("digits")
    for name in ("train", "holdout", "test"):
        assert torch.equal(getattr(again, name).pixels, getattr(digits, name).pixels)
    raw = load_digits()
    assert (
        digits.checksum == hashlib.sha256(raw.images.tobytes() + raw.target.tobytes()).hexdigest()
    )


def test_digits_options(digits):
    part = data.load("digits", train_images=305)
    assert len(part.train) == 305 and torch.equal(part.holdout.pixels, digits.holdout.pixels)
    assert images_of(part.test.pixels) == images_of(digits.test.pixels)
    assert (np.abs(counts(part.train.labels) - counts(digits.train.labels) * 305 / 1295) <= 1).all()
    assert part.is_subset and not digits.is_subset
    assert part.statistics == digits.statistics  # of all training images, not of the part
    whole = data.load("digits", holdout=0)
    assert (len(whole.train), len(whole.holdout)) == (1438, 0) and not whole.is_subset
    assert len(data.load("digits", train_images=5000).train) == 1295


def test_auto_takes_the_digits_where_nothing_else_is(tmp_path, monkeypatch, digits):
    monkeypatch.delenv("CIFAR10_ROOT", raising=False)
    monkeypatch.setattr("bundle.paths.DATA", tmp_path)
    assert load_here("auto").checksum == digits.checksum
    with pytest.raises(UserError):
        load_here("cifar10")


# Statistics


def test_channel_statistics_are_numpys():
    pixels = random_pixels(50)
    pixels[:, 1] //= 3
    values = pixels.numpy().astype(np.float64) / 255
    found = data.channel_statistics(pixels)
    assert found.mean == pytest.approx(values.mean((0, 2, 3)).tolist(), abs=1e-12)
    assert found.std == pytest.approx(values.std((0, 2, 3)).tolist(), abs=1e-12)


def test_per_image_std_is_numpys():
    pixels = random_pixels(2500)  # more than one piece
    pixels = pixels // torch.arange(1, 2501)[:, None, None, None].clamp(max=200).to(torch.uint8)
    values = pixels.numpy().astype(np.float64) / 255
    expected = values.reshape(2500, 3, -1).std(2, ddof=1).mean(0)
    np.testing.assert_allclose(data.per_image_std(pixels).numpy(), expected, rtol=1e-6)


def test_normalise_is_torchvisions_and_denormalise_its_inverse():
    images = random_pixels(4).float() / 255
    found = data.normalise(images, STATISTICS)
    torch.testing.assert_close(
        found, TF.normalize(images, STATISTICS.mean, STATISTICS.std), rtol=1e-6, atol=1e-6
    )
    torch.testing.assert_close(data.denormalise(found, STATISTICS), images, rtol=1e-6, atol=1e-6)
    undone = TF.normalize(
        found,
        [-m / s for m, s in zip(STATISTICS.mean, STATISTICS.std, strict=True)],
        [1 / s for s in STATISTICS.std],
    )
    torch.testing.assert_close(data.denormalise(found, STATISTICS), undone, rtol=1e-5, atol=1e-5)


# Copies


def brute_force(train, test):
    """Root mean square distance of all 8x8 thumbnails, (test, train), in double precision."""
    small, probes = (
        part.double().reshape(-1, 3, 8, 4, 8, 4).mean((3, 5)).flatten(1) for part in (train, test)
    )
    return (probes[:, None] - small[None]).square().mean(2).sqrt()


def test_exact_copies_are_counted():
    train, test = random_pixels(60, 1), random_pixels(40, 2)
    assert data.exact_copies(train, test) == 0
    test[[3, 17, 39]] = train[[0, 59, 0]]
    test[5] = train[7]
    test[5, 2, 31, 31] ^= 1  # one level in one place: no copy
    expected = sum(any(torch.equal(one, other) for other in train) for one in test)
    assert data.exact_copies(train, test) == expected == 3


def test_nearest_pairs_equal_brute_force():
    train, test = random_pixels(300, 3), random_pixels(620, 4)  # more than one piece
    test[10] = train[250]
    test[611] = train[4]
    noise = random_pixels(1, 6)[0].int() % 7 - 3
    test[300] = (train[77].int() + noise).clamp(0, 255).to(torch.uint8)
    test[301] = train[78].roll(1, dims=2)
    distances = brute_force(train, test)
    best = distances.min(1)
    order = best.values.argsort()[:12]
    found = data.nearest_pairs(train, test, 12)
    assert set(found["test"][:2]) == {10, 611} and found["distance"][:2].tolist() == [0, 0]
    assert found["test"][2] == 300 and found["train"][2] == 77
    assert found["test"].tolist()[2:] == order.tolist()[2:]
    assert dict(zip(found["test"], found["train"], strict=True)) == {
        int(t): int(best.indices[t]) for t in order
    }
    assert found["distance"].tolist() == pytest.approx(best.values[order].tolist(), abs=1e-4)
    assert found["distance"].is_monotonic_increasing


def test_nearest_pairs_where_images_hardly_differ():
    train = random_pixels(40, 5)
    train[20:] = train[:20]
    train[:20, 0, 0, 0] ^= 1  # each image also with one pixel one level off
    found = data.nearest_pairs(train, train[20:].clone(), 20)
    assert sorted(found["test"]) == list(range(20))
    assert (found["train"] % 20 == found["test"]).all()  # one of the two that hardly differ
    exact = brute_force(train, train[20:])[found["test"].tolist(), found["train"].tolist()]
    assert (
        found["distance"].tolist() == pytest.approx(exact.tolist(), abs=1e-4) and exact.max() < 0.01
    )


# What pages say of the data


def sized(name, train, holdout, everything, test=100):
    def images(count):
        return data.Images(
            torch.zeros(count, 3, 1, 1, dtype=torch.uint8), torch.zeros(count), torch.arange(count)
        )

    return data.Dataset(
        name,
        (),
        images(train),
        images(holdout),
        images(test),
        STATISTICS,
        "",
        images(everything),
        STATISTICS,
    )


@pytest.mark.parametrize(
    ("dataset", "test_images", "notice", "label"),
    [
        (sized("digits", 1295, 143, 1438), None, "handwritten digits, not CIFAR-10", "digits"),
        (sized("digits", 300, 143, 1438), 50, "handwritten digits, not CIFAR-10", "digits"),
        (sized("cifar10", 45_000, 5000, 50_000), None, "", "cifar10"),
        (sized("cifar10", 45_000, 5000, 50_000), 100, "", "cifar10"),
        (sized("cifar10", 50_000, 0, 50_000), 100, "", "cifar10"),
        (
            sized("cifar10", 8000, 5000, 50_000),
            None,
            "a subset of CIFAR-10: 8,000 of 50,000 training images",
            "cifar10-subset",
        ),
        (
            sized("cifar10", 45_000, 5000, 50_000, 10_000),
            1000,
            "a subset of CIFAR-10: 1,000 of 10,000 test images",
            "cifar10-subset",
        ),
        (
            sized("cifar10", 8000, 5000, 50_000, 10_000),
            1000,
            "a subset of CIFAR-10: 8,000 of 50,000 training and 1,000 of 10,000 test images",
            "cifar10-subset",
        ),
    ],
)
def test_notice_and_label(dataset, test_images, notice, label):
    assert words.notice(dataset, test_images) == notice
    assert words.dataset_label(dataset.name, notice) == label


# The real CIFAR-10


@pytest.mark.cifar10
def test_cifar10_images_and_split(cifar10):
    used, train, labels, test, test_labels = cifar10
    assert used.all_train.pixels.shape == (50_000, 3, 32, 32) and used.test.pixels.shape == (
        10_000,
        3,
        32,
        32,
    )
    np.testing.assert_array_equal(used.all_train.pixels.numpy().reshape(50_000, 3072), train)
    np.testing.assert_array_equal(used.all_train.labels.numpy(), labels)
    np.testing.assert_array_equal(used.test.pixels.numpy().reshape(10_000, 3072), test)
    np.testing.assert_array_equal(used.test.labels.numpy(), test_labels)
    assert (len(used.train), len(used.holdout), len(used.test)) == (45_000, 5000, 10_000)
    assert (
        counts(used.holdout.labels).tolist() == [500] * 10
        and counts(used.train.labels).tolist() == [4500] * 10
    )
    together = torch.cat([used.train.index, used.holdout.index]).sort().values
    assert torch.equal(together, torch.arange(50_000))
    np.testing.assert_array_equal(
        used.holdout.pixels.numpy().reshape(-1, 3072), train[used.holdout.index.numpy()]
    )
    assert words.notice(used, 10_000) == "" and words.dataset_label(used.name, "") == "cifar10"


@pytest.mark.cifar10
def test_cifar10_constants_are_numpys(cifar10):
    used, train, *_ = cifar10
    channels = train.reshape(50_000, 3, 1024)
    means, stds, own = [], [], []
    for channel in range(3):
        values = channels[:, channel].astype(np.float64)
        means.append(values.mean() / 255)
        stds.append(values.std() / 255)
        own.append(values.std(1, ddof=1).mean() / 255)
    assert used.statistics == data.CIFAR10_STATISTICS
    assert used.statistics.mean == pytest.approx(means, abs=1e-8)
    assert used.statistics.std == pytest.approx(stds, abs=1e-8)
    # the reference's two sets of standard deviations: over all pixels, and the mean of each image's
    # own
    assert [round(value, 4) for value in stds] == pytest.approx([0.2470, 0.2435, 0.2616], abs=1e-4)
    assert data.per_image_std(used.all_train.pixels).tolist() == pytest.approx(own, abs=1e-7)
    assert own == pytest.approx([0.2023, 0.1994, 0.2010], abs=1e-4)


@pytest.mark.cifar10
def test_cifar10_classes_are_in_the_files_order(cifar10):
    used = cifar10[0]
    meta = pickle.loads(
        (dataset_cifar10.locate(verify=False) / "cifar-10-batches-py/batches.meta").read_bytes(),
        encoding="bytes",
    )
    assert [name.decode() for name in meta[b"label_names"]] == list(used.classes)


@pytest.mark.cifar10
def test_cifar10_options(cifar10):
    everything = cifar10[0]
    part = load_here("cifar10", train_images=8001, holdout=5000)
    assert len(part.train) == 8001 and np.ptp(counts(part.train.labels)) == 1
    assert torch.equal(part.holdout.index, everything.holdout.index)
    assert not set(part.train.index.tolist()) & set(part.holdout.index.tolist())
    assert words.notice(part) == "a subset of CIFAR-10: 8,001 of 50,000 training images"
