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
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray
from torch import Tensor

from lib.blocks import WHITENING_CHANNELS

BLUE, ORANGE, GREEN, RED, GREY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#6b6b6b"
CHANNELS = (("red", "#c23b22"), ("green", "#1a7f4b"), ("blue", "#0b5fa5"))
PHOTOGRAPHS = "dataset-images"  # in an SVG, the mark of a figure that shows images of the dataset
# fmt: off
STYLE = {
    "font.size": 10, "axes.titlesize": 11, "axes.titleweight": "bold", "axes.titlelocation": "left",
    "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True,
    "grid.color": "#e4e4e4", "axes.axisbelow": True, "legend.frameon": False,
    "svg.hashsalt": "bundle", "pdf.fonttype": 42, "svg.fonttype": "none",
}
# fmt: on


def style() -> dict[str, Any]:
    """Return every setting of Matplotlib that a figure is drawn and saved with."""
    windows = (
        "backend",
        "backend_fallback",
        "interactive",
        "toolbar",
    )  # no figure's, but a program's
    plain = mpl.rcParamsDefault
    return {key: plain[key] for key in plain if key not in windows} | STYLE


def styled(draw: Callable[..., Figure]) -> Callable[..., Figure]:
    """Draw in the bundle's style, over Matplotlib's defaults: no user's settings count."""

    @functools.wraps(draw)
    def inside(*arguments: Any, **options: Any) -> Figure:
        with mpl.rc_context(style()):
            return draw(*arguments, **options)

    return inside


def figure(width: float, height: float, rows: int = 1, columns: int = 1, **options: Any):
    """Return (Figure, axes), sizes in inches, outside pyplot's global state."""
    drawn = Figure(figsize=(width, height), layout="constrained")
    return drawn, drawn.subplots(rows, columns, **options)


def _canvas(rows: Sequence[Sequence[Tensor]], gap: int, above: int) -> NDArray[np.uint8]:
    """Return one white RGB canvas with images (3, H, W), uint8 or float in [0, 1], in rows."""
    height, width = rows[0][0].shape[-2:]
    columns = max(map(len, rows))
    shape = (len(rows) * (height + gap + above), columns * (width + gap) - gap, 3)
    canvas = np.full(shape, 255, dtype=np.uint8)
    for number, images in enumerate(rows):
        top = number * (height + gap + above) + above
        for column, image in enumerate(images):
            array = image.detach().cpu().permute(1, 2, 0).numpy()
            if array.dtype != np.uint8:
                array = (array.clip(0, 1) * 255).round().astype(np.uint8)
            left = column * (width + gap)
            canvas[top : top + height, left : left + width] = array
    return canvas


@styled
def image_grid(
    rows: Sequence[Sequence[Tensor]],
    row_titles: Sequence[str] = (),
    titles: Sequence[Sequence[str]] = (),
    size: float = 0.75,
) -> Figure:
    """Return images (3, H, W) in rows, each `size` inches wide, with titles of rows and images."""
    side, gap = rows[0][0].shape[-1], 3  # pixels
    lines = max((text.count("\n") + 1 for row in titles for text in row if text), default=0)
    above = round(lines * 0.15 * side / size)
    canvas, scale = _canvas(rows, gap, above), size / side
    margin = 0.085 * max(map(len, row_titles), default=0)
    drawn, axis = figure(canvas.shape[1] * scale + margin + 0.1, canvas.shape[0] * scale + 0.3)
    axis.imshow(canvas, interpolation="nearest").set_gid(PHOTOGRAPHS)
    axis.set_axis_off()
    tops = range(above, canvas.shape[0], side + gap + above)
    for top, text in zip(tops, row_titles, strict=False):
        axis.text(-side / 8, top + side / 2, text, ha="right", va="center", fontsize=9)
    look = {"ha": "center", "va": "bottom", "fontsize": 7.5}
    for top, row, texts in zip(tops, rows, titles, strict=False):
        for column, text in enumerate(texts[: len(row)]):
            axis.text(column * (side + gap) + side / 2, top - 1.5, text, **look)
    return drawn


@styled
def class_balance(counts: pd.DataFrame) -> Figure:
    """Return bars of images per class (index), one group a column of `counts`."""
    drawn, axis = figure(8, 3)
    wide = counts.rename_axis("class").reset_index()
    long = wide.melt("class", var_name="part", value_name="images")
    sns.barplot(long, x="class", y="images", hue="part", palette=[BLUE, ORANGE, GREEN], ax=axis)
    axis.set(title="Images per class", xlabel="", ylabel="images")
    axis.tick_params(axis="x", rotation=30 if counts.index.str.len().max() > 3 else 0)
    axis.legend(title="", ncols=3, loc="lower right", bbox_to_anchor=(1, 1))
    return drawn


@styled
def pixel_histograms(pixels: Tensor) -> Figure:
    """Return the distribution of the 256 levels in each channel of uint8 images (N, 3, H, W)."""
    drawn, axis = figure(8, 2.8)
    for channel, ((name, colour), style) in enumerate(zip(CHANNELS, ("-", "--", ":"), strict=True)):
        counts = np.bincount(pixels[:, channel].numpy().ravel(), minlength=256)
        axis.plot(np.arange(256), counts / counts.sum() * 100, style, color=colour, label=name)
    axis.set(title="Distribution of pixel levels", xlabel="level (0 to 255)", xlim=(0, 255))
    axis.set_ylabel("share of pixels (%)")
    axis.set_ylim(bottom=0)
    axis.legend(title="channel", ncols=3)
    return drawn


@styled
def architecture(network: Any, parameters: pd.DataFrame, classes: int, size: int = 32) -> Figure:
    """Return the network as a row of boxes: `parameters` as from lib.layers.count_by_hand."""
    counts = parameters.set_index("part")["parameters"]
    boxes = _boxes(network, classes, size)
    drawn, axis = figure(1.24 * len(boxes), 2.1)
    axis.set(xlim=(0, len(boxes)), ylim=(0, 1))
    axis.set_axis_off()
    small = {"ha": "center", "va": "center", "fontsize": 7}
    for place, (part, title, text, colour) in enumerate(boxes):
        look = {"boxstyle": "round,pad=0,rounding_size=0.05", "fc": colour, "ec": GREY}
        axis.add_patch(FancyBboxPatch((place + 0.08, 0.22), 0.84, 0.66, **look))
        axis.text(place + 0.5, 0.78, title, ha="center", va="center", fontweight="bold")
        axis.text(place + 0.5, 0.48, text, **small)
        if place:
            axis.text(place + 0.5, 0.08, f"{counts[part]:,}\nparameters", color=GREY, **small)
            look = {"arrowstyle": "-|>", "color": GREY}
            axis.annotate("", (place + 0.08, 0.55), (place - 0.08, 0.55), arrowprops=look)
    return drawn


def _boxes(network: Any, classes: int, side: int) -> list[tuple[str, str, str, str]]:
    """Return (part that is counted, title, text, colour) of each box, from the input on."""
    boxes = [("", "input", f"3 × {side} × {side}", "#f0f0f0")]
    activation = {"relu": "ReLU", "gelu": "GELU"}[network.activation]
    channels, stem = network.widths[0], "3×3 conv"
    if network.stem == "whitening":
        channels, side, stem = WHITENING_CHANNELS, side - 1, "2×2 whitening"
    elif network.block != "preactivation":
        stem = f"3×3 conv, BN, {activation}"
    boxes.append(("stem", "stem", f"{stem}\n{channels} × {side} × {side}", "#dbe9f6"))
    stages = zip(network.blocks, network.widths, network.strides, strict=True)
    for number, (count, width, stride) in enumerate(stages, 1):
        side //= stride
        kind = f"{network.block} block{'s' * (count != 1)}".replace("preactivation", "preact.")
        text = f"{count} {kind}\nstride {stride}\n{width} × {side} × {side}"
        boxes.append((f"stage {number}", f"stage {number}", text, "#bcd7ee"))
    text = f"{network.pooling} over {side}×{side}\nlinear {network.widths[-1]} → {classes}"
    return [*boxes, ("classifier", "head", text, "#dbe9f6")]


@styled
def learning_rates(
    curves: dict[str, tuple[Sequence[float], Sequence[float]]],
    printed: dict[int, float] | None = None,
) -> Figure:
    """Return learning-rate curves, name -> (epochs, rates); `printed` marks reported values."""
    drawn, axis = figure(8, 3)
    styles = (("-", BLUE), ("--", ORANGE), (":", GREEN))
    for (name, (epochs, rates)), (style, colour) in zip(curves.items(), styles, strict=False):
        axis.plot(epochs, rates, style, color=colour, label=name)
    if printed:
        look = {"color": RED, "markersize": 5, "label": "printed by the reference"}
        axis.plot(list(printed), list(printed.values()), "x", **look)
    axis.set(title="Learning rate", xlabel="epoch", ylabel="learning rate")
    axis.set_ylim(bottom=0)
    axis.legend()
    return drawn


@styled
def training_curves(history: pd.DataFrame) -> Figure:
    """Return loss, accuracy and learning rate over the epochs of a training's history."""
    drawn, axes = figure(9.4, 3.0, 1, 3)
    panels = (("loss", "cross entropy (nats)", 1), ("accuracy", "accuracy (%)", 100))
    lines = (("train", "training (augmented)", "o-", BLUE), ("holdout", "hold-out", "s--", RED))
    for axis, (key, unit, scale) in zip(axes, panels, strict=False):
        for part, name, style, colour in lines:
            if f"{part}_{key}" in history:
                values, look = history[f"{part}_{key}"] * scale, {"color": colour, "markersize": 3}
                axis.plot(history["epoch"], values, style, label=name, **look)
        axis.set(title=key.capitalize(), xlabel="epoch", ylabel=unit)
        axis.legend()
    axes[2].plot(history["epoch"], history["learning_rate"], "o-", color=GREEN, markersize=3)
    axes[2].set(title="Learning rate", xlabel="epoch", ylabel="learning rate")
    for axis in axes:
        axis.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    return drawn


def arrow(true: str, predicted: str, last: str = "") -> str:
    """Return a title for a mistaken image, in two lines where the names are long."""
    gap = "\n" if len(true + predicted) > 8 else " "
    return f"{true} →{gap}{predicted}" + (f"\n{last}" if last else "")


@styled
def intervals(
    table: pd.DataFrame,
    title: str,
    label: str = "accuracy (%), 95% Wilson interval",
    reported: float | None = None,
) -> Figure:
    """Return a point and interval per row: columns accuracy, low, high (fractions), index names."""
    drawn, axis = figure(8, 0.38 * len(table) + 1.1)
    places = np.arange(len(table))[::-1]
    middle = table["accuracy"] * 100
    spread = np.clip([middle - table["low"] * 100, table["high"] * 100 - middle], 0, None)
    axis.errorbar(middle, places, xerr=spread, fmt="o", color=BLUE, ecolor=GREY, capsize=3)
    look = {"textcoords": "offset points", "ha": "center", "fontsize": 8}
    for place, value in zip(places, middle, strict=True):
        axis.annotate(f"{value:.2f}", (value, place), (0, 6), **look)
    if reported is not None:
        axis.axvline(reported * 100, color=RED, linestyle="--", linewidth=1)
        look = {"color": RED, "ha": "right", "va": "top", "fontsize": 8}
        axis.text(reported * 100, len(table) - 0.3, f"reported {reported:.2%} ", **look)
    axis.set_yticks(places, table.index)
    axis.set(title=title, xlabel=label, ylim=(-0.6, len(table) - 0.2))
    return drawn


@styled
def confusion_matrix(
    matrix: NDArray, classes: Sequence[str], title: str, form: str = "counts"
) -> Figure:
    """Return a heat map; `form`: counts, rows (% of the true class) or errors (diagonal blank)."""
    values = matrix.astype(float)
    if form == "rows":
        values = 100 * values / values.sum(1, keepdims=True).clip(1)
    hidden = np.eye(len(classes), dtype=bool) if form == "errors" else None
    drawn, axis = figure(7, 6)
    unit = {"counts": "images", "rows": "% of the true class", "errors": "images"}[form]
    digits = ".1f" if form == "rows" else ".0f"
    look = {"cmap": "cividis", "square": True, "xticklabels": classes, "yticklabels": classes}
    look |= {"annot": True, "fmt": digits, "annot_kws": {"fontsize": 8}}
    sns.heatmap(values, mask=hidden, cbar_kws={"label": unit}, ax=axis, **look)
    axis.grid(False)
    axis.set(title=title, xlabel="predicted class", ylabel="true class")
    axis.tick_params(axis="x", rotation=45 if max(map(len, classes)) > 3 else 0)
    axis.tick_params(axis="y", rotation=0)
    return drawn
