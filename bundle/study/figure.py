"""The figures of a study: differences to the bases, or accuracies where nothing is compared."""

import textwrap
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from bundle.words import points
from lib.plots import BLUE, GREY, RED, figure, styled

LABEL, NARROW_LABEL = 38, 46  # characters of a line
ROLES = {"base": (BLUE, "o"), "variant": (RED, "s"), "audit": (GREY, "D")}

LEGEND = (*(f"{role}, one seed" for role in ROLES), "mean", "mean of its base")


@styled
def study(table: pd.DataFrame, title: str, label: str) -> Figure:
    """Return a study's runs, one a row from the top: dots for seeds, mean, interval, base's mean.

    `table` is that of bundle.study.compare.summary; `label` names the accuracy axis.
    """
    drawn, axis = figure(8, 0.52 * len(table) + 1.5)
    places, names = np.arange(len(table))[::-1], []
    for place, (name, row) in zip(places, table.iterrows(), strict=True):
        base = row["base"] if row["base"] in table.index else ""
        role = "variant" if base and name not in set(table["base"]) else "base"
        compared = base and row["difference"] == row["difference"]  # not NaN
        reference = 100 * table.loc[base, "accuracy"] if compared else None
        _study_row(axis, place, row, "audit" if row["audit"] else role, reference)
        names.append(f"{name}\nagainst {base}" if base else str(name))
    axis.set_yticks(places, [name.replace("_", " ") for name in names])
    axis.set(xlabel=label, ylim=(-0.6, len(table) - 0.4))
    axis.grid(False, axis="y")
    entries = dict(zip(*axis.get_legend_handles_labels()[::-1], strict=True))
    shown = [name for name in LEGEND if name in entries]
    look: dict[str, Any] = {"borderaxespad": 0.1, "handletextpad": 0.4, "columnspacing": 1.4}
    look |= {"fontsize": 8.5, "ncols": len(shown), "bbox_to_anchor": (-0.01, 1)}
    axis.legend([entries[name] for name in shown], shown, loc="lower left", **look)
    axis.set_title(title, pad=26)
    return drawn


def _study_row(axis: Any, place: float, row: pd.Series, role: str, base: float | None) -> None:
    """Draw one run of a study; `base` is the mean accuracy of the run compared with, in percent."""
    colour, marker = ROLES[role]
    seeds, middle = 100 * np.array(row["accuracies"]), 100 * row["accuracy"]
    spread = [[middle - 100 * row["low"]], [100 * row["high"] - middle]]
    axis.errorbar(middle, place, xerr=np.clip(spread, 0, None), fmt="none", ecolor=GREY, capsize=3)
    look = {"color": "black", "linewidth": 1.8, "label": "mean"}
    axis.plot([middle, middle], [place - 0.17, place + 0.17], "-", **look)
    look = {"color": colour, "markerfacecolor": "white" if role == "audit" else colour}
    axis.plot(seeds, [place] * len(seeds), marker, **look, label=f"{role}, one seed")
    look = {"textcoords": "offset points", "ha": "center", "fontsize": 8}
    axis.annotate(f"{middle:.2f}", (middle, place), (0, 11), **look)
    if base is not None:
        look = {"color": GREY, "linewidth": 1.6, "label": "mean of its base"}
        axis.plot([base, base], [place - 0.36, place + 0.36], ":", **look)


@styled
def forest(table: pd.DataFrame, labels: list[str], title: str, narrow: bool = False) -> Figure:
    """Return differences to the base around 0, a row a run from the top, with their intervals.

    Args:
        table: rows of bundle.study.compare.summary that have a difference, in the order shown;
            `seed_differences` (points), where a column of that name is there, are small dots.
        labels: what each run changes, in words.
        narrow: labels stand above their rows, for a page of some 400 pixels.
    """
    lines = [textwrap.wrap(text, NARROW_LABEL if narrow else LABEL) for text in labels]
    height = 0.5 if narrow else 0.3
    depths = [height + 0.16 * (len(line) - 1) for line in lines]
    drawn, axis = figure(3.8 if narrow else 8, sum(depths) + (0.95 if narrow else 0.8))
    edges = np.cumsum([0, *depths])
    places = (edges[:-1] + edges[1:]) / 2 + (0.13 if narrow else 0)
    for place, (_, row) in zip(places, table.iterrows(), strict=True):
        _difference(axis, place, row)
    ends = (places - 0.15, places + 0.15) if narrow else ([-0.1], [edges[-1] + 0.1])
    axis.vlines([0.0] * len(ends[0]), *ends, color="black", linewidth=1)  # where no label stands
    known = " (95% interval)" * bool(table["least"].notna().any())
    axis.set(xlabel=f"difference, points{known}", ylim=(edges[-1] + 0.1, -0.1), xmargin=0.16)
    axis.grid(False, axis="y")
    _name_rows(axis, ["\n".join(line) for line in lines], places, edges if narrow else None)
    axis.set_title("\n".join(textwrap.wrap(title, 36 if narrow else 90)))
    return drawn


def _difference(axis: Any, place: float, row: pd.Series) -> None:
    """Draw one difference: filled and coloured where its p, corrected, is small, else hollow."""
    size, clear = row["difference"], row["holm"] < 0.05 and not row["audit"]
    colour, marker = (GREY, "D") if not clear else (BLUE, "o") if size > 0 else (RED, "s")
    if row["least"] == row["least"]:
        axis.plot([row["least"], row["most"]], [place, place], color=colour, linewidth=1.8)
    seeds = row.get("seed_differences", ())
    axis.plot(seeds, [place] * len(seeds), ".", color=GREY, markersize=4)
    face = colour if clear else "white"
    axis.plot(size, place, marker, color=colour, markerfacecolor=face, markersize=6.5)
    ends = [value for value in (size, row["least"], row["most"]) if value == value]
    end, side = (max(ends), "left") if size >= 0 else (min(ends), "right")
    shift = (6 if size >= 0 else -6, 0)
    look = {"textcoords": "offset points", "ha": side, "va": "center", "fontsize": 9}
    axis.annotate(points(size, 1), (end, place), shift, **look)


def _name_rows(axis: Any, names: list[str], places: Any, tops: Any) -> None:
    """Name the rows on the left, or, where `tops` are given, above each row."""
    if tops is None:
        axis.set_yticks(places, names)
        axis.tick_params(axis="y", length=0)
        return
    axis.set_yticks([])
    axis.spines["left"].set_visible(False)
    for name, top in zip(names, tops, strict=False):
        look = {"transform": axis.get_yaxis_transform(), "va": "top", "fontsize": 9}
        axis.text(0, top, name, **look)
