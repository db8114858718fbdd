"""The page of two runs: accuracy with its test, curves, parameters, confusions, cost."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from bundle import effects, figures, paths, words
from bundle.compare import figure
from bundle.compare.runs import Finished, read
from bundle.files import write_sealed
from bundle.pages import shapes
from bundle.pages.index import BUNDLE, template
from bundle.runs.results import DATASETS, averages_views, notice_of
from bundle.study.compare import in_text
from bundle.study.sentences import ONE_SEED, SIGNIFICANT
from bundle.training.alike import with_defaults
from lib import metrics
from lib.errors import UserError

FILTERS = ("percent", "points", "p_is", "interval")  # of bundle.words, for the template
MOST_PAIRS = 8  # of classes, those whose confusions differ most


class Test(NamedTuple):
    """How two accuracies differ, second - first, and the sentence that says by which test."""

    effect: effects.Effect
    told: str


def write(first: str, second: str) -> Path:
    """Write results/compare/A-B.html of two runs; return it.

    Raises UserError, one line, for a run that is missing, unfinished or damaged, for the same run
    twice, and for runs of different datasets.
    """
    runs = read("A", first), read("B", second)
    _check(*runs)
    names = [run.name.replace("/", "-") for run in runs]
    page = paths.RESULTS / "compare" / f"{'-'.join(names)}.html"
    page.parent.mkdir(parents=True, exist_ok=True)
    filters = {name: getattr(words, name) for name in FILTERS}
    html = template("compare_page.html.j2", filters).render(**shown(*runs))
    write_sealed(page, shapes.share(html).encode())
    return page


def _check(first: Finished, second: Finished) -> None:
    """Raise UserError for two runs that cannot be compared."""
    both = f"A={first.name} and B={second.name}"
    if first.folder == second.folder:
        raise UserError(f"{both}: the same run; name two")
    data = [run.metrics["data_checksum"] for run in (first, second)]
    if data[0] != data[1] or first.classes != second.classes:
        kinds = (DATASETS.get(run.metrics["dataset"], "other data") for run in (first, second))
        raise UserError(f"{both}: of different datasets ({' and '.join(kinds)}); name two of one")


def shown(first: Finished, second: Finished) -> dict[str, Any]:
    """Return what the template shows."""
    runs = (first, second)
    test, changes = tested(first, second), changed(first, second)
    notices = [(run.name, notice) for run in runs if (notice := notice_of(run.metrics))]
    return {
        "bundle": BUNDLE,
        "names": [run.name for run in runs],
        "answer": answer(first, second, test),
        "alarms": [(name, words.alarm(told)) for name, told in notices if words.alarm(told)],
        "rehearsals": [(name, told) for name, told in notices if not words.alarm(told)],
        "effect": test.effect,
        "told": f"{test.told} {ONE_SEED.format('test')}",
        "scores": [scores(run) for run in runs],
        "picture": _picture(runs),
        "changes": changes,
        "seed_alone": [name for name, *_ in changes] == ["seed"],
        "recalls": recalls(first, second),
        "pairs": pairs(first, second),
        "costs": _beside(*map(cost, runs)),
        "origins": _beside(*map(origin, runs)),
    }


def _beside(first: dict[str, str], second: dict[str, str]) -> list[tuple[str, str, str]]:
    return [(name, told, second[name]) for name, told in first.items()]


def tested(first: Finished, second: Finished) -> Test:
    """Return the difference in accuracy, paired on the images that both saw where that can be."""
    ours, theirs = first.predictions, second.predictions
    if ours is None or theirs is None:
        absent = [run.name for run in (first, second) if run.predictions is None]
        told = (
            f"The predictions of {words.listed(absent)} are not here (a release keeps them with "
            "LOGITS=1), so the test is not paired: the z test of two shares, with Newcombe's "
            "interval. On the same images a paired test would see smaller differences."
        )
        return Test(effects.difference(second.accuracy, first.accuracy), told)
    _, here, there = np.intersect1d(ours["index"], theirs["index"], return_indices=True)
    labels = ours["labels"][here]
    if not len(here) or not np.array_equal(labels, theirs["labels"][there]):
        both = f"A={first.name} and B={second.name}"
        raise UserError(f"{both}: predictions of different test images; name two of one dataset")
    test = metrics.mcnemar(ours["predictions"][here], theirs["predictions"][there], labels)
    told = (
        f"McNemar's test ({test.method}) on the {len(here):,} test images that both saw: "
        f"{words.count(test.only_first, 'image')} only {first.name} gets right, "
        f"{test.only_second:,} only {second.name}."
    )
    return Test(effects.paired(test.only_second, test.only_first, len(here)), told)


def answer(first: Finished, second: Finished, test: Test) -> str:
    """Return in a sentence or two which run is more accurate, and how sure that is."""
    effect, size = test.effect, words.difference(*test.effect)
    reached = words.listed(
        f"{run.name} reaches {words.percent(run.metrics['test']['accuracy'])}"
        for run in (first, second)
    )
    if effect.p >= SIGNIFICANT:
        return f"{reached}: no clear difference, {size}."
    better = (second if effect.size > 0 else first).name
    return f"{reached}: {better} is more accurate; {second.name} minus {first.name}: {size}."


def scores(run: Finished) -> dict[str, float | None]:
    """Return a run's accuracies with their intervals; None for averaged views that it has not."""
    keys = ["images", "accuracy", "low", "high"]
    keys += ["tta_accuracy", "tta_low", "tta_high"] * averages_views(run.metrics)
    return {key: words.number(run.metrics, "test", key) for key in keys}


def changed(first: Finished, second: Finished) -> list[tuple[str, str, str]]:
    """Return the parameters of the training that differ: name, and both values as text."""
    before, after = (with_defaults(run.metrics["settings"]) for run in (first, second))
    keys = [key for key in {**before, **after} if before.get(key) != after.get(key)]
    return [(key, in_text(before, key), in_text(after, key)) for key in keys]


def recalls(first: Finished, second: Finished) -> list[dict[str, Any]]:
    """Return of each class the share of its test images that each run gets right."""
    shares = [run.matrix.diagonal() / run.matrix.sum(1).clip(1) for run in (first, second)]
    return [
        {"name": name, "shares": (float(a), float(b)), "points": 100 * float(b - a)}
        for name, a, b in zip(first.classes, *shares, strict=True)
    ]


def pairs(first: Finished, second: Finished) -> list[dict[str, Any]]:
    """Return the pairs of classes whose confusions differ most; [] for sets of different sizes.

    sure: whether the difference is more than twice its standard error, the square root of the sum
    of both counts, as if they were Poisson's.
    """
    if first.matrix.sum() != second.matrix.sum():
        return []
    i, j = np.triu_indices(len(first.classes), 1)
    ours, theirs = (run.matrix[i, j] + run.matrix[j, i] for run in (first, second))
    order = np.argsort(-np.abs(theirs - ours), kind="stable")[:MOST_PAIRS]
    return [
        {
            "name": f"{first.classes[i[n]]} and {first.classes[j[n]]}",
            "counts": (int(ours[n]), int(theirs[n])),
            "change": int(theirs[n] - ours[n]),
            "sure": bool(abs(theirs[n] - ours[n]) > 2 * (ours[n] + theirs[n]) ** 0.5),
        }
        for n in order
        if ours[n] != theirs[n]
    ]


def cost(run: Finished) -> dict[str, str]:
    """Return what a run cost, for reading, by name."""
    told, train = run.metrics, run.metrics["train"]
    return {
        "Parameters": f"{told['parameters']:,}",
        "Multiply-accumulates of an image": f"{told['mmac']:,.1f} million",
        "Training": f"{words.count(train['epochs'], 'epoch')} of {train['images']:,} images",
        "Time of training": words.clock(train["seconds"]),
        "Images per second": f"{train['images_per_second']:,.0f}",
        "Arithmetic of training": f"{train['tflop']:,.1f} TFLOP",
        "Energy of training": words.energy(words.number(train, "joules")),
        "Computed on": words.machine(told["environment"]),
    }


def origin(run: Finished) -> dict[str, str]:
    """Return where a run's numbers come from, by name."""
    environment: Mapping[str, Any] = run.metrics["environment"]
    commit = str(environment.get("commit") or words.NONE)[:10]
    return {
        "Folder": paths.shown(run.folder),
        "Seed": str(run.metrics["seed"]),
        "Data": notice_of(run.metrics) or DATASETS.get(run.metrics["dataset"], words.NONE),
        "Commit": commit + " with local changes" * bool(environment.get("dirty")),
        "Weights, SHA-256": str(run.metrics["train"].get("weights_sha256", words.NONE))[:12],
    }


def _picture(runs: tuple[Finished, Finished]) -> str:
    """Return both trainings' curves as inline SVG, with a variant for narrow pages."""
    histories, names = [run.history for run in runs], [run.name for run in runs]
    ends = (
        f"{run.name} ends after {words.count(len(run.history), 'epoch')} with a training loss of "
        f"{run.history[-1]['train_loss']:.3f} and a training accuracy of "
        f"{run.history[-1]['train_accuracy']:.1%}"
        for run in runs
    )
    alt = f"Loss and accuracy over the epochs of both trainings: {words.listed(ends)}."
    drawn = [figure.curves(histories, names, narrow) for narrow in (False, True)]
    return figures.html(drawn[0], alt, "curves", drawn[1])
