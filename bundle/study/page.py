"""A study's page: results/studies/PLAN/study.html, its numbers (JSON, LaTeX), figure (SVG, PDF)."""

import base64
import io
import textwrap
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from bundle import files, notebook, paths, words
from bundle.pages.index import BUNDLE, template
from bundle.runs import results
from bundle.study import compare, sentences
from bundle.study.sentences import CAUTION, described, judged, mixed, notice_of, opening
from bundle.words import clock, decimals
from lib import plots, predict
from lib.metrics import p_value

# Of words and of study.sentences, for the template.
FILTERS = ("percent", "points", "decimals", "images", "p_of", "listed", "count", "machine")
Job = Mapping[str, Any]
NOTICE_WIDTH = 110  # characters of a line above the figure
MANY_RUNS = 3  # with more, the views are shown for the bases only
AXIS = "accuracy (%), 95% interval (mean over seeds; Wilson's for one seed)"


def _filter(name: str) -> Callable:
    return getattr(sentences, name, None) or getattr(words, name)


def write_page(collected: dict[str, Any]) -> Path:
    """Write study.html, study.json and, with a job done, study.svg, .pdf, .tex; return the page.

    Args:
        collected: plan, jobs and missing, as from lib.study.collect.
    """
    plan, jobs = collected["plan"], collected["jobs"]
    folder = paths.RESULTS / "studies" / plan["name"]
    folder.mkdir(parents=True, exist_ok=True)
    table, notice = compare.summary(jobs, predictions_of, plan["runs"]), notice_of(plan, jobs)
    files.write_json(folder / "study.json", {**collected, "summary": summarised(table)})
    if jobs:
        title = f"{judged(plan).capitalize()} accuracy of each run"
        figure = plots.study(_bases_first(table), title, AXIS)
        alt, printed = described(table, judged(plan)), notice.removesuffix(f"; {CAUTION}")
        picture = save(figure, folder / "study", alt, printed)
        files.write_atomically(folder / "study.tex", latex(table, plan, notice).encode())
    else:  # those of an earlier state would speak of jobs that are no more
        picture = ""
        for suffix in (".svg", ".pdf", ".tex"):
            (folder / "study").with_suffix(suffix).unlink(missing_ok=True)
    page = folder / "study.html"
    told = {**collected, "bundle": BUNDLE, "notice": notice, "picture": picture}
    told |= {"alt": described(table, judged(plan)), "judged": judged(plan)}
    files.write_atomically(page, _rendered(**told, **_sections(plan, jobs, table)).encode())
    return page


def predictions_of(job: Job) -> dict[str, np.ndarray] | None:
    """Return a job's predictions, labels and index of test images, None where they are not here."""
    path = paths.results(job["run"]) / "study.npz"
    if not path.is_file():
        return None
    with np.load(path) as saved:
        return {name: saved[name] for name in ("predictions", "labels", "index")}


def _rendered(**told: Any) -> str:
    filters = {"clock": clock, **{name: _filter(name) for name in FILTERS}}
    return template("study_page.html.j2", filters).render(**told)


def _sections(plan: Mapping[str, Any], jobs: Sequence[Job], table: pd.DataFrame) -> dict[str, Any]:
    """Return what the template shows below the heading, as plain rows."""
    order, chosen = plan["runs"], jobs
    if len(table) > MANY_RUNS:
        chosen = [job for job in jobs if job["file"] in compare.bases(jobs)]
    audits = compare.audits(jobs, order)
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
    named = set(table["base"])
    first = np.array([not base or run in named for run, base in table["base"].items()], dtype=bool)
    return pd.concat([table[first], table[~first]])


def save(figure: Figure, path: Path, alt: str, notice: str) -> str:
    """Write `path`.svg and .pdf with the notice; return a data URI with the text as outlines."""
    if notice:
        text = textwrap.fill(notice, NOTICE_WIDTH)
        figure.suptitle(text, fontsize=8, color=plots.RED, x=0.995, ha="right")
    with mpl.rc_context(plots.STYLE):
        figure.savefig(path.with_suffix(".pdf"), metadata={"CreationDate": None})
        figure.savefig(path.with_suffix(".svg"), metadata={"Date": None, "Description": alt})
    buffer = io.BytesIO()
    with mpl.rc_context({**plots.STYLE, "svg.fonttype": "path"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return f"data:image/svg+xml;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def latex(table: pd.DataFrame, plan: Mapping[str, Any], notice: str) -> str:
    """Return the main table as LaTeX (booktabs); signs and relations stand in math mode."""
    forms = {
        "run": lambda name: name.replace("_", " "),
        "seeds": len,
        "accuracy, %": in_percent,
        "sd": in_percent,
        "points to base": lambda value: f"${value:+.2f}$",
        "p": lambda value: f"${p_value(value)}$",
    }
    names = {"accuracy": "accuracy, %", "difference": "points to base"}
    shown = table.reset_index().rename(columns=names)
    shown["95% interval"] = [
        f"{in_percent(row.low)} to {in_percent(row.high)}" for row in table.itertuples()
    ]
    shown["base"] = [base.replace("_", " ") or words.NONE for base in table["base"]]
    shown["their interval"] = [
        f"${row.least:+.2f}$ to ${row.most:+.2f}$" if row.least == row.least else words.NONE
        for row in table.itertuples()
    ]
    columns = ["run", "seeds", "accuracy, %", "sd", "95% interval"]
    columns += ["base", "points to base", "their interval", "p", "test"]
    text = notebook.as_text(shown[columns], forms)
    style = text.style.hide(axis="index").format(escape="latex-math")
    style = style.format_index(escape="latex", axis=1)
    caption = f"{plan['title']}: {judged(plan)} accuracy over seeds, sd in points"
    caption += f" ({notice})" if notice else ""
    for character in "&%#_":
        caption = caption.replace(character, rf"\{character}")
    return style.to_latex(
        hrules=True, caption=caption, label="tab:study", position_float="centering"
    )


def in_percent(value: float) -> str:
    """Return a fraction in percent, without the sign."""
    return decimals(100 * value)


def rows(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Return a table's rows for the template."""
    return frame.to_dict("records")


def summarised(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the main table's numbers for study.json, each run beside its base; None for NaN."""
    kept = ["run", "seeds", "accuracy", "sd", "low", "high", "interval"]
    kept += ["base", "difference", "least", "most", "test", "p"]
    return [
        {key: None if value != value else value for key, value in row.items()}
        for row in rows(table.reset_index()[kept])
    ]


def grouped(frame: pd.DataFrame) -> dict[str, list[dict[str, Any]]]:
    """Return the rows of each run, in the table's order."""
    return {name: rows(part) for name, part in frame.groupby("run", sort=False)}
