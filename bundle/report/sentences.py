"""The report's sentences and tables: result, method, origin of numbers. No number is typed here."""

from typing import TYPE_CHECKING, Any

import pandas as pd

from bundle import words
from bundle.checks import build
from bundle.report import recipe
from bundle.report.opening import machine
from bundle.runs.results import STALE, as_the_reference, averages_views
from bundle.words import percent
from lib.model import PARAMETER_LIMIT
from lib.settings import Train

if TYPE_CHECKING:
    from IPython.display import HTML
    from pandas.io.formats.style import Styler

    from bundle.training.identity import Training


def settings_of(metrics: dict[str, Any]) -> Train:
    """Return the parameters of a record; one newer than the record has its default."""
    return build(Train, metrics["settings"], "metrics.json")


def network(metrics: dict[str, Any]) -> str:
    """Return the network from stem to classifier, as a part of a sentence."""
    return recipe.in_words(settings_of(metrics))


def parts(by_part: pd.DataFrame) -> str:
    """Return the share of the parameters of each part; `by_part` as of `count_by_hand`."""
    counts = by_part.set_index("part")["parameters"]
    shares = counts.drop("total") / counts["total"]
    return words.listed(f"{part} {share:.0%}" for part, share in shares.items())


def largest_part(by_part: pd.DataFrame) -> str:
    """Return which part of a network holds most of its parameters, as a clause."""
    counts = by_part.set_index("part")["parameters"]
    most = counts.drop("total").idxmax()
    return f"{most.capitalize()} alone holds {counts[most] / counts['total']:.0%} of the parameters"


def curves(history: pd.DataFrame) -> str:
    """Return in a sentence how far the curves of a training go."""
    losses = history.groupby("phase")["train_loss"].agg(["first", "last"]).itertuples(index=False)
    falls = " in phase 1 and ".join(f"from {first:.2f} to {last:.2f}" for first, last in losses)
    went = f"falls {falls}" if len(history) > 1 else f"is {history['train_loss'].iloc[0]:.2f}"
    said = f"In {words.count(len(history), 'epoch')} the training loss {went}"
    said += " in phase 2" * (history["phase"].nunique() > 1)
    kept = history.get("holdout_accuracy", pd.Series(dtype=float)).dropna()
    said += f", and the hold-out accuracy ends at {percent(kept.iloc[-1], 0)}" if len(kept) else ""
    return f"{said}."


def method(metrics: dict[str, Any]) -> str:
    """Return what was trained on and how the test set was used, in two sentences."""
    data, held = metrics["data"], metrics["data"]["holdout"]
    settings = settings_of(metrics)
    kept = f"{held:,} are held out for choices" if held else "none is held out"
    looked = "No choice within this run was made by the test set: it was used once, at the end"
    if settings.audit:
        looked = "The test set was followed all along, to show what choosing by it does: an audit, "
        looked += "no result"
    return f"{data['train']:,} images are trained on, {kept}. {looked}."


def recipe_table(metrics: dict[str, Any]) -> pd.DataFrame:
    """Return the recipe as a table of text, a row for each thing that is done; columns: what, how.

    Last come whose weights are used and which views of a test image are averaged.
    """
    settings = settings_of(metrics)
    rows = recipe.in_rows(settings)
    rows["weights"] = "the last epoch's"
    if settings.ema:
        rows["weights"] = f"averaged over the steps, decay {settings.ema:g}"
    rows["test images"] = "a single view"
    if averages_views(metrics):
        rows["test images"] += f"; then {recipe.views(metrics['tta']['views'])} averaged"
    held, asked = metrics["holdout"]["images"], metrics["tta"].get("asked", "auto")
    if held and asked == "auto":
        rows["test images"] += f"; chosen on {held:,} hold-out images"
    elif averages_views(metrics):
        rows["test images"] += "; set beforehand"
    return pd.DataFrame(rows.items(), columns=["what", "how"])


def network_table(metrics: dict[str, Any]) -> pd.DataFrame:
    """Return the network in four rows of text: parts, blocks, parameters, arithmetic."""
    shape, settings = metrics["network"], settings_of(metrics)
    blocks, widths = (" + ".join(map(str, shape[key])) for key in ("blocks", "widths"))
    rows = {
        "stem": recipe.STEMS[settings.stem],
        "blocks": f"{blocks}, of {widths} channels; {shape['layers']} rows in the layer table",
        "classifier": f"{recipe.POOLINGS[settings.pooling]} of the last feature map, then linear",
        "cost of an image": f"{metrics['mmac']:.0f} million multiply-accumulates; "
        f"{shape['memory_mib']['total']:.1f} MiB for all values kept",
    }
    return pd.DataFrame(rows.items(), columns=["part", "what"])


def shortcut(network: Train) -> str:
    """Return what the shortcut of a block does, for a caption."""
    if network.block == "pooled":
        return "In a block the output of the first convolution is added to that of the second"
    return "In a block its input is added to the output of its two convolutions"


def counted(metrics: dict[str, Any], reference: dict[str, Any]) -> str:
    """Return two sentences: the run's parameters, and the three counts of the reference report."""
    count, theirs = metrics["parameters"], metrics["reference_network"]["parameters"]
    whose = "of this network, too" if count == theirs else "of its network, built anew here"
    return (
        f"The network has **{count:,} trainable parameters**, the same by formula and counted in "
        f"the built network, of {PARAMETER_LIMIT:,} allowed. The reference report (reference "
        f"report) prints {reference['parameters']:,} in its table: the number {whose}. Elsewhere "
        f"it says {reference['parameters_reported'] / 1e6:.2f} million, and its formula gives "
        f"{reference['parameters_formula']:,}."
    )


def averaging(metrics: dict[str, Any]) -> str:
    """Return a sentence on what averaging views did to the test accuracy."""
    test, tta = metrics["test"], metrics["tta"]
    if not averages_views(metrics):
        return "No average of views was better on the hold-out, so none is used."
    gain, paired = words.points(100 * (test["tta_accuracy"] - test["accuracy"])), tta["mcnemar"]
    chance = "" if paired["p"] < 0.05 else ", which is within chance"
    value = percent(test["tta_accuracy"], test["images"])
    return (
        f"Averaging {recipe.views(tta['views'])} gives {value}: {gain} points{chance} "
        f"({words.p_is(paired['p'])} by McNemar's test (McNemar, 1947))."
    )


def result(metrics: dict[str, Any]) -> str:
    """Return the result in one sentence, as Markdown, a second one for averaged views."""
    test, images = metrics["test"], metrics["test"]["images"]
    low, high = (percent(test[key], images) for key in ("low", "high"))
    scored = as_the_reference(metrics)
    there = f" Normalised as in the reference's notebook: {percent(scored['accuracy'], images)}."
    return (
        f"**Test accuracy: {percent(test['accuracy'], images)}** of {images:,} images, one view of "
        f"each (95% interval {low} to {high}, by Wilson's formula (Wilson, 1927)). "
        f"{averaging(metrics)}{'' if scored is test else there}"
    )


def stale(metrics: dict[str, Any]) -> str:
    """Return, as Markdown, which code changed since the training, or an empty string."""
    files = metrics["train"]["stale"]
    return f"> **Stale: {STALE}**: {', '.join(files)}." if files else ""


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


def which(training: "Training", trained: int) -> str:
    """Return, as Markdown, who did a training: this call (`trained` epochs), another, a release."""
    from bundle.training import outcome

    elsewhere = origin(outcome.of_training(training), training.summary["compute"])
    if elsewhere:  # Markdown is not read within a block of HTML
        told = elsewhere.replace("**", "")
        return f'<div class="alarm">{told} RETRAIN=1 trains here.</div>'
    before, epochs = len(training.history) - trained, words.count(len(training.history), "epoch")
    if not before:
        return f"**Trained here**: {epochs}."
    if trained:
        return f"**Gone on with** after epoch {before} of {epochs}; the state was on disk."
    return f"**Loaded**: {epochs}, trained before on the same parameters and data."


def rounding(train: dict[str, Any]) -> str:
    """Return a sentence on what rounding released weights changed, "" where none were rounded."""
    change = (train.get("released") or {}).get("rounding")
    if not change:
        return ""
    before, after = percent(change["before"]), percent(change["after"])
    return (
        f"The rounding took the test accuracy from {before} to {after}: {change['changed']} of "
        f"{change['images']:,} predictions changed ({change['device']}, {change['precision']})."
    )


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
    begun = f"; {environment['begun_on']}" if environment.get("begun_on") else ""
    rows = {
        "run": f"{words.run(metrics)}, seed {metrics['seed']}",
        "trained at commit": f"{environment['commit'][:12]}{dirty}",
        "data": f"{metrics['dataset']}, SHA-256 {metrics['data_checksum'][:16]}…",
        "device": f"{environment['device'].upper()} ({name}, {capability}){begun}",
        "arithmetic": f"{environment['precision']}, {threads}",
        "software": f"{python}; {', '.join(packages)}",
        "training": length + ("; released" if train.get("released") else ""),
        "weights": f"SHA-256 {train['weights_sha256'][:16]}…",
        "numbers recorded at commit": _recorded(metrics),
    }
    return pd.Series(rows, name="value").rename_axis("what").to_frame()


def pairs_table(metrics: dict[str, Any]) -> pd.DataFrame:
    """Return the five most confused pairs of classes as text: pair, images, share of mistakes."""
    rows = [
        (f"{pair['first']} and {pair['second']}", f"{pair['confusions']:,}", f"{pair['share']:.0%}")
        for pair in metrics["confusion"]["pairs"][:5]
    ]
    return pd.DataFrame(rows, columns=["pair", "images", "of all mistakes"])


def made(metrics: dict[str, Any]) -> str:
    """Return in a sentence when and where the run was trained, and by which code."""
    environment, day = metrics["environment"], metrics["train"]["finished"][:10]
    trained, recorded = environment["commit"][:12], _recorded(metrics)
    return (
        f"Run {words.run(metrics)}, seed {metrics['seed']}: trained at commit {trained} on "
        f"{machine(environment)}, {day}; its numbers were recorded at commit {recorded}."
    )


def folded(summary: str, table: "Styler", note: str = "") -> "HTML":
    """Return a table (a Styler), a note in Markdown above it, in a fold; print leaves it out."""
    import mistune
    from IPython.display import HTML

    inside = f"<summary>{summary}</summary>{mistune.html(note)}{table.to_html()}"
    return HTML(f'<details class="fold">{inside}</details>')


def _recorded(metrics: dict[str, Any]) -> str:
    """Return the commits that the notebooks ran from, each with the notebooks' numbers."""
    commits: dict[str, list[str]] = {}
    for notebook, origin in sorted((metrics.get("provenance") or {}).items()):
        commits.setdefault(origin["commit"][:12], []).append(notebook[:2])
    return "; ".join(
        f"{commit} (notebook{'s' * (len(numbers) > 1)} {', '.join(numbers)})"
        if len(commits) > 1
        else commit
        for commit, numbers in commits.items()
    )
