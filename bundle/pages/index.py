"""results/index.html: one row a run, done here or released, read from the runs' metrics.json."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from bundle import paths, words
from bundle.files import write_atomically
from bundle.runs.results import DATASETS, averages_views, notice_of, readable_metrics
from bundle.words import number, percent

BUNDLE = "CIFAR-10 under five million parameters"
TEMPLATE = Path(__file__).resolve().parent / "template"
LABELS = {
    "01_explore_data": "Data",
    "02_build_model": "Network",
    "03_train": "Training",
    "04_predict_tta": "Prediction",
    "05_confusion": "Mistakes",
    "06_report": "Report (code)",
}
RELEASED = "released/"  # of the folders of results/ that hold released runs


def template(name: str, filters: Mapping[str, Callable] | None = None):
    """Return a page's Jinja template, which escapes what it is given."""
    from jinja2 import Environment, FileSystemLoader  # late: importing pages.publish stays cheap

    environment = Environment(loader=FileSystemLoader(TEMPLATE), autoescape=True)
    environment.filters |= filters or {}
    return environment.get_template(name)


def label(notebook: str) -> str:
    """Return the name of a notebook's page: ``05_confusion`` is "Mistakes", ``07_new`` is "New"."""
    name = notebook.partition("_")[2].replace("_", " ")
    return LABELS.get(notebook) or name.capitalize()


def _row(run: str, metrics: dict[str, Any]) -> dict[str, Any]:
    """Return what the index says about a run, every value ready to be shown."""
    folder, size = paths.results(run), number(metrics, "parameters")
    seconds = number(metrics, "train", "seconds")
    tta = percent(number(metrics, "test", "tta_accuracy"))
    pages = [path.stem for path in sorted(folder.glob("[0-9][0-9]_*.html"))]
    return {
        "run": run.removeprefix(RELEASED),
        "released": run.startswith(RELEASED),
        "notice": notice_of(metrics),
        "parameters": words.NONE if size is None else f"{int(size):,}",
        "accuracy": percent(number(metrics, "test", "accuracy")),
        "interval": words.interval(*(number(metrics, "test", end) for end in ("low", "high"))),
        "tta": tta if averages_views(metrics) else "none chosen",
        "time": words.NONE if seconds is None else words.clock(seconds),
        "report": f"{run}/report.html" if (folder / "report.html").is_file() else "",
        "pages": [(label(stem), f"{run}/{stem}.html") for stem in pages],
    }


def _order(entry: tuple[str, dict[str, Any]]) -> tuple[int, float, str]:
    """Return the sorting key of (run, metrics): dataset as listed, then accuracy, then name."""
    run, metrics = entry
    known, dataset = list(DATASETS), metrics.get("dataset")
    accuracy = number(metrics, "test", "accuracy")
    return known.index(dataset) if dataset in known else len(known), -(accuracy or 0), run


def _beyond() -> list[tuple[str, str]]:
    """Return (label, address) of the pages that are no run's: the claims and the studies."""
    claims = [("Fact check of the reference report", "claims.html")]
    pages = claims if (paths.RESULTS / "claims.html").is_file() else []
    for folder, suffix in ((f"{RELEASED}studies", " (released)"), ("studies", "")):
        for page in sorted(paths.RESULTS.glob(f"{folder}/*/study.html")):
            address = page.relative_to(paths.RESULTS).as_posix()
            pages = [*pages, (f"Study: {page.parent.name}{suffix}", address)]
    return pages


def _runs() -> dict[str, dict[str, Any]]:
    """Return the metrics of the runs here, and of released ones that were not done here."""
    here = [path.parent.name for path in paths.RESULTS.glob("*/metrics.json")]
    released = [path.parent.name for path in paths.RESULTS.glob(f"{RELEASED}*/metrics.json")]
    names = [*here, *(RELEASED + run for run in released if run not in here)]
    return {run: readable_metrics(run) for run in names}


def write_index() -> Path:
    """Write results/index.html over all runs with metrics, the most accurate of each dataset first.

    A released run has a row where it was not done here.
    """
    runs = _runs()
    groups: dict[str, list[dict[str, Any]]] = {}
    for run, metrics in sorted(filter(lambda entry: entry[1], runs.items()), key=_order):
        dataset = str(metrics.get("dataset") or "Dataset not recorded")
        groups.setdefault(DATASETS.get(dataset, dataset), []).append(_row(run, metrics))
    page = template("index_page.html.j2").render(
        bundle=BUNDLE,
        groups=list(groups.items()),
        unreadable=sorted(run for run, metrics in runs.items() if not metrics),
        beyond=_beyond(),
    )
    path = paths.RESULTS / "index.html"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, page.encode())
    return path
