"""The figure of a study: its runs with their seeds, means and intervals."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from lib.plots import BLUE, GREY, RED, figure, styled

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
    look = {"borderaxespad": 0.1, "handletextpad": 0.4, "columnspacing": 1.4, "fontsize": 8.5}
    look |= {"ncols": len(shown), "loc": "lower left", "bbox_to_anchor": (-0.01, 1)}
    axis.legend([entries[name] for name in shown], shown, **look)
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
