"""The report's first screen: author, accuracy, cost and size, a scale, and the abstract."""

from collections.abc import Sequence
from html import escape
from typing import Any

from bundle import effects, words
from bundle.checks import build
from bundle.report import recipe
from bundle.report.anchors import Result, of_recipe
from bundle.runs.results import as_the_reference, averages_views
from bundle.words import percent
from lib import metrics as statistics
from lib.model import PARAMETER_LIMIT
from lib.settings import Train

Metrics = dict[str, Any]
PLACEHOLDER = 'Author: set with make run-all AUTHOR="A. Name" COURSE="…"'


def machine(environment: dict[str, Any]) -> str:
    """Return where was trained: "2 CPU cores", or the name of the GPU."""
    if environment["device"] != "cpu":
        return f"one {words.device(environment)}"
    return words.count(environment["threads"], "CPU core")


def classified(metrics: Metrics) -> str:
    """Return what kind of images the run classifies, for a sentence."""
    return "images of CIFAR-10" if metrics["dataset"] != "digits" else "handwritten digits"


def byline(metrics: Metrics, author: str, course: str) -> str:
    """Return author and course, or on the screen how to set them, run and day, as HTML."""
    day = metrics["train"]["finished"][:10]
    named = " · ".join(escape(text) for text in (author, course) if text)
    shown = f"{named} · " if named else f'<span class="unset">{escape(PLACEHOLDER)} · </span>'
    return f'<p class="byline">{shown}run {words.run(metrics)}, {day}</p>'


def headline(metrics: Metrics) -> str:
    """Return what a reader looks for first, as HTML: accuracy, cost of training, size."""
    test, train, size = metrics["test"], metrics["train"], metrics["parameters"]
    images, share = test["images"], size / PARAMETER_LIMIT
    interval = f"{percent(test['low'], 0)} to {percent(test['high'], 0)}"
    boxes = (
        (percent(test["accuracy"], 0), f"of {images:,} test {classified(metrics)} are classified "
         f"right; 95% interval {interval}, single view", ""),
        (words.duration(train["seconds"], exact=True), "of training on "
         f"{machine(metrics['environment'])}, {words.count(train['epochs'], 'epoch')}", ""),
        (f"{size / 1e6:.2f} M", f"parameters: {size:,}, {share:.0%} of the {PARAMETER_LIMIT:,} "
         "allowed", f'<div class="share"><i style="width: {min(share, 1):.1%}"></i></div>'),
    )  # fmt: skip
    shown = "".join(
        f'<div><p class="headline">{value}</p>{bar}<p class="label">{meaning}</p></div>'
        for value, meaning, bar in boxes
    )
    return f'<div class="figures answer">{shown}</div>'


def marks(metrics: Metrics, reference: dict[str, Any], ours: list[Result]) -> list[tuple]:
    """Return (class, name, accuracy) of what stands on the scale, chance and this run first.

    On other images than CIFAR-10's nothing of others is shown. `ours`: as from anchors.ours.
    """
    test, chance = metrics["test"]["accuracy"], 1 / len(metrics["confusion"]["classes"])
    shown = [("chance", "chance", chance), ("run", "this run", test)]
    if metrics["dataset"] == "digits":
        return shown
    shown.append(("theirs", "the reference report", reference["test_accuracy"]))
    if (there := as_the_reference(metrics)) is not metrics["test"]:
        shown.append(("there", "this run, normalised as there", there["accuracy"]))
    best = max(ours, key=lambda result: result.accuracy, default=None)
    if best and best.accuracy > test and best is not of_recipe(metrics, ours):
        shown.append(("best", f"best here ({best.name})", best.accuracy))
    return shown


def scale(shown: list[tuple]) -> str:
    """Return the marks on a line from 0 to 100%, as HTML that needs no picture."""
    digits = {"chance": 0, "theirs": 2, "there": 2}  # else 1
    texts = [
        (kind, escape(name), value, f"{value:.{digits.get(kind, 1)}%}")
        for kind, name, value in shown
    ]
    said = ", ".join(f"{name} {text}" for _, name, _, text in texts)
    ticks = "".join(f'<i class="{kind}" style="left: {value:.1%}"></i>' for kind, _, value in shown)
    notes = "".join(
        f'<span class="{kind}" style="{_side(value)}">{name} <b>{text}</b></span>'
        for kind, name, value, text in texts
    )
    label = f"On a scale from 0 to 100% test accuracy: {said}"
    return f'<div class="scale" role="img" aria-label="{label}"><div>{ticks}</div>{notes}</div>'


def _side(value: float) -> str:
    """Return where a note begins, left of its mark in the right half of the scale."""
    return f"right: {1 - value:.1%}; text-align: right" if value > 0.5 else f"left: {value:.1%}"


def abstract(metrics: Metrics, reference: dict[str, Any], ours: Sequence[Result] = ()) -> str:
    """Return what was asked, done and found, in sentences with their numbers, as Markdown.

    With its seeds among `ours` (anchors.ours) the accuracy stands beside their mean.
    """
    train, settings = metrics["train"], build(Train, metrics["settings"], "metrics.json")
    blocks = words.count(sum(metrics["network"]["blocks"]), "residual block")
    of_whom = "" if metrics["dataset"] == "digits" else " (Krizhevsky, 2009)"
    return " ".join((
        "How well does a residual network (He et al., 2016) of at most five million parameters, "
        f"trained from scratch, classify {classified(metrics)}{of_whom}, as a student team's "
        "course report (reference report) asked?",
        f"The network of this run has {blocks} and {metrics['parameters']:,} parameters; trained "
        f"with {recipe.in_short(settings)} for {words.count(train['epochs'], 'epoch')} on "
        f"{train['images']:,} images, it took {words.duration(train['seconds'], exact=True)} on "
        f"{machine(metrics['environment'])}.",
        reached(metrics, of_seeds(metrics, ours)),
        compared(metrics, reference),
        fails(metrics),
    ))  # fmt: skip


def of_seeds(metrics: Metrics, ours: Sequence[Result]) -> str:
    """Return the mean over the seeds of the run's recipe, "" where there is one seed."""
    group = of_recipe(metrics, ours)
    if group is None or group.deviation is None:
        return ""
    return (
        f"; the mean of {len(group.accuracies)} seeds is {percent(group.accuracy)}, standard "
        f"deviation {100 * group.deviation:.2f} points"
    )


def reached(metrics: Metrics, seeds: str = "") -> str:
    """Return a sentence on the test accuracy, its interval, and what averaging views added."""
    test, images = metrics["test"], metrics["test"]["images"]
    right, low, high = (percent(test[key], images) for key in ("accuracy", "low", "high"))
    said = f"It classifies **{right}** of {images:,} test images correctly"
    averaged = ""
    if averages_views(metrics):
        gain = words.points(100 * (test["tta_accuracy"] - test["accuracy"]))
        averaged = (
            f"; averaging {recipe.views(metrics['tta']['views']).split(' (')[0]} of each image "
            f"gives {percent(test['tta_accuracy'], images)} ({gain} points)"
        )
    return f"{said} (95% interval {low} to {high}{seeds}){averaged}."


AS_THERE = "Normalised as in the reference's notebook, the test images give {:.2%}. "


def compared(metrics: Metrics, reference: dict[str, Any]) -> str:
    """Return a sentence on this run's accuracy and the reference's, as far as they compare."""
    reported, test = reference["test_accuracy"], metrics["test"]
    if metrics["notice"]:
        return (
            f"The reference report gives {reported:.2%} on all of CIFAR-10; this run covers "
            f"{metrics['notice']}, and the two cannot be compared."
        )
    scored, total = as_the_reference(metrics), reference["test_images"]
    ours = statistics.wilson(round(scored["accuracy"] * test["images"]), test["images"])
    as_there = "" if scored is test else AS_THERE.format(scored["accuracy"])
    gap = effects.difference(ours, statistics.wilson(round(reported * total), total))
    side = "above" if gap.size > 0 else "below"
    low, high = sorted(abs(100 * end) for end in (gap.low, gap.high))
    if gap.low * gap.high <= 0:
        return (
            f"{as_there}The reference report gives {reported:.2%}: the difference of "
            f"{words.difference(*gap[:3])} is within chance."
        )
    return (
        f"{as_there}In a single view that is {abs(100 * gap.size):.2f} points {side} the "
        f"{reported:.2%} of the reference report (95% interval {low:.2f} to {high:.2f}; its "
        "predictions are not public, so the two cannot be paired)."
    )


def fails(metrics: Metrics) -> str:
    """Return a sentence on the pair and the class that fail most, or on all that tie."""
    pairs, found = metrics["confusion"]["pairs"], metrics["per_class"]
    most, share = pairs[0]["confusions"], f"{pairs[0]['share']:.0%} of all mistakes"
    if not most:
        return "No test image is mistaken."
    confused = [f"{p['first']} and {p['second']}" for p in pairs if p["confusions"] == most]
    recall = {name: row["recall"] or 0 for name, row in found.items()}
    worst = [name for name, value in recall.items() if value == min(recall.values())]
    return (
        f"Most often confused are {'; '.join(confused)} ({share}{' each' * (len(confused) > 1)}); "
        f"{words.listed(worst)} {'is' if len(worst) == 1 else 'are'} found least often "
        f"({percent(recall[worst[0]], 0)})."
    )
