"""Shift: the user's files of CIFAR-10-C, what is measured on corrupted images, what is said."""

import io
import os
import pickle
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from bundle import diagrams
from bundle.dataset import shifted
from bundle.release import card
from bundle.report import shift as report
from bundle.runs import results
from bundle.training import shift
from bundle.training.predictions import Predictions
from lib import data, metrics
from lib.corrupt import CORRUPTIONS, corrupt
from lib.errors import UserError
from lib.settings import Robustness

SIZE = 12  # test images of the files here


@pytest.fixture
def images():
    """Every second test image of a set of SIZE."""
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(256, (SIZE, 3, 32, 32), generator=generator, dtype=torch.uint8)
    labels = torch.arange(SIZE) % 10
    return data.Images(pixels, labels, torch.arange(SIZE)).take(torch.arange(0, SIZE, 2))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with two corruptions and CIFAR-10.1; the images of severity s have the level s."""
    monkeypatch.setattr(shifted, "SIZE", SIZE)
    monkeypatch.setenv(shifted.VARIABLE, str(tmp_path))
    severities = np.repeat(np.arange(1, 6, dtype=np.uint8), SIZE)
    array = np.broadcast_to(severities[:, None, None, None], (5 * SIZE, 32, 32, 3))
    for name in ("fog", "snow"):
        np.save(tmp_path / f"{name}.npy", array)
    np.save(tmp_path / "labels.npy", np.tile(np.arange(SIZE, dtype=np.uint8) % 10, 5))
    np.save(tmp_path / "cifar10.1_v6_data.npy", np.zeros((4, 32, 32, 3), np.uint8))
    np.save(tmp_path / "cifar10.1_v6_labels.npy", np.array([1, 2, 3, 9], np.int32))
    return tmp_path


# The user's files


def test_without_the_variable_there_is_no_folder(monkeypatch, images):
    monkeypatch.delenv(shifted.VARIABLE, raising=False)
    assert shifted.folder() is None
    assert shifted.corruptions(None, images) == [] and shifted.newer_images(None) is None


def test_files_are_found_and_their_rows_taken(folder, images):
    assert shifted.corruptions(shifted.folder(), images) == ["fog", "snow"]
    np.save(folder / "fog.npy", np.random.default_rng(0).integers(
        0, 256, (5 * SIZE, 32, 32, 3), dtype=np.uint8))  # fmt: skip
    whole = np.load(folder / "fog.npy").transpose(0, 3, 1, 2)
    third = shifted.corrupted(folder, "fog", 3, images.index)
    assert third.dtype == torch.uint8
    assert np.array_equal(third.numpy(), whole[2 * SIZE : 3 * SIZE : 2])
    version, newer = shifted.newer_images(folder)
    assert version == "v6" and newer.labels.tolist() == [1, 2, 3, 9]
    assert newer.pixels.shape == (4, 3, 32, 32)


def saved(array, **options):
    with io.BytesIO() as buffer:
        np.save(buffer, array, **options)
        return buffer.getvalue()


RIGHT = saved(np.zeros((5 * SIZE, 32, 32, 3), np.uint8))
BROKEN = {
    "empty": b"",
    "text": b"version https://git-lfs.github.com/spec/v1\n",
    "cut off": RIGHT[:-1],
    "header alone": RIGHT[:20],
    "another shape": saved(np.zeros((SIZE, 32, 32, 3), np.uint8)),
    "floats": saved(np.zeros((5 * SIZE, 32, 32, 3), np.float32)),
    "objects": saved(np.array([print], dtype=object), allow_pickle=True),
    "a pickle": pickle.dumps({"a": 1}),
    "an archive": b"PK\x05\x06" + 18 * b"\0",
}


@pytest.mark.parametrize("content", BROKEN.values(), ids=BROKEN)
def test_a_broken_file_is_one_line(folder, images, content):
    (folder / "fog.npy").write_bytes(content)
    with pytest.raises(UserError, match=r"fog\.npy: .*fetch it again") as caught:
        shifted.corrupted(folder, "fog", 1, images.index)
    assert "\n" not in str(caught.value)


def test_labels_that_are_missing_or_of_other_images_are_one_line(folder, images):
    np.save(folder / "labels.npy", np.zeros(5 * SIZE, np.uint8))
    with pytest.raises(UserError, match=r"labels\.npy: not the classes of CIFAR-10's test images"):
        shifted.corruptions(folder, images)
    (folder / "labels.npy").unlink()
    with pytest.raises(UserError, match=r"labels\.npy: there is no such file"):
        shifted.corruptions(folder, images)
    os.mkfifo(folder / "labels.npy")  # reading it would wait for ever
    with pytest.raises(UserError, match=r"labels\.npy: there is no such file"):
        shifted.corruptions(folder, images)
    np.save(folder / "cifar10.1_v6_labels.npy", np.array([1, 2, 3, 10]))
    with pytest.raises(UserError, match="not classes from 0 to 9"):
        shifted.newer_images(folder)


def test_a_folder_without_such_files_is_one_line(tmp_path, monkeypatch):
    for place in (tmp_path, tmp_path / "none"):
        monkeypatch.setenv(shifted.VARIABLE, str(place))
        with pytest.raises(UserError, match=f"{shifted.VARIABLE}=.*unset it, or name"):
            shifted.folder()


# What is measured


class Brightest(torch.nn.Module):
    """Says the class that the red level of an image names: 0 to 9 for 0, 0.1, ... 0.9."""

    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 1, 2, bias=False)

    def forward(self, images):
        red = images[:, 0].mean((1, 2))
        return -((10 * red[:, None] - torch.arange(10.0)) ** 2)


@pytest.fixture
def dataset():
    """Images of one colour whose red names their class."""
    labels = torch.arange(10).repeat(3)
    pixels = torch.full((30, 3, 32, 32), 77, dtype=torch.uint8)
    pixels[:, 0] = (25.5 * labels + 2).byte()[:, None, None]
    images = data.Images(pixels, labels, torch.arange(30))
    plain = data.Statistics((0.0,) * 3, (1.0,) * 3)
    names = tuple("0123456789")
    return data.Dataset("digits", names, images, images, images, plain, "", images, plain)


def measured(dataset, combination="flip", show=lambda done, of, name: None):
    network = Brightest()
    training = SimpleNamespace(model=network, network=network, normalisation="pixel")
    settings = Robustness(device="cpu", precision="fp32", threads=1)
    reference = results.reference()
    return report.measured(training, dataset, settings, combination, reference, show)


def test_corrupted_images_are_those_of_lib_and_the_same_for_every_network(dataset):
    found, told = measured(dataset), []
    assert found.names == tuple(CORRUPTIONS) and found.given == ()
    assert found.clean_score.accuracy == 1.0 and found.logits.shape == (13, 5, 30, 10)
    for place, name in enumerate(found.names):
        pixels = corrupt(dataset.test.pixels, name, 4, seed=0)
        by_hand = Brightest()(pixels.float() / 255).argmax(1)
        assert np.array_equal(found.logits[place, 3].argmax(1), by_hand), name
    again = measured(dataset, show=lambda *step: told.append(step))
    assert np.array_equal(again.logits, found.logits)
    assert [done for done, of, _ in told] == list(range(14)) and told[3] == (3, 13, "defocus_blur")
    assert told[-1][:2] == (13, 13)


def test_means_and_their_interval_are_over_images(dataset):
    found = measured(dataset)
    rates, table = found.hits.mean(2), found.table()
    assert table.loc["fog", 5] == rates[list(CORRUPTIONS).index("fog"), 4]
    assert table["mean"].mean() == pytest.approx(found.mean().size) == pytest.approx(rates.mean())
    by_image = found.hits.reshape(65, 30).mean(0)
    error = by_image.std(ddof=1) / 30**0.5
    assert found.mean().high - found.mean().size == pytest.approx(2.045 * error, rel=1e-3)
    brightness = found.mean(["brightness"])
    assert brightness.size < 0.6 < found.mean(["jpeg_compression"]).size  # red names the class


def test_averaged_views_are_compared_on_the_same_images(dataset):
    found = measured(dataset)
    table = found.averaging()
    # The mirror image of one colour is itself: no corruption but noise can tell them apart.
    assert table.loc["brightness", ["gained", "lost", "p"]].tolist() == [0, 0, 1]
    assert (table["averaged"] - table["single"]).mean() == pytest.approx(found.gain().size)
    assert measured(dataset, "original").combination == "flip"


def test_views_are_averaged_of_the_first_images_alone(dataset, monkeypatch):
    every = measured(dataset)
    monkeypatch.setattr(shift, "AVERAGED", 12)
    found = measured(dataset)
    assert np.array_equal(found.logits, every.logits)
    assert np.array_equal(found.averaged, every.averaged[:, :12])
    single = every.logits[:, 2, :12].argmax(-1)
    for name, alone, mean in zip(found.names, single, found.averaged, strict=True):
        labels, row = found.labels[:12], found.averaging().loc[name]
        right = [(alone == labels), (mean == labels)]
        assert [row["single"], row["averaged"]] == [pytest.approx(one.mean()) for one in right]
        assert row["gained"] == (right[1] & ~right[0]).sum()
    gains = ((found.averaged == labels) * 1.0 - (single == labels)).mean(0)
    assert found.gain().size == pytest.approx(gains.mean())
    told = found.record(np.ones(30))
    assert told["averaged"]["images"] == 12 and told["images"] == 30


def test_noise_is_weighed_in_the_pixels_and_behind_the_first_convolution(dataset):
    smooth = torch.nn.functional.interpolate(torch.rand(40, 3, 4, 4), 32, mode="bilinear")
    images = data.Images((180 * smooth + 30).byte(), *[torch.arange(40)] * 2)
    network = Brightest()
    training = SimpleNamespace(model=network, network=network, normalisation="pixel")
    shares = {}
    # The mean of four pixels keeps the image and a quarter of the noise; of their differences,
    # the noise remains and the image hardly does.
    for name, signs in (("mean", [[1, 1], [1, 1]]), ("difference", [[1, -1], [-1, 1]])):
        filters = torch.tensor(signs, dtype=torch.float32) / 4
        network.conv.weight.data = torch.stack([filters, 0 * filters, 0 * filters])[None]
        shares[name] = shift.noise_shares(training, replace(dataset, test=images), seed=0)
    before, after = shares["mean"]
    levels = images.pixels.double() / 255
    assert before == pytest.approx(0.04**2 / levels.var((0, 2, 3)).mean().item(), rel=0.05)
    assert after == pytest.approx(0.04**2 / 4 / levels[:, 0].var().item(), rel=0.15)
    assert shares["difference"][0] == before and shares["difference"][1] > 10 * before
    said = [report.noise({"noise": shares[name]}).split()[4] for name in shares]
    assert said == ["dampens", "amplifies"] and report.noise({}) == ""


def test_a_training_without_its_network_gives_none(dataset):
    assert report.measured(None, dataset, Robustness(), "flip", {}, None) is None
    nothing = SimpleNamespace(model=None)
    assert report.measured(nothing, dataset, Robustness(), "flip", {}, None) is None


def test_files_of_the_user_take_the_place_of_what_is_made(dataset, folder):
    labels = torch.arange(SIZE) % 10
    images = replace(dataset.test.take(torch.arange(SIZE)), labels=labels)
    found = measured(replace(dataset, name="cifar10", test=images))
    assert found.given == ("fog", "snow") and found.names == (*CORRUPTIONS, "snow")
    # The images of the files are nearly black, so every one is said to be of class 0.
    assert (found.logits[list(found.names).index("fog")].argmax(-1) == 0).all()
    assert found.newer[0] == "v6" and found.newer[1].correct == 0
    assert (
        "2 of 14 corruptions are files of CIFAR-10-C" in found.told and "brightness" in found.told
    )
    record = found.record(np.ones(SIZE))
    assert record["from_files"] == ["fog", "snow"] and "CIFAR-10.1 v6" in found.findings(record)
    other = measured(replace(dataset, test=images))  # the digits have no such files
    assert other.given == () and other.newer is None


# What is said of it


def test_the_record_is_plain_and_the_sentences_follow_it(dataset):
    found = measured(dataset)
    record = found.record(np.full(30, 2.0))
    assert record["mean"]["accuracy"] == pytest.approx(found.hits.mean())
    assert (
        len(record["trust"]) == 6 and record["trust"][0]["ece"] != record["trust"][0]["ece_after"]
    )
    said = found.findings(record)
    assert f"**{found.hits.mean():.1%}**" in said and said.count("\n- ") == 2
    assert "calibration" not in said and "calibration" in found.findings(record | {"images": 500})
    beside = found.beside(record, "mine")
    assert list(beside["network"])[:2] == ["mine", "WRN-28-10, standard training"]
    assert beside.loc[0, "of 13 types"] == pytest.approx(found.hits.mean())
    seven = [found.names.index(name) for name in results.reference()["corruptions"]["seven"]]
    assert beside.loc[0, "of 7 types"] == pytest.approx(found.hits[seven].mean())


def test_the_report_and_the_card_tell_the_record(dataset):
    found = measured(dataset)
    record = found.record(np.ones(30))
    said = report.under_shift(record | {"images": 500}, results.reference())
    assert f"**{found.hits.mean():.1%}**" in said and "WRN-28-10, standard training 72.7%" in said
    assert "(Hendrycks and Dietterich, 2019)" in said and "(Guo et al., 2017)" in said
    assert "made here" in said and "None" not in said and "nan" not in said
    table = report.rates(record)
    assert table.loc["JPEG compression", 5] == record["types"]["jpeg_compression"][4]
    lowest = min(record["types"], key=lambda name: np.mean(record["types"][name]))
    assert diagrams.corruption(lowest) in report.most_lost(record)
    card.shifted({"robustness": record}).index(f"{found.hits.mean():.1%} on average")
    assert card.shifted({}).endswith("was not measured here")


def test_the_profile_of_the_published_network_is_near_itself(dataset):
    known = results.reference()["corruptions"]["profile"]
    record = {"types": known["accuracy"], "clean": {"accuracy": known["clean"]}}
    table, near = measured(dataset).profile(record)
    assert "0.0 points apart" in near and near.endswith("is 1.00.")
    assert table.loc["Gaussian noise, here", 5] == pytest.approx(27.7 - 94.78)
    assert table.loc["brightness, published", 1] == pytest.approx(94.8 - 94.78)


# The temperature


def logits_at(temperature, count, seed):
    """Logits that are right as often as they say once divided by `temperature`, and classes."""
    draw = np.random.default_rng(seed)
    logits = draw.normal(0, 2, (count, 10))
    shares = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    labels = np.array([draw.choice(10, p=row) for row in shares])
    return logits * temperature, labels


def test_the_temperature_is_found_and_changes_no_prediction():
    for temperature in (0.5, 1.0, 3.0):
        logits, labels = logits_at(temperature, 4000, seed=1)
        fitted = metrics.temperature(logits, labels)
        assert fitted == pytest.approx(temperature, rel=0.06)
        grid = [
            metrics.calibration(soft(logits / t), labels)["nll"]
            for t in (0.9 * fitted, fitted, 1.1 * fitted)
        ]
        assert grid[1] == min(grid)


def soft(logits):
    shares = np.exp(logits - logits.max(1, keepdims=True))
    return shares / shares.sum(1, keepdims=True)


def test_without_a_hold_out_no_image_decides_its_own_temperature():
    logits, labels = logits_at(2.0, 400, seed=2)
    index = np.arange(400)
    shown = Predictions(None, labels, soft(logits), tuple("0123456789"), logits, index)
    even, odd = (metrics.temperature(logits[start::2], labels[start::2]) for start in (0, 1))
    assert shown.temperatures().tolist() == [odd, even] * 200
    assert shown.temperatures(np.array([7, 8])).tolist() == [even, odd]
    before, after = (
        metrics.calibration(p, labels)["ece"] for p in (shown.probabilities, shown.calibrated)
    )
    assert after < before and "half" in shown.fitted_on
    held = replace(shown, held=(logits, labels))
    assert held.temperatures() == pytest.approx(metrics.temperature(logits, labels))


def test_predictions_tell_their_logits_hold_out_and_views(tmp_path, dataset):
    from bundle.training import predictions

    logits = np.random.default_rng(0).normal(size=(2, 30, 10))
    np.savez(
        tmp_path / "predictions.npz", views=["original", "horizontal_flip"], logits=logits,
        labels=dataset.test.labels, index=dataset.test.index, combination="flip",
        holdout_views=["horizontal_flip", "original"], holdout_logits=logits[::-1, :5],
        holdout_labels=np.arange(5),
    )  # fmt: skip
    shown = predictions.read(tmp_path / "predictions.npz", dataset)
    assert shown.combination == "flip" and np.array_equal(shown.logits, logits[0])
    assert np.array_equal(shown.held[0], logits[0, :5]) and shown.held[1].tolist() == [
        0,
        1,
        2,
        3,
        4,
    ]
