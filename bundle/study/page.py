"""A study's page: results/studies/PLAN/study.html, its numbers (JSON, LaTeX), figure (SVG, PDF)."""

import base64
import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from bundle import figures, files, paths, words
from bundle.pages.index import BUNDLE, template
from bundle.runs import results
from bundle.study import compare
from bundle.study.figure import study as draw
from bundle.study.sentences import CAUTION, described, judged, mixed, notice_of, opening
from bundle.words import decimals
from lib import plots, predict
from lib.metrics import p_value

FILTERS = ("percent", "interval", "points", "decimals", "images", "p_value", "listed", "count")
FILTERS += ("machine", "clock")  # of bundle.words, for the template
Job = Mapping[str, Any]
MANY_RUNS = 3  # with more, the views are shown for the bases only
TITLE = "accuracy of each run"
AXIS = "accuracy (%), 95% interval (mean over seeds; Wilson's for one seed)"


def write_page(collected: dict[str, Any]) -> Path:
    """Write study.html, study.json and, with a job done, study.svg, .pdf, .tex; return the page.

    `collected` holds plan, jobs and missing, as study.jobs.collect returns them.
    """
    plan, jobs = collected["plan"], collected["jobs"]
    folder = paths.RESULTS / "studies" / plan["name"]
    folder.mkdir(parents=True, exist_ok=True)
    table, notice = compare.summary(jobs, predictions_of, plan["runs"]), notice_of(plan, jobs)
    files.write_json(folder / "study.json", {**collected, "summary": summarised(table)})
    shown = {**collected, "bundle": BUNDLE, "notice": notice, "judged": judged(plan)}
    shown |= {"picture": "", "alt": described(table, judged(plan))}
    if jobs:
        figure = draw(_bases_first(table), f"{judged(plan).capitalize()} {TITLE}", AXIS)
        printed = notice.removesuffix(f"; {CAUTION}")
        shown["picture"] = save(figure, folder / "study", shown["alt"], printed)
        files.write_atomically(folder / "study.tex", latex(table, plan, notice).encode())
    else:  # those of an earlier state would speak of jobs that are no more
        for suffix in (".svg", ".pdf", ".tex"):
            (folder / "study").with_suffix(suffix).unlink(missing_ok=True)
    page = template("study_page.html.j2", {name: getattr(words, name) for name in FILTERS})
    html = page.render(**shown, **_sections(plan, jobs, table))
    files.write_atomically(folder / "study.html", html.encode())
    return folder / "study.html"


def predictions_of(job: Job) -> dict[str, np.ndarray] | None:
    """Return a job's predictions, labels and index of test images, None where they are not here."""
    path = paths.results(job["run"]) / "study.npz"
    if not path.is_file():
        return None
    with np.load(path) as saved:
        return {name: saved[name] for name in ("predictions", "labels", "index")}


def _sections(plan: Mapping[str, Any], jobs: Sequence[Job], table: pd.DataFrame) -> dict[str, Any]:
    """Return what the template shows below the heading, as plain rows."""
    order, audits = plan["runs"], compare.audits(jobs, plan["runs"])
    bases = compare.bases(jobs) if len(table) > MANY_RUNS else set(table.index)
    chosen = [job for job in jobs if job["file"] in bases]
    return {
        "opening": opening(plan, jobs, table),
        "warnings": mixed(jobs),
        "table": rows(table.reset_index()),
        "by_file": compare.by_run(jobs, order),
        "views": grouped(compare.views(chosen, order)),
        "views_of_bases": len(chosen) < len(jobs),
        "parts_of": predict.COMBINATIONS,
        "beside": rows(compare.beside(jobs, order)),
        "stale": results.STALE,
        "reported": results.reference()["test_accuracy"],
        "limit": results.reference()["parameter_limit"],
        "audits": rows(audits),
        "bias": audits.groupby("phase")["bias"].mean().to_dict(),
        "changes": grouped(compare.changes(jobs, order)),
    }


def _bases_first(table: pd.DataFrame) -> pd.DataFrame:
    first = (table["base"] == "") | table.index.isin(table["base"])
    return pd.concat([table[first], table[~first]])


def save(figure: Figure, path: Path, alt: str, notice: str) -> str:
    """Write `path`.svg and .pdf with the notice; return a data URI with the text as outlines."""
    figures.save(figure, path, alt, notice)
    buffer = io.BytesIO()
    with mpl.rc_context({**plots.style(), "svg.fonttype": "path"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return f"data:image/svg+xml;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def latex(table: pd.DataFrame, plan: Mapping[str, Any], notice: str) -> str:
    """Return the main table as LaTeX (booktabs); signs and relations stand in math mode."""
    names = ["run", "seeds", "accuracy, %", "sd", "95% interval"]
    names += ["base", "points to base", "their interval", "p", "test"]
    frame = pd.DataFrame([_cells(row) for _, row in table.reset_index().iterrows()], columns=names)
    style = frame.style.hide(axis="index").format(escape="latex-math")
    style = style.format_index(escape="latex", axis=1)
    caption = f"{plan['title']}: {judged(plan)} accuracy over seeds, sd in points"
    caption += f" ({notice})" if notice else ""
    for character in "&%#_":
        caption = caption.replace(character, rf"\{character}")
    return style.to_latex(
        hrules=True, caption=caption, label="tab:study", position_float="centering"
    )


def _cells(row: pd.Series) -> list[Any]:
    """Return the cells of a run's row in the LaTeX table."""
    mean, sd, low, high = (decimals(100 * row[key]) for key in ("accuracy", "sd", "low", "high"))
    size, least, most = (_math(row[key]) for key in ("difference", "least", "most"))
    run, base = (row[key].replace("_", " ") for key in ("run", "base"))
    theirs = words.NONE if least == words.NONE else f"{least} to {most}"
    cells = [run, len(row["seeds"]), mean, sd, f"{low} to {high}"]
    return [*cells, base or words.NONE, size, theirs, _math(row["p"], p_value), row["test"]]


def _math(value: float, form: Callable[[float], str] = "{:+.2f}".format) -> str:
    return f"${form(value)}$" if value == value else words.NONE


def rows(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Return a table's rows for the template."""
    return frame.to_dict("records")


def summarised(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the main table's numbers for study.json, each run beside its base; None for NaN."""
    kept = ["run", "seeds", "accuracy", "sd", "low", "high", "interval"]
    kept += ["base", "difference", "least", "most", "test", "p"]
    frame = table.reset_index()[kept].astype(object)
    return rows(frame.where(frame.notna(), None))


def grouped(frame: pd.DataFrame) -> dict[str, list[dict[str, Any]]]:
    """Return the rows of each run, in the table's order."""
    return {name: rows(part) for name, part in frame.groupby("run", sort=False)}
