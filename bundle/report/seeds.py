"""The seeds of one recipe: the runs here and released that differ from a run by the seed alone."""

from statistics import fmean, stdev
from typing import Any

from bundle import paths, words
from bundle.runs.results import readable_metrics
from bundle.training.identity import same_parameters

Metrics = dict[str, Any]


def seeds_of(metrics: Metrics) -> dict[int, Metrics]:
    """Return seed -> metrics of the finished runs with a run's recipe and data, itself among them.

    A released run goes before one that was done here.
    """
    found = {}
    for pattern in ("*", "released/*"):
        for path in sorted(paths.RESULTS.glob(f"{pattern}/metrics.json")):
            other = readable_metrics(path.parent.relative_to(paths.RESULTS).as_posix())
            if "test" in other and _alike(metrics, other):
                found[other["seed"]] = other
    return dict(sorted({**found, metrics["seed"]: metrics}.items()))


def _alike(one: Metrics, other: Metrics) -> bool:
    data = all(one.get(key) == other.get(key) for key in ("dataset", "notice", "data_checksum"))
    settings = {**(other.get("settings") or {}), "seed": one["seed"]}
    return data and same_parameters(settings, one["settings"])


def mean(seeds: dict[int, Metrics]) -> str:
    """Return the mean single-view accuracy of several seeds: "93.46%, SD 0.09 points"."""
    scores = [metrics["test"]["accuracy"] for metrics in seeds.values()]
    return f"{fmean(scores):.2%}, SD {100 * stdev(scores):.2f} points"


def sentence(metrics: Metrics) -> str:
    """Return what the seeds of a run's recipe reached, each and on average; "" for a single one."""
    seeds = seeds_of(metrics)
    if len(seeds) == 1:
        return ""
    each = [f"{one['test']['accuracy']:.2%} (seed {seed})" for seed, one in seeds.items()]
    return (
        f"{len(seeds)} trainings of this recipe, one seed each, reached {words.listed(each)}: on "
        f"average {mean(seeds)}."
    )
