"""Our runs beside what others report: accuracy, size, and the cost of training, in one table.

Runs are read from their metrics.json, and only those on all of CIFAR-10; others from
docs/reference.json, which holds what their authors report. Nothing of theirs was measured here, and
every row says whose figure it is.
"""

import re
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any

import pandas as pd

from bundle import paths
from bundle.runs import results as runs_results
from bundle.runs.results import readable_metrics
from bundle.training import energy
from bundle.words import clock, number
from lib.metrics import wilson
from lib.model import PARAMETER_LIMIT

TEST_IMAGES = 10_000
SEED = re.compile(r"-seed\d+(?=-|$)")  # of a run's directory
HERE = "measured here"
NOTE = (
    "All rows but those measured here are **as reported by their authors, not measured here**; "
    "the airbench scripts average six views of a test image. Ours are of a single view, with the "
    "95% Wilson interval and, over several seeds, the standard deviation (SD, points). PFLOP are "
    "10¹⁵ operations, six a multiply-accumulate; the reference's follow from its reported size "
    "and epochs. A time on a GPU is that of one card, ours come with the energy where it can be "
    "read; a dash is what is not stated."
)
NOT_HERE = (
    "Only a run on all of CIFAR-10, within the limit and with the test set unseen until its end, "
    "is shown beside what others report; this one is not such a run."
)
NONE_YET = (
    "No run on all of CIFAR-10 has been finished here yet, so nothing of ours stands in this table."
)


@dataclass(frozen=True)
class Result:
    """A network and what its training cost. None: not stated by others, not readable here.

    Accuracies are fractions of 1, single view, one a seed, of others the one that is reported, over
    `runs` trainings; `averaged` is that of ours with averaged views. `times` holds for each kind of
    machine the wall time of a training in seconds, the mean over its seeds, and its name. `source`
    is "" where the figures were measured here.
    """

    name: str
    parameters: int
    mmac: float | None
    epochs: float | None
    accuracies: tuple[float, ...]
    runs: int | None
    pflop: float | None
    times: tuple[tuple[float, str], ...]
    source: str = ""
    joules: float | None = None
    averaged: float | None = None
    computed: bool = False  # the arithmetic, here, from what was reported

    @property
    def over_limit(self) -> bool:
        """Whether it has more parameters than the task allows."""
        return self.parameters > PARAMETER_LIMIT

    @property
    def accuracy(self) -> float:
        """The mean over the seeds."""
        return fmean(self.accuracies)

    @property
    def interval(self) -> tuple[float, float] | None:
        """The 95% Wilson interval of that accuracy on the test set, of ours alone."""
        return None if self.source else wilson(round(self.accuracy * TEST_IMAGES), TEST_IMAGES)[1:3]

    @property
    def deviation(self) -> float | None:
        """The standard deviation over the seeds, None for a single one."""
        return stdev(self.accuracies) if len(self.accuracies) > 1 else None


def is_full(metrics: dict[str, Any]) -> bool:
    """Whether a run may stand beside others': all of CIFAR-10, by the rules, test set unseen."""
    settings = metrics.get("settings") or {}
    allowed = not (settings.get("comparison") or settings.get("audit") or metrics.get("audit"))
    whole = metrics.get("dataset") == "cifar10" and not metrics.get("notice")
    return allowed and whole and number(metrics, "test", "images") == TEST_IMAGES


def runs(*patterns: str) -> dict[str, dict[str, Any]]:
    """Return name -> metrics of full runs in matching folders of results/; later patterns win."""
    found = {}
    for pattern in patterns or ("released/*", "*"):
        for path in sorted(paths.RESULTS.glob(f"{pattern}/metrics.json")):
            metrics = readable_metrics(path.parent.relative_to(paths.RESULTS).as_posix())
            if is_full(metrics):
                found[path.parent.name] = metrics
    return found


def ours(found: dict[str, dict[str, Any]]) -> list[Result]:
    """Return one result a run of `runs`, its seeds together, the most accurate first."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for name, metrics in sorted(found.items()):
        base = SEED.sub("", name)
        alike = base not in groups or _same_recipe(groups[base][0], metrics)
        groups.setdefault(base if alike else name, []).append(metrics)
    found = [_of_seeds(name, seeds) for name, seeds in groups.items()]
    return sorted(found, key=lambda one: -one.accuracy)


def others() -> list[Result]:
    """Return what others report, the most accurate first."""
    return [
        Result(
            one["network"],
            one["parameters"],
            one["mmac"],
            one["epochs"],
            (one["accuracy"],),
            one["runs"],
            one["training_pflop"],
            ((one["seconds"], one["device"]),) if one["seconds"] else (),
            one["source"],
            computed="training_pflop" in one["computed"],
        )
        for one in runs_results.reference()["others"]
    ]


def _same_recipe(first: dict[str, Any], second: dict[str, Any]) -> bool:
    """Whether two runs differ by seed alone; a parameter newer than one has its default."""
    a, b = first["settings"], second["settings"]
    return all(a[key] == b[key] for key in a.keys() & b.keys() - {"seed"})


def _of_seeds(name: str, seeds: list[dict[str, Any]]) -> Result:
    trains = [metrics["train"] for metrics in seeds]
    used = [train.get("joules") for train in trains]
    averaged = [
        metrics["test"]["tta_accuracy"] for metrics in seeds if runs_results.averages_views(metrics)
    ]
    stale = " (stale)" if any(train["stale"] for train in trains) else ""
    return Result(
        name + stale,
        seeds[0]["parameters"],
        seeds[0]["mmac"],
        trains[0]["epochs"],
        tuple(metrics["test"]["accuracy"] for metrics in seeds),
        len(seeds),
        trains[0]["tflop"] / 1e3,
        _times(seeds),
        joules=None if None in used else fmean(used),
        averaged=fmean(averaged) if len(averaged) == len(seeds) else None,
    )


def _times(seeds: list[dict[str, Any]]) -> tuple[tuple[float, str], ...]:
    """Return the mean wall time on each kind of machine, the fastest first."""
    times: dict[str, list[float]] = {}
    for metrics in seeds:
        times.setdefault(_device(metrics["environment"]), []).append(metrics["train"]["seconds"])
    return tuple(sorted((fmean(seconds), device) for device, seconds in times.items()))


def _device(machine: dict[str, Any]) -> str:
    """Return what a training's time depends on: a GPU's name, or a CPU's threads and precision."""
    if machine["device"] == "cpu":
        return f"CPU, {machine['threads']} threads, {machine['precision']}"
    return machine["device_name"]


def table(results: list[Result]) -> pd.DataFrame:
    """Return the results as text, one row each; "–" is what others do not state."""
    columns = {
        "network": lambda one: one.name,
        "parameters": lambda one: _count(one) + ", over limit" * one.over_limit,
        "MMAC": lambda one: _number(one.mmac, ".0f"),
        "epochs": lambda one: _number(one.epochs, "g"),
        "test accuracy": _score,
        "training PFLOP": lambda one: _number(one.pflop, ".3g") + ", computed" * one.computed,
        "time, energy": _cost,
        "reported by": lambda one: one.source or HERE,
    }
    return pd.DataFrame({name: list(map(cell, results)) for name, cell in columns.items()})


def note(results: list[Result]) -> str:
    """Return, as Markdown, what the table's reader must know: above all whose figures these are."""
    return NOTE if any(not one.source for one in results) else f"{NONE_YET} {NOTE}"


def _number(value: float | None, form: str) -> str:
    return "–" if value is None else f"{value:{form}}"


def _count(one: Result) -> str:
    """Return the parameters, others' in millions where they are published so."""
    if one.source and one.parameters % 10_000 == 0:
        return f"{one.parameters / 1e6:g}M"
    return f"{one.parameters:,}"


def _score(one: Result) -> str:
    """Return the accuracy with its uncertainty and what it is the mean of."""
    if one.source:
        return f"{one.accuracy:.2%}" + (
            f", {one.runs:,} run{'s' * (one.runs > 1)}" if one.runs else ""
        )
    low, high = one.interval
    text = f"{one.accuracy:.2%} ({low:.2%} to {high:.2%})"
    if one.deviation is not None:
        text += f", {one.runs} seeds, SD {100 * one.deviation:.2f}"
    return text + (f"; averaged views {one.averaged:.2%}" if one.averaged is not None else "")


def _cost(one: Result) -> str:
    """Return a training's wall time and device by kind of machine, and energy where read."""
    if not one.times:
        return "–"
    times = [
        f"{f'{time:.3g} s' if time < 60 else clock(time)}, {device}" for time, device in one.times
    ]
    return "; ".join(times) + (
        "" if one.joules is None else f", energy {energy.in_words(one.joules)}"
    )
