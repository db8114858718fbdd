"""The report's sentences and tables: result, method, origin of numbers. No number is typed here."""

from html import escape
from typing import Any

import pandas as pd

from bundle import words
from bundle.checks import build
from bundle.report import recipe
from bundle.runs.results import STALE, averages_views
from lib.settings import Train


def headline(metrics: dict[str, Any]) -> str:
    """Return the figures a grader looks for, as HTML: parameter count, test accuracy, network."""
    network, test = metrics["network"], metrics["test"]
    blocks, widths = ("-".join(map(str, network[key])) for key in ("blocks", "widths"))
    place = " on handwritten digits" if metrics["dataset"] == "digits" else ""
    interval = words.interval(test["low"], test["high"])
    judged = f"test accuracy{place}, {test['images']:,} images, single view"
    figures = {
        f"{metrics['parameters']:,}": "parameters, of at most 5,000,000",
        words.percent(test["accuracy"]): f"{judged}; 95% interval {interval}",
        f"{metrics['mmac']:.0f} M": "multiply-accumulates per image; blocks "
        f"{blocks}, channels {widths}",
    }
    boxes = "".join(
        f'<div><p class="headline">{value}</p><p class="label">{meaning}</p></div>'
        for value, meaning in figures.items()
    )
    return f'<div class="figures">{boxes}</div>'


def byline(metrics: dict[str, Any], author: str) -> str:
    """Return author, where given, and the day the training was finished, as HTML."""
    day = metrics["train"]["finished"][:10]
    by = f"{escape(author)} · " if author else ""
    return f'<p class="label">{by}{day} · run {metrics["run"]}</p>'


def scores(test: dict[str, Any], chosen: str) -> pd.DataFrame:
    """Return the test accuracy with its interval, single view and any averaged views."""
    rows = {"single view": (test["accuracy"], test["low"], test["high"])}
    if chosen != "original":
        averaged = (test["tta_accuracy"], test["tta_low"], test["tta_high"])
        rows[f"mean over views: {chosen}"] = averaged
    return pd.DataFrame.from_dict(rows, orient="index", columns=["accuracy", "low", "high"])


def network(metrics: dict[str, Any]) -> str:
    """Return the network from stem to classifier, as a part of a sentence."""
    return recipe.in_words(build(Train, metrics["settings"], "metrics.json"))


def method(metrics: dict[str, Any]) -> str:
    """Return how the network was trained and judged, as a paragraph."""
    data, tta, held = metrics["data"], metrics["tta"], metrics["holdout"]["images"]
    settings = build(Train, metrics["settings"], "metrics.json")
    weights = "the last epoch's"
    if settings.ema:
        weights = f"averaged over the steps (decay {settings.ema:g})"
    chosen = f"were set by the parameter file (*{tta['combination']}*)"
    if held and tta.get("asked", "auto") == "auto":
        chosen = f"were compared on {held:,} hold-out images, which fixed the choice "
        chosen += f"(*{tta['combination']}*)"
    looked = "the test set was looked at once, after that"
    if settings.audit:
        looked = "the test set was followed all along, to show what choosing by it does (an audit, "
        looked += "no result)"
    kept = f", {data['holdout']:,} are held out for choices" if data["holdout"] else ""
    return (
        f"{data['train']:,} images are trained on{kept}. {recipe.in_sentences(settings)} The "
        f"weights are {weights}. Views for test-time augmentation {chosen}; {looked}."
    )


def averaging(metrics: dict[str, Any]) -> str:
    """Return a sentence on what averaging views did to the test accuracy."""
    test, tta = metrics["test"], metrics["tta"]
    if not averages_views(metrics):
        none = "On the hold-out no average of views was better than the single view"
        return f"{none}, so none was applied."
    gain = (test["tta_accuracy"] - test["accuracy"]) * 100
    paired, verdict = tta["mcnemar"], "more" if tta["mcnemar"]["p"] < 0.05 else "not more"
    return (
        f"Averaging views ({', '.join(tta['views'])}) changes it by {gain:+.2f} points, {verdict} "
        f"than chance would give (McNemar {words.p_is(paired['p'])}, {paired['method']})."
    )


def claimed_pairs(metrics: dict[str, Any]) -> str:
    """Return a sentence on the pairs that the reference calls hardest, from the ranks alone."""
    ranks = {row["pair"]: row["reference: rank"] for row in metrics["confusion"]["claims"]}
    told = " and ".join(f"{pair} is number {rank:.0f} of 45" for pair, rank in ranks.items())
    hardest = [pair for pair, rank in ranks.items() if rank <= len(ranks)]
    verdict = f"only {' and '.join(hardest) or 'none of it'} bears it out"
    if len(hardest) == len(ranks):
        verdict = "the claim holds"
    return (
        f"The reference report calls them the hardest pairs; in its own confusion matrix {told}: "
        f"{verdict}."
    )


def stale(metrics: dict[str, Any]) -> str:
    """Return, as Markdown, which code changed since the training, or an empty string."""
    files = metrics["train"]["stale"]
    return f"> **Stale: {STALE}**: {', '.join(files)}." if files else ""


def scope(metrics: dict[str, Any]) -> str:
    """Return, as Markdown, what the result covers and rests on: data, training's origin, code."""
    seed, network = metrics["seed"], metrics["reference_network"]
    covers = f"One seed ({seed}) on the full dataset; another seed gives another accuracy."
    if metrics["parameters"] != network["parameters"]:
        covers += (
            " Network and recipe are this run's own, so it is no reproduction: reported figures "
            "are shown to compare with."
        )
    if metrics["notice"]:
        covers = (
            f"This run covers {metrics['notice']}; its accuracy says that the path works, not "
            "what the recipe reaches, and is not comparable with the reported one."
        )
    elsewhere = origin(metrics["train"], metrics["environment"])
    notes = [f"> {note}" for note in (covers, elsewhere) if note]
    return "\n\n".join(filter(None, [*notes, stale(metrics)]))


def origin(train: dict[str, Any], environment: dict[str, Any]) -> str:
    """Return, as Markdown, where a training comes from; "" for the run's own.

    Args:
        train: the metrics' "train" (training.outcome.of_training).
        environment: device and device_name of the machine that trained.
    """
    if not train.get("released") and train.get("weights", True):
        return ""
    device = "a CPU" if environment["device"] == "cpu" else words.device(environment)
    time, day = words.clock(train["seconds"]), train["finished"][:10]
    kind = "saved logits, the weights are not here"
    if train["weights"]:
        kind = "released weights, rounded to float16"
    return (
        f"**Not trained by this run** but trained elsewhere: on {device}, {time}, finished {day}; "
        f"{kind}. {rounding(train)}"
    ).rstrip()


def rounding(train: dict[str, Any]) -> str:
    """Return a sentence on what rounding released weights changed, "" where none were rounded."""
    change = (train.get("released") or {}).get("rounding")
    if not change:
        return ""
    before, after = words.percent(change["before"]), words.percent(change["after"])
    return (
        f"The rounding took the test accuracy from {before} to {after}: {change['changed']} of "
        f"{change['images']:,} predictions changed ({change['device']}, {change['precision']})."
    )


def beside(metrics: dict[str, Any], reference: dict[str, Any]) -> pd.DataFrame:
    """Return what the reference reported beside what this run found, one row a figure."""
    test, network = metrics["test"], metrics["reference_network"]
    averaged = "none was better on the hold-out"
    if averages_views(metrics):
        averaged = words.accuracy(test, "tta_")
    size = f"{reference['parameters_reported'] / 1e6:.2f} M"
    theirs, here = reference["memory_mb"]["total"], network["memory_mib"]["total"]
    kaggle = words.percent(reference["kaggle_accuracy"])
    rows = [
        ("parameters of the reference network", size, f"{network['parameters']:,}"),
        ("memory estimate, MiB", f"{theirs:.2f}", f"{here:.2f}"),
        *_single_view(metrics, words.percent(reference["test_accuracy"])),
        ("test accuracy, averaged views", "said to be better, not measured", averaged),
        ("accuracy on the shifted set", kaggle, "labels are not public"),
        *map(_claimed_pair, metrics["confusion"]["claims"]),
    ]
    return pd.DataFrame(rows, columns=["figure", "reported", "this bundle"])


def _single_view(metrics: dict[str, Any], reported: str) -> list[tuple[str, str, str]]:
    """Return the row of the single view, two where it was also normalised as the reference did."""
    name, single = "test accuracy, single view", words.accuracy(metrics["test"])
    if not (aside := metrics.get("beside")):
        return [(name, reported, single)]
    as_theirs = f"{name}, test images normalised as the notebook did"
    return [
        (as_theirs, reported, words.accuracy(aside)),
        (f"{name}, normalised as in training", "not measured", single),
    ]


def _claimed_pair(claim: dict[str, Any]) -> tuple[str, str, str]:
    ours, theirs = claim["this run: rank"], claim["reference: rank"]
    here = f"rank {ours:.0f} here" if ours else "no such classes here"
    ranks = f"rank {theirs:.0f} in its own matrix; {here}"
    return f"{claim['pair']} among the hardest pairs", "claimed", ranks


def provenance(metrics: dict[str, Any]) -> pd.DataFrame:
    """Return where numbers come from: run, commit, parameters, data, versions, machine, time."""
    environment, train = metrics["environment"], metrics["train"]
    dirty = ", with uncommitted changes" if environment.get("dirty") else ""
    packages = [f"{name} {version}" for name, version in environment["packages"].items() if version]
    python = f"Python {environment['python']} on {environment['system']}"
    name, capability = environment["device_name"], environment["cpu_capability"]
    threads = words.count(environment["threads"], "thread")
    length = f"{train['epochs']} epochs of {train['images']:,} images in "
    length += f"{words.clock(train['seconds'])}, finished {train['finished']}"
    rows = {
        "run": f"{metrics['run']}, seed {metrics['seed']}",
        "trained at commit": f"{environment['commit'][:12]}{dirty}",
        "data": f"{metrics['dataset']}, SHA-256 {metrics['data_checksum'][:16]}…",
        "device": f"{environment['device'].upper()} ({name}, {capability})",
        "arithmetic": f"{environment['precision']}, {threads}",
        "software": f"{python}; {', '.join(packages)}",
        "training": length + ("; released" if train.get("released") else ""),
        "weights": f"SHA-256 {train['weights_sha256'][:16]}…",
    }
    return pd.Series(rows, name="value").rename_axis("what").to_frame()


def sources(metrics: dict[str, Any]) -> pd.DataFrame:
    """Return for each group of numbers the notebook that recorded it and the commit it ran from."""
    groups = {
        "split, channel statistics, duplicates": "01_explore_data",
        "parameters, arithmetic, memory": "02_build_model",
        "training: epochs, time, settings": "03_train",
        "accuracies, intervals, views": "04_predict_tta",
        "confusions, scores by class": "05_confusion",
    }
    recorded = metrics["provenance"]
    rows = [
        (numbers, notebook, recorded[notebook]["commit"][:12])
        for numbers, notebook in groups.items()
        if notebook in recorded
    ]
    return pd.DataFrame(rows, columns=["numbers", "recorded by", "at commit"])
