"""Trainings that follow the test accuracy, epoch by epoch, over what the reference printed."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from bundle import figures
from bundle.runs import results
from bundle.words import listed, percent, points
from lib.plots import BLUE, GREEN, GREY, RED, figure, styled

Job = Mapping[str, Any]
LAST = 25  # epochs of a phase over which two curves are compared: a quarter
LOWEST = 70  # percent
NORMALISED = "Both normalise the test images as in phase 1."
FIGURE = "study_epochs"  # its SVG and PDF


def shown(jobs: Sequence[Job], folder: Path) -> dict[str, str]:
    """Return picture (HTML), alt and sentence on trainings of the reference's length, {} for none.

    `jobs` are finished ones and those under way, of any run; those that follow no test accuracy, or
    are of another length, are left out. The figure is written to `folder`, too.
    """
    log = results.reference()["log"]
    phases = [[row["test_accuracy"] for row in log[name]] for name in ("phase1", "phase2")]
    printed = [value for phase in phases for value in phase]
    curves = {
        f"{job['run']}, seed {job['seed']}": job["audit"]["test_accuracy"]
        for job in jobs
        if job.get("audit")
        and sum(job["settings"].get(key, 0) for key in ("epochs", "phase2_epochs")) == len(printed)
    }
    if not curves:
        figures.remove(folder / FIGURE)
        return {}
    said = compared(curves, phases)
    alt = f"Test accuracy after each of {len(printed)} epochs in two phases. {said}"
    wide, narrow = (drawn(curves, phases, small) for small in (False, True))
    picture = figures.html(wide, alt, "followed", narrow)
    figures.save(wide, folder / FIGURE, alt, "")
    return {"picture": picture, "alt": alt, "said": said}


def compared(curves: Mapping[str, Sequence[float]], phases: Sequence[Sequence[float]]) -> str:
    """Return in sentences how the curves lie beside those printed, phase by phase."""
    said, start = [], 0
    for number, theirs in enumerate(phases, 1):
        ours = [curve[start : start + len(theirs)] for curve in curves.values()]
        start += len(theirs)
        if not (begun := [part for part in ours if len(part) >= LAST]):
            continue
        length = max(map(len, begun))
        furthest = [part for part in begun if len(part) == length]
        ends = listed([percent(part[-1]) for part in furthest])
        gap = float(np.mean([part[-LAST:] for part in furthest]))
        gap -= float(np.mean(theirs[length - LAST : length]))
        is_whole = length == len(theirs)
        until = "ends" if is_whole else f"has done {length} of {len(theirs)} epochs, and stands"
        said.append(
            f"Phase {number} {until} at {ends} here, at {percent(theirs[length - 1])} there; over "
            f"its last {LAST} epochs {'' if is_whole else 'so far '}ours lies {points(100 * gap)} "
            "points from theirs."
        )
    return " ".join([*said, NORMALISED]) if said else "No phase has come far yet."


@styled
def drawn(
    curves: Mapping[str, Sequence[float]], phases: Sequence[Sequence[float]], narrow: bool = False
) -> Figure:
    """Return test accuracies (fractions) after each epoch, the printed ones in grey behind ours.

    From LOWEST on, since all begin far below and end close together; phases apart by a line.
    """
    made, axis = figure(3.8 if narrow else 8, 3.8)
    printed = [value for phase in phases for value in phase]
    behind = {"the reference, as printed": (printed, "#b5b5b5", 3.0)}
    colours = (BLUE, RED, GREEN)
    ours = {
        name: (curve, colours[place % len(colours)], 1.0)
        for place, (name, curve) in enumerate(curves.items())
    }
    for name, (curve, colour, width) in {**behind, **ours}.items():
        epochs = range(1, len(curve) + 1)
        axis.plot(epochs, 100 * np.array(curve), color=colour, linewidth=width, label=name)
    axis.axvline(len(phases[0]) + 0.5, color=GREY, linestyle=":", linewidth=1)
    axis.set(xlabel="epoch (dotted: phase 2 begins)", ylabel="test accuracy (%)")
    axis.set(title="After each epoch, on the test set", ylim=(LOWEST, 97))
    axis.legend(loc="lower right", fontsize=9)
    return made
