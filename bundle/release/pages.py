"""What a release shows: report as page and as PDF, figures. No image of the dataset is among it."""

import re
import shutil
from pathlib import Path
from typing import Any

from bundle import fingerprint, paths
from bundle.files import read_json, write_atomically
from bundle.pages import publish
from bundle.runs import graph, results
from lib import plots
from lib.errors import UserError

REPORT, PAGE = "06_report", "report.html"
DATE = re.compile(rb"/(CreationDate|ModDate) \(D:\d{14}")


def figures(source: Path, target: Path) -> None:
    """Make `target` the figures of a run's report, but for those with images of the dataset.

    It may be used, but is not ours to give away. Those of the other notebooks would make a release
    half as large again; the notebooks draw them from a run that took the release.
    """
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir()
    for figure in sorted(source.glob("report_*.svg")):
        if f'id="{plots.PHOTOGRAPHS}"' not in figure.read_text(encoding="utf-8"):
            for file in (figure, figure.with_suffix(".pdf")):
                shutil.copy2(file, target / file.name)


def report(source: Path, stage: Path) -> None:
    """Put the report of results/RUN, `source`, into `stage`: its figures, and its page.

    The page has no links to pages that are not there.
    Its head names the code and the documents that its words come from (`rendered_by`).
    """
    figures(source / "figures", stage / "figures")
    page, notice = stage / PAGE, results.notice_of(results.read_metrics(source.name))
    page.unlink(missing_ok=True)
    executed = source / f"{REPORT}.ipynb"
    publish.render(executed, page, code=False, photographs=False, notice=notice)
    html = page.read_text(encoding="utf-8")
    html = re.sub(r'<a [^>]*href="(?!#|https?:|demo\.html")[^"]*"[^>]*>(.*?)</a>', r"\1", html)
    html = re.sub(r'<span class="unset">.*?</span>', "", html)  # how a run of one's own is signed
    mark = f'<meta name="rendered-by" content="{rendered_by()}">'
    write_atomically(page, html.replace("<head>", f"<head>\n{mark}", 1).encode())


def rendered_by() -> str:
    """Return the digest of what a released report's words and figures come from.

    The report's notebook, the code that it reaches, and the documents of the bundle that it reads:
    the style of a page is none of it, and no record of a run.
    """
    node = graph.read(REPORT)
    shared = [name for name in node.shared if not name.startswith("results/")]
    files = sorted(file for name in shared for file in paths.ROOT.glob(name))
    digests = {file.name: fingerprint.of_file(file) for file in files}
    return fingerprint.of_value([node.cells, node.code(), digests])[:16]


def pdf(stage: Path) -> None:
    """Print `stage`'s report to report.pdf, or say why not.

    Its dates are that of the training's end, so that the same report gives the same bytes.
    """
    printed = stage / "report.pdf"
    printed.unlink(missing_ok=True)
    try:
        publish.print_pdf(stage.name)
    except UserError as problem:
        print(f"left out: {problem}", flush=True)
        return
    finished = read_json(stage / "metrics.json")["train"]["finished"]
    write_atomically(printed, dated(printed.read_bytes(), finished))


def dated(content: bytes, moment: str) -> bytes:
    """Return a PDF whose dates are `moment` (ISO 8601, to the second); no byte is moved."""
    digits = re.sub(r"\D", "", moment)[:14].ljust(14, "0").encode()
    return DATE.sub(lambda match: b"/" + match[1] + b" (D:" + digits, content)


def described(figure: Path) -> str:
    """Return the alternative text that an SVG carries, "" where it has none."""
    text = figure.read_text(encoding="utf-8")
    found = re.search(r"<dc:description>(.*?)</dc:description>", text, re.DOTALL)
    return " ".join(found[1].split()) if found else ""


def record_of(run: str) -> dict[str, Any]:
    """Return a released run's metrics; UserError where there is no release to render."""
    metrics = read_json(paths.RESULTS / "released" / run / "metrics.json")
    if not {"train", "test"} <= metrics.keys():
        remedy = f"make release RUN={run} makes one"
        raise UserError(f"results/released/{run}: no released run there; {remedy}")
    return metrics
