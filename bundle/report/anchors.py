"""Our runs compared with what others report: accuracy, size and cost of training in one table.

Runs are read from their metrics.json, and only those on all of CIFAR-10; others from
docs/reference.json, which holds what their authors report. Nothing of theirs was measured here, and
every row says whose number it is. A single view of each test image and the average over several
views are two measurements: every accuracy says which of the two it is.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from statistics import fmean, stdev
from typing import TYPE_CHECKING, Any

import pandas as pd

from bundle import paths, words
from bundle.report.seeds import same_recipe
from bundle.runs.results import averages_views, readable_metrics, reference
from lib.metrics import wilson
from lib.model import PARAMETER_LIMIT

if TYPE_CHECKING:
    from pandas.io.formats.style import Styler

TEST_IMAGES = 10_000
SEED = re.compile(r"-seed\d+(?=-|$)")  # of a run's directory
HERE = "measured here"
SINGLE, AVERAGED, UNSTATED = "single", "averaged", "not stated"  # views of a test image
NOTE = (
    "All rows but those measured here are **as reported by their authors, not measured here**. "
    "The column *views* says whether an accuracy is of a single view of each test image or of the "
    "average over several views, which is worth some tenths of a point: compare like with like. "
    "The six views of airbench weigh ¼ for the image and ¼ for its mirror image, ⅛ for each of the "
    "four shifted ones; at 94% a single view of its networks lies about 0.8 points below. "
    "Interval: 95% Wilson, on 10,000 test images; SD: standard deviation over the seeds, points. "
    "PFLOP are 10¹⁵ operations, six a multiply-accumulate; SE is squeeze-and-excitation. "
    "DAWNBench's time ends at the first epoch with 94%. Our GPUs did other trainings at the same "
    "time: a training alone is faster, and takes less than these kJ, which are of the whole card. "
    "A dash stands for what is not stated."
)
NONE_YET = (
    "No run on all of CIFAR-10 has been finished here yet, so nothing of ours stands in this table."
)


@dataclass(frozen=True)
class Score:
    """A test accuracy by one way of looking at the images.

    `views` is SINGLE, AVERAGED or UNSTATED; `accuracies` are fractions of 1, one for each seed of
    ours, of others the one that is reported.
    """

    views: str
    accuracies: tuple[float, ...]

    @property
    def accuracy(self) -> float:
        """The mean over the seeds."""
        return fmean(self.accuracies)

    @property
    def interval(self) -> tuple[float, float]:
        """The 95% Wilson interval of that mean on the test set."""
        return wilson(round(self.accuracy * TEST_IMAGES), TEST_IMAGES)[1:3]

    @property
    def deviation(self) -> float | None:
        """The standard deviation over the seeds, None for a single one."""
        return stdev(self.accuracies) if len(self.accuracies) > 1 else None


@dataclass(frozen=True)
class Result:
    """A network and what its training cost. None: not stated by others, not readable here.

    The first of `scores` is the headline: ours is of a single view, of others the one they report.
    `runs` is the number of trainings. `times` holds for each kind of machine the wall time of a
    training in seconds, the mean over its seeds, and its name. `source` is "" where the numbers
    were measured here, `url` where it can be read, "" where that is not known. `record` holds the
    metrics of one of our seeds, None of others.
    """

    name: str
    parameters: int | None
    epochs: float | None
    scores: tuple[Score, ...]
    runs: int | None
    pflop: float | None
    times: tuple[tuple[float, str], ...]
    source: str = ""
    url: str = ""
    joules: float | None = None
    computed: bool = False  # the arithmetic, here, from what was reported
    record: dict[str, Any] | None = None

    @property
    def over_limit(self) -> bool:
        """Whether it has more parameters than the task allows."""
        return self.parameters is not None and self.parameters > PARAMETER_LIMIT

    @property
    def within(self) -> bool:
        """Whether it is known to keep the task's limit."""
        return self.parameters is not None and not self.over_limit

    @property
    def accuracy(self) -> float:
        """The headline's accuracy."""
        return self.scores[0].accuracy

    @property
    def accuracies(self) -> tuple[float, ...]:
        """The headline's accuracies, one a seed of ours."""
        return self.scores[0].accuracies

    @property
    def deviation(self) -> float | None:
        """The headline's standard deviation over the seeds, None for a single one."""
        return self.scores[0].deviation


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
    """Return one result a recipe of `runs`, its seeds together, the most accurate first.

    It has the name of the recipe's first run, without a seed where no other recipe has that. A seed
    that is there twice counts once.
    """
    groups: dict[str, dict[int, dict[str, Any]]] = {}
    for name, metrics in sorted(full.items()):
        alike = (key for key in groups if same_recipe(next(iter(groups[key].values())), metrics))
        base = SEED.sub("", name)
        group = next(alike, name if base in groups else base)
        groups.setdefault(group, {}).setdefault(metrics["seed"], metrics)
    results = [_of_seeds(name, [*seeds.values()]) for name, seeds in groups.items()]
    return sorted(results, key=lambda result: -result.accuracy)


def others() -> list[Result]:
    """Return what others report, the most accurate first."""
    return [
        Result(
            name=row["network"],
            scores=_scores(row),
            pflop=row["training_pflop"],
            times=((row["seconds"], row["device"]),) if row["seconds"] else (),
            url=row["source_url"] or "",
            computed="training_pflop" in row["computed"],
            **{key: row[key] for key in ("parameters", "epochs", "runs", "source")},
        )
        for row in reference()["others"]
    ]


def _scores(row: dict[str, Any]) -> tuple[Score, ...]:
    first = Score(row["views"] or UNSTATED, (row["accuracy"],))
    single = row["single_accuracy"]
    return (first,) if single is None else (first, Score(SINGLE, (single,)))


def _of_seeds(name: str, seeds: list[dict[str, Any]]) -> Result:
    first, trains = seeds[0], [metrics["train"] for metrics in seeds]
    used = [train.get("joules") for train in trains]
    tests = [metrics["test"] for metrics in seeds]
    scores = [Score(SINGLE, tuple(test["accuracy"] for test in tests))]
    if all(map(averages_views, seeds)):
        scores.append(Score(AVERAGED, tuple(test["tta_accuracy"] for test in tests)))
    return Result(
        name=name + (" (stale)" if any(train["stale"] for train in trains) else ""),
        parameters=first["parameters"],
        epochs=trains[0]["epochs"],
        scores=tuple(scores),
        runs=len(seeds),
        pflop=trains[0]["tflop"] / 1e3,
        times=_times(seeds),
        joules=None if None in used else fmean(used),
        record=first,
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


def of_recipe(metrics: dict[str, Any], ours: Sequence[Result]) -> Result | None:
    """Return a run's recipe among `ours`, None where it is not there."""
    alike = (each for each in ours if each.record and same_recipe(each.record, metrics))
    return next(alike, None)


def rows(results: list[Result]) -> list[tuple[Result, Score]]:
    """Return the table's rows: every score, those within the limit first, each part ranked."""
    pairs = [(result, score) for result in results for score in result.scores]
    return sorted(pairs, key=lambda pair: (not pair[0].within, -pair[1].accuracy))


def table(results: list[Result]) -> pd.DataFrame:
    """Return the results as text, a row for each of `rows`; "–" is what others do not state."""
    return pd.DataFrame([_row(result, score) for result, score in rows(results)])


def marked(style: "Styler", results: list[Result]) -> "Styler":
    """Return a table's Styler with own rows of the class `own` and names linked to their source.

    `style` shows `table(results)`; LaTeX and text are made of the table itself.
    """
    names = {result.name: linked(result) for result in results}
    classes = pd.DataFrame("", style.data.index, style.data.columns)
    classes.loc[[not result.source for result, _ in rows(results)]] = "own"
    return style.format(names.get, subset=["network"]).set_td_classes(classes)


def linked(result: Result) -> str:
    """Return a result's name in HTML, a link where its source can be read."""
    name = escape(result.name)
    return f'<a href="{escape(result.url)}">{name}</a>' if result.url else name


def _row(result: Result, score: Score) -> dict[str, str]:
    return {
        "network": result.name,
        "parameters": _count(result) + ", over limit" * result.over_limit,
        "test accuracy": words.percent(score.accuracy),
        "views": score.views,
        "95% interval": words.NONE if result.source else words.interval(*score.interval),
        "runs": _runs(result, score),
        "training": _cost(result) if score == result.scores[0] else "the same training",
        "reported by": result.source or HERE,
    }


def note(results: list[Result]) -> str:
    """Return, as Markdown, what the table's reader must know: above all whose numbers these are."""
    return NOTE if any(not result.source for result in results) else f"{NONE_YET} {NOTE}"


def _count(result: Result) -> str:
    """Return the parameters, others' in millions where they are published so."""
    if result.parameters is None:
        return UNSTATED
    if result.source and result.parameters % 10_000 == 0:
        return f"{result.parameters / 1e6:g}M"
    return f"{result.parameters:,}"


def _runs(result: Result, score: Score) -> str:
    """Return how many trainings an accuracy is the mean of, with the spread of ours."""
    if result.runs is None:
        return words.NONE
    spread = score.deviation
    return f"{result.runs:,}" + ("" if spread is None else f" seeds, SD {100 * spread:.2f}")


def _cost(result: Result) -> str:
    """Return a training's epochs, arithmetic, wall time by kind of machine, energy where read."""
    parts = [f"{result.epochs:,g} epochs"] if result.epochs else []
    if result.pflop:
        parts.append(f"{result.pflop:.3g} PFLOP" + " (computed)" * result.computed)
    parts += [f"{_duration(seconds)} on {machine}" for seconds, machine in result.times]
    parts += [] if result.joules is None else [words.energy(result.joules)]
    return "; ".join(parts) or words.NONE


def _duration(seconds: float) -> str:
    """Return a wall time with its units: "2.59 s", "21 min", "79.4 h"."""
    if seconds < 60:
        return f"{seconds:.3g} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.3g} h"
