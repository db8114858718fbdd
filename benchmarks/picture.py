"""The figure of one machine's measurements."""

from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.machine import words
from benchmarks.table import REHEARSAL, number
from benchmarks.timing import spread
from bundle import figures
from lib import plots

ALT = "Training speed, prediction time and where the time goes"
THEIRS, BOUND = "the reference's\npipeline", "bound by\nmatrix products"
COLOURS = {THEIRS: plots.ORANGE, BOUND: plots.GREY}


@plots.styled
def draw(found: dict[str, Any]) -> Figure:
    """Return speed in training, time of prediction, and where a step's time goes."""
    drawn, axes = plots.figure(12, 3.2, 1, 3)
    training, prediction = found["training"], found["prediction"]
    speeds = {
        THEIRS: training["baseline"],
        "ours": training["ours"],
        "ours, one\nfixed batch": training["fixed_batch"],
    }
    _bars(
        axes[0], speeds | {BOUND: exactly(found["limits"]["bound"])}, "Training speed", "images/s"
    )
    times = {
        THEIRS: exactly(prediction["baseline_seconds"]),
        "ours": exactly(prediction["ours_seconds"]),
    }
    _bars(
        axes[1], times, "Five views of the test set", f"seconds for {prediction['images']:,} images"
    )
    groups = found["profile"]["groups"]
    shares = {name: exactly(share * 100) for name, share in groups.items() if share >= 0.005}
    _bars(axes[2], shares, "Where our training time goes", "share of the time (%)")
    title = words(found["machine"]) + (f": {REHEARSAL}" if found["rehearsal"] else "")
    drawn.suptitle(title, fontsize=9, color=plots.RED if found["rehearsal"] else plots.GREY)
    return drawn


def exactly(value: float) -> dict[str, float]:
    """Return a single reading in the form of several."""
    return spread([value])


def _bars(axis: Axes, values: dict[str, dict[str, float]], title: str, label: str) -> None:
    """Draw a bar a name, its median, with lowest and highest reading and the number beside it."""
    middle = [one["median"] for one in values.values()]
    below, above = (
        [abs(one[end] - one["median"]) for one in values.values()] for end in ("low", "high")
    )
    colours = [COLOURS.get(name.split(",")[0], plots.BLUE) for name in values]
    places = range(len(values))[::-1]
    axis.barh(
        places,
        middle,
        0.62,
        color=colours,
        xerr=(below, above),
        error_kw={"ecolor": "black", "capsize": 0},
    )
    for place, value, reach in zip(places, middle, above, strict=True):
        axis.annotate(
            number(value),
            (value + reach, place),
            (4, 0),
            textcoords="offset points",
            va="center",
            fontsize=8,
        )
    axis.set_yticks(places, list(values), fontsize=8)
    axis.set(
        title=title, xlabel=label, xlim=(0, 1.22 * max(map(sum, zip(middle, above, strict=True))))
    )
    axis.grid(axis="y", visible=False)


def save(found: dict[str, Any], path: Path) -> bool:
    """Write the figure as `path`.svg; not where parts of it are missing."""
    if not {"training", "prediction", "profile", "limits"} <= found.keys():
        return False
    figures.save(draw(found), path, ALT, pdf=False)
    return True
