"""The seeds of one recipe: the runs here and released that differ from a run by the seed alone."""

from statistics import fmean, stdev
from typing import Any

from bundle import paths
from bundle.runs.results import readable_metrics
from bundle.training.alike import same_parameters

Metrics = dict[str, Any]


def seeds_of(metrics: Metrics) -> dict[int, Metrics]:
    """Return seed -> metrics of the finished runs with a run's recipe and data, itself among them.

    A released run goes before one that was done here.
    """
    found = {}
    for pattern in ("*", "released/*"):
        for path in sorted(paths.RESULTS.glob(f"{pattern}/metrics.json")):
            other = readable_metrics(path.parent.relative_to(paths.RESULTS).as_posix())
            if "test" in other and same_recipe(metrics, other):
                found[other["seed"]] = other
    return dict(sorted({**found, metrics["seed"]: metrics}.items()))


def same_recipe(one: Metrics, other: Metrics) -> bool:
    """Whether two runs are seeds of one recipe: equal data, and all parameters but the seed.

    Names do not count. A parameter newer than one of the runs had its default there.
    """
    data = all(one.get(key) == other.get(key) for key in ("dataset", "notice", "data_checksum"))
    first, second = ({**(each.get("settings") or {}), "seed": 0} for each in (one, other))
    return data and same_parameters(first, second)


def mean(seeds: dict[int, Metrics]) -> str:
    """Return the mean single-view accuracy of several seeds: "93.46%, SD 0.09 points"."""
    scores = [metrics["test"]["accuracy"] for metrics in seeds.values()]
    return f"{fmean(scores):.2%}, SD {100 * stdev(scores):.2f} points"
