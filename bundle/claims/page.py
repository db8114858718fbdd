"""results/study.html: every claim with verdict, what was reported, found and why; the studies."""

import base64
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from bundle import notebook, paths
from bundle.claims.claim import CONFIRMED, OPEN, PENDING, REFUTED, VERDICTS, joined
from bundle.claims.judge import COMMAND, FULL, Judged, studies
from bundle.files import read_json, write_atomically
from bundle.pages.index import BUNDLE, template
from bundle.study import compare, sentences

SOURCES = {
    "report": "the report",
    "notebook output": "the notebook's output",
    "both": "the report and its notebook",
}
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
    return re.sub(
        r"(?<=\d) (?=(MB|points|nat)\b)|(?<=\bp) (?=[=<])|(?<=[=<]) (?=\d)", "\u00a0", text
    )


def counts(judged: Sequence[Judged]) -> str:
    """Return how many claims have each verdict, as part of a sentence."""
    numbers = Counter(one.verdict for one in judged)
    return joined([f"{numbers[verdict]} {verdict}" for verdict in VERDICTS if numbers[verdict]])


def glance(judged: Sequence[Judged]) -> pd.DataFrame:
    """Return claims in their file's order: id, claim, reported, found (first sentence), verdict."""
    rows = [
        (one.id, one.claim, one.reported or "no figure", first_sentence(one.found), one.verdict)
        for one in judged
    ]
    return pd.DataFrame(rows, columns=["id", "claim", "reported", "found", "verdict"])


def first_sentence(text: str) -> str:
    """Return a text up to the first full stop or semicolon that ends a statement."""
    return re.split(r"(?<=[\w%)])[.;:](?=\s|$)", text, maxsplit=1)[0] + "."


def latex(judged: Sequence[Judged]) -> str:
    """Return claims at a glance as a LaTeX table (booktabs), columns of fixed width for a page."""
    shown = glance(judged).drop(columns="id")
    text = notebook.as_text(shown, {})
    style = (
        text.style.hide(axis="index").format(escape="latex").format_index(escape="latex", axis=1)
    )
    widths = "".join(
        rf">{{\raggedright\arraybackslash}}p{{{width}\linewidth}}"
        for width in (0.3, 0.17, 0.3, 0.11)
    )
    table = style.to_latex(
        hrules=True,
        column_format=widths,
        label="tab:claims",
        position_float="centering",
        caption=f"The claims of the reference report, judged: {counts(judged)}",
    )
    return "% needs \\usepackage{booktabs,array}\n" + table


def summaries() -> list[dict[str, Any]]:
    """Return each study's name, title, page (in results/), notice, figure, runs' accuracies."""
    found = []
    for folder in studies():
        collected, figure = read_json(folder / "study.json"), folder / "study.svg"
        table = compare.summary(collected["jobs"], lambda job: None, collected["plan"]["runs"])
        picture = base64.b64encode(figure.read_bytes()).decode() if figure.is_file() else ""
        told = {
            "page": (folder / "study.html").relative_to(paths.RESULTS).as_posix(),
            "notice": sentences.notice_of(collected["plan"], collected["jobs"]),
            "picture": picture,
            "alt": sentences.described(table, sentences.judged(collected["plan"])),
            "done": len(collected["jobs"]),
            "whole": len(collected["jobs"]) + len(collected["missing"]),
        }
        found.append({**collected["plan"], **told})
    return found


def write_page(judged: Sequence[Judged]) -> Path:
    """Write the page, and its table as LaTeX beside it; return the page's path."""
    groups = [
        (*SECTIONS[verdict], [one for one in judged if one.verdict == verdict])
        for verdict in VERDICTS
    ]
    pages = {folder.name: folder / "study.html" for folder in studies()}
    html = template("claims_page.html.j2", {"typeset": typeset}).render(
        bundle=BUNDLE,
        groups=[group for group in groups if group[-1]],
        counts=counts(judged),
        total=len(judged),
        sources=SOURCES,
        command=COMMAND,
        studies=summaries(),
        glance=glance(judged).to_dict("records"),
        study=pages[FULL].relative_to(paths.RESULTS).as_posix() if FULL in pages else "",
        kinds={verdict: section[0] for verdict, section in SECTIONS.items()},
    )
    page = paths.RESULTS / "study.html"
    page.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(page.with_suffix(".tex"), latex(judged).encode())
    write_atomically(page, html.encode())
    return page
