"""Views against torchvision and SciPy, batched prediction, the choice, the submission file."""

import csv
import itertools
import json
import pickle
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scipy.ndimage
import scipy.special
import torch
import torchvision.transforms.functional as TF
from torch import nn

from bundle.dataset import competition
from bundle.training.logits import choose
from lib import predict, settings
from lib.data import Images, Statistics
from lib.errors import UserError

REFERENCE = json.loads(
    (Path(__file__).resolve().parents[2] / "docs" / "reference.json").read_text(encoding="utf-8")
)
STATISTICS = Statistics((0.49, 0.48, 0.45), (0.25, 0.24, 0.26))
ALL_VIEWS = list(predict.VIEWS)
PIXELS = torch.randint(
    256, (12, 3, 32, 32), generator=torch.Generator().manual_seed(0), dtype=torch.uint8
)
IMAGES = Images(PIXELS, torch.arange(12) % 10, torch.arange(12))


class Counting(nn.Module):
    """A small network that no flip or blur leaves alike, and that counts what it was asked."""

    def __init__(self):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.body = nn.Sequential(
                nn.Conv2d(3, 4, 3, 2),
                nn.BatchNorm2d(4),
                nn.ReLU(),
                nn.Dropout(0.5),
                nn.Flatten(),
                nn.Linear(4 * 15 * 15, 10),
            )
        self.batches = []

    def forward(self, x):
        self.batches.append((len(x), self.training, torch.is_grad_enabled()))
        return self.body(x)


def torchvisions(pixels, view):
    """The view of one image (3, H, W) in [0, 1], by torchvision and SciPy."""
    image = pixels.float() / 255
    if view == "gaussian_blur_mixed":  # what the reference did: over all of the uint8 (H, W, C)
        blurred = scipy.ndimage.gaussian_filter(pixels.permute(1, 2, 0).numpy(), sigma=1)
        return torch.from_numpy(blurred).permute(2, 0, 1).float() / 255
    bordered = TF.pad(image, 1, padding_mode="reflect")
    return {
        "shift_up_left": lambda: TF.crop(bordered, 2, 2, 32, 32),
        "shift_down_right": lambda: TF.crop(bordered, 0, 0, 32, 32),
        "shift_up_left_flip": lambda: TF.hflip(TF.crop(bordered, 2, 2, 32, 32)),
        "shift_down_right_flip": lambda: TF.hflip(TF.crop(bordered, 0, 0, 32, 32)),
        "original": lambda: image,
        "horizontal_flip": lambda: TF.hflip(image),
        "vertical_flip": lambda: TF.vflip(image),
        "pad_center_crop": lambda: TF.center_crop(TF.pad(image, 4), 32),
        "gaussian_blur": lambda: TF.gaussian_blur(image, 9, 1.0),
    }[view]()


# The views


@pytest.mark.parametrize("view", ALL_VIEWS)
def test_views_equal_torchvision_and_scipy(view):
    images = PIXELS.float() / 255
    before = images.clone()
    found = predict.VIEWS[view](images)
    expected = torch.stack([torchvisions(one, view) for one in PIXELS])
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    assert torch.equal(images, before)
    if view not in ("original", "pad_center_crop"):
        assert (found - images).abs().mean() > 0.01


def test_the_two_blurs_differ_by_the_colours():
    """Of red alone: the weights exp(-k^2 / 2), k up to 4, on 3 mirrored channels, cut to levels."""
    images = torch.zeros(1, 3, 32, 32)
    images[:, 0] = 1.0  # a red square stays red under the spatial blur and not under the other
    spatial, mixed = predict.spatial_blur(images), predict.mixed_blur(images)
    assert torch.allclose(spatial, images, atol=1e-6)
    weight = np.exp(-(np.arange(5) ** 2) / 2)
    shares = np.array([weight[0] + weight[1], weight[1] + weight[2] + weight[4], 0])
    shares[2] = weight[2] + weight[3] + weight[3] + weight[4]  # 2, -3, 3 and -4 steps to blue
    levels = np.floor(255 * shares / (weight[0] + 2 * weight[1:].sum()))
    assert levels.tolist() == (mixed[0, :, 5, 5] * 255).tolist() == [163, 75, 16]


def test_the_mixed_blur_has_the_bits_of_scipy_on_uint8_and_is_darker():
    found = predict.mixed_blur(PIXELS.float() / 255)
    theirs = [torchvisions(image, "gaussian_blur_mixed") for image in PIXELS]
    assert torch.equal(found, torch.stack(theirs))
    arrays = PIXELS.permute(0, 2, 3, 1).numpy().astype(float)
    exact = np.stack([scipy.ndimage.gaussian_filter(array, 1) for array in arrays])
    darker = exact - 255 * found.permute(0, 2, 3, 1).numpy()
    assert darker.mean() == pytest.approx(1.5, abs=0.05) and darker.min() > -1e-4


@pytest.mark.parametrize("padding", [1, 4, 16])
def test_pad_center_crop_is_the_identity(padding):
    images = PIXELS.float() / 255
    assert torch.equal(predict.pad_center_crop(images, padding), images)


def test_names_agree_with_the_parameters_and_the_report():
    assert tuple(predict.VIEWS) == (*settings.VIEWS, *settings.SHIFTS)
    assert {"auto", *predict.COMBINATIONS} == set(settings.COMBINATIONS)
    (row,) = [
        row
        for row in REFERENCE["report_against_notebook"]
        if row["topic"] == "test-time augmentation"
    ]
    words = {
        "original": "original",
        "horizontal_flip": "horizontal flip",
        "vertical_flip": "vertical flip",
        "pad_center_crop": "centre crop after padding by 4",
        "gaussian_blur": "Gaussian blur",
    }
    assert "5 views" in row["report"] and all(phrase in row["report"] for phrase in words.values())
    assert set(predict.COMBINATIONS["report_spatial"]) == set(words)
    executed = {name.replace("gaussian_blur", "gaussian_blur_mixed") for name in words}
    assert set(predict.COMBINATIONS["report"]) == executed


def test_distinct_views_finds_the_crop_that_is_no_crop():
    found = predict.distinct_views(PIXELS, ALL_VIEWS)
    assert found == {view: view for view in ALL_VIEWS} | {"pad_center_crop": "original"}
    assert predict.distinct_views(PIXELS, ["pad_center_crop", "original"]) == {
        "pad_center_crop": "pad_center_crop",
        "original": "pad_center_crop",
    }


# Prediction


def test_batched_logits_equal_those_of_single_images():
    model = Counting().eval()
    found = predict.logits(model, PIXELS, STATISTICS, batch_size=5)
    assert found.shape == (12, 10) and found.dtype == torch.float32
    assert [batch[0] for batch in model.batches] == [5, 5, 2]
    with torch.no_grad():
        single = [
            model(TF.normalize(one.float() / 255, STATISTICS.mean, STATISTICS.std)[None])
            for one in PIXELS
        ]
    torch.testing.assert_close(found, torch.cat(single), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(
        predict.logits(model, PIXELS, STATISTICS, batch_size=500), found, rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("view", ALL_VIEWS)
def test_a_view_is_taken_before_normalisation(view):
    model = Counting().eval()
    images = torch.stack([torchvisions(one, view) for one in PIXELS])
    with torch.no_grad():
        expected = model(TF.normalize(images, STATISTICS.mean, STATISTICS.std))
    found = predict.logits(model, PIXELS, STATISTICS, view)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("training", [True, False])
def test_prediction_is_in_evaluation_mode_and_leaves_the_network_as_it_was(training):
    model = Counting().train(training)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    predict.logits(model, PIXELS, STATISTICS)
    assert model.batches == [(12, False, False)]
    assert model.training is training and model.body.training is training
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_view_logits_computes_a_repeated_view_once():
    model = Counting()
    found = predict.view_logits(model, IMAGES, ALL_VIEWS, STATISTICS, "fp32", 500)
    assert list(found) == ALL_VIEWS and len(model.batches) == 9  # of ten views
    assert torch.equal(found["pad_center_crop"], found["original"])
    for view in ALL_VIEWS:
        torch.testing.assert_close(
            found[view], predict.logits(model, PIXELS, STATISTICS, view), rtol=1e-4, atol=1e-5
        )


def test_views_that_agree_on_the_first_images_only_are_not_taken_for_equal():
    pixels = PIXELS.clone()
    pixels[:10] = 0  # blank images look the same in every view; the others do not
    images, model = Images(pixels, IMAGES.labels, IMAGES.index), Counting().eval()
    found = predict.view_logits(
        model, images, ["original", "horizontal_flip"], STATISTICS, "fp32", 500
    )
    flipped = TF.hflip(pixels.float() / 255)
    with torch.no_grad():
        expected = model(TF.normalize(flipped, STATISTICS.mean, STATISTICS.std))
    torch.testing.assert_close(found["horizontal_flip"], expected, rtol=1e-4, atol=1e-5)


# Combining and choosing


def occluded_by_hand(model, image, number, scale):
    """The map of one image, patch by patch, each pixel's falls gathered in a list."""
    grey = (255 * torch.tensor(STATISTICS.mean)).round().byte()

    def share(shown):
        return (predict.logits(model, shown[None], STATISTICS) / scale).softmax(1)[0, number].item()

    whole, falls = share(image), [[[] for _ in range(32)] for _ in range(32)]
    for top, left in itertools.product(range(-4, 32, 4), repeat=2):
        rows, columns = (range(max(0, start), min(32, start + 8)) for start in (top, left))
        inside, hidden = list(itertools.product(rows, columns)), image.clone()
        for row, column in inside:
            hidden[:, row, column] = grey
        fall = whole - share(hidden)
        for row, column in inside:
            falls[row][column].append(fall)
    return torch.tensor([[sum(cell) / len(cell) for cell in row] for row in falls])


@pytest.mark.parametrize("given", [(), (2.0,)])
def test_occlusion_by_hand(given):
    model, classes, (scale,) = Counting(), torch.tensor([3, 7]), given or (1.0,)
    before = PIXELS[:2].clone()
    maps = predict.occlusion(model, PIXELS[:2], classes, STATISTICS, *given)
    assert maps.shape == (2, 32, 32) and maps.dtype == torch.float32
    for image, number, found in zip(PIXELS[:2], classes.tolist(), maps, strict=True):
        wanted = occluded_by_hand(model, image, number, scale)
        torch.testing.assert_close(found, wanted, atol=1e-5, rtol=0)
    assert torch.equal(PIXELS[:2], before) and maps.abs().max() > 1e-4


class LooksAtOneCorner(nn.Module):
    """Its class 1 is as probable as the last eight rows and columns are bright."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, x):
        bright = x[:, :, 24:, 24:].mean((1, 2, 3))
        return torch.stack([torch.zeros_like(bright), self.weight * bright], 1)


def test_occlusion_finds_the_part_that_decides():
    white = torch.full((1, 3, 32, 32), 255, dtype=torch.uint8)
    model = LooksAtOneCorner()
    speaks = predict.occlusion(model, white, torch.tensor([1]), STATISTICS)[0]
    assert speaks[28:, 28:].min() > 0.05 and (speaks[:20].abs() < 1e-6).all()
    assert speaks[26, 26] == pytest.approx(speaks.max().item())
    assert (speaks[:, :20].abs() < 1e-6).all()
    against = predict.occlusion(model, white, torch.tensor([0]), STATISTICS)[0]
    torch.testing.assert_close(against, -speaks, atol=1e-6, rtol=0)


def by_view(seed=0):
    rng = np.random.default_rng(seed)
    return {view: torch.from_numpy(rng.normal(0, 3, (20, 10))).float() for view in ALL_VIEWS}


@pytest.mark.parametrize("combination", ["original", "flip", "shifts"])
def test_combine_is_the_mean_of_the_probabilities(combination):
    logits = by_view()
    parts = [
        scipy.special.softmax(logits[view].numpy(), 1) for view in predict.COMBINATIONS[combination]
    ]
    found = predict.combine(logits, combination)
    np.testing.assert_allclose(found.numpy(), np.mean(parts, 0), atol=1e-6)
    np.testing.assert_allclose(found.sum(1).numpy(), 1, atol=1e-5)


@pytest.mark.parametrize(
    ("combination", "blur"),
    [("report", "gaussian_blur_mixed"), ("report_spatial", "gaussian_blur")],
)
def test_the_report_s_five_views_are_averaged_as_logits_the_original_twice(combination, blur):
    logits = by_view()
    logits["pad_center_crop"] = logits["original"]
    z = {view: values.numpy() for view, values in logits.items()}
    mean = (2 * z["original"] + z["horizontal_flip"] + z["vertical_flip"] + z[blur]) / 5
    found = predict.combine(logits, combination).numpy()
    np.testing.assert_allclose(found, scipy.special.softmax(mean, 1), atol=1e-6)
    np.testing.assert_allclose(found.sum(1), 1, atol=1e-5)


def test_the_mean_of_logits_and_of_probabilities_are_told_apart():
    """Two classes, five views: one is sure of the second class, four lean to the first."""
    assert set(predict.COMBINATIONS) == {"original", "flip", "shifts", *predict.MEAN_OF_LOGITS}
    leaning = torch.tensor([[1.0, 0.0]])
    logits = dict.fromkeys(predict.COMBINATIONS["report"], leaning)
    logits["vertical_flip"] = torch.tensor([[0.0, 10.0]])  # (4 - 10) / 5 < 0, 4 * 0.731 / 5 > 0.5
    assert predict.combine(logits, "report")[0].argmax() == 1
    probabilities = [view.softmax(1) for view in logits.values()]
    assert torch.stack(probabilities).mean(0)[0].argmax() == 0


def test_available_combinations():
    assert predict.available(["original"]) == ["original"]
    assert predict.available(["horizontal_flip", "original"]) == ["original", "flip"]
    assert predict.available(ALL_VIEWS) == list(predict.COMBINATIONS)
    assert "report" not in predict.available(
        [view for view in ALL_VIEWS if view != "gaussian_blur_mixed"]
    )


def test_compare_by_hand():
    labels = torch.tensor([0] * 10)
    first, second = torch.tensor([0] * 6 + [1] * 4), torch.tensor([1] + [0] * 8 + [1])
    table = predict.compare({"original": first, "flip": second}, labels)
    assert table["accuracy"].tolist() == [0.6, 0.8]
    assert table[["gained", "lost", "p"]].iloc[0].isna().all()  # nothing is compared with itself
    assert table[["gained", "lost"]].iloc[1].tolist() == [3, 1]
    # Two-sided binomial: at most 1 of 4.
    assert table["p"].iloc[1] == pytest.approx(2 * (1 + 4) / 16)
    assert (table["low"] < table["accuracy"]).all() and (table["accuracy"] < table["high"]).all()
    assert list(table.index) == ["original", "flip"]


def table_of(**accuracies):
    return pd.DataFrame({"accuracy": accuracies})


@pytest.mark.parametrize(
    ("accuracies", "chosen"),
    [
        ({"original": 0.9, "flip": 0.92, "report": 0.91}, "flip"),
        ({"original": 0.9, "flip": 0.91, "report": 0.93}, "report"),
        ({"report": 0.92, "flip": 0.92, "original": 0.92}, "original"),  # the simpler where equal
        ({"report": 0.92, "flip": 0.92, "original": 0.90}, "flip"),
        ({"original": 0.9}, "original"),
    ],
)
def test_choose_the_best_and_the_simpler_where_equal(accuracies, chosen):
    assert choose(table_of(**accuracies), "auto") == chosen


def test_choose_what_was_named():
    assert choose(table_of(original=0.9, flip=0.95), "report") == "report"
    assert choose(table_of(), "flip") == "flip"


def test_choose_without_a_holdout_is_refused():
    with pytest.raises(
        UserError, match=r"04_predict_tta\.combination.*auto.*name a combination"
    ) as caught:
        choose(table_of(), "auto")
    assert "\n" not in str(caught.value)


# The submission


@pytest.mark.parametrize("flat", [True, False])
def test_submit_writes_the_competition_s_file(tmp_path, flat):
    pixels, ids = PIXELS.numpy(), np.arange(12)[::-1] * 7
    shown = pixels.reshape(12, 3072) if flat else pixels.transpose(0, 2, 3, 1)
    (tmp_path / "set.pkl").write_bytes(pickle.dumps({b"data": shown, b"ids": ids}))
    model = Counting().eval()
    counts = competition.submit(
        model, str(tmp_path / "set.pkl"), "report", STATISTICS, "fp32", 5, tmp_path / "out.csv"
    )
    logits = 0
    for view in (
        "original",
        "horizontal_flip",
        "vertical_flip",
        "pad_center_crop",
        "gaussian_blur_mixed",
    ):
        images = torch.stack([torchvisions(one, view) for one in PIXELS])
        with torch.no_grad():
            logits = logits + model(TF.normalize(images, STATISTICS.mean, STATISTICS.std)).numpy()
    labels = logits.argmax(1)
    assert len(set(labels)) > 1
    with (tmp_path / "out.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["ID", "Labels"]
    assert rows[1:] == [[str(one), str(label)] for one, label in zip(ids, labels, strict=True)]
    assert counts.tolist() == np.bincount(labels, minlength=10).tolist()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.csv", "set.pkl"]


def test_submit_without_a_set_writes_nothing(tmp_path):
    assert (
        competition.submit(Counting(), "", "flip", STATISTICS, "fp32", 5, tmp_path / "out.csv")
        is None
    )
    assert list(tmp_path.iterdir()) == []


def test_submit_refuses_a_set_that_is_not_there(tmp_path):
    with pytest.raises(UserError, match="no such file"):
        competition.submit(
            Counting(),
            str(tmp_path / "no.pkl"),
            "flip",
            STATISTICS,
            "fp32",
            5,
            tmp_path / "out.csv",
        )
    assert list(tmp_path.iterdir()) == []
