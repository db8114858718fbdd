"""results/study.html: every claim with verdict, what was reported, found and why; the studies."""

import base64
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from bundle import paths
from bundle.claims.claim import CONFIRMED, OPEN, PENDING, REFUTED, SOURCES, VERDICTS
from bundle.claims.judge import COMMAND, FULL, Judged, judge_all, read_study, studies
from bundle.files import read_json, write_atomically
from bundle.pages.index import BUNDLE, template
from bundle.study import compare, sentences
from bundle.words import listed

SECTIONS = {  # verdict -> class, heading, what it means
    REFUTED: ("refuted", "Refuted", "What was found says otherwise."),
    CONFIRMED: ("confirmed", "Confirmed", "What was found agrees with the claim."),
    PENDING: (
        "pending",
        "Pending the full run",
        "These take trainings at full length; a study at a fraction of it decides none of them, "
        "since the sign of a difference can turn with the length of training.",
    ),
    OPEN: ("open", "Not testable here", "What it would take is not at hand."),
}


def typeset(text: str) -> str:
    """Return plain text with true minus and times signs, Greek letters, unbreakable spaces."""
    text = re.sub(r"(?<![\w-])-(?=\d)", "−", text)
    text = re.sub(r"(?<=\d)( ?)x\1(?=\d)", r"\1×\1", text)
    text = re.sub(r"\bpi\b ?", "π", text).replace("lambda", "λ")
    tight = r"(?<=\d) (?=(MB|points|nat)\b)|(?<=\bp) (?=[=<])|(?<=[=<]) (?=\d)"
    return re.sub(tight, "\u00a0", text)


def counts(judged: Sequence[Judged]) -> str:
    """Return how many claims have each verdict, as part of a sentence."""
    numbers = Counter(each.verdict for each in judged)
    return listed(f"{numbers[verdict]} {verdict}" for verdict in VERDICTS if numbers[verdict])


def glance(judged: Sequence[Judged]) -> pd.DataFrame:
    """Return claims in their file's order: id, claim, reported, found (first sentence), verdict."""
    table = pd.DataFrame(judged)[["id", "claim", "reported", "found", "verdict"]]
    table["reported"] = table["reported"].replace("", "no figure")
    return table.assign(found=table["found"].map(first_sentence))


def first_sentence(text: str) -> str:
    """Return a text up to the first full stop or semicolon that ends a statement."""
    return re.split(r"(?<=[\w%)])[.;:](?=\s|$)", text, maxsplit=1)[0] + "."


def latex(judged: Sequence[Judged]) -> str:
    """Return claims at a glance as a LaTeX table (booktabs), columns of fixed width for a page."""
    style = glance(judged).drop(columns="id").style.hide(axis="index").format(escape="latex")
    widths = (0.3, 0.17, 0.3, 0.11)
    columns = (rf">{{\raggedright\arraybackslash}}p{{{width}\linewidth}}" for width in widths)
    table = style.to_latex(
        hrules=True,
        column_format="".join(columns),
        label="tab:claims",
        position_float="centering",
        caption=f"The claims of the reference report, judged: {counts(judged)}",
    )
    return "% needs \\usepackage{booktabs,array}\n" + table.replace("−", "$-$")


def summaries() -> list[dict[str, Any]]:
    """Return each study's name, title, page (in results/), notice, figure, runs' accuracies."""
    return [_summary(folder) for folder in studies().values()]


def _summary(folder: Path) -> dict[str, Any]:
    study, figure = read_json(folder / "study.json"), folder / "study.svg"
    plan, jobs = study["plan"], study["jobs"]
    table = compare.summary(jobs, lambda job: None, plan["runs"])
    return {
        **plan,
        "page": (folder / "study.html").relative_to(paths.RESULTS).as_posix(),
        "notice": sentences.notice_of(plan, jobs),
        "picture": base64.b64encode(figure.read_bytes()).decode() if figure.is_file() else "",
        "alt": sentences.described(table, sentences.judged(plan)),
        "done": len(jobs),
        "whole": len(jobs) + len(study["missing"]),
    }


def write_page(judged: Sequence[Judged] | None = None) -> Path:
    """Write the page of all claims, as judged by what is here, and its table as LaTeX beside it."""
    judged = judge_all(read_study()) if judged is None else judged
    groups = [
        (*section, [each for each in judged if each.verdict == verdict])
        for verdict, section in SECTIONS.items()
    ]
    shown = summaries()
    html = template("claims_page.html.j2", {"typeset": typeset}).render(
        bundle=BUNDLE,
        groups=[group for group in groups if group[-1]],
        counts=counts(judged),
        total=len(judged),
        sources=SOURCES,
        command=COMMAND,
        studies=shown,
        glance=glance(judged).to_dict("records"),
        study=next((study["page"] for study in shown if study["name"] == FULL), ""),
        kinds={verdict: section[0] for verdict, section in SECTIONS.items()},
    )
    page = paths.RESULTS / "study.html"
    page.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(page.with_suffix(".tex"), latex(judged).encode())
    write_atomically(page, html.encode())
    return page
