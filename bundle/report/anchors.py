"""Our runs compared with what others report: accuracy, size and cost of training in one table.

Runs are read from their metrics.json, and only those on all of CIFAR-10; others from
docs/reference.json, which holds what their authors report. Nothing of theirs was measured here, and
every row says whose figure it is.
"""

import re
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any

import pandas as pd

from bundle import paths, words
from bundle.runs.results import averages_views, readable_metrics, reference
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
    "is compared with what others report; this one is not such a run."
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
    """Whether a run may be compared with others: all of CIFAR-10, by the rules, test set unseen."""
    settings = metrics.get("settings") or {}
    allowed = not (settings.get("comparison") or settings.get("audit") or metrics.get("audit"))
    whole = metrics.get("dataset") == "cifar10" and not metrics.get("notice")
    return allowed and whole and words.number(metrics, "test", "images") == TEST_IMAGES


def runs(*patterns: str) -> dict[str, dict[str, Any]]:
    """Return name -> metrics of full runs in matching folders of results/; later patterns win."""
    full = {}
    for pattern in patterns or ("released/*", "*"):
        for path in sorted(paths.RESULTS.glob(f"{pattern}/metrics.json")):
            metrics = readable_metrics(path.parent.relative_to(paths.RESULTS).as_posix())
            if is_full(metrics):
                full[path.parent.name] = metrics
    return full


def ours(full: dict[str, dict[str, Any]]) -> list[Result]:
    """Return one result a run of `runs`, its seeds together, the most accurate first."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for name, metrics in sorted(full.items()):
        base = SEED.sub("", name)
        alike = base not in groups or _same_recipe(groups[base][0], metrics)
        groups.setdefault(base if alike else name, []).append(metrics)
    results = [_of_seeds(name, seeds) for name, seeds in groups.items()]
    return sorted(results, key=lambda result: -result.accuracy)


def others() -> list[Result]:
    """Return what others report, the most accurate first."""
    return [
        Result(
            name=row["network"],
            accuracies=(row["accuracy"],),
            pflop=row["training_pflop"],
            times=((row["seconds"], row["device"]),) if row["seconds"] else (),
            computed="training_pflop" in row["computed"],
            **{key: row[key] for key in ("parameters", "mmac", "epochs", "runs", "source")},
        )
        for row in reference()["others"]
    ]


def _same_recipe(first: dict[str, Any], second: dict[str, Any]) -> bool:
    """Whether two runs differ by seed alone; a parameter newer than one has its default."""
    a, b = first["settings"], second["settings"]
    return all(a[key] == b[key] for key in a.keys() & b.keys() - {"seed"})


def _of_seeds(name: str, seeds: list[dict[str, Any]]) -> Result:
    first, trains = seeds[0], [metrics["train"] for metrics in seeds]
    used = [train.get("joules") for train in trains]
    averaged = [metrics["test"]["tta_accuracy"] for metrics in seeds if averages_views(metrics)]
    return Result(
        name=name + (" (stale)" if any(train["stale"] for train in trains) else ""),
        parameters=first["parameters"],
        mmac=first["mmac"],
        epochs=trains[0]["epochs"],
        accuracies=tuple(metrics["test"]["accuracy"] for metrics in seeds),
        runs=len(seeds),
        pflop=trains[0]["tflop"] / 1e3,
        times=_times(seeds),
        joules=None if None in used else fmean(used),
        averaged=fmean(averaged) if len(averaged) == len(seeds) else None,
    )


def _times(seeds: list[dict[str, Any]]) -> tuple[tuple[float, str], ...]:
    """Return the mean wall time on each kind of machine, the fastest first."""
    times: dict[str, list[float]] = {}
    for metrics in seeds:
        times.setdefault(_machine(metrics["environment"]), []).append(metrics["train"]["seconds"])
    return tuple(sorted((fmean(seconds), machine) for machine, seconds in times.items()))


def _machine(environment: dict[str, Any]) -> str:
    """Return what a training's time depends on: a GPU's name, or a CPU's threads and precision."""
    on_cpu = environment["device"] == "cpu"
    return words.machine_in_short(environment) if on_cpu else words.device(environment)


def table(results: list[Result]) -> pd.DataFrame:
    """Return the results as text, one row each; "–" is what others do not state."""
    return pd.DataFrame([_row(result) for result in results])


def _row(result: Result) -> dict[str, str]:
    return {
        "network": result.name,
        "parameters": _count(result) + ", over limit" * result.over_limit,
        "MMAC": _stated(result.mmac, ".0f"),
        "epochs": _stated(result.epochs, "g"),
        "test accuracy": _score(result),
        "training PFLOP": _stated(result.pflop, ".3g") + ", computed" * result.computed,
        "time, energy": _cost(result),
        "reported by": result.source or HERE,
    }


def note(results: list[Result]) -> str:
    """Return, as Markdown, what the table's reader must know: above all whose figures these are."""
    return NOTE if any(not result.source for result in results) else f"{NONE_YET} {NOTE}"


def _stated(value: float | None, form: str) -> str:
    return words.NONE if value is None else f"{value:{form}}"


def _count(result: Result) -> str:
    """Return the parameters, others' in millions where they are published so."""
    if result.source and result.parameters % 10_000 == 0:
        return f"{result.parameters / 1e6:g}M"
    return f"{result.parameters:,}"


def _score(result: Result) -> str:
    """Return the accuracy with its uncertainty and what it is the mean of."""
    mean, trained = words.percent(result.accuracy), result.runs
    if result.source:
        return f"{mean}, {words.count(trained, 'run')}" if trained else mean
    low, high = result.interval
    parts = [words.accuracy({"accuracy": result.accuracy, "low": low, "high": high})]
    if result.deviation is not None:
        parts.append(f"{trained} seeds, SD {100 * result.deviation:.2f}")
    views = "" if result.averaged is None else f"; averaged views {words.percent(result.averaged)}"
    return ", ".join(parts) + views


def _cost(result: Result) -> str:
    """Return a training's wall time and device by kind of machine, and energy where read."""
    times = [
        f"{f'{seconds:.3g} s' if seconds < 60 else words.clock(seconds)}, {machine}"
        for seconds, machine in result.times
    ]
    used = "" if result.joules is None else f", energy {words.energy(result.joules)}"
    return "; ".join(times) + used if times else words.NONE
