"""The figure of report.anchors' table: each network's accuracy, size and cost, a row a network."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from bundle import figures, words
from bundle.report.anchors import AVERAGED, SINGLE, UNSTATED, Result, Score
from lib import plots
from lib.model import PARAMETER_LIMIT

REFERENCE = "the reference"
HERE, REPORTED, REBUILT = (
    "measured here: 95% interval (thin), SD over seeds (thick)",
    "as reported by their authors, not measured here",
    "the reference, as reported",
)
APART = "over five million, or size not stated:"
# The shape says who measured, the filling what: a single view, averaged views, not stated which.
LOOKS: dict[str, dict[str, Any]] = {
    HERE: {"marker": "o", "color": plots.BLUE},
    REPORTED: {"marker": "s", "color": plots.GREY},
    REBUILT: {"marker": "D", "color": plots.RED},
}
FILLINGS = {SINGLE: "full", AVERAGED: "none", UNSTATED: "left"}
VIEWS = {
    SINGLE: "accuracy of a single view of each image",
    AVERAGED: "accuracy averaged over several views",
    UNSTATED: "accuracy, views not stated",
}
MILLIONS, PFLOP = (1, 2, 5, 10, 20), (0.1, 1, 10, 100)  # ticks of the logarithmic axes


def kind(result: Result) -> str:
    """Return the legend's entry for a result."""
    if not result.source:
        return HERE
    return REBUILT if result.name == REFERENCE else REPORTED


def look(result: Result, score: Score) -> dict:
    """Return how a mark is drawn: its shape by who measured, its filling by the views."""
    filling = {"fillstyle": FILLINGS[score.views], "markerfacecoloralt": "white"}
    return {"linestyle": "none", "zorder": 3, "gid": "mark"} | LOOKS[kind(result)] | filling


def label(result: Result, results: Sequence[Result]) -> str:
    """Return a short name, with the epochs where a network is there with several trainings."""
    if not result.source:
        return result.name
    short = result.name.split(" (")[0].split(", ")[0].split(" [")[0]
    several = sum(other.name == result.name for other in results) > 1
    return f"{short}, {result.epochs:g} epochs" if several else short


def placed(results: Sequence[Result]) -> list[tuple[float, Result]]:
    """Return each result with its height: ranked from above, what is not within the limit apart."""
    best = {id(result): max(score.accuracy for score in result.scores) for result in results}
    ranked = sorted(results, key=lambda result: (not result.within, -best[id(result)]))
    gap = 1.3 if any(result.within for result in ranked) else 0
    return [(-place - gap * (not result.within), result) for place, result in enumerate(ranked)]


@plots.styled
def draw(results: Sequence[Result], narrow: bool = False) -> Figure:
    """Return accuracy, parameters and, where it is known, PFLOP of training: a row a network.

    The most accurate network within the limit is the first; `narrow` is for the width of a phone
    and half a printed page: parameters and PFLOP are numbers there.
    """
    rows = placed(results)
    size = (3.9, 0.24 * len(rows) + 2.7) if narrow else (8.6, 0.25 * len(rows) + 1.9)
    panels, ratios = (1, (1,)) if narrow else (3, (2, 1, 1))
    drawn, axes = plots.figure(*size, 1, panels, sharey=True, width_ratios=ratios, squeeze=False)
    for place, result in rows:
        _accuracies(axes[0, 0], place, result)
        if not narrow:
            _size_and_cost(axes[0, 1], axes[0, 2], place, result)
    _name(axes[0, 0], rows, results)
    if narrow:
        _size_and_cost_as_text(axes[0, 0], rows)
    else:
        _describe(axes[0, 1], axes[0, 2])
    _legend(drawn, results, columns=1 if narrow else 2)
    return drawn


def _accuracies(axis: Axes, place: float, result: Result) -> None:
    """Draw the marks of a result; of ours the interval (thin) and the SD over seeds (thick)."""
    for score in result.scores:
        axis.plot(100 * score.accuracy, place, **look(result, score))
    if result.source:
        return
    first = result.scores[0]
    ends = [100 * end for end in first.interval]
    axis.plot(ends, [place] * 2, color=plots.BLUE, linewidth=1, gid="interval")
    if first.deviation is not None:
        ends = [100 * (first.accuracy + sign * first.deviation) for sign in (-1, 1)]
        axis.plot(ends, [place] * 2, color=plots.BLUE, linewidth=3.5)


def _size_and_cost(size: Axes, cost: Axes, place: float, result: Result) -> None:
    filled = look(result, Score(SINGLE, ()))
    if result.parameters:
        size.plot(result.parameters / 1e6, place, **filled)
    if result.pflop:
        cost.plot(result.pflop, place, **filled)


def _size_and_cost_as_text(axis: Axes, rows: list[tuple[float, Result]]) -> None:
    """Write parameters and arithmetic in two columns at the right of the rows."""
    columns = ((38, "million\nparam."), (78, "PFLOP of\ntraining"))  # points right of the panel
    look: dict[str, Any] = {"fontsize": 8, "ha": "right", "annotation_clip": False}
    look["textcoords"] = "offset points"
    for place, head in columns:
        axis.annotate(head, (1, 1), (place, 3), xycoords="axes fraction", va="bottom", **look)
    look |= {"xycoords": axis.get_yaxis_transform(), "va": "center"}
    for height, result in rows:
        numbers = ((result.parameters or 0) / 1e6, result.pflop)
        for (place, _), number in zip(columns, numbers, strict=True):
            text = f"{number:.3g}" if number else words.NONE
            axis.annotate(text, (1, height), (place, 0), **look)


def _name(axis: Axes, rows: list[tuple[float, Result]], results: Sequence[Result]) -> None:
    """Write the names beside the rows, ours bold, and a heading above those that stand apart."""
    names = [label(result, results) for _, result in rows]
    axis.set_yticks([place for place, _ in rows], names, fontsize=8.5)
    for text, (_, result) in zip(axis.get_yticklabels(), rows, strict=True):
        text.set_fontweight("normal" if result.source else "bold")
    bottom = rows[-1][0] - 0.7 if rows else -1
    axis.set(title="Accuracy", xlabel="test accuracy (%)", ylim=(bottom, 0.7))
    apart = [place for place, result in rows if not result.within]
    if apart:
        style: dict[str, Any] = {"color": plots.GREY, "va": "center", "backgroundcolor": "white"}
        style |= {"fontsize": 8, "transform": axis.get_yaxis_transform()}
        axis.text(0.02, max(apart) + 1, APART, **style)


def _describe(size: Axes, cost: Axes) -> None:
    size.set(title="Size", xlabel="parameters\n(million)")
    cost.set(title="Cost", xlabel="training\n(PFLOP)")
    size.axvline(PARAMETER_LIMIT / 1e6, color=plots.GREY, linestyle="--", linewidth=1, zorder=1)
    _logarithmic(size, MILLIONS)
    _logarithmic(cost, PFLOP)


def _legend(drawn: Figure, results: Sequence[Result], columns: int) -> None:
    """Explain the shapes and fillings that are used, below the panels."""
    used = [name for name in LOOKS if name in map(kind, results)]
    handles = [Line2D([], [], linestyle="none", **LOOKS[name]) for name in used]
    shown = {score.views for result in results for score in result.scores}
    views = [view for view in FILLINGS if view in shown]
    for view in views:
        filling: dict[str, Any] = {"fillstyle": FILLINGS[view], "markerfacecoloralt": "white"}
        handles.append(Line2D([], [], linestyle="none", marker="o", color="black", **filling))
    texts = used + [VIEWS[view] for view in views]
    style = {"fontsize": 8.5, "handletextpad": 0.3, "columnspacing": 1.2}
    drawn.legend(handles, texts, ncols=columns, loc="outside lower left", **style)


def _logarithmic(axis: Axes, ticks: Sequence[float]) -> None:
    axis.set_xscale("log")
    axis.margins(x=0.12)
    axis.xaxis.set_major_locator(FixedLocator(ticks))
    axis.xaxis.set_minor_locator(NullLocator())
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def alt(results: Sequence[Result]) -> str:
    """Return the figure's alternative text, which says whose numbers are whose, and of what."""
    ours = [result for result in results if not result.source]
    mine = [
        f"{result.name} "
        + ", ".join(f"{score.accuracy:.2%} ({score.views})" for score in result.scores)
        for result in ours
    ]
    here = f"Measured here, with the views of a test image: {'; '.join(mine)}. " if mine else ""
    return (
        "Test accuracy, trainable parameters, with the limit of five million as a dashed line, and "
        "arithmetic of training, a row a network, the most accurate first, those over the limit "
        f"apart. {here}Squares: {len(results) - len(ours)} results as reported by their authors, "
        "not measured here. Filled marks are of a single view, hollow ones of averaged views, half "
        "filled ones of views that are not stated."
    )


def save(results: Sequence[Result], path: Path) -> None:
    """Write the figure as `path`.svg and, for narrow pages, `path`-narrow.svg."""
    for narrow in (False, True):
        file = path.with_name(f"{path.name}{'-narrow' * narrow}")
        figures.save(draw(results, narrow), file, alt(results), pdf=False)
