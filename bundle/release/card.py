"""A release's model card: Markdown with front matter for model hubs. No number is typed here."""

from pathlib import Path
from typing import Any

import yaml

from bundle import paths
from bundle.files import read_json
from bundle.pages.index import BUNDLE
from bundle.report import origin, sentences
from bundle.report.recipe import describe
from bundle.runs import results as runs_results
from bundle.runs.params import RunParameters
from bundle.runs.results import DATASETS
from bundle.training import released, weights
from bundle.training.identity import same_parameters
from bundle.words import clock, markdown
from lib.schedule import phases
from lib.settings import Train, build

Metrics = dict[str, Any]


def write(parameters: RunParameters, folder: Path) -> str:
    """Return the card of the release in `folder`, which holds metrics.json and training/."""
    metrics = runs_results.marked(read_json(folder / "metrics.json"), folder)
    name = parameters.name
    sections = {
        "Data": data(metrics),
        "Network": network(metrics),
        "Training procedure": procedure(metrics),
        "Results": results(parameters, metrics),
        "How to use": use(parameters, metrics, folder / "training"),
        "Limits": limits(metrics),
        "Environment, arithmetic, time": report_table(metrics),
        "Licence": "MIT.",
        "Citation": citation(),
    }
    body = "\n\n".join(f"## {title}\n\n{text}" for title, text in sections.items())
    return (
        f"---\n{front_matter(name, metrics)}---\n\n"
        f"# {name}: {BUNDLE}\n\n{summary(metrics)}\n\n{body}\n"
    )


def front_matter(name: str, metrics: Metrics) -> str:
    """Return the YAML that model hubs read: licence, task, dataset, accuracy."""
    test, dataset = metrics["test"], metrics["dataset"]
    found = [{"type": "accuracy", "name": "Test accuracy, single view", "value": test["accuracy"]}]
    if runs_results.averages_views(metrics):
        title = "Test accuracy, averaged views"
        found.append({"type": "accuracy", "name": title, "value": test["tta_accuracy"]})
    result = {
        "task": {"type": "image-classification", "name": "Image classification"},
        "dataset": {"type": dataset, "name": DATASETS[dataset], "split": "test"},
        "metrics": found,
    }
    told = {
        "license": "mit",
        "library_name": "pytorch",
        "pipeline_tag": "image-classification",
        "tags": ["resnet", "safetensors", "image-classification"],
        "datasets": [dataset],
        "metrics": ["accuracy"],
        "model-index": [{"name": name, "results": [result]}],
    }
    return yaml.safe_dump(told, sort_keys=False)


def summary(metrics: Metrics) -> str:
    """Return what the network is and reaches, and loudly what the run falls short of."""
    warnings = [f"> **Not full CIFAR-10:** {metrics['notice']}."] if metrics["notice"] else []
    if metrics["settings"].get("audit"):
        warnings.append(
            "> **An audit:** the test set was followed during training; its accuracy is no result."
        )
    warnings += [sentences.stale(metrics)] if metrics["train"]["stale"] else []
    text = (
        f"A residual network of {metrics['parameters']:,} parameters that classifies images of "
        f"32x32 pixels; test accuracy {accuracy(metrics['test'])}."
    )
    return "\n\n".join([text, *warnings])


def accuracy(score: dict[str, float], prefix: str = "") -> str:
    """Return an accuracy with its 95% Wilson interval, in words."""
    value, low, high = (score[f"{prefix}{key}"] for key in ("accuracy", "low", "high"))
    return f"{value:.2%} (95% interval {low:.2%} to {high:.2%})"


def data(metrics: Metrics) -> str:
    """Return what was trained on, held out and tested on."""
    seen = metrics["data"]
    return (
        f"{DATASETS[metrics['dataset']]}: trained on {seen['train']:,} images, {seen['holdout']:,} "
        f"held out for choices, judged on {metrics['test']['images']:,} of {seen['test']:,} test "
        f"images. SHA-256 of the data `{metrics['data_checksum']}`. Classes: "
        f"{', '.join(metrics['confusion']['classes'])}."
    )


def network(metrics: Metrics) -> str:
    """Return the network's shape and cost."""
    shape, recipe = metrics["network"], metrics["settings"]
    blocks, widths = (" + ".join(map(str, shape[key])) for key in ("blocks", "widths"))
    return (
        f"{blocks} residual blocks ({recipe.get('block', 'basic')}) of {widths} channels, "
        f"{metrics['parameters']:,} parameters, {metrics['mmac']:.0f} million multiply-accumulates "
        f"an image (stem {recipe.get('stem', 'convolution')}, {recipe.get('activation', 'relu')})."
    )


def procedure(metrics: Metrics) -> str:
    """Return the recipe as a table, a column a phase."""
    stages = phases(build(Train, metrics["settings"], "metrics.json"))
    told = [describe(stage) for stage in stages]
    rows = [[key, *(one[key] for one in told)] for key in told[0]]
    return markdown([["", *(f"phase {stage.number}" for stage in stages)], *rows])


def results(parameters: RunParameters, metrics: Metrics) -> str:
    """Return accuracies with intervals, what rounding changed, and the run's other seeds here."""
    test, views = metrics["test"], metrics["tta"]
    rows = [["test accuracy", "value"], ["single view", accuracy(test)]]
    if runs_results.averages_views(metrics):
        rows.append([f"mean over views: {views['combination']}", accuracy(test, "tta_")])
    if aside := metrics.get("beside"):
        rows.append([f"single view, normalised by '{aside['normalisation']}'", accuracy(aside)])
    rows += [
        [f"single view, seed {seed}, before any rounding", accuracy(score)]
        for seed, score in other_seeds(parameters, metrics)
    ]
    return "\n\n".join(part for part in (markdown(rows), origin.rounding(metrics["train"])) if part)


def other_seeds(parameters: RunParameters, metrics: Metrics) -> list[tuple[int, dict[str, float]]]:
    """Return (seed, test score) of finished runs here that differ by the seed alone."""
    found = {}
    for path in sorted(paths.RESULTS.glob(f"{parameters.file}*/metrics.json")):
        other = read_json(path)
        settings, seed = other.get("settings") or {}, other.get("seed")
        same = same_parameters({**settings, "seed": metrics["seed"]}, metrics["settings"])
        if (
            same
            and "test" in other
            and other["dataset"] == metrics["dataset"]
            and seed != metrics["seed"]
        ):
            found[seed] = other["test"]
    return sorted(found.items())


def use(parameters: RunParameters, metrics: Metrics, training: Path) -> str:
    """Return the Python lines that load the weights and predict, or what can be done without."""
    name = parameters.name
    command = f"`make run-all RUN={parameters.file}`" + (
        " with its SET and SEED" if name != parameters.file else ""
    )
    run_all = f"{command} makes every page, figure and table anew, without training."
    if (training / released.LOGITS).is_file() and not (training / weights.FILE).is_file():
        return (
            f"The weights are not kept; `training/{released.LOGITS}` holds what the network "
            f"predicted. {run_all}"
        )
    if not (training / weights.FILE).is_file():
        return f"The weights are not kept; {command} trains anew."
    path = paths.shown(released.folder(name) / "training" / weights.FILE)
    dataset = "digits" if metrics["dataset"] == "digits" else "cifar10"
    kept = ""
    if (training / released.LOGITS).is_file():
        kept = (
            " It reads the logits that are kept beside the weights "
            f"(`training/{released.LOGITS}`); with `saved_logits: false` under `04_predict_tta` "
            f"in `params/{parameters.file}.yaml` the network predicts."
        )
    return f"""From the bundle's folder:

```python
from bundle.training import weights
from lib import data, predict

network, statistics, classes = weights.read_network("{path}")
pixels = data.load("{dataset}").test.pixels[:5]  # uint8, (N, 3, 32, 32)
logits = predict.logits(network, pixels, statistics)
print([classes[number] for number in logits.argmax(1)])
```

{run_all}{kept}"""


def limits(metrics: Metrics) -> str:
    """Return what the network is not for."""
    return (
        f"It knows the {len(metrics['confusion']['classes'])} classes above, in images of 32x32 "
        "pixels, and answers with one of them whatever it is shown. It was trained and judged on "
        "this dataset only. How it does under a shift (other cameras, corruptions, other crops) "
        "was not measured here; its probabilities are not calibrated. It is a study object, not "
        "for deployment."
    )


def report_table(metrics: Metrics) -> str:
    """Return where and with what it was trained, and where it was judged, as a table."""
    rows = sentences.provenance(metrics)["value"]
    work, seconds = f"some {metrics['train']['tflop']:,.1f} TFLOP", metrics["train"]["seconds"]
    lines = [["", "value"], *([what, value] for what, value in rows.items())]
    lines += [["arithmetic of the training", work], ["time of the training", clock(seconds)]]
    return markdown(lines)


def citation() -> str:
    """Return CITATION.cff as BibTeX."""
    told = yaml.safe_load((paths.ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    authors = " and ".join(
        author.get("name") or f"{author['family-names']}, {author['given-names']}"
        for author in told["authors"]
    )
    fields = {"title": told["title"], "author": f"{{{authors}}}"}
    fields |= {"year": str(told["date-released"])[:4], "version": told["version"]}
    lines = ",\n".join(f"  {key} = {{{value}}}" for key, value in fields.items())
    return f"```bibtex\n@software{{cifar10_under_5m,\n{lines}\n}}\n```"
