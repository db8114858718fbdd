"""The figures. Each function returns a matplotlib Figure and opens no file.

Colours are Okabe and Ito's, told apart by colour-blind readers, with markers or line styles that
survive greyscale.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray
from torch import Tensor

BLUE, ORANGE, GREEN, RED, GREY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#6b6b6b"
CHANNELS = (("red", "#c23b22"), ("green", "#1a7f4b"), ("blue", "#0b5fa5"))
PHOTOGRAPHS = "dataset-images"  # in an SVG, the mark of a figure that shows images of the dataset
LETTER = 0.64  # room for a letter of DejaVu Sans, on average, by its height
# fmt: off
STYLE = {
    "font.size": 10, "axes.titlesize": 11, "axes.titleweight": "bold", "axes.titlelocation": "left",
    "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True,
    "grid.color": "#e4e4e4", "axes.axisbelow": True, "legend.frameon": False,
    "svg.hashsalt": "bundle", "pdf.fonttype": 42, "svg.fonttype": "none",
}
# fmt: on


def style() -> Any:
    """Return every setting of Matplotlib that a figure is drawn and saved with."""
    windows = ("backend", "backend_fallback", "interactive", "toolbar")  # no figure's
    plain = mpl.rcParamsDefault
    return {key: plain[key] for key in plain if key not in windows} | STYLE


def styled(draw: Callable[..., Figure]) -> Callable[..., Figure]:
    """Draw in the bundle's style, over Matplotlib's defaults: no user's settings count."""

    @functools.wraps(draw)
    def inside(*arguments: Any, **options: Any) -> Figure:
        with mpl.rc_context(style()):
            return draw(*arguments, **options)

    return inside


def figure(
    width: float, height: float, rows: int = 1, columns: int = 1, **options: Any
) -> tuple[Figure, Any]:
    """Return (Figure, axes), sizes in inches, outside pyplot's global state."""
    drawn = Figure(figsize=(width, height), layout="constrained")
    return drawn, drawn.subplots(rows, columns, **options)


def _canvas(rows: Sequence[Sequence[Tensor]], gap: int, tops: Sequence[int]) -> NDArray[np.uint8]:
    """Return one RGBA canvas of images (3, H, W), uint8 or float in [0, 1]; `tops` of the rows."""
    height, width = rows[0][0].shape[-2:]
    across = max(map(len, rows)) * (width + gap) - gap
    canvas = np.zeros((tops[-1] + height + gap, across, 4), dtype=np.uint8)
    for top, images in zip(tops, rows, strict=True):
        for column, image in enumerate(images):
            array = image.detach().cpu().permute(1, 2, 0).numpy()
            if array.dtype != np.uint8:
                array = (array.clip(0, 1) * 255).round().astype(np.uint8)
            left = column * (width + gap)
            opaque = np.dstack([array, np.full_like(array[..., :1], 255)])
            canvas[top : top + height, left : left + width] = opaque
    return canvas


@styled
def image_grid(
    rows: Sequence[Sequence[Tensor]], row_titles: Sequence[str] = (),
    titles: Sequence[Sequence[str]] = (), size: float = 0.75,
) -> Figure:  # fmt: skip
    """Return images (3, H, W) in rows, each `size` inches wide, with titles of rows and images."""
    side, gap = rows[0][0].shape[-1], 3  # pixels
    lines = [max((text.count("\n") + 1 for text in row if text), default=0) for row in titles]
    points = _points(titles, size, size * gap / side)
    above = [round(count * 0.02 * points * side / size) for count in lines] + [0] * len(rows)
    tops = [sum(above[: row + 1]) + row * (side + gap) for row in range(len(rows))]
    canvas, scale = _canvas(rows, gap, tops), size / side
    (height, width), left = canvas.shape[:2], 0.08 * max(map(len, row_titles), default=0) + 0.15
    drawn = Figure(figsize=(width * scale + left + 0.1, height * scale + 0.3))
    axis = drawn.add_axes((0, 0, 1, 1))  # all of it, in pixels of the canvas: nothing to lay out
    axis.set(xlim=(-left / scale, width + 0.1 / scale), ylim=(height + 0.05 / scale, -0.25 / scale))
    axis.imshow(canvas, interpolation="nearest").set_gid(PHOTOGRAPHS)
    axis.set_axis_off()
    for top, text in zip(tops, row_titles, strict=False):
        axis.text(-side / 8, top + side / 2, text, ha="right", va="center", fontsize=9)
    look: dict[str, Any] = {"ha": "center", "va": "bottom", "fontsize": points}
    for top, row, texts in zip(tops, rows, titles, strict=False):
        for column, text in enumerate(texts[: len(row)]):
            axis.text(column * (side + gap) + side / 2, top - 1.5, text, **look)
    return drawn


def _points(titles: Sequence[Sequence[str]], size: float, gap: float) -> float:
    """Return how large the letters of images' titles are: the longest line must find room."""
    lines = [line for row in titles for text in row for line in text.split("\n")]
    room = 72 * (size + gap) / (LETTER * max(map(len, lines), default=1) or 1)
    return min(room, 11 if size > 1.2 else 8 if size >= 0.8 else 7.5)


@styled
def pixel_histograms(pixels: Tensor, narrow: bool = False) -> Figure:
    """Return the distribution of the 256 levels in each channel of uint8 images (N, 3, H, W).

    `narrow` is for the width of a phone.
    """
    drawn, axis = figure(*((3.8, 3.2) if narrow else (8, 3.2)))
    for channel, ((name, colour), style) in enumerate(zip(CHANNELS, ("-", "--", ":"), strict=True)):
        counts = np.bincount(pixels[:, channel].numpy().ravel(), minlength=256)
        axis.plot(np.arange(256), counts / counts.sum() * 100, style, color=colour, label=name)
    axis.set(title="Share of pixels (%)", xlabel="level (0 to 255)", xlim=(0, 256))
    axis.set_ylim(bottom=0)
    drawn.legend(loc="outside lower left", ncols=3)
    return drawn


@styled
def learning_rates(
    curves: dict[str, tuple[Sequence[float], Sequence[float]]],
    printed: dict[int, float] | None = None,
    narrow: bool = False,
) -> Figure:
    """Return learning-rate curves, name -> (epochs, rates); `printed` marks reported values.

    A single curve has its name in the title; `narrow` is for the width of a phone.
    """
    drawn, axis = figure(*((3.8, 3.4) if narrow else (8, 3.4)))
    styles = (("-", BLUE), ("--", ORANGE), (":", GREEN))
    for (name, (epochs, rates)), (style, colour) in zip(curves.items(), styles, strict=False):
        axis.plot(epochs, rates, style, color=colour, label=name)
    if printed:
        look = {"color": RED, "markersize": 4, "label": "printed by the reference"}
        axis.plot(list(printed), list(printed.values()), "x", **look)
    alone = len(curves) == 1 and not printed
    axis.set(title="Learning rate" + f", {next(iter(curves))}" * alone, xlabel="epoch")
    axis.set_ylim(bottom=0)
    if not alone:
        drawn.legend(loc="outside lower left", ncols=1 if narrow else 2)
    return drawn


CLASSES, MARKED = 10, 30  # of the data, whose chance is a line; epochs with a mark each
PARTS = {  # of a training's history: name, line, mark, colour
    "train": ("training", "-", "o", BLUE),
    "holdout": ("hold-out", "--", "s", RED),
    "test": ("test", "-.", "^", GREEN),
}


@styled
def training_curves(
    history: pd.DataFrame,
    reference: pd.DataFrame | None = None,
    test: float | None = None,
    narrow: bool = False,
) -> Figure:
    """Return loss, accuracy and learning rate over the epochs of a training's history.

    Args:
        history: a row an epoch; of train, holdout and test those that its columns name are drawn.
        reference: a training of the same columns, in grey behind it.
        test: the accuracy at the end, a fraction of 1, marked after the last epoch.
        narrow: for the width of a phone, the panels one above the other.
    """
    axes, drawn = _panels(narrow)
    if reference is not None:
        _curves(axes, reference, "the reference: ", GREY)
    _curves(axes, history)
    axes["accuracy"].axhline(100 / CLASSES, label="chance", color=GREY, linestyle=":")
    if test is not None:
        last, look = history["epoch"].iloc[-1], {"color": GREEN, "markersize": 9, "zorder": 4}
        axes["accuracy"].plot(last, 100 * test, "*", label="test, at the end", **look)
    handles = axes["accuracy"].get_legend_handles_labels()
    drawn.legend(*handles, loc="outside lower left", ncols=1 if narrow else 3, fontsize=9)
    return drawn


def _panels(narrow: bool) -> tuple[dict[str, Any], Figure]:
    """Return the empty panels loss, accuracy and rate, the last one a thin strip."""
    at: Any = [["loss"], ["accuracy"], ["rate"]] if narrow else [["loss", "accuracy"], ["rate"] * 2]
    drawn = Figure(figsize=(3.8, 7.2) if narrow else (8, 4.6), layout="constrained")
    axes = drawn.subplot_mosaic(at, height_ratios=(3, 3, 1.2) if narrow else (3.2, 1))
    axes["loss"].set(title="Loss (cross entropy, nats)", xlabel="epoch")
    axes["accuracy"].set(title="Accuracy (%)", xlabel="epoch", ylim=(0, 101))
    axes["rate"].set(title="Learning rate", xlabel="epoch")
    for axis in axes.values():
        axis.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1, nbins=6))
    return axes, drawn


def _curves(axes: dict[str, Any], history: pd.DataFrame, whose: str = "", grey: str = "") -> None:
    """Draw a history into the panels loss, accuracy and rate; `grey` for all of its lines."""
    epochs, few, width = history["epoch"], len(history) <= MARKED, 1 if grey else 1.5
    for part, (name, line, mark, colour) in PARTS.items():
        look = {"ls": line, "marker": mark * few, "ms": 4, "color": grey or colour, "lw": width}
        for key, scale in (("loss", 1), ("accuracy", 100)):
            if (column := f"{part}_{key}") in history:
                axes[key].plot(epochs, history[column] * scale, label=whose + name, **look)
    look = {"marker": "." * few, "color": grey or GREEN, "lw": width}
    axes["rate"].plot(epochs, history["learning_rate"], **look)
    for name in ("loss", "rate"):
        axes[name].autoscale(axis="y")
        if axes[name].dataLim.y1 > 10 * np.log(CLASSES):  # far above chance, it would hide the rest
            axes[name].set_yscale("log")
        else:
            axes[name].set_ylim(bottom=0)


@styled
def intervals(
    table: pd.DataFrame,
    title: str,
    label: str = "accuracy (%), 95% Wilson interval",
    narrow: bool = False,
) -> Figure:
    """Return a point and interval per row: columns accuracy, low, high (fractions), index names.

    A value has two decimals where the intervals are shorter than a point; `narrow` is for phones.
    """
    drawn, axis = figure(3.9 if narrow else 8, 0.38 * len(table) + 1.1)
    places = np.arange(len(table))[::-1]
    middle = table["accuracy"] * 100
    spread = np.clip([middle - table["low"] * 100, table["high"] * 100 - middle], 0, None)
    axis.errorbar(middle, places, xerr=spread, fmt="o", color=BLUE, ecolor=GREY, capsize=3)
    look = {"textcoords": "offset points", "ha": "center", "fontsize": 9}
    digits = 2 if np.sum(spread, axis=0).max(initial=0) < 1 else 1
    for place, value in zip(places, middle, strict=True):
        axis.annotate(f"{value:.{digits}f}", (value, place), (0, 6), **look)
    axis.set_yticks(places, table.index)
    axis.set(title=title, xlabel=label, ylim=(-0.6, len(table) - 0.2))
    return drawn
