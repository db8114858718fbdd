"""A release's model card: Markdown with front matter for model hubs. No number is typed here."""

from pathlib import Path
from typing import Any

import yaml

from bundle import paths, words
from bundle.checks import build
from bundle.files import read_json
from bundle.pages.index import BUNDLE
from bundle.release import pages
from bundle.report import recipe, seeds, sentences, shift
from bundle.runs.params import RunParameters
from bundle.runs.results import DATASETS, averages_views, marked
from bundle.training import released, weights
from lib.schedule import phases
from lib.settings import Train

Metrics = dict[str, Any]
LOGITS_ALONE = (
    f"The weights are not part of this release; `training/{released.LOGITS}` holds the logits, "
    "what the network said of each test image. Notebooks `07_robustness` and `08_deploy` need the "
    "weights."
)
FIGURES = ("report_curves", "report_confusion", "report_anchors")  # those that a card shows


def write(parameters: RunParameters, folder: Path) -> str:
    """Return the card of the release in `folder`, which holds metrics.json and training/."""
    metrics = marked(read_json(folder / "metrics.json"), folder)
    name = parameters.name
    sections = {
        "Data": data(metrics),
        "Network": network(metrics),
        "Training procedure": procedure(metrics),
        "Results": results(metrics),
        "Figures": figures(folder),
        "How to use": use(parameters, metrics, folder / "training"),
        "Limits": limits(metrics),
        "Environment, arithmetic, time": environment(metrics),
        "Licence": "MIT.",
        "Citation": citation(),
    }
    told = {title: text for title, text in sections.items() if text}
    body = "\n\n".join(f"## {title}\n\n{text}" for title, text in told.items())
    return (
        f"---\n{front_matter(name, metrics, folder)}---\n\n"
        f"# {name}: {BUNDLE}\n\n{summary(metrics)}\n\n{report(folder)}\n\n{body}\n"
    )


def front_matter(name: str, metrics: Metrics, folder: Path) -> str:
    """Return the YAML that model hubs read: licence, task, dataset, accuracy."""
    dataset, views = metrics["dataset"], {"Test accuracy, single view": "accuracy"}
    if averages_views(metrics):
        views["Test accuracy, averaged views"] = "tta_accuracy"
    result = {
        "task": {"type": "image-classification", "name": "Image classification"},
        "dataset": {"type": dataset, "name": DATASETS[dataset], "split": "test"},
        "metrics": [
            {"type": "accuracy", "name": view, "value": metrics["test"][key]}
            for view, key in views.items()
        ],
    }
    kept = ["safetensors"] * (folder / "training" / weights.FILE).is_file()
    header = {
        "license": "mit",
        "library_name": "pytorch",
        "pipeline_tag": "image-classification",
        "tags": ["resnet", *kept, "image-classification"],
        "datasets": [dataset],
        "metrics": ["accuracy"],
        "model-index": [{"name": name, "results": [result]}],
    }
    return yaml.safe_dump(header, sort_keys=False)


def summary(metrics: Metrics) -> str:
    """Return what the network is and reaches, and loudly what the run falls short of."""
    text = (
        f"A residual network of {metrics['parameters']:,} parameters that classifies images of "
        f"32x32 pixels; test accuracy, with its 95% interval, {words.accuracy(metrics['test'])}."
    )
    warnings = [f"> **Not full CIFAR-10:** {metrics['notice']}."] if metrics["notice"] else []
    if metrics["settings"].get("audit"):
        followed = "the test set was followed during training; its accuracy is no result."
        warnings.append(f"> **An audit:** {followed}")
    return "\n\n".join(filter(None, [text, *warnings, sentences.stale(metrics)]))


def data(metrics: Metrics) -> str:
    """Return what was trained on, held out and tested on."""
    seen = metrics["data"]
    held = f"{seen['holdout']:,} held out for choices" if seen["holdout"] else "none held out"
    return (
        f"{DATASETS[metrics['dataset']]}: trained on {seen['train']:,} images, {held}, judged "
        f"on {metrics['test']['images']:,} of {seen['test']:,} test images. "
        f"SHA-256 of the data `{metrics['data_checksum']}`. Classes: "
        f"{', '.join(metrics['confusion']['classes'])}."
    )


def network(metrics: Metrics) -> str:
    """Return the network from stem to classifier, its shape and cost."""
    told = sentences.network(metrics)
    shape = metrics["network"]
    blocks, widths = (" + ".join(map(str, shape[key])) for key in ("blocks", "widths"))
    return (
        f"{told[0].upper()}{told[1:]}. {blocks} residual blocks of {widths} channels, "
        f"{metrics['parameters']:,} parameters, {metrics['mmac']:.0f} million multiply-accumulates "
        "an image."
    )


def procedure(metrics: Metrics) -> str:
    """Return the recipe as a table, a column a phase; what no phase does is left out."""
    stages = phases(build(Train, metrics["settings"], "metrics.json"))
    columns = [recipe.describe(stage) for stage in stages]
    rows = [[name, *(column[name] for column in columns)] for name in columns[0]]
    rows = [row for row in rows if set(row[1:]) != {"none"}]
    return words.markdown([["", *(f"phase {stage.number}" for stage in stages)], *rows])


def results(metrics: Metrics) -> str:
    """Return accuracies with intervals, what rounding changed, and the run's other seeds here."""
    test, views = metrics["test"], metrics["tta"]
    rows = {"single view": words.accuracy(test)}
    if averages_views(metrics):
        rows[f"averaged over {recipe.views(views['views'])}"] = words.accuracy(test, "tta_")
    if aside := metrics.get("beside"):
        name = f"single view, input divided by {words.divisor(aside['normalisation'])}"
        rows[name] = words.accuracy(aside)
    known = seeds.seeds_of(metrics)
    for seed, other in known.items():
        if seed != metrics["seed"]:
            rows[f"single view, seed {seed}{_unrounded(metrics, other)}"] = words.accuracy(
                other["test"]
            )
    if len(known) > 1:
        rows[f"single view, mean over {len(known)} seeds"] = seeds.mean(known)
    table = words.markdown([["test accuracy", "value (95% interval)"], *rows.items()])
    return "\n\n".join(filter(None, [table, sentences.rounding(metrics["train"])]))


def _unrounded(metrics: Metrics, other: Metrics) -> str:
    """Return what sets another seed's accuracy apart from one measured with rounded weights."""
    rounded = [bool(one["train"].get("released")) for one in (metrics, other)]
    return ", before any rounding" if rounded == [True, False] else ""


def figures(folder: Path) -> str:
    """Return the release's main figures as Markdown, each as a link to its PDF."""
    shown = []
    for name in FIGURES:
        figure = folder / "figures" / f"{name}.svg"
        if figure.is_file():
            alt = pages.described(figure) or name.replace("_", " ")
            alt = alt.replace("[", "(").replace("]", ")")
            shown.append(f"[![{alt}](figures/{name}.svg)](figures/{name}.pdf)")
    return "\n\n".join(shown)


def report(folder: Path) -> str:
    """Return the sentence that leads to the report, as PDF where it was printed, or its lack."""
    if not (folder / pages.PAGE).is_file():
        return "Released as a record: the numbers, without a report and its figures."
    printed = "[PDF](report.pdf), " if (folder / "report.pdf").is_file() else ""
    return f"The report of this run: {printed}[HTML](report.html) (download it to read it)."


def use(parameters: RunParameters, metrics: Metrics, training: Path) -> str:
    """Return the Python lines that load the weights and predict, or what can be done without."""
    kept, logits = (training / weights.FILE).is_file(), (training / released.LOGITS).is_file()
    changed = parameters.name != parameters.file
    command = f"`make run-all RUN={parameters.file}`{' with its SET and SEED' * changed}"
    run_all = f"{command} makes every page, figure and table anew, without training."
    if not kept and not logits:
        return f"The weights are not kept; {command} trains anew."
    if not kept:
        return f"{LOGITS_ALONE} {command} makes all that follows from them anew, without training."
    if logits:
        run_all += (
            " It reads the logits that are kept beside the weights "
            f"(`training/{released.LOGITS}`); with `saved_logits: false` under `04_predict_tta` "
            f"in `params/{parameters.file}.yaml` the network predicts."
        )
    path = paths.shown(released.folder(parameters.name) / "training" / weights.FILE)
    dataset = "digits" if metrics["dataset"] == "digits" else "cifar10"
    return f"""From the bundle's folder:

```python
from bundle.dataset import cifar10
from bundle.training import weights
from lib import predict

network, statistics, classes = weights.read_network("{path}")
pixels = cifar10.load("{dataset}").test.pixels[:5]  # uint8, (N, 3, 32, 32)
logits = predict.logits(network, pixels, statistics)
print([classes[number] for number in logits.argmax(1)])
```

{run_all}"""


def limits(metrics: Metrics) -> str:
    """Return what the network is not for."""
    found = metrics.get("calibration")
    sure = "how well its probabilities are calibrated was not measured"
    if found:
        sure = f"the expected calibration error of its probabilities is {found['ece']:.1%}"
    return (
        f"It knows the {len(metrics['confusion']['classes'])} classes above, in images of 32x32 "
        "pixels, and answers with one of them whatever it is shown. It was trained and judged on "
        f"this dataset only. {shifted(metrics)}; {sure}. It is a study object, not for deployment."
    )


def shifted(metrics: Metrics) -> str:
    """Return how the network does under a shift, as far as it was measured; without a full stop."""
    if record := metrics.get("robustness"):
        told = shift.in_short(record).replace("**", "").rstrip(".")
        return f"{told}. Other cameras and other crops were not measured"
    unknown = "How it does under a shift (other cameras, corruptions, other crops)"
    return f"{unknown} was not measured here"


def environment(metrics: Metrics) -> str:
    """Return where and with what it was trained, and where it was judged, as a table."""
    train = metrics["train"]
    rows = {
        **sentences.provenance(metrics)["value"],
        "arithmetic of the training": f"some {train['tflop']:,.1f} TFLOP",
        "time of the training": words.clock(train["seconds"]),
    }
    return words.markdown([["", "value"], *rows.items()])


def citation() -> str:
    """Return CITATION.cff as BibTeX."""
    cited = yaml.safe_load((paths.ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    authors = " and ".join(
        author.get("name") or f"{author['family-names']}, {author['given-names']}"
        for author in cited["authors"]
    )
    fields = {"title": cited["title"], "author": f"{{{authors}}}"}
    fields |= {"year": str(cited["date-released"])[:4], "version": cited["version"]}
    lines = ",\n".join(f"  {key} = {{{value}}}" for key, value in fields.items())
    return f"```bibtex\n@software{{cifar10_under_5m,\n{lines}\n}}\n```"
