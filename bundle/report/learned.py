"""What was learned from a run, and what its result does not show: each sentence is computed."""

from typing import Any

from bundle import words
from bundle.checks import build
from bundle.report.anchors import Result, of_recipe
from bundle.report.sentences import origin, stale
from bundle.runs.results import averages_views
from bundle.words import percent
from lib.metrics import wilson
from lib.settings import Train

Metrics = dict[str, Any]


def learned(metrics: Metrics) -> str:
    """Return what was learned from the run in up to five sentences, as a Markdown list."""
    said = (limit(metrics), averaged(metrics), classes(metrics), named(metrics), trust(metrics))
    return "\n".join(f"- {text}" for text in said if text)


def limit(metrics: Metrics) -> str:
    """Return what limits the accuracy: the fit or the step to new images; "" where not told."""
    settings, last = metrics["settings"], metrics["train"].get("last") or {}
    fitted, test = last.get("train_accuracy"), metrics["test"]["accuracy"]
    if fitted is None or any(settings.get(key) for key in words.MIXING):
        return ""
    limits = "The step to new images" if fitted - test > 1 - fitted else "The training itself"
    return (
        f"**{limits} limits the accuracy**: {percent(fitted, 0)} of the augmented training images "
        f"are classified right, and {percent(test, 0)} of the test images."
    )


def averaged(metrics: Metrics) -> str:
    """Return what averaging views corrected and spoilt, "" where a single view is used."""
    if not averages_views(metrics):
        return ""
    paired, number = metrics["tta"]["mcnemar"], len(metrics["tta"]["views"])
    clear = paired["p"] < 0.05 and paired["only_second"] > paired["only_first"]
    helps = "helps" if clear else "makes no clear difference"
    return (
        f"**Averaging views {helps}**: with {words.spelled(number)} views "
        f"{words.count(paired['only_second'], 'image')} become right and "
        f"{paired['only_first']:,} become wrong, without further training "
        f"({words.p_is(paired['p'])})."
    )


def classes(metrics: Metrics) -> str:
    """Return which classes are found least and most often, and what is confused."""
    recall = {name: row["recall"] or 0 for name, row in metrics["per_class"].items()}
    worst, best = min(recall, key=recall.__getitem__), max(recall, key=recall.__getitem__)
    pairs = [pair for pair in metrics["confusion"]["pairs"][:3] if pair["confusions"]]
    confused = words.listed(f"{p['first']}/{p['second']} ({p['confusions']})" for p in pairs)
    said = (
        f"**{worst.capitalize()} is hardest**: {percent(recall[worst], 0)} are found, of {best} "
        f"{percent(recall[best], 0)}"
    )
    return said + (f"; most often confused are {confused}." if pairs else ".")


def named(metrics: Metrics) -> str:
    """Return how far the pairs that the reference names as similar are confused; "" on digits."""
    rows = [row for row in metrics["confusion"].get("claims") or () if row["this run: rank"]]
    if not rows or metrics["dataset"] == "digits":
        return ""
    ranks = "; ".join(
        f"{row['pair']} is number {row['this run: rank']:.0f} here and "
        f"{row['reference: rank']:.0f} there"
        for row in rows
    )
    return (
        "The reference report names two similar pairs as examples; ranked by confusions among 45 "
        f"pairs: {ranks}."
    )


def trust(metrics: Metrics) -> str:
    """Return how far the network's probabilities can be trusted; "" where it is not recorded."""
    found = metrics.get("calibration")
    if not found:
        return ""
    images = sum(row[2] for row in found["bins"])
    sure = sum(row[2] * row[3] for row in found["bins"] if row[2]) / images
    right = sum(row[2] * row[4] for row in found["bins"] if row[2]) / images
    side = "is too sure of itself" if sure > right else "is not sure enough of itself"
    low, high = wilson(round(right * images), images)[1:3]
    if low <= sure <= high:
        side = "is as sure as it is right, on average"
    second = found.get("top2")
    among = f" The right class is among the two most probable for {percent(second, 0)}."
    return (
        f"**It {side}**: its mean confidence is {percent(sure, 0)}, its accuracy "
        f"{percent(right, 0)}; the expected calibration error is {100 * found['ece']:.1f} points."
        f"{among if second else ''}"
    )


def _machines(group: Result) -> str:
    """Return on what the seeds of a recipe were trained where that differs, "" where it does not.

    The arithmetic (bf16 or fp32) belongs to it: it changes a training's bits, as a seed does.
    """
    machines = [machine for _seconds, machine in group.times]
    return f"; they were trained on {words.listed(machines)}" if len(machines) > 1 else ""


def limitations(metrics: Metrics, ours: list[Result]) -> str:
    """Return what the result does not show, as a Markdown list; `ours` as from anchors.ours."""
    group = of_recipe(metrics, ours)
    seeds = f"One seed ({metrics['seed']}): another gives another accuracy."
    if group and group.deviation is not None:
        values = words.listed(percent(value) for value in group.accuracies)
        seeds = f"{len(group.accuracies)} seeds of this recipe reach {values}: mean "
        seeds += f"{percent(group.accuracy)}, standard deviation "
        seeds += f"{100 * group.deviation:.2f} points{_machines(group)}."
    covers = "The test images are of the same kind as the training images: nothing is shown for "
    covers += "blurred, noisy or shifted ones."
    if metrics.get("robustness"):
        covers = "The corruptions are made by a program: images of another camera or another "
        covers += "collection are not among them."
    if metrics["notice"]:
        covers = f"This run covers {metrics['notice']}: it shows that everything works, not what "
        covers += "the recipe reaches."
    if build(Train, metrics["settings"], "metrics.json").audit:
        covers += " The test set was followed during training: the accuracy is no result."
    elsewhere = origin(metrics["train"], metrics["environment"])
    old = stale(metrics).removeprefix("> ")
    return "\n".join(f"- {text}" for text in (seeds, covers, elsewhere, old) if text)
