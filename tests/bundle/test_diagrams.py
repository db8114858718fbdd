"""The diagrams: contrast of the matrix's text by WCAG's formula, what stands in each picture."""

import json
from pathlib import Path

import numpy as np
import pytest
from matplotlib.colors import to_hex

from bundle import diagrams
from bundle.by_hand import count_by_hand
from lib.settings import BLOCKS, Network

REFERENCE = json.loads(
    (Path(__file__).resolve().parents[2] / "docs" / "reference.json").read_text(encoding="utf-8")
)
MATRIX, CLASSES = np.array(REFERENCE["confusion_matrix"]), tuple(REFERENCE["classes"])
ENOUGH = 4.5  # WCAG 2.2, 1.4.3


def texts(figure):
    return [text.get_text() for axis in figure.axes for text in axis.texts]


def test_contrast_by_known_values():
    assert diagrams.contrast("black", "white") == pytest.approx(21)
    assert diagrams.contrast("#777777", "white") == pytest.approx(4.48, abs=0.005)
    assert diagrams.contrast("#ff0000", "#ffffff") == pytest.approx(4.0, abs=0.005)
    assert diagrams.contrast("white", "#ff0000") == diagrams.contrast("#ff0000", "white")


def drawn_cells(figure):
    """Each cell's ground and text with its ink, row by row."""
    (axis,) = figure.axes
    grounds = [patch for patch in axis.patches if patch.get_gid() == "cell"]
    return list(zip(grounds, axis.texts, strict=True))


@pytest.mark.parametrize("narrow", [False, True])
def test_every_number_of_the_matrix_can_be_read(narrow):
    spread = np.arange(100).reshape(10, 10)  # every shade of the hue
    for matrix in (MATRIX, spread):
        cells = drawn_cells(diagrams.confusion_matrix(matrix, CLASSES, narrow=narrow))
        assert len(cells) == 100
        for ground, text in cells:
            colour = ground.get_facecolor()
            under = to_hex(colour) if colour[3] else "white"
            assert diagrams.contrast(text.get_color(), under) >= ENOUGH, text.get_text()


def test_any_shade_of_a_mistake_leaves_an_ink_that_can_be_read():
    for share in np.linspace(0, 1, 257):
        colour = diagrams.MISTAKES(share)
        assert diagrams.contrast(diagrams.readable_on(colour), colour) >= ENOUGH


def test_the_matrix_shows_counts_dots_and_the_largest_mistake_darkest():
    cells = drawn_cells(diagrams.confusion_matrix(MATRIX, CLASSES))
    shown = [text.get_text() for _, text in cells]
    assert shown == [str(count) if count else "·" for count in MATRIX.ravel()]
    light = [diagrams._luminance(ground.get_facecolor()[:3]) for ground, _ in cells]
    wrong = MATRIX * (1 - np.eye(10, dtype=int))
    filled = [place for place in range(100) if wrong.ravel()[place]]
    assert min(filled, key=light.__getitem__) == wrong.argmax() == 53  # a dog taken for a cat
    order = sorted(filled, key=wrong.ravel().__getitem__)
    assert [light[place] for place in order] == sorted((light[p] for p in filled), reverse=True)


def test_a_matrix_without_mistakes_is_drawn():
    assert texts(diagrams.confusion_matrix(np.diag([3, 4]), ("a", "b"))) == ["3", "·", "·", "4"]


@pytest.mark.parametrize("narrow", [False, True])
@pytest.mark.parametrize("block", BLOCKS)
def test_the_architecture_shows_its_shortcut_and_where_the_parameters_lie(block, narrow):
    network = Network(block=block)
    counted = count_by_hand(network)
    figure = diagrams.architecture(network, counted, 10, narrow=narrow)
    said = texts(figure)
    skipped = "what the first half gives" if block == "pooled" else "the input itself"
    assert any(text.startswith(f"shortcut: {skipped}") for text in said) and "+" in said
    stage = counted.set_index("part").loc["stage 4", "parameters"]
    assert f"{stage:,} (69%)" in said
    bars = [patch for patch in figure.axes[0].patches if patch.get_gid() == "share"]
    extent = [patch.get_width() if narrow else patch.get_height() for patch in bars]
    parts = counted.set_index("part")["parameters"].drop(
        ["total", "last batch norm"], errors="ignore"
    )
    assert np.array(extent) / max(extent) == pytest.approx((parts / parts.max()).to_numpy())


def test_stations_follow_the_size_of_the_feature_map():
    shapes = [shape for *_, shape in diagrams.stations(Network(), 10, 32)]
    assert shapes == ["32×32×32", "32×32×32", "64×16×16", "128×8×8", "256×4×4", "10 classes"]


@pytest.mark.parametrize("narrow", [False, True])
def test_reliability_draws_filled_bins_at_their_accuracy(narrow):
    bins = [[0.0, 0.5, 0, None, None], [0.5, 1.0, 8, 0.9, 0.75]]
    above, below = diagrams.reliability(bins, narrow=narrow).axes
    assert [patch.get_height() for patch in above.patches] == [75.0]
    assert [patch.get_height() for patch in below.patches] == [100.0]
    points = above.lines[0]
    assert (points.get_xdata()[0], points.get_ydata()[0]) == (90.0, 75.0)


def test_the_overlay_is_orange_for_a_class_blue_against_it_and_grey_where_nothing_counts():
    pixels = np.full((2, 3, 32, 32), 200, dtype=np.uint8)
    falls = np.zeros((2, 32, 32))
    falls[0, :8], falls[0, 8:16] = 0.4, -0.2
    shown = diagrams.overlay(pixels, falls)
    assert shown.dtype == np.uint8 and shown.shape == pixels.shape and (pixels == 200).all()
    orange, blue, grey = shown[0, :, 0, 0], shown[0, :, 8, 0], shown[0, :, 20, 0]
    assert orange[0] > orange[1] > orange[2] and blue[2] > blue[0]
    assert len(set(grey.tolist())) == 1 and (shown[1] == grey[:, None, None]).all()
    # Half as strong where the fall is half the largest.
    strong, weak = (np.ptp(colour.astype(int)) for colour in (orange, blue))
    assert strong > 1.5 * weak
