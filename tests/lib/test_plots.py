"""The curves: what stands in each panel, in which colour, and that a phone can show it."""

import itertools

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex
from matplotlib.text import Text

from lib import plots

HISTORY = pd.DataFrame(
    {
        "epoch": [1, 2, 3],
        "train_loss": [2.0, 1.5, 1.25],
        "train_accuracy": [0.2, 0.5, 0.625],
        "holdout_loss": [1.75, 1.5, 1.0],
        "holdout_accuracy": [0.25, 0.5, 0.75],
        "learning_rate": [0.1, 0.05, 0.0],
    }
)
REFERENCE = pd.DataFrame(
    {
        "epoch": range(1, 41),
        "train_loss": np.linspace(1.9, 0.1, 40),
        "test_loss": [*np.linspace(1.6, 0.2, 20), *[np.nan] * 20],
        "train_accuracy": [*np.linspace(0.3, 0.9, 20), *[np.nan] * 20],
        "test_accuracy": np.linspace(0.3, 0.94, 40),
        "learning_rate": [0.1] * 20 + [0.01] * 20,
    }
)


def panels(drawn):
    """Title -> label -> line of a figure of training curves."""
    return {
        axis.get_title(loc="left"): {line.get_label(): line for line in axis.lines}
        for axis in drawn.axes
    }


def legend(drawn):
    return [text.get_text() for text in drawn.legends[0].get_texts()]


@pytest.mark.parametrize("narrow", [False, True])
def test_training_curves_show_the_history(narrow):
    drawn = plots.training_curves(HISTORY, narrow=narrow)
    loss, accuracy, rate = panels(drawn).values()
    assert list(loss) == ["training", "hold-out"]
    assert accuracy["hold-out"].get_ydata().tolist() == [25, 50, 75]
    assert set(accuracy["chance"].get_ydata()) == {10}
    (rates,) = rate.values()
    assert rates.get_ydata().tolist() == [0.1, 0.05, 0.0]
    assert legend(drawn) == ["training", "hold-out", "chance"]
    assert all(axis.get_legend() is None for axis in drawn.axes)  # none lies over the lines


@pytest.mark.parametrize("scale, axis", [(1, "linear"), (10, "linear"), (1000, "log")])
def test_a_loss_far_above_chance_hides_none_of_the_others(scale, axis):
    history = HISTORY.assign(holdout_loss=[1.75 * scale, 1.5, 1.0])
    loss, _accuracy, rate = plots.training_curves(history, REFERENCE).axes
    assert loss.get_yscale() == axis and rate.get_yscale() == "linear"
    bottom, top = loss.get_ylim()
    assert (0 < bottom < 0.2 if axis == "log" else bottom == 0) and top > 1.75 * scale


def test_the_reference_is_drawn_in_grey_behind():
    drawn = plots.training_curves(HISTORY, REFERENCE)
    for title, lines in panels(drawn).items():
        greys = [line for line in lines.values() if to_hex(line.get_color()) == plots.GREY]
        behind = [line for line in greys if len(line.get_xdata()) == 40]
        assert len(behind) == (1 if title == "Learning rate" else 2), title
        colours = [to_hex(line.get_color()) for line in lines.values()]
        assert colours[: len(behind)] == [plots.GREY] * len(behind)  # drawn first
    accuracy = panels(drawn)["Accuracy (%)"]
    assert accuracy["the reference: test"].get_ydata()[-1] == pytest.approx(94)
    assert "the reference: training" in legend(drawn)


def test_the_test_accuracy_is_marked_only_where_it_is_given():
    marked = panels(plots.training_curves(HISTORY, test=0.7))["Accuracy (%)"]["test, at the end"]
    assert marked.get_xydata().tolist() == [[3, 70]]
    assert "test, at the end" not in panels(plots.training_curves(HISTORY))["Accuracy (%)"]


def test_a_single_rate_has_its_name_in_the_title():
    curve = {"peak 0.02": ([0, 1], [0.02, 0.0])}
    alone = plots.learning_rates(curve)
    assert alone.axes[0].get_title(loc="left") == "Learning rate, peak 0.02" and not alone.legends
    several = plots.learning_rates(curve | {"steps": ([0, 1], [0.1, 0.1])}, {1: 0.01})
    assert legend(several) == ["peak 0.02", "steps", "printed by the reference"]


@pytest.mark.parametrize(
    "draw",
    [
        lambda: plots.training_curves(HISTORY, REFERENCE, 0.7, narrow=True),
        lambda: plots.learning_rates(
            {f"cosine from {rate} (its phase)": ([0, 1], [rate, 0]) for rate in (0.1, 0.01)},
            {1: 0.01},
            narrow=True,
        ),
    ],
)
def test_narrow_figures_fit_a_phone_and_can_be_read_there(draw):
    """At least 9 pixels where the figure is 380 pixels wide, and nothing is cut off."""
    drawn = draw()
    drawn.draw_without_rendering()
    texts = [text for text in drawn.findobj(Text) if text.get_text() and text.get_visible()]
    scale = 380 / drawn.get_size_inches()[0]  # pixels an inch
    assert min(text.get_fontsize() for text in texts) / 72 * scale >= 9
    box = drawn.legends[0].get_window_extent()
    assert drawn.bbox.x0 <= box.x0 and box.x1 <= drawn.bbox.x1


@pytest.mark.parametrize(("columns", "size"), [(7, 0.9), (10, 0.75), (2, 1.5)])
def test_titles_of_images_lie_inside_the_figure_when_it_is_first_drawn(columns, size):
    """Images are as large as was asked; the first drawing decides what a page shows."""
    rows, titles = [[torch.zeros(3, 32, 32)] * columns] * 2, [["elastic\ntransform"] * columns]
    drawn = plots.image_grid(rows, ["severity 1", "automobile"], titles, size)
    canvas = FigureCanvasAgg(drawn)
    canvas.draw()
    width, height = drawn.get_size_inches() * drawn.dpi
    (axis,) = drawn.axes
    for text in axis.texts:
        place = text.get_window_extent(canvas.get_renderer())
        assert min(place.x0, place.y0) >= 0, text
        assert place.x1 <= width and place.y1 <= height, text
    left, right = (axis.transData.transform((x, 0))[0] for x in (0, 32))
    assert (right - left) / drawn.dpi == pytest.approx(size)


@pytest.mark.parametrize(("columns", "size"), [(6, 8 / 6), (10, 0.8), (3, 3.7 / 3)])
def test_titles_of_neighbours_leave_room_between_them(columns, size):
    images = torch.zeros(columns, 3, 32, 32, dtype=torch.uint8)
    titles = [["truck 100%\n→ automobile 100%"] * columns]
    drawn = plots.image_grid([images], titles=titles, size=size)
    renderer = FigureCanvasAgg(drawn).get_renderer()
    texts = [text for text in drawn.findobj(Text) if text.get_text() in titles[0]]
    boxes = sorted((text.get_window_extent(renderer) for text in texts), key=lambda box: box.x0)
    assert len(boxes) == columns and all(text.get_fontsize() > 5 for text in texts)
    gaps = [after.x0 - before.x1 for before, after in itertools.pairwise(boxes)]
    assert min(gaps) > 2
