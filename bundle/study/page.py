"""A study's page: results/studies/PLAN/study.html, its numbers (JSON, LaTeX), figure (SVG, PDF)."""

import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from bundle import figures, files, fingerprint, paths, words
from bundle.pages import shapes
from bundle.pages.index import BUNDLE, TEMPLATE, template
from bundle.runs import params, results
from bundle.study import compare, figure, followed, sentences
from bundle.study.sentences import judged
from bundle.words import count, decimals
from lib.metrics import p_value

# Of bundle.words, for the template.
# fmt: off
FILTERS = (
    "percent", "interval", "points", "decimals", "images", "p_value", "listed", "count", "clock",
    "divisor",
)
# fmt: on
Job = Mapping[str, Any]
MANY_RUNS = 3  # with more, the views are shown for the bases only
AXIS = "accuracy (%), 95% interval (mean over seeds; Wilson's for one seed)"


def write_page(collected: dict[str, Any]) -> Path:
    """Write study.html, study.json and, with a job done, study.svg, .pdf, .tex; return the page.

    `collected` holds plan, jobs and missing, as study.jobs.collect returns them.
    """
    folder = paths.RESULTS / "studies" / collected["plan"]["name"]
    folder.mkdir(parents=True, exist_ok=True)
    table = compare.summary(collected["jobs"], predictions_of, collected["plan"]["runs"])
    files.write_json(folder / "study.json", {**collected, "summary": summarised(table)})
    claims = [("Fact check", "../../claims.html")] * (paths.RESULTS / "claims.html").is_file()
    page = show(collected, table, folder, [("All runs", "../../index.html"), *claims])
    files.seal(folder, *(path.name for path in folder.glob("study*.*")))
    return page


def write_again(folder: Path) -> Path:
    """Write the page, figures and table of a study from its study.json, which stays as it is.

    A test that took the predictions is shown as recorded, or left out by a record without it. The
    page leads to no other: a release holds none.
    """
    record = files.read_json(folder / "study.json")
    table = compare.summary(record["jobs"], lambda job: None, record["plan"]["runs"])
    return show(record, compare.with_record(table, record.get("summary", ())), folder)


def show(
    collected: Mapping[str, Any],
    table: pd.DataFrame,
    folder: Path,
    beyond: Sequence[tuple[str, str]] = (),
) -> Path:
    """Write a study's page, figures, LaTeX table into `folder`; return the page. beyond: links."""
    plan, jobs = collected["plan"], collected["jobs"]
    about = {"bundle": BUNDLE, "judged": judged(plan), "picture": "", "beyond": beyond}
    shown = {**collected, **about, "fingerprint": rendered_by(plan)}
    shown["alt"] = sentences.described(compare.ranked(table) if jobs else table, judged(plan))
    if jobs:
        notice = sentences.notice_of(plan, jobs)
        shown["picture"] = _save(table, plan, folder / "study", shown["alt"], notice)
        files.write_atomically(folder / "study.tex", latex(table, plan, notice).encode())
    else:  # those of an earlier state would speak of jobs that are no more
        figures.remove(folder / "study")
    filters = {name: getattr(words, name) for name in FILTERS} | {"so_far": sentences.so_far}
    shown["followed"] = followed.shown([*jobs, *collected.get("unfinished", ())], folder)
    html = template("study_page.html.j2", filters).render(**shown, **_sections(plan, jobs, table))
    files.write_atomically(folder / "study.html", shapes.share(html).encode())
    return folder / "study.html"


def rendered_by(plan: Mapping[str, Any]) -> str:
    """Return the digest of what a page's words and figure come from; its style is none of it.

    The code of this room and what it calls, the template, and what the runs' files say of them.
    """
    code = fingerprint.reached(
        [("bundle.study.page", "show")],
        lambda module: module.startswith(("bundle.study.", "bundle.words", "bundle.figures")),
        through=lambda module: module.startswith("bundle."),
    )
    told = [params.change(run) for run in plan["runs"]]
    template_digest = fingerprint.of_file(TEMPLATE / "study_page.html.j2")
    return fingerprint.of_value([code, template_digest, told])[:16]


def predictions_of(job: Job) -> dict[str, np.ndarray] | None:
    """Return a job's predictions, labels and index of test images, None where they are not here."""
    path = paths.results(job["run"]) / "study.npz"
    if not path.is_file():
        return None
    with np.load(io.BytesIO(files.read_sealed(path))) as saved:
        return {name: saved[name] for name in ("predictions", "labels", "index")}


def _sections(plan: Mapping[str, Any], jobs: Sequence[Job], table: pd.DataFrame) -> dict[str, Any]:
    """Return what the template shows below the heading, as plain rows."""
    order, audits = plan["runs"], compare.audits(jobs, plan["runs"])
    bases = compare.bases(jobs) if len(table) > MANY_RUNS else set(table.index)
    chosen = [job for job in jobs if job["file"] in bases]
    return {
        "opening": sentences.opening(plan, jobs, table),
        "done": sentences.done(plan, jobs, table) if jobs else "",
        "box": sentences.box(plan, jobs),
        "tests": sentences.tests(plan, table) if jobs else "",
        "warnings": sentences.warnings(plan, jobs),
        "groups": groups(table, jobs),
        "tested": bool(table["p"].notna().any()),
        "views": grouped(compare.views(chosen, order)),
        "views_of_bases": len(chosen) < len(jobs),
        "combinations": sentences.COMBINATIONS,
        "beside": rows(compare.beside(jobs, order)),
        "stale": results.STALE,
        "reported": results.reference()["test_accuracy"],
        "audits": rows(audits),
        "bias": sentences.bias(audits) if len(audits) else "",
        "changes": grouped(compare.changes(jobs, order)),
        "label": sentences.label,
        "provenance": provenance(jobs, order),
    }


def groups(table: pd.DataFrame, jobs: Sequence[Job]) -> list[dict[str, Any]]:
    """Return the main table base by base: the base, its rows from the best to the worst.

    A row has what `compare.summary` gives and `change` (in words), `drawn` (its difference and
    interval as shares of a cell's width) and `marks` (what sets it apart). Runs without a base that
    are no base themselves, or whose base is not done, stand alone.
    """
    ranked = compare.ranked(table)
    alone = [name for name in table.index if name not in {*ranked.index, *ranked["base"]}]
    spans = ranked[["difference", "least", "most"]].fillna(0.0)
    ends = min([0.0, *spans.min()]), max([0.0, *spans.max()])
    found: list[dict[str, Any]] = []
    if alone:
        found.append({"base": None, "rows": _rows(table.loc[alone], jobs, *ends)})
    for base, part in ranked.groupby("base", sort=False):
        (head,) = _rows(table.loc[[base]], jobs, *ends)
        found.append({"base": head, "rows": _rows(part, jobs, *ends)})
    return found


def _rows(
    table: pd.DataFrame, jobs: Sequence[Job], low: float, high: float
) -> list[dict[str, Any]]:
    first = {job["file"]: job for job in reversed(jobs)}
    return [
        {
            **row,
            "change": _phrase(params.change(row["run"], row["base"])),
            "drawn": _drawn(row, low, (high - low) or 1.0),
            "marks": _marks(first[row["run"]], first.get(row["base"]), row),
        }
        for row in rows(table.reset_index())
    ]


def _phrase(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}"


def _drawn(row: Mapping[str, Any], low: float, width: float) -> dict[str, Any]:
    """Return zero, difference and the ends of its interval as percent of a cell's width."""
    keys = {"zero": 0.0, "size": row["difference"], "least": row["least"], "most": row["most"]}
    places = {key: round(100 * (value - low) / width, 1) for key, value in keys.items()}
    clear = row["holm"] < sentences.SIGNIFICANT and not row["audit"]
    places["kind"] = "unclear" if not clear else "helps" if row["difference"] > 0 else "hurts"
    return places


def _marks(job: Job, base: Job | None, row: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return what must be known of a run beside its numbers: (class, text)."""
    limit, size = results.reference()["parameter_limit"], job["parameters"]
    untested = row["test"].startswith("none:") and row["test"] != compare.NO_PREDICTIONS
    other = row["paired"] == row["paired"] and abs(row["paired"] - row["difference"]) >= 0.005
    resized = base is not None and size != base["parameters"]
    marks = {
        f"its base, {row['base']}, is not done yet": bool(row["base"]) and base is None,
        row["test"].replace("none:", "no test:"): untested,
        f"{words.points(row['paired'])} points on the seed that was tested": other,
        f"{size:,} parameters": resized and size <= limit,
    }
    loud = {
        "an audit: it followed the test set, never a headline": row["audit"],
        f"{size:,} parameters, beyond the limit: for comparison only": size > limit,
    }
    told = [("warned", text) for text, holds in loud.items() if holds]
    return told + [("quiet", text) for text, holds in marks.items() if holds]


def provenance(jobs: Sequence[Job], order: Sequence[str]) -> dict[str, Any]:
    """Return where numbers come from: what all jobs share, once, and the columns that differ."""
    told = [(job, _origin(job)) for group in compare.by_run(jobs, order).values() for job in group]
    names = [*told[0][1]] if told else []
    same = [name for name in names if len({origin[name] for _, origin in told}) == 1]
    differ = [name for name in names if name not in same]
    return {
        "same": {name: told[0][1][name] for name in same},
        "columns": differ,
        "rows": [(job, [origin[name] for name in differ]) for job, origin in told],
        "note": sentences.local_changes(jobs),
    }


def _origin(job: Job) -> dict[str, str]:
    train, environment = job["train"], job["environment"]
    commit = (environment["commit"] or words.NONE)[:10]
    return {
        "Data": str(job["notice"] or results.DATASETS.get(job["dataset"], job["dataset"])),
        "Training": f"{count(train['epochs'], 'epoch')} of {train['images']:,} images",
        "Computed on": words.machine(environment),
        "Commit": commit + " with local changes" * bool(environment["dirty"]),
        "Parameters": f"{job['parameters']:,}",
    }


def _save(table: pd.DataFrame, plan: Mapping[str, Any], path: Path, alt: str, notice: str) -> str:
    """Write the figure as SVG and PDF; return it as HTML, with a variant for narrow pages."""
    wide, narrow = (_draw(table, plan, small) for small in (False, True))
    figures.alarm((wide, narrow), notice)
    picture = figures.html(wide, alt, "study", narrow)  # on the page the box says a rehearsal
    figures.save(wide, path, alt, notice)
    return picture


def _draw(table: pd.DataFrame, plan: Mapping[str, Any], narrow: bool) -> Figure:
    """Return the differences to the bases or, where nothing is compared, the accuracies."""
    ranked, kind = compare.ranked(table), judged(plan)
    if ranked.empty:
        return figure.study(table, f"{kind.capitalize()} accuracy of each run", AXIS)
    several = ranked["base"].nunique() > 1
    labels = [
        _phrase(sentences.label(name, base)) + f" (against {base})" * several
        for name, base in ranked["base"].items()
    ]
    return figure.forest(ranked, labels, f"What each change does to {kind} accuracy", narrow)


def latex(table: pd.DataFrame, plan: Mapping[str, Any], notice: str) -> str:
    """Return the main table as LaTeX (booktabs); signs and relations stand in math mode."""
    names = ["run", "seeds", "accuracy, %", "sd", "95% interval"]
    names += ["base", "points to base", "their interval", "p (Holm)", "test"]
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
    return [*cells, base or words.NONE, size, theirs, _math(row["holm"], p_value), row["test"]]


def _math(value: float, form: Callable[[float], str] = "{:+.2f}".format) -> str:
    return f"${form(value)}$" if value == value else words.NONE


def rows(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Return a table's rows for the template."""
    return frame.to_dict("records")


def summarised(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the main table's numbers for study.json, each run beside its base; None for NaN."""
    kept = ["run", "seeds", "accuracy", "sd", "low", "high", "interval"]
    kept += ["base", "difference", "least", "most", "paired", "test", "p", "holm"]
    frame = table.reset_index()[kept].astype(object)
    return rows(frame.where(frame.notna(), None))


def grouped(frame: pd.DataFrame) -> dict[str, list[dict[str, Any]]]:
    """Return the rows of each run, in the table's order."""
    return {name: rows(part) for name, part in frame.groupby("run", sort=False)}
