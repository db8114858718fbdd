"""results/index.html: the runs done here or released, grouped by recipe, read from metrics.json."""

import json
import math
import statistics
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bundle import paths, words
from bundle.files import intact, read_json, write_atomically
from bundle.runs import graph
from bundle.runs.results import DATASETS, averages_views, notice_of, readable_metrics, reference
from bundle.words import number, percent

if TYPE_CHECKING:
    from jinja2 import Template

BUNDLE = "CIFAR-10 under five million parameters"
TEMPLATE = Path(__file__).resolve().parent / "template"
DEMO = "demo.html"  # the trained network in a page, where `make demo` wrote it
REPORT = "06_report"
RELEASED = "released/"  # of the folders of results/ that hold released runs
CLAIMS = "Fact check of the reference report"
COMPARED = ("cifar10", "cifar10-subset")  # datasets whose accuracies stand beside the reference's
STEPS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2)  # between the ticks of an axis


def template(
    name: str, filters: Mapping[str, Callable] | None = None, folder: Path = TEMPLATE
) -> "Template":
    """Return a page's Jinja template, of `folder` or of here; it escapes what it is given."""
    from jinja2 import Environment, FileSystemLoader  # late: importing pages.publish stays cheap

    environment = Environment(loader=FileSystemLoader([folder, TEMPLATE]), autoescape=True)
    environment.filters |= filters or {}
    return environment.get_template(name)


def label(notebook: str) -> str:
    """Return the name of a notebook's page: ``05_confusion`` is "Mistakes", ``09_new`` is "New"."""
    return "Report (code)" if notebook == REPORT else graph.label(notebook)


def in_order(files: Iterable[Path]) -> list[Path]:
    """Return files of notebooks in the order of reading: by name, the report's after the others."""
    return sorted(files, key=lambda path: (path.stem == REPORT, path.name))


def _row(run: str, metrics: dict[str, Any]) -> dict[str, Any]:
    """Return what the index says about a run, every value ready to be shown."""
    folder, seconds = paths.results(run), number(metrics, "train", "seconds")
    ends = [number(metrics, "test", end) for end in ("accuracy", "low", "high")]
    tta = percent(number(metrics, "test", "tta_accuracy"))
    stems = [path.stem for path in in_order(folder.glob("[0-9][0-9]_*.html")) if intact(path)]
    pages = [(label(stem), f"{run}/{stem}.html") for stem in stems]
    pages += [("Try it", f"{run}/{DEMO}")] if (folder / DEMO).is_file() else []
    report = folder / "report.html"
    return {
        "run": run.removeprefix(RELEASED),
        "released": run.startswith(RELEASED),
        "short": words.notice_in_short(notice_of(metrics)),
        "seed": metrics.get("seed"),
        "value": ends[0],
        "ends": ends[1:] if None not in ends else None,
        "accuracy": percent(ends[0]),
        "interval": words.interval(*ends[1:]),
        "tta": tta if averages_views(metrics) else "not used",
        "time": words.NONE if seconds is None else words.duration(seconds),
        "machine": _machine(metrics.get("environment")),
        "report": f"{run}/report.html" if report.is_file() and intact(report) else "",
        "pages": pages,
    }


def _machine(environment: Any) -> str:
    known = isinstance(environment, dict) and {"device", "threads", "precision"} <= {*environment}
    return words.machine_in_short(environment) if known else ""


def _order(entry: tuple[str, dict[str, Any]]) -> tuple[int, float, str]:
    """Return the sorting key of (run, metrics): dataset as listed, then accuracy, then name."""
    run, metrics = entry
    known, dataset = list(DATASETS), metrics.get("dataset")
    accuracy = number(metrics, "test", "accuracy")
    return known.index(dataset) if dataset in known else len(known), -(accuracy or 0), run


def _recipe(run: str, metrics: dict[str, Any]) -> str:
    """Return what the seeds of one recipe have in common: data and settings, else the run alone."""
    settings = metrics.get("settings")
    if not isinstance(settings, dict):
        return run
    shared = {key: value for key, value in settings.items() if key != "seed"}
    return json.dumps([metrics.get("dataset"), metrics.get("notice"), shared], sort_keys=True)


def in_short(metrics: dict[str, Any]) -> str:
    """Return network and recipe in a line: "4-4-4-3 basic blocks, 4.75 M parameters; SGD, ..."."""
    settings, size = metrics.get("settings"), number(metrics, "parameters")
    parts = [] if size is None else [f"{size / 1e6:.2f} million parameters"]
    if isinstance(settings, dict):
        blocks, kind = settings.get("blocks") or [], settings.get("block", "residual")
        network = [f"{'-'.join(map(str, blocks))} {kind} blocks"] if blocks else []
        parts = [", ".join([*network, *parts])]
        epochs = number(metrics, "train", "epochs")
        optimiser = {"sgd": "SGD", "muon": "Muon"}.get(str(settings.get("optimiser")), "")
        recipe = [optimiser, "" if epochs is None else words.count(int(epochs), "epoch")]
        recipe += [name for key, name in words.MIXING.items() if settings.get(key)]
        parts.append(", ".join(filter(None, recipe)))
    return "; ".join(filter(None, parts))


def _group(entries: Sequence[tuple[str, dict[str, Any]]]) -> dict[str, Any]:
    """Return the runs of one recipe, in the order of their seeds, with what they have in common."""
    rows = [_row(run, metrics) for run, metrics in entries]
    rows.sort(key=lambda row: (not isinstance(row["seed"], int), row["seed"] or 0, row["run"]))
    values = [row["value"] for row in rows if row["value"] is not None]
    several = len(values) > 1
    spread = f"{100 * statistics.stdev(values):.2f}" if several else ""
    mean = f"mean of {len(values)} seeds {statistics.mean(values):.2%}" if several else ""
    told = [in_short(entries[0][1]), f"{mean}, standard deviation {spread} points" if mean else ""]
    return {"told": "; ".join(filter(None, told)), "rows": rows}


def _beyond() -> list[tuple[str, str]]:
    """Return (label, address) of the pages that are no run's: the claims and the studies."""
    claims = [(CLAIMS, "claims.html")]
    judged = paths.RESULTS / "claims.html"
    pages = claims if judged.is_file() and intact(judged) else []
    for folder, suffix in ((f"{RELEASED}studies", " (released)"), ("studies", "")):
        for page in sorted(paths.RESULTS.glob(f"{folder}/*/study.html")):
            if not intact(page) or not intact(page.with_name("study.json")):
                continue
            plan = read_json(page.with_name("study.json")).get("plan")
            title = plan.get("title") if isinstance(plan, dict) else page.parent.name
            address = page.relative_to(paths.RESULTS).as_posix()
            pages = [*pages, (f"Study: {title or page.parent.name}{suffix}", address)]
    return pages


def _runs() -> dict[str, dict[str, Any]]:
    """Return the metrics of the runs here, and of released ones that were not done here."""
    here = [path.parent.name for path in paths.RESULTS.glob("*/metrics.json")]
    released = [path.parent.name for path in paths.RESULTS.glob(f"{RELEASED}*/metrics.json")]
    names = [*here, *(RELEASED + run for run in released if run not in here)]
    left_out = partial(print, "left out of the index:", file=sys.stderr)
    return {run: readable_metrics(run, say=left_out) for run in names}


def _axis(recipes: Sequence[dict[str, Any]], reported: float | None) -> dict[str, Any]:
    """Return a dataset's axis: its ticks, and `place`, which gives an accuracy's in per cent.

    It holds every interval, and what the reference reported where that is comparable.
    """
    ends = [row["ends"] for recipe in recipes for row in recipe["rows"] if row["ends"]]
    shown = [end for pair in ends for end in pair] + ([] if reported is None else [reported])
    low, high = min(shown, default=0.9), max(shown, default=1.0)
    step = next((step for step in STEPS if (high - low) / step <= 4), STEPS[-1])
    first, last = math.floor(low / step), math.ceil(high / step)

    def place(accuracy: float) -> str:
        return f"{100 * (accuracy / step - first) / max(1, last - first):.2f}%"

    return {"place": place, "ticks": [at * step for at in range(first, last + 1)]}


def write_index() -> Path:
    """Write results/index.html over all runs with metrics, the most accurate of each dataset first.

    A released run has a row where it was not done here; the seeds of one recipe stand together.
    """
    runs, groups = _runs(), dict[str, dict[str, list]]()
    for run, metrics in sorted(filter(lambda entry: entry[1], runs.items()), key=_order):
        dataset = str(metrics.get("dataset") or "Dataset not recorded")
        recipes = groups.setdefault(DATASETS.get(dataset, dataset), {})
        recipes.setdefault(_recipe(run, metrics), []).append((run, metrics))
    shown = {dataset: [*map(_group, recipes.values())] for dataset, recipes in groups.items()}
    reported = {DATASETS[name]: reference()["test_accuracy"] for name in COMPARED}
    page = template("index_page.html.j2").render(
        bundle=BUNDLE,
        groups=[
            (dataset, recipes, _axis(recipes, reported.get(dataset)), reported.get(dataset))
            for dataset, recipes in shown.items()
        ],
        unreadable=sorted(run for run, metrics in runs.items() if not metrics),
        beyond=_beyond(),
    )
    path = paths.RESULTS / "index.html"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, page.encode())
    return path
