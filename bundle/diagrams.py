"""Diagrams of the network and of its mistakes; like the charts of lib.plots they open no file.

Text on a coloured cell is black or white, whichever stands out more: at least 4.5 to 1, the
contrast that WCAG 2.2 asks of text (success criterion 1.4.3).
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, Rectangle
from numpy.typing import NDArray

from lib.blocks import WHITENING_CHANNELS
from lib.plots import BLUE, GREY, ORANGE, RED, figure, styled

DARK, LIGHT = "#010101", "#fefefe"  # on a cell, in any mode of a page
PALE = "#e8eff6"  # the diagonal, a box
MISTAKES = LinearSegmentedColormap.from_list("mistakes", ("#fdf1e8", "#f7b98d", "#ea6a24"))
ACTIVATIONS = {"relu": "ReLU", "gelu": "GELU"}


def contrast(first: Any, second: Any) -> float:
    """Return the contrast of two colours, 1 to 21 (WCAG 2.2, "contrast ratio")."""
    high, low = sorted((_luminance(first), _luminance(second)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def _luminance(colour: Any) -> float:
    """Return the relative luminance of a colour, 0 (black) to 1 (WCAG 2.2)."""
    parts = np.array(to_rgb(colour))
    linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
    return float(linear @ (0.2126, 0.7152, 0.0722))


def readable_on(colour: Any) -> str:
    """Return the ink, dark or light, that stands out more on a colour."""
    return max(DARK, LIGHT, key=lambda ink: contrast(ink, colour))


@styled
def confusion_matrix(
    matrix: NDArray[np.int64], classes: Sequence[str], title: str = "", narrow: bool = False
) -> Figure:
    """Return counts (C, C), rows the true class, as a grid in which the mistakes stand out.

    Mistakes have one hue, scaled to the largest of them; the diagonal is pale, a zero is a dot.
    `narrow` is for the width of a phone.
    """
    drawn, axis = figure(*((3.8, 3.9) if narrow else (5.4, 4.7)))
    size, most = len(classes), max((matrix * (1 - np.eye(len(matrix)))).max(), 1)
    for (row, column), count in np.ndenumerate(matrix):
        hit = row == column
        ground = PALE if hit else MISTAKES(count / most) if count else "none"
        axis.add_patch(Rectangle((column, row), 1, 1, fc=ground, ec="none", gid="cell"))
        look: dict[str, Any] = {"fontsize": (7.5 if narrow else 9) - 0.8 * (count >= 1000)}
        look["color"] = "#4d5a66" if hit else readable_on(ground) if count else GREY
        axis.text(column + 0.5, row + 0.52, f"{count}" if count else "·", **look, **_CENTRE)
    axis.set(xlim=(0, size), ylim=(size, 0), title=title, aspect="equal")
    axis.set(xlabel="predicted class", ylabel="true class")
    places = np.arange(size) + 0.5
    turned = {"rotation": 45, "ha": "right", "rotation_mode": "anchor"}
    axis.set_xticks(places, classes, **(turned if max(map(len, classes)) > 3 else {}))
    axis.set_yticks(places, classes)
    _bare(axis)
    return drawn


_CENTRE: dict[str, Any] = {"ha": "center", "va": "center"}


def _bare(axis: Axes) -> None:
    axis.grid(False)
    axis.tick_params(length=0)
    axis.spines[:].set_visible(False)


@styled
def reliability(
    bins: Sequence[Sequence[Any]], narrow: bool = False, before: Sequence[Sequence[Any]] = ()
) -> Figure:
    """Return accuracy by confidence, and how many images lie there.

    bins: as from lib.metrics.calibration; before: others, as points behind them. On the dashed line
    the accuracy equals the confidence; below it the network is right less often than it says.
    """
    size = (3.8, 3.9) if narrow else (4.6, 3.6)
    drawn, (axis, below) = figure(*size, 2, 1, sharex=True, height_ratios=(3.2, 1))
    filled = [row for row in bins if row[2]]
    centres = [100 * (low + high) / 2 for low, high, *_ in filled]
    width, images = 88 / len(bins), sum(row[2] for row in filled)
    sure, right = ([100 * row[part] for row in filled] for part in (3, 4))
    axis.bar(centres, right, width, color="#9cc3e0", ec=BLUE, linewidth=0.8, label="accuracy")
    if former := [row for row in before if row[2]]:
        points = ([100 * row[part] for row in former] for part in (3, 4))
        axis.plot(*points, "D", color=RED, mfc="none", markersize=4, label="before")
    axis.plot(sure, right, "o", color=BLUE, markersize=4, label="at its mean confidence")
    axis.plot([0, 100], [0, 100], "--", color=GREY, linewidth=1, label="accuracy = confidence")
    axis.set(ylabel="accuracy (%)", xlim=(0, 100), ylim=(0, 102))
    drawn.legend(loc="outside lower left", fontsize=9, ncols=1 if narrow else 2)
    below.bar(centres, [100 * row[2] / images for row in filled], width, color=GREY)
    below.set(xlabel="confidence: the largest probability (%)", ylabel="images\n(%)")
    return drawn


def overlay(pixels: NDArray[np.uint8], falls: NDArray[np.floating]) -> NDArray[np.uint8]:
    """Return images (N, 3, H, W) in grey with what speaks for a class orange, against it blue.

    falls: (N, H, W), as from lib.predict.occlusion; the colour is strongest where an image's own
    largest is.
    """
    grey = pixels.mean(1, keepdims=True) * 0.7 + 50  # paler, so that colours stand out
    most = np.abs(falls).max((1, 2), keepdims=True)
    weight = (0.75 * np.abs(falls) / np.where(most > 0, most, 1))[:, None]
    speaks = (falls > 0)[:, None]
    colours = (255 * np.array(to_rgb(colour))[None, :, None, None] for colour in (ORANGE, BLUE))
    colour = np.where(speaks, *colours)
    return ((1 - weight) * grey + weight * colour).round().astype(np.uint8)


# Under shift


def corruption(name: str) -> str:
    """Return a corruption's name for reading."""
    return name.replace("jpeg", "JPEG").replace("gaussian", "Gaussian").replace("_", " ")


@styled
def heat_map(table: pd.DataFrame, clean: float, narrow: bool = False) -> Figure:
    """Return accuracies (%), a row a corruption and a column a severity, low ones coloured.

    table: fractions. clean: the accuracy on the same images as they are, which has no colour.
    """
    import seaborn  # late: slow to load

    drawn, axis = figure(3.9 if narrow else 6.4, 0.3 * len(table) + 0.9)
    low, high, colours = 10, max(100 * clean, 11), MISTAKES.reversed()
    look = {"cmap": colours, "vmin": low, "vmax": high, "cbar": False}
    values = 100 * table
    seaborn.heatmap(values, annot=True, fmt=".0f", ax=axis, linewidths=1, linecolor=LIGHT, **look)
    for text, value in zip(axis.texts, values.to_numpy().ravel(), strict=True):
        text.set(color=readable_on(colours((value - low) / (high - low))), fontsize=9)
    axis.set(xlabel="severity", ylabel="")
    axis.tick_params(axis="y", rotation=0)
    _bare(axis)
    return drawn


@styled
def by_severity(curves: dict[str, Sequence[float]], label: str, narrow: bool = False) -> Figure:
    """Return up to three curves over the severities, the first value that of clean images."""
    drawn, axis = figure(*((3.8, 3.2) if narrow else (6.4, 3.2)))
    for (name, values), (mark, colour) in zip(
        curves.items(), (("o--", RED), ("s-", BLUE), ("^:", GREY)), strict=False
    ):
        axis.plot(range(len(values)), values, mark, color=colour, label=name)
    axis.set_xticks(range(6), ["clean", *"12345"])
    axis.set(xlabel="severity", title=label)
    axis.set_ylim(bottom=0)
    drawn.legend(loc="outside lower left", ncols=1 if narrow else 2)
    return drawn


# The network


@styled
def architecture(
    network: Any, parameters: pd.DataFrame, classes: int, size: int = 32, narrow: bool = False
) -> Figure:
    """Return the network from input to classifier, where its parameters lie, one block opened.

    network: settings of lib.settings.Network. parameters: as from `by_hand.count_by_hand`. size:
    pixels of an image's side. `narrow` is for the width of a phone.
    """
    shape = (3.8, 5.3) if narrow else (8.4, 3.5)
    drawn, (axis, below) = figure(*shape, 2, 1, height_ratios=(1.45, 1) if narrow else (1.3, 1))
    counts = parameters.set_index("part")["parameters"]
    rows = stations(network, classes, size)
    (_listed if narrow else _chain)(axis, rows, counts)
    _block(below, network, narrow)
    return drawn


def stations(network: Any, classes: int, side: int) -> list[tuple[str, str, str]]:
    """Return (part that is counted, what it does, shape of its output) from the stem on."""
    activation = ACTIVATIONS[network.activation]
    channels, stem = network.widths[0], "3×3 conv"
    if network.stem == "whitening":
        channels, side, stem = WHITENING_CHANNELS, side - 1, "2×2 whitening"
    elif network.block != "preactivation":
        stem = f"3×3 conv, BN, {activation}"
    rows = [("stem", stem, f"{channels}×{side}×{side}")]
    stages = zip(network.blocks, network.widths, network.strides, strict=True)
    for number, (count, width, stride) in enumerate(stages, 1):
        side //= stride
        blocks = f"{count} block{'s' * (count != 1)}"
        rows.append((f"stage {number}", blocks, f"{width}×{side}×{side}"))
    return [*rows, ("classifier", f"{network.pooling} pool, linear", f"{classes} classes")]


def _chain(axis: Axes, rows: Sequence[tuple[str, str, str]], counts: pd.Series) -> None:
    """Draw the parts as boxes in a row, below each a bar of its share of the parameters."""
    axis.set(xlim=(-0.42, len(rows)), ylim=(-0.02, 2.0))
    axis.set_axis_off()
    for height, text in ((1.62, "image"), (0.4, "parameters")):
        axis.text(-0.4, height, text, fontsize=9, rotation=90, va="center")
    tallest = 0.78 / counts.drop("total").max()
    for place, (part, text, shape) in enumerate(rows):
        share = counts[part] / counts["total"]
        _box(axis, (place + 0.08, 1.28), (0.84, 0.68), PALE)
        axis.text(place + 0.5, 1.79, part, fontweight="bold", fontsize=9.5, **_CENTRE)
        axis.text(place + 0.5, 1.5, text.replace(", ", ",\n", 1), fontsize=8.5, **_CENTRE)
        axis.text(place + 0.5, 1.13, shape, fontsize=8.5, color=GREY, **_CENTRE)
        _arrow(axis, (place - 0.1, 1.62), (place + 0.08, 1.62))
        bar = tallest * counts[part]
        axis.add_patch(Rectangle((place + 0.2, 0), 0.6, bar, fc=BLUE, ec="none", gid="share"))
        note = f"{counts[part]:,} ({_percent(share)})"
        axis.text(place + 0.5, bar + 0.04, note, fontsize=8.5, ha="center", va="bottom")
    axis.axhline(0, color=GREY, linewidth=0.8)


def _listed(axis: Axes, rows: Sequence[tuple[str, str, str]], counts: pd.Series) -> None:
    """Draw the parts one below the other, beside each a bar of its share of the parameters."""
    axis.set(xlim=(0, 1), ylim=(len(rows), -0.1))
    axis.set_axis_off()
    for place, (part, text, shape) in enumerate(rows):
        share = counts[part] / counts["total"]
        axis.text(0, place + 0.3, part, fontweight="bold", fontsize=9.5, va="center")
        axis.text(0.24, place + 0.3, f"{text} → {shape}", fontsize=9, va="center")
        axis.add_patch(Rectangle((0.24, place + 0.54), 0.5 * share, 0.24, fc=BLUE, gid="share"))
        note = f"{counts[part]:,} ({_percent(share)})"
        axis.text(0.26 + 0.5 * share, place + 0.67, note, fontsize=8.5, va="center")


def _percent(share: float) -> str:
    return "<1%" if 0 < share < 0.01 else f"{share:.0%}"


# A block's boxes: before the shortcut leaves, on the way, and after the sum.
PARTS = {
    "basic": ((), ("3×3 conv", "BN", "{act}", "3×3 conv", "BN"), ("{act}",)),
    "preactivation": ((), ("BN", "{act}", "3×3 conv", "BN", "{act}", "3×3 conv"), ()),
    "pooled": (("3×3 conv", "max pool", "BN", "{act}"), ("3×3 conv", "BN"), ("{act}",)),
}


def _block(axis: Axes, network: Any, narrow: bool) -> None:
    """Draw one residual block from left to right, its shortcut as an arc over what it skips."""
    act = ACTIVATIONS[network.activation]
    parts = PARTS.get(network.block, ((), (f"{network.block} block",), ()))
    before, way, after = ([text.format(act=act) for text in part] for part in parts)
    fork, sum_at = len(before) + 0.1, len(before) + len(way) + 0.75
    end = sum_at + 0.55 + len(after)
    axis.set(xlim=(-0.45, end + 0.35), ylim=(0, 2.1 if narrow else 1.85))
    axis.set_axis_off()
    axis.set_title("One block, opened", fontsize=10)
    _arrow(axis, (-0.4, 0.5), (end + 0.3, 0.5))
    starts = [*range(len(before)), *(fork + 0.2 + k for k in range(len(way)))]
    starts += [sum_at + 0.45 + k for k in range(len(after))]
    for start, text in zip(starts, (*before, *way, *after), strict=True):
        _box(axis, (start + 0.08, 0.1), (0.84, 0.8), PALE if "conv" in text else "#f4f4f4")
        shown = text.replace(" ", "\n")
        axis.text(start + 0.5, 0.5, shown, fontsize=7.5 if narrow else 9, **_CENTRE)
    _shortcut(axis, fork, sum_at, network, narrow)


def _shortcut(axis: Axes, fork: float, sum_at: float, network: Any, narrow: bool) -> None:
    """Draw the shortcut over the boxes, and the sum where it comes back."""
    axis.plot([fork, fork, sum_at, sum_at], [0.5, 1.4, 1.4, 0.95], color=RED, linewidth=1.8)
    _arrow(axis, (sum_at, 1.0), (sum_at, 0.75), RED)
    axis.plot(fork, 0.5, "o", color=RED, markersize=4)
    axis.plot(sum_at, 0.5, "o", color=LIGHT, markeredgecolor=RED, markersize=14, zorder=3)
    axis.text(sum_at, 0.48, "+", fontsize=12, color=RED, zorder=4, **_CENTRE)
    text = "shortcut: what the first half gives"
    if network.block != "pooled":
        text = "shortcut: the input itself"
        of = " of the first activation" * (network.block == "preactivation")
        text += f";{chr(10) if narrow else ' '}where stride or width change, a 1×1 conv{of}"
    size, x = 8.5 if narrow else 9, (fork + sum_at) / 2
    axis.text(x, 1.5, text, fontsize=size, color=RED, ha="center", va="bottom")


def _box(axis: Axes, corner: tuple[float, float], size: tuple[float, float], colour: str) -> None:
    look: dict[str, Any] = {"fc": colour, "ec": GREY, "linewidth": 0.8, "zorder": 2}
    axis.add_patch(FancyBboxPatch(corner, *size, "round,pad=0,rounding_size=0.05", **look))


def _arrow(
    axis: Axes, start: tuple[float, float], end: tuple[float, float], colour: str = GREY
) -> None:
    look: dict[str, Any] = {"arrowstyle": "-|>", "mutation_scale": 9, "shrinkA": 0, "shrinkB": 0}
    axis.add_patch(FancyArrowPatch(start, end, color=colour, linewidth=1, zorder=1, **look))
