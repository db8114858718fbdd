"""results/claims.html: every claim with its verdict, what was reported, what was found and why."""

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from lib import paths
from lib.claim import CONFIRMED, OPEN, PENDING, REFUTED, VERDICTS, joined
from lib.claims import COMMAND, FULL, Judged
from lib.index import BUNDLE, template
from lib.state import write_atomically

SOURCES = {"report": "the report", "notebook output": "the notebook's output", "both": "the report and its notebook"}
SECTIONS = {  # verdict -> class, heading, what it means
    REFUTED: ("refuted", "Refuted", "What was found says otherwise."),
    CONFIRMED: ("confirmed", "Confirmed", "What was found agrees with the claim."),
    PENDING: ("pending", "Pending the full run", "These take trainings at full length; a study at a fraction of it "
              "decides none of them, since the sign of a difference can turn with the length of training."),
    OPEN: ("open", "Not testable here", "What it would take is not at hand."),
}  # fmt: skip


def typeset(text: str) -> str:
    """Return plain text with true minus and multiplication signs, Greek letters and spaces that do not break."""
    text = re.sub(r"(?<![\w-])-(?=\d)", "−", text)
    text = re.sub(r"(?<=\d)( ?)x\1(?=\d)", r"\1×\1", text)
    text = re.sub(r"\bpi\b ?", "π", text).replace("lambda", "λ")
    return re.sub(r"(?<=\d) (?=(MB|points|nat)\b)|(?<=\bp) (?=[=<])|(?<=[=<]) (?=\d)", "\u00a0", text)


def counts(judged: Sequence[Judged]) -> str:
    """Return how many claims have each verdict, as part of a sentence."""
    numbers = Counter(one.verdict for one in judged)
    return joined([f"{numbers[verdict]} {verdict}" for verdict in VERDICTS if numbers[verdict]])


def write_page(judged: Sequence[Judged]) -> Path:
    """Write the page and return its path."""
    groups = [(*SECTIONS[verdict], [one for one in judged if one.verdict == verdict]) for verdict in VERDICTS]
    study = f"studies/{FULL}/study.html"
    html = template("claims_page.html.j2", {"typeset": typeset}).render(
        bundle=BUNDLE, groups=[group for group in groups if group[-1]], counts=counts(judged), total=len(judged),
        sources=SOURCES, command=COMMAND, study=study if (paths.RESULTS / study).is_file() else "",
    )  # fmt: skip
    page = paths.RESULTS / "claims.html"
    page.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(page, html.encode())
    return page
