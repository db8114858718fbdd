"""The report's tables: reported beside reproduced, numbers' origin. No number is typed here."""

from html import escape
from typing import Any

import pandas as pd

from bundle.report import origin
from bundle.runs.results import STALE, averages_views
from bundle.words import clock


def headline(metrics: dict[str, Any]) -> str:
    """Return the figures a grader looks for, as HTML: parameter count, test accuracy, network."""
    network, test = metrics["network"], metrics["test"]
    blocks, widths = ("-".join(map(str, network[key])) for key in ("blocks", "widths"))
    place = " on handwritten digits" if metrics["dataset"] == "digits" else ""
    accuracy = (
        f"test accuracy{place}, {test['images']:,} images, single view; "
        f"95% interval {test['low']:.2%} to {test['high']:.2%}"
    )
    work = f"multiply-accumulates per image; blocks {blocks}, channels {widths}"
    figures = (
        (f"{metrics['parameters']:,}", "parameters, of at most 5,000,000"),
        (f"{test['accuracy']:.2%}", accuracy),
        (f"{metrics['mmac']:.0f} M", work),
    )
    boxes = "".join(
        f'<div><p class="headline">{value}</p><p class="label">{what}</p></div>'
        for value, what in figures
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


def method(metrics: dict[str, Any]) -> str:
    """Return how the network was trained and judged, as a paragraph."""
    recipe, data, tta = metrics["settings"], metrics["data"], metrics["tta"]
    weights = (
        f"averaged over the steps (decay {recipe['ema']:g})"
        if recipe["ema"]
        else "the last epoch's"
    )
    chosen, held = (
        f"were set by the parameter file (*{tta['combination']}*)",
        metrics["holdout"]["images"],
    )
    if held and tta.get("asked", "auto") == "auto":
        chosen = (
            f"were compared on {held:,} hold-out images, which fixed the choice "
            f"(*{tta['combination']}*)"
        )
    looked = "the test set was looked at once, after that"
    if recipe["audit"]:
        looked = (
            "the test set was followed all along, to show what choosing by it does (an audit, no "
            "result)"
        )
    kept = f", {data['holdout']:,} are held out for choices" if data["holdout"] else ""
    padding = {"zero": "zeros", "reflect": "reflection"}[recipe["crop_mode"]]
    return (
        f"{data['train']:,} images are trained on{kept}. Images are cropped at random after "
        f"{recipe['crop_padding']} pixels of padding by {padding} and "
        f"{_flipped(recipe)}{_spoilt(recipe)}; {_mixing(recipe)}. {_optimiser(recipe)} (weight "
        f"decay {recipe['weight_decay']:g}, batch {recipe['batch_size']}) runs "
        f"{_schedule(recipe)}{_extras(recipe)}. The weights are {weights}. Views for test-time "
        f"augmentation {chosen}; {looked}."
    )


def _optimiser(recipe: dict[str, Any]) -> str:
    nesterov = "Nesterov " if recipe["nesterov"] else ""
    sgd = f"tochastic gradient descent with {nesterov}momentum {recipe['momentum']:g}"
    if recipe.get("optimiser", "sgd") == "sgd":
        return f"S{sgd}"
    muon = f"rate {recipe['muon_learning_rate']:g}, momentum {recipe['muon_momentum']:g}"
    return f"Muon (Jordan et al., 2024; {muon}) for the convolutions and s{sgd} for all else"


def _spoilt(recipe: dict[str, Any], phase: str = "") -> str:
    """Return the rarer augmentations of a phase ("" or "phase2_") in use, for a sentence."""
    low, high = recipe["blur_sigma"]
    blur = f"(kernel {recipe['blur_kernel']}, sigma {low:g} to {high:g})"
    kinds = [
        ("vertical_flip", "turned upside down with probability {:g}"),
        ("blur", f"blurred with probability {{:g}} {blur}"),
        ("erasing", "a part erased with probability {:g}"),
    ]
    return "".join(
        f", {told.format(recipe[phase + key])}" for key, told in kinds if recipe[phase + key]
    )


def _extras(recipe: dict[str, Any]) -> str:
    """Return what else the training does, for a sentence; nothing that is not done is named."""
    parts = []
    if recipe["label_smoothing"]:
        parts.append(f"labels smoothed by {recipe['label_smoothing']:g}")
    if recipe.get("sam"):
        kind = "adaptive sharpness-aware" if recipe["sam_adaptive"] else "sharpness-aware"
        parts.append(f"{kind} minimisation of radius {recipe['sam']:g}")
    if recipe.get("teacher"):
        parts.append(
            f"a teacher's predictions ({recipe['teacher']}) learned with weight "
            f"{recipe['teacher_weight']:g}"
        )
    return f", with {' and '.join(parts)}" if parts else ""


def _flipped(recipe: dict[str, Any]) -> str:
    if recipe["flip_mode"] == "alternating":
        return "mirrored every other epoch"
    return f"flipped with probability {recipe['horizontal_flip']:g}"


def _mixing(recipe: dict[str, Any]) -> str:
    beta = "on {:.0%} of the images, λ from Beta({:g}, {:g})"
    names = {"cutmix": "CutMix (Yun et al., 2019)", "mixup": "mixup (Zhang et al., 2018)"}
    kinds = [
        f"{name} {beta.format(recipe[key], recipe[f'{key}_alpha'], recipe[f'{key}_alpha'])}"
        for key, name in names.items()
        if recipe[key]
    ]
    if recipe["trivial_augment"]:
        kinds.append(f"TrivialAugment on {recipe['trivial_augment']:.0%}")
    return ", ".join(kinds) or "no mixing of images"


def _schedule(recipe: dict[str, Any]) -> str:
    first = (
        f"for {recipe['epochs']} epochs under a {recipe['schedule'].replace('_', '-')} schedule "
        f"from {recipe['learning_rate']:g}"
    )
    if recipe["warmup_epochs"] and recipe["schedule"] != "one_cycle":
        first += f" after {recipe['warmup_epochs']:g} epochs of warm-up"
    if not recipe["phase2_epochs"]:
        return first
    then = _spoilt(recipe, "phase2_").removeprefix(", ")
    return (
        f"{first}, then {recipe['phase2_epochs']} more under a "
        f"{recipe['phase2_schedule'].replace('_', '-')} schedule from "
        f"{recipe['phase2_learning_rate']:g}" + (f", the images now {then}" if then else "")
    )


def averaging(metrics: dict[str, Any]) -> str:
    """Return a sentence on what averaging views did to the test accuracy."""
    test, tta = metrics["test"], metrics["tta"]
    if not averages_views(metrics):
        return (
            "On the hold-out no average of views was better than the single view, so none was "
            "applied."
        )
    gain = (test["tta_accuracy"] - test["accuracy"]) * 100
    paired, verdict = tta["mcnemar"], "more" if tta["mcnemar"]["p"] < 0.05 else "not more"
    return (
        f"Averaging views ({', '.join(tta['views'])}) changes it by {gain:+.2f} points, {verdict} "
        f"than chance would give (McNemar p = {paired['p']:.2g}, {paired['method']})."
    )


def claimed_pairs(metrics: dict[str, Any]) -> str:
    """Return a sentence on the pairs that the reference calls hardest, from the ranks alone."""
    claims = metrics["confusion"]["claims"]
    ranks = " and ".join(
        f"{claim['pair']} is number {claim['reference: rank']:.0f} of 45" for claim in claims
    )
    held = [claim["pair"] for claim in claims if claim["reference: rank"] <= len(claims)]
    verdict = (
        "the claim holds"
        if len(held) == len(claims)
        else f"only {' and '.join(held) or 'none of it'} bears it out"
    )
    return (
        f"The reference report calls them the hardest pairs; in its own confusion matrix {ranks}: "
        f"{verdict}."
    )


def stale(metrics: dict[str, Any]) -> str:
    """Return, as Markdown, which code changed since the training, or an empty string."""
    files = metrics["train"]["stale"]
    return f"> **Stale: {STALE}**: {', '.join(files)}." if files else ""


def scope(metrics: dict[str, Any]) -> str:
    """Return, as Markdown, what the result covers and rests on: data, training's origin, code."""
    covers = (
        f"> One seed ({metrics['seed']}) on the full dataset; another seed gives another accuracy."
    )
    if metrics["parameters"] != metrics["reference_network"]["parameters"]:
        covers += (
            " Network and recipe are this run's own: what is reported stands beside it, it is no "
            "reproduction."
        )
    if metrics["notice"]:
        covers = (
            f"> This run covers {metrics['notice']}; its accuracy says that the path works, not "
            "what the recipe reaches, and is not comparable with the reported one."
        )
    taken = origin.of(metrics["train"], metrics["environment"])
    return "\n\n".join(
        part for part in (covers, f"> {taken}" if taken else "", stale(metrics)) if part
    )


def beside(metrics: dict[str, Any], reference: dict[str, Any]) -> pd.DataFrame:
    """Return what the reference reported beside what this run found, one row a figure."""
    test, network = metrics["test"], metrics["reference_network"]
    averaged = "none was better on the hold-out"
    if averages_views(metrics):
        averaged = _score(test, "tta_accuracy", "tta_low", "tta_high")
    single = _score(test, "accuracy", "low", "high")
    reported, kaggle = (f"{reference[key]:.2%}" for key in ("test_accuracy", "kaggle_accuracy"))
    measured = [("test accuracy, single view", reported, single)]
    if aside := metrics.get("beside"):
        how = "test accuracy, single view, test images normalised as the notebook did"
        measured = [
            (how, reported, _score(aside, "accuracy", "low", "high")),
            ("test accuracy, single view, normalised as in training", "not measured", single),
        ]
    size = f"{reference['parameters_reported'] / 1e6:.2f} M"
    theirs, here = reference["memory_mb"]["total"], network["memory_mib"]["total"]
    rows = [
        ("parameters of the reference network", size, f"{network['parameters']:,}"),
        ("memory estimate, MiB", f"{theirs:.2f}", f"{here:.2f}"),
        *measured,
        ("test accuracy, averaged views", "said to be better, not measured", averaged),
        ("accuracy on the shifted set", kaggle, "labels are not public"),
    ]
    for claim in metrics["confusion"]["claims"]:
        ours = claim["this run: rank"]
        found = f"rank {ours:.0f} here" if ours else "no such classes here"
        ranks = f"rank {claim['reference: rank']:.0f} in its own matrix; {found}"
        rows.append((f"{claim['pair']} among the hardest pairs", "claimed", ranks))
    return pd.DataFrame(rows, columns=["figure", "reported", "this bundle"])


def _score(test: dict[str, Any], *keys: str) -> str:
    value, low, high = (test[key] for key in keys)
    return f"{value:.2%} ({low:.2%} to {high:.2%})"


def provenance(metrics: dict[str, Any]) -> pd.DataFrame:
    """Return where numbers come from: run, commit, parameters, data, versions, machine, time."""
    environment, train = metrics["environment"], metrics["train"]
    dirty = {True: ", with uncommitted changes", False: "", None: ""}[environment.get("dirty")]
    rows = {
        "run": f"{metrics['run']}, seed {metrics['seed']}",
        "trained at commit": f"{environment['commit'][:12]}{dirty}",
        "data": f"{metrics['dataset']}, SHA-256 {metrics['data_checksum'][:16]}…",
        "device": f"{environment['device'].upper()} ({environment['device_name']}, "
        f"{environment['cpu_capability']})",
        "arithmetic": f"{environment['precision']}, {environment['threads']} threads",
        "software": f"Python {environment['python']} on {environment['system']}; "
        + ", ".join(
            f"{name} {version}" for name, version in environment["packages"].items() if version
        ),
        "training": f"{train['epochs']} epochs of {train['images']:,} images in "
        f"{clock(train['seconds'])}, finished {train['finished']}"
        + ("; released" if train.get("released") else ""),
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
        (what, name, recorded[name]["commit"][:12])
        for what, name in groups.items()
        if name in recorded
    ]
    return pd.DataFrame(rows, columns=["numbers", "recorded by", "at commit"])
