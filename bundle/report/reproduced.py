"""What the reference reported beside what a run finds: only what can be compared."""

from typing import Any

import pandas as pd

from bundle import words
from bundle.report import anchors
from bundle.report.opening import compared
from bundle.runs.results import as_the_reference, averages_views

Metrics = dict[str, Any]
YES, NO, NOT_SHOWN = "yes", "no", "not shown"
OTHER = (
    "That figure is of the recipe that its notebook executed: the fact check compares those two."
)


def reproduces(metrics: Metrics) -> bool:
    """Whether a run is of the reference's network, full and comparable, so that results compare."""
    same = metrics["parameters"] == metrics["reference_network"]["parameters"]
    return anchors.is_full(metrics) and same


def table(metrics: Metrics, reference: dict[str, Any]) -> pd.DataFrame:
    """Return what compares as text, columns quantity, reported, here, agrees?.

    The reference's network is built anew in every run; accuracies compare where a run is of it.
    """
    built, printed = metrics["reference_network"], reference["parameters"]
    count, here = built["parameters"], built["memory_mib"]["total"]
    written, formula = reference["parameters_reported"], reference["parameters_formula"]
    theirs = reference["memory_mb"]["total"]
    million, near = f"{written / 1e6:.2f} million", round(count, -4) == written
    rows = [
        ("parameters, in its table", f"{printed:,}", f"{count:,}", printed == count),
        ("parameters, in its text", million, f"{count:,}", near),
        ("parameters, by its formula", f"{formula:,}", f"{count:,}", formula == count),
        ("memory of an image, MiB", f"{theirs:.2f}", f"{here:.2f}", round(here, 2) == theirs),
    ]
    if reproduces(metrics):
        rows += _results(metrics, reference)
    names = ["quantity", "reported", "here", "agrees?"]
    agrees = {True: YES, False: NO, None: NOT_SHOWN}
    return pd.DataFrame([(*row[:3], agrees[row[3]]) for row in rows], columns=names)


def _results(metrics: Metrics, reference: dict[str, Any]) -> list[tuple]:
    """Return the rows of what a run of the reference's network measured itself."""
    test, reported = as_the_reference(metrics), reference["test_accuracy"]
    inside = test["low"] <= reported <= test["high"]
    label = "test accuracy of this run, single view"
    label += ", normalised as there" * (test is not metrics["test"])
    rows = [(label, f"{reported:.2%}", words.accuracy(test), inside)]
    if averages_views(metrics):
        scores, paired = metrics["test"], metrics["tta"]["mcnemar"]
        gain = scores["tta_accuracy"] - scores["accuracy"]
        found = f"{words.points(100 * gain)} points, {words.p_is(paired['p'])}"
        shown = gain > 0 if paired["p"] < 0.05 else None
        rows.append(("averaging views, in this run", "said to help", found, shown))
    return rows


def note(metrics: Metrics, reference: dict[str, Any]) -> str:
    """Return, as Markdown, what of the report this run can be compared with."""
    if reproduces(metrics):
        executed = metrics["settings"].get("phase2_epochs")
        return compared(metrics, reference) + ("" if executed else f" {OTHER}")
    if metrics["notice"]:
        return (
            f"This run covers {metrics['notice']}: its accuracy cannot be compared with the one "
            "that was reported. The reference's network was built again and counted."
        )
    return (
        "Network and recipe of this run are its own, so its accuracy is no reproduction; what "
        "follows is the reference's network, built again and counted."
    )
