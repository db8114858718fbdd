"""results/index.html: one row a run, done here or released, read from the runs' metrics.json."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from bundle import paths
from bundle.files import write_atomically
from bundle.runs import results
from bundle.runs.results import DATASETS, notice_of, readable_metrics
from bundle.words import MISSING, clock, number, percent

BUNDLE = "CIFAR-10 under five million parameters"
TEMPLATE = Path(__file__).resolve().parent / "template"
ACRONYMS = {"tta": "TTA"}
RELEASED = "released/"  # of the folders of results/ that hold released runs


def template(name: str, filters: Mapping[str, Callable] | None = None):
    """Return a page's Jinja template, which escapes what it is given."""
    from jinja2 import Environment, FileSystemLoader  # late: importing pages.publish stays cheap

    environment = Environment(loader=FileSystemLoader(TEMPLATE), autoescape=True)
    environment.filters |= filters or {}
    return environment.get_template(name)


def label(notebook: str) -> str:
    """Return the name of a notebook's page: ``04_predict_tta`` is "4 Predict TTA"."""
    digits, *words = notebook.split("_")
    words[0] = words[0].capitalize()
    return " ".join([str(int(digits)), *(ACRONYMS.get(word, word) for word in words)])


def _row(run: str, metrics: dict[str, Any]) -> dict[str, Any]:
    """Return what the index says about a run, every value ready to be shown."""
    size = number(metrics, "parameters")
    low, high = number(metrics, "test", "low"), number(metrics, "test", "high")
    pages = [path.stem for path in sorted(paths.results(run).glob("[0-9][0-9]_*.html"))]
    report, seconds = paths.results(run) / "report.html", number(metrics, "train", "seconds")
    return {
        "run": run.removeprefix(RELEASED),
        "released": run.startswith(RELEASED),
        "notice": notice_of(metrics),
        "parameters": MISSING if size is None else f"{int(size):,}",
        "accuracy": percent(number(metrics, "test", "accuracy")),
        "interval": MISSING if None in (low, high) else f"{percent(low)[:-1]} to {percent(high)}",
        "tta": _averaged(metrics),
        "time": MISSING if seconds is None else clock(seconds),
        "report": f"{run}/report.html" if report.is_file() else "",
        "pages": [(label(stem), f"{run}/{stem}.html") for stem in pages],
    }


def _averaged(metrics: dict[str, Any]) -> str:
    """Return the accuracy with averaged views, or that none were chosen."""
    if not results.averages_views(metrics):
        return "none chosen"
    return percent(number(metrics, "test", "tta_accuracy"))


def _order(entry: tuple[str, dict[str, Any]]) -> tuple[int, float, str]:
    """Return the sorting key of (run, metrics): dataset as listed, then accuracy, then name."""
    run, metrics = entry
    known, dataset = list(DATASETS), metrics.get("dataset")
    accuracy = number(metrics, "test", "accuracy")
    return known.index(dataset) if dataset in known else len(known), -(accuracy or 0), run


def _beyond() -> list[tuple[str, str]]:
    """Return (label, address) of the pages that are no run's: the claims and the studies."""
    released = sorted(paths.RESULTS.glob("released/studies/*/study.html"))
    studies = [*released, *sorted(paths.RESULTS.glob("studies/*/study.html"))]
    claims = (
        [("The report's claims", "study.html")] if (paths.RESULTS / "study.html").is_file() else []
    )
    return claims + [
        (
            f"Study: {page.parent.name}{' (released)' * (page in released)}",
            page.relative_to(paths.RESULTS).as_posix(),
        )
        for page in studies
    ]


def write_index() -> Path:
    """Write results/index.html over all runs with metrics, the most accurate of each dataset first.

    A released run has a row where it was not done here.
    """
    runs = [path.parent.name for path in paths.RESULTS.glob("*/metrics.json")]
    released = [path.parent.name for path in paths.RESULTS.glob(f"{RELEASED}*/metrics.json")]
    found = {
        run: readable_metrics(run)
        for run in [*runs, *(RELEASED + run for run in released if run not in runs)]
    }
    groups: dict[str, list[dict[str, Any]]] = {}
    for run, metrics in sorted(
        ((run, metrics) for run, metrics in found.items() if metrics), key=_order
    ):
        dataset = str(metrics.get("dataset") or "Dataset not recorded")
        groups.setdefault(DATASETS.get(dataset, dataset), []).append(_row(run, metrics))
    unreadable = sorted(run for run, metrics in found.items() if not metrics)
    page = paths.RESULTS / "index.html"
    page.parent.mkdir(parents=True, exist_ok=True)
    told = {"groups": list(groups.items()), "unreadable": unreadable, "beyond": _beyond()}
    write_atomically(page, template("index_page.html.j2").render(bundle=BUNDLE, **told).encode())
    return page
