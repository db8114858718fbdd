"""The trade-off of deployment drawn: accuracy against the file's size and against the time."""

from typing import Any, NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from bundle.report.device import KB, MB, own
from lib import plots
from lib.metrics import wilson

LOOKS: dict[str, dict[str, Any]] = {
    "fp32": {"marker": "o", "color": plots.BLUE, "label": "fp32, measured here"},
    "int8": {"marker": "s", "color": plots.ORANGE, "label": "int8, measured here"},
    "reported": {"marker": "D", "color": plots.GREY, "label": "int8, as MLPerf Tiny reports"},
}


class Point(NamedTuple):
    """A network in one form: size in MB, time of an image in ms, None where it is not ours."""

    kind: str  # of LOOKS
    name: str
    size: float
    time: float | None
    accuracy: float  # a fraction, with its 95% interval
    low: float
    high: float


def points(runs: dict[str, dict[str, Any]], tiny: dict[str, Any]) -> list[Point]:
    """Return every network: the forms of `runs` (name -> its deployment), MLPerf Tiny's boards."""
    found = []
    for run, deployed in runs.items():
        for form, row in own(deployed).items():
            ends = row["accuracy"], row["low"], row["high"]
            found.append(Point(form, run, row["bytes"] / MB, 1e3 * row["median_s"], *ends))
    scored = [board for board in tiny["boards"] if board["accuracy"]]
    for board in scored[:1]:  # the reference's own: the network is the same on every board
        images = board["accuracy_images"]
        ends = wilson(round(board["accuracy"] * images), images)[:3]
        found.append(Point("reported", tiny["network"], tiny["size_kb"] * KB / MB, None, *ends))
    return found


def best(places: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return the Pareto frontier of (cost, accuracy): none costs less and is as accurate."""
    kept: list[tuple[float, float]] = []
    for cost, accuracy in sorted(places, key=lambda place: (place[0], -place[1])):
        if not kept or accuracy > kept[-1][1]:
            kept.append((cost, accuracy))
    return kept


@plots.styled
def draw(found: list[Point], narrow: bool = False) -> Figure:
    """Return accuracy against size (logarithmic) and time, with the Pareto frontiers."""
    shape = (2, 1) if narrow else (1, 2)
    width, height = (3.9, 6.6) if narrow else (8, 3.6)
    drawn, (size, time) = plots.figure(width, height, *shape, sharey=True)
    least, most = min(point.low for point in found), max(point.high for point in found)
    size.set_ylim(110 * least - 10 * most, 110 * most - 10 * least)
    _panel(size, [(point.size, point) for point in found])
    size.set(title="Accuracy by size", xlabel="file (MB)", ylabel="test accuracy (%)")
    _logarithmic(size)
    _panel(time, [(point.time, point) for point in found if point.time])
    time.set(title="Accuracy by time", xlabel="one image, one thread here (ms)")
    time.set_xlim(left=0)
    handles, labels = size.get_legend_handles_labels()
    unique = dict(zip(labels, handles, strict=True))
    drawn.legend(unique.values(), unique, loc="outside lower left", ncols=1 if narrow else 3)
    return drawn


def _panel(axis: Axes, placed: list[tuple[float, Point]]) -> None:
    """Draw points with intervals, a network's joined by a line, its name right; the frontier."""
    (bottom, place), at = axis.get_ylim(), ("axes fraction", "data")
    line = (place - bottom) / 17
    networks: dict[str, list[tuple[float, float]]] = {}
    for cost, point in placed:
        networks.setdefault(point.name, []).append((cost, 100 * point.accuracy))
    for name, forms in sorted(networks.items(), key=lambda network: -max(network[1])[1]):
        axis.plot(*zip(*forms, strict=True), color=plots.GREY, linewidth=0.8)
        place = min(max(forms)[1], place - line)  # no name on another
        leader = {"arrowstyle": "-", "color": plots.GREY, "linewidth": 0.5, "relpos": (0, 0.5)}
        axis.annotate(name, max(forms), (1.02, place), "data", at, leader, va="center", fontsize=8)
    for cost, point in placed:
        ends = [[100 * (point.accuracy - point.low)], [100 * (point.high - point.accuracy)]]
        look = LOOKS[point.kind] | {"linestyle": "none", "capsize": 3, "ecolor": plots.GREY}
        axis.errorbar([cost], [100 * point.accuracy], yerr=ends, zorder=3, **look)
    frontier = best([(cost, 100 * point.accuracy) for cost, point in placed])
    axis.step(*zip(*frontier, strict=True), where="post", color=plots.GREY, linestyle=":")
    axis.margins(x=0.1)


def _logarithmic(axis: Axes) -> None:
    axis.set_xscale("log")
    axis.xaxis.set_major_locator(LogLocator(subs=(1, 3)))
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.xaxis.set_minor_locator(NullLocator())
