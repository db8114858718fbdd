"""results/claims.html: the fact check of the reference report, one card a claim."""

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from bundle import paths
from bundle.claims.claim import CONFIRMED, KINDS, OPEN, PENDING, REFUTED, SOURCES, VERDICTS
from bundle.claims.judge import COMMAND, FULL, Judged, judge_all, read_study, studies
from bundle.files import read_json, write_atomically, write_sealed
from bundle.pages.index import BUNDLE, template
from bundle.runs.results import reference
from bundle.words import listed

NAME = "claims"  # results/claims.html, and claims.tex beside it
TITLE = "Fact check of the reference report"
SECTIONS = {  # verdict -> class, heading, what it means
    REFUTED: ("refuted", "Refuted", "What was found says otherwise."),
    CONFIRMED: ("confirmed", "Confirmed", "What was found agrees with the claim."),
    OPEN: ("open", "Undecided", "What was found leaves both answers open."),
    PENDING: (
        "pending",
        "Pending",
        "Not judged yet. The rules are fixed; the numbers are not here.",
    ),
}
TOP = 3  # findings that stand above all others


def typeset(text: str) -> str:
    """Return plain text with true minus and times signs, Greek letters, unbreakable spaces."""
    text = re.sub(r"(?<![\w-])-(?=\d)", "−", text)
    text = re.sub(r"(?<=\d)( ?)x\1(?=\d)", r"\1×\1", text)
    text = re.sub(r"\bpi\b ?", "π", text).replace("lambda", "λ")
    text = re.sub(r'"([^"]*)"', r"“\1”", text)
    tight = r"(?<=\d) (?=(MB|points|nat)\b)|(?<=\bp) (?=[=<])|(?<=[=<]) (?=\d)"
    return re.sub(tight, "\u00a0", text)


def counts(judged: Sequence[Judged]) -> str:
    """Return how many claims have each verdict, as part of a sentence."""
    numbers = Counter(each.verdict for each in judged)
    return listed(f"{numbers[verdict]} {verdict}" for verdict in VERDICTS if numbers[verdict])


def by_weight(judged: Sequence[Judged]) -> list[Judged]:
    """Return claims by their weight, the heaviest first; of equal weight in their order."""
    return sorted(judged, key=lambda each: -each.weight)


def telling(judged: Sequence[Judged], count: int = 5) -> pd.DataFrame:
    """Return the `count` heaviest claims that are decided: verdict, claim, found (a sentence)."""
    decided = [each for each in by_weight(judged) if each.verdict in (REFUTED, CONFIRMED)]
    rows = [(each.verdict, each.claim, first_sentence(each.found)) for each in decided[:count]]
    return pd.DataFrame(rows, columns=["verdict", "claim", "found"])


def glance(judged: Sequence[Judged]) -> pd.DataFrame:
    """Return claims in their file's order: id, claim, reported, found (first sentence), verdict."""
    table = pd.DataFrame(judged)[["id", "claim", "reported", "found", "verdict"]]
    table["reported"] = table["reported"].replace("", "no number")
    return table.assign(found=table["found"].map(first_sentence))


def first_sentence(text: str) -> str:
    """Return a text's first sentence."""
    return re.split(r"(?<=[\w%)])\.(?=\s|$)", text, maxsplit=1)[0] + "."


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


def place(where: str) -> str:
    """Return where a claim stands, in words."""
    source, _colon, part = where.partition(": ")
    return SOURCES[source] + (f", {part}" if part else "")


def summaries() -> list[dict[str, str]]:
    """Return each study's name, title and page (in results/)."""
    found = []
    for folder in studies().values():
        plan = read_json(folder / "study.json")["plan"]
        page = (folder / "study.html").relative_to(paths.RESULTS).as_posix()
        found.append({"name": plan["name"], "title": plan["title"], "page": page})
    return found


def _shown(judged: Sequence[Judged]) -> dict[str, Any]:
    """Return what the page shows of the claims: by verdict, and the heaviest of those refuted."""
    groups = [
        (*section, by_weight([each for each in judged if each.verdict == verdict]))
        for verdict, section in SECTIONS.items()
    ]
    return {
        "groups": [group for group in groups if group[-1]],
        "total": len(judged),
        "counts": counts(judged),
        "top": groups[0][-1][:TOP],
    }


def write_page(judged: Sequence[Judged] | None = None) -> Path:
    """Write the page of all claims, as judged by what is here, and its table as LaTeX beside it."""
    judged = judge_all(read_study()) if judged is None else judged
    shown = summaries()
    html = template("claims_page.html.j2", {"typeset": typeset, "place": place}).render(
        bundle=BUNDLE,
        title=TITLE,
        kinds=KINDS,
        command=COMMAND,
        reference=reference(),
        studies=shown,
        study=next((study["page"] for study in shown if study["name"] == FULL), ""),
        index=(paths.RESULTS / "index.html").is_file(),
        **_shown(judged),
    )
    page = paths.RESULTS / f"{NAME}.html"
    page.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(page.with_suffix(".tex"), latex(judged).encode())
    write_sealed(page, html.encode())
    for suffix in ("html", "tex"):  # its name in earlier versions
        (paths.RESULTS / f"study.{suffix}").unlink(missing_ok=True)
    return page
