"""The figure beside lib.anchors' table: accuracy against parameters and training's arithmetic."""

from collections.abc import Callable, Iterator, Sequence
from itertools import product
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.path import Path as Line
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator
from matplotlib.transforms import Bbox

from bundle.report.anchors import Result
from lib import plots
from lib.model import PARAMETER_LIMIT

REFERENCE = "the reference"
HERE, REPORTED, OVER, REBUILT = (
    "measured here: 95% Wilson interval (thin), SD over seeds (thick)",
    "as reported by their authors, not measured here",
    "so, with over five million parameters",
    "the reference, as reported",
)
LOOKS = {  # the reference's is open and larger: a run that rebuilds it may lie within
    HERE: {"marker": "o", "color": plots.BLUE},
    REPORTED: {"marker": "o", "color": plots.GREY, "markerfacecolor": "white"},
    OVER: {"marker": "s", "color": plots.GREY, "markerfacecolor": "white"},
    REBUILT: {"marker": "D", "color": plots.RED, "markerfacecolor": "none", "markersize": 9},
}
TICKS = (0.1, 0.2, 0.5, 1, 2, 3, 5, 10, 20, 50, 100, 200, 500)
# Where a label can stand, seen from its mark: directions, and distances in points.
# fmt: off
DIRECTIONS = (
    (1, 0), (-1, 0), (0.8, 0.6), (-0.8, 0.6), (0.8, -0.6), (-0.8, -0.6), (0.95, 0.3), (-0.95, 0.3),
    (0.95, -0.3), (-0.95, -0.3), (0.4, 0.9), (-0.4, 0.9), (0.4, -0.9), (-0.4, -0.9), (0, 1),
    (0, -1),
)
# fmt: on
DISTANCES = (7, 12, 18, 25, 33, 42, 52, 63, 75, 90)
LABEL_SIZE = 8.5
MARK = 4.5  # half the width that a mark keeps free, points
LED = 20  # distance from which a line leads to the label, points
ROUNDS = 4  # at most so often does each label look for a better place


def kind(one: Result) -> str:
    """Return the legend's entry for a result."""
    if not one.source:
        return HERE
    return REBUILT if one.name == REFERENCE else OVER if one.over_limit else REPORTED


def label(one: Result, results: Sequence[Result]) -> str:
    """Return a short name, with the epochs where a network is there with several trainings."""
    short = one.name.split(" (")[0].split(", ")[0].split(" [")[0] if one.source else one.name
    several = one.source and sum(other.name == one.name for other in results) > 1
    return f"{short}, {one.epochs:g} epochs" if several else short


@plots.styled
def draw(results: Sequence[Result], narrow: bool = False) -> Figure:
    """Return accuracy against trainable parameters and, where it is known, against training PFLOP.

    Side by side, or, for a `narrow` page, one above the other.
    """
    if narrow:
        drawn, (left, right) = plots.figure(5, 8.4, 2, 1, sharey=True)
    else:
        drawn, (left, right) = plots.figure(8.6, 4.8, 1, 2, sharey=True, width_ratios=(1.25, 1))
    known = [one for one in results if one.pflop]
    panels = (
        (left, results, lambda one: one.parameters / 1e6),
        (right, known, lambda one: one.pflop),
    )
    for (axis, shown, across), margin in zip(panels, (0.28, 0.09), strict=True):
        _marks(axis, shown, across, margin)
    left.axvline(PARAMETER_LIMIT / 1e6, color=plots.GREY, linestyle="--", linewidth=1, zorder=1)
    left.set(title="Accuracy by size", ylabel="test accuracy (%)")
    left.set_xlabel("trainable parameters (million; dashed: the limit)")
    right.set(title="Accuracy by cost of training", xlabel="arithmetic of training (PFLOP)")
    used = [name for name in LOOKS if name in map(kind, results)]
    handles = [Line2D([], [], linestyle="none", **{"markersize": 6} | LOOKS[name]) for name in used]
    look = {"fontsize": 9, "handletextpad": 0.3, "columnspacing": 1.2}
    drawn.legend(handles, used, ncols=1 if narrow else 2, loc="outside lower left", **look)
    drawn.draw_without_rendering()  # the labels' places depend on where this puts the axes
    drawn.set_layout_engine("none")
    for axis, shown, across in panels:
        _labels(axis, [(across(one), 100 * one.accuracy, label(one, results)) for one in shown])
    return drawn


def alt(results: Sequence[Result]) -> str:
    """Return the figure's alternative text, which says whose figures are whose."""
    mine = [f"{one.name} {one.accuracy:.2%}" for one in results if not one.source]
    here = f"Filled, measured here: {', '.join(mine)}. " if mine else ""
    return (
        "Test accuracy against trainable parameters, with the limit of five million as a dashed "
        f"line, and against the arithmetic of training. {here}Hollow: {len(results) - len(mine)} "
        "results as reported by their authors, not measured here."
    )


def save(results: Sequence[Result], path: Path) -> None:
    """Write the figure as `path`.svg and, for narrow pages, `path`-narrow.svg."""
    for narrow in (False, True):
        drawn, name = draw(results, narrow), f"{path.name}{'-narrow' * narrow}.svg"
        with mpl.rc_context(plots.STYLE):
            metadata = {"Date": None, "Description": alt(results)}
            drawn.savefig(path.with_name(name), metadata=metadata)


def _marks(
    axis: Axes, results: Sequence[Result], across: Callable[[Result], float], margin: float
) -> None:
    """Draw a mark a result, ours with their uncertainty, over a logarithmic axis."""
    axis.set_xscale("log")
    for one in results:
        place, middle = across(one), 100 * one.accuracy
        if one.interval:
            ends = [100 * end for end in one.interval]
            axis.plot([place] * 2, ends, color=plots.BLUE, linewidth=1, gid="interval")
        if one.deviation is not None:
            ends = [middle - 100 * one.deviation, middle + 100 * one.deviation]
            axis.plot([place] * 2, ends, color=plots.BLUE, linewidth=3.5)
        axis.plot(place, middle, linestyle="none", zorder=3, **{"markersize": 6} | LOOKS[kind(one)])
    axis.xaxis.set_major_locator(FixedLocator(TICKS))
    axis.xaxis.set_minor_locator(NullLocator())
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.margins(margin, 0.07)


def _labels(axis: Axes, named: Sequence[tuple[float, float, str]]) -> None:
    """Write each (x, y, name)'s name beside its mark, covering neither mark nor line nor name.

    Each label takes its best place among those that stand; then each again, since later ones crowd
    in, until all stay.
    """
    point, named = axis.figure.dpi / 72, sorted(named)
    marks = [axis.transData.transform(place[:2]) for place in named]
    drawn = [Bbox.from_extents(*(mark - MARK * point), *(mark + MARK * point)) for mark in marks]
    drawn += [
        line.get_window_extent().padded(point) for line in axis.lines if line.get_marker() == "None"
    ]
    sizes = [_extent(axis, name) for _x, _y, name in named]
    places = [
        list(_places(mark, size.width, size.height, point))
        for mark, size in zip(marks, sizes, strict=True)
    ]
    found: dict[int, tuple[tuple[float, float], Bbox]] = {}
    for _round in range(ROUNDS):
        before = dict(found)
        for number, mark in enumerate(marks):
            others = {other: place for other, place in found.items() if other != number}
            taken = drawn + [box for _offset, box in others.values()]
            lines = [
                _line(marks[other], offset, point)
                for other, (offset, _box) in others.items()
                if _is_led(offset)
            ]
            strangers = [other for other in marks if other is not mark]
            found[number] = _best(places[number], mark, point, taken, lines, strangers, axis.bbox)
        if found == before:
            break
    for number, (x, y, name) in enumerate(named):
        _write(axis, (x, y), name, found[number][0])


def _best(places, *around) -> tuple[tuple[float, float], Bbox]:
    """Return the first of the cheapest places; `around` is what _cost takes beside a place."""
    best, lowest = places[0], np.inf
    for place in places:
        if (
            np.hypot(*place[0]) < lowest and (cost := _cost(*place, *around)) < lowest
        ):  # none costs less than its way
            best, lowest = place, cost
    return best


def _cost(
    offset, box: Bbox, mark, point: float, taken, lines: list[Line], strangers: list, inside: Bbox
) -> float:
    """Return how bad a place for a label is: worst to cover or be outside, then crossed, then far.

    A label without a line must lie nearer to its own mark than to a stranger, or it names the wrong
    one.
    """
    covered = (
        box.padded(1.5 * point).count_overlaps(taken)
        + 2
        - inside.count_contains([box.min, box.max])
    )
    crossed = sum(line.intersects_bbox(box) for line in lines)
    distance = np.hypot(*offset)
    if not _is_led(offset):
        own = _apart(box, mark)
        crossed += sum(_apart(box, other) < 1.5 * own for other in strangers)
    elif not covered:
        line = _line(mark, offset, point)
        crossed += sum(line.intersects_bbox(other) for other in taken if not other.contains(*mark))
        crossed += sum(line.intersects_path(other) for other in lines)
    return 1e6 * covered + 100 * crossed + distance


def _is_led(offset: tuple[float, float]) -> bool:
    return bool(np.hypot(*offset) > LED)


def _apart(box: Bbox, place) -> float:
    """Return the distance from a place to the nearest edge of a box it lies outside, in pixels."""
    return float(np.hypot(*(place - np.clip(place, box.min, box.max))))


def _line(mark, offset: tuple[float, float], point: float) -> Line:
    return Line([mark, mark + point * np.array(offset)])


def _extent(axis: Axes, name: str) -> Bbox:
    """Return the box, in pixels, of a label's text."""
    text = axis.text(0, 0, name, fontsize=LABEL_SIZE)
    extent = text.get_window_extent()
    text.remove()
    return extent


def _write(axis: Axes, place: tuple[float, float], name: str, offset: tuple[float, float]) -> None:
    """Write a label at an offset, in points, from its place; a line leads there where it is far."""
    side = "left" if offset[0] > 0 else "right" if offset[0] < 0 else "center"
    look = {"textcoords": "offset points", "fontsize": LABEL_SIZE, "va": "center", "ha": side}
    if _is_led(offset):
        line = {"arrowstyle": "-", "color": plots.GREY, "linewidth": 0.6}
        end = {"left": 0, "right": 1}.get(side, 0.5)
        look["arrowprops"] = {**line, "shrinkA": 0, "shrinkB": MARK, "relpos": (end, 0.5)}
    axis.annotate(name, place, offset, gid="label", **look)


def _places(
    mark, width: float, height: float, point: float
) -> Iterator[tuple[tuple[float, float], Bbox]]:
    """Yield places for a label, near before far: offset from its mark in points, and its box."""
    for distance, (right, up) in product(DISTANCES, DIRECTIONS):
        x, y = mark[0] + right * distance * point, mark[1] + up * distance * point
        left = x - width * (0 if right > 0 else 1 if right < 0 else 0.5)
        box = Bbox.from_bounds(left, y - height / 2, width, height)
        yield (right * distance, up * distance), box
