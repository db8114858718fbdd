"""The figure of report.anchors' table: each network's accuracy, size and cost, a row a network."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from bundle import figures
from bundle.report.anchors import Result
from lib import plots
from lib.model import PARAMETER_LIMIT

REFERENCE = "the reference"
HERE, REPORTED, OVER, REBUILT = (
    "measured here: 95% Wilson interval (thin), SD over seeds (thick)",
    "as reported by their authors, not measured here",
    "the same, more than five million parameters",
    "the reference, as reported",
)
LOOKS = {
    HERE: {"marker": "o", "color": plots.BLUE},
    REPORTED: {"marker": "o", "color": plots.GREY, "markerfacecolor": "white"},
    OVER: {"marker": "s", "color": plots.GREY, "markerfacecolor": "white"},
    REBUILT: {"marker": "D", "color": plots.RED, "markerfacecolor": "none"},
}
MILLIONS, PFLOP = (1, 2, 5, 10, 20), (0.1, 1, 10, 100)  # ticks of the logarithmic axes


def kind(result: Result) -> str:
    """Return the legend's entry for a result."""
    if not result.source:
        return HERE
    return REBUILT if result.name == REFERENCE else OVER if result.over_limit else REPORTED


def label(result: Result, results: Sequence[Result]) -> str:
    """Return a short name, with the epochs where a network is there with several trainings."""
    if not result.source:
        return result.name
    short = result.name.split(" (")[0].split(", ")[0].split(" [")[0]
    several = sum(other.name == result.name for other in results) > 1
    return f"{short}, {result.epochs:g} epochs" if several else short


@plots.styled
def draw(results: Sequence[Result], narrow: bool = False) -> Figure:
    """Return accuracy, parameters and, where it is known, PFLOP of training: a row a network.

    The most accurate network is the first; `narrow` is for the width of a phone.
    """
    rows = sorted(results, key=lambda result: result.accuracy)
    size = (5, 0.25 * len(rows) + 2) if narrow else (8.6, 0.25 * len(rows) + 1.5)
    drawn, (left, middle, right) = plots.figure(*size, 1, 3, sharey=True, width_ratios=(2, 1, 1))
    for place, result in enumerate(rows):
        look = {"linestyle": "none", "zorder": 3, "gid": "mark"} | LOOKS[kind(result)]
        _uncertainty(left, place, result)
        left.plot(100 * result.accuracy, place, **look)
        middle.plot(result.parameters / 1e6, place, **look)
        if result.pflop:
            right.plot(result.pflop, place, **look)
    left.set_yticks(range(len(rows)), [label(result, results) for result in rows], fontsize=8.5)
    left.set(title="Accuracy", xlabel="test accuracy (%)", ylim=(-0.7, len(rows) - 0.3))
    middle.set(title="Size", xlabel="parameters\n(million)")
    right.set(title="Cost", xlabel="training\n(PFLOP)")
    middle.axvline(PARAMETER_LIMIT / 1e6, color=plots.GREY, linestyle="--", linewidth=1, zorder=1)
    _logarithmic(middle, MILLIONS)
    _logarithmic(right, PFLOP)
    _legend(drawn, results, columns=1 if narrow else 2)
    return drawn


def _legend(drawn: Figure, results: Sequence[Result], columns: int) -> None:
    used = [name for name in LOOKS if name in map(kind, results)]
    handles = [Line2D([], [], linestyle="none", **LOOKS[name]) for name in used]
    look = {"fontsize": 9, "handletextpad": 0.3, "columnspacing": 1.2}
    drawn.legend(handles, used, ncols=columns, loc="outside lower left", **look)


def _uncertainty(axis: Axes, place: int, result: Result) -> None:
    """Draw the interval (thin) and the standard deviation over the seeds (thick), if any."""
    if result.interval:
        ends = [100 * end for end in result.interval]
        axis.plot(ends, [place] * 2, color=plots.BLUE, linewidth=1, gid="interval")
    if result.deviation is not None:
        ends = [100 * (result.accuracy + sign * result.deviation) for sign in (-1, 1)]
        axis.plot(ends, [place] * 2, color=plots.BLUE, linewidth=3.5)


def _logarithmic(axis: Axes, ticks: Sequence[float]) -> None:
    axis.set_xscale("log")
    axis.margins(x=0.12)
    axis.xaxis.set_major_locator(FixedLocator(ticks))
    axis.xaxis.set_minor_locator(NullLocator())
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def alt(results: Sequence[Result]) -> str:
    """Return the figure's alternative text, which says whose figures are whose."""
    mine = [f"{result.name} {result.accuracy:.2%}" for result in results if not result.source]
    here = f"Filled, measured here: {', '.join(mine)}. " if mine else ""
    return (
        "Test accuracy, trainable parameters, with the limit of five million as a dashed line, and "
        f"arithmetic of training, a row a network, the most accurate first. {here}Hollow: "
        f"{len(results) - len(mine)} results as reported by their authors, not measured here."
    )


def save(results: Sequence[Result], path: Path) -> None:
    """Write the figure as `path`.svg and, for narrow pages, `path`-narrow.svg."""
    for narrow in (False, True):
        file = path.with_name(f"{path.name}{'-narrow' * narrow}")
        figures.save(draw(results, narrow), file, alt(results), pdf=False)
