"""HTML pages of a run, and its report as PDF: ``python -m bundle pages [RUN] [--pdf]``."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bundle import paths
from bundle.files import Damaged, is_sealed, locked, read_sealed, run_again, write_sealed
from bundle.pages.index import BUNDLE, DEMO, REPORT, TEMPLATE, in_order, label
from bundle.paths import shown
from bundle.runs.results import full_result, notice_of, readable_metrics
from bundle.words import number
from lib.errors import UserError

CODE = (*sorted(TEMPLATE.parent.glob("*.py")), TEMPLATE.parents[1] / "words.py")
CHROMIUMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
MAC_CHROME = Path("/Applications/Google Chrome.app/Contents/MacOS/Google Chrome")
PRINT_SECONDS = 120


def _of_run(run: str) -> dict[str, Any]:
    """Return what a page says about its run: name, accuracy, commit, the full result's command."""
    metrics = readable_metrics(run)
    accuracy, environment = number(metrics, "test", "accuracy"), metrics.get("environment")
    environment = environment if isinstance(environment, dict) else {}
    commit = environment.get("commit")
    changed = " with local changes" if commit and environment.get("dirty") else ""
    return {
        "run": run,
        "accuracy": "" if accuracy is None else f"{accuracy:.1%}",
        "commit": str(commit or "")[:10] + changed,
        "full": full_result(),
    }


def _beyond() -> list[tuple[str, str]]:
    """Return (label, link) of the pages over all runs, as seen from a run's folder."""
    claims = (paths.RESULTS / "claims.html").is_file()
    return [("All runs", "../index.html")] + [("Fact check", "../claims.html")] * claims


def _fingerprint(executed: Path, page: dict[str, Any]) -> str:
    """Return the digest of all that makes a page: notebook, template, this code, its inputs."""
    digest = hashlib.sha256(json.dumps(page, sort_keys=True).encode())
    for source in [executed, *CODE, *sorted(TEMPLATE.iterdir())]:
        digest.update(hashlib.sha256(source.read_bytes()).digest())
    return digest.hexdigest()[:32]


def render(
    executed: Path,
    page: Path,
    *,
    code: bool = True,
    photographs: bool = True,
    notice: str = "",
    navigation: Sequence[tuple[str, str]] = (),
) -> None:
    """Render a notebook of results/RUN to the self-contained `page`, unless its content is current.

    `navigation`: (label, relative link) of the run's pages in reading order, this one among them;
    without it the page leads nowhere. `code` shows input, `photographs` images of the dataset.
    UserError: an image without alt text, unknown LaTeX, anything another host is asked for.
    """
    if not executed.is_file():
        raise UserError(f"{shown(executed)}: there is no such notebook; execute it first")
    about = dict[str, Any](bundle=BUNDLE, name=page.name, notebook=executed.name)
    about["demo"] = DEMO if (page.parent / DEMO).is_file() else ""
    about |= {"code": code, "photographs": photographs, "notice": notice, "navigation": navigation}
    about |= _of_run(executed.absolute().parent.name) | {"beyond": _beyond() if navigation else ()}
    fingerprint = _fingerprint(executed, about)
    if is_sealed(page) and f'content="{fingerprint}"' in page.read_text(encoding="utf-8")[:4000]:
        return
    # Late: nbconvert is slow to import and an unchanged page needs none of it.
    from bundle.pages import convert

    html = convert.convert_notebook(executed, convert.Page(**about, fingerprint=fingerprint))
    write_sealed(page, html.encode())


def executed_notebooks(run: str) -> list[Path]:
    """Return the executed notebooks of `run`, the report last; failed ones have another name."""
    notebooks = paths.results(run).glob("*.ipynb")
    return in_order(path for path in notebooks if re.fullmatch(r"\d\d_\w+", path.stem))


def _links(notebooks: list[Path]) -> list[tuple[str, str]]:
    """Return the navigation of a run: the report first, then the notebooks it rests on."""
    stems = [path.stem for path in notebooks]
    report = [("Report", "report.html")] if REPORT in stems else []
    return report + [(label(stem), f"{stem}.html") for stem in stems]


def render_run(run: str) -> list[Path]:
    """Render every executed notebook of `run`, and its report without code; return all pages.

    A notebook that is not as it was written is left out, said. Raises Busy where another command
    is working on the run.
    """
    if not executed_notebooks(run):
        raise UserError(
            f"{shown(paths.results(run))}: no executed notebook; `{run_again(run)}` makes them"
        )
    with locked(paths.results(run), run):
        return _render_all(run, list(filter(_is_sound, executed_notebooks(run))))


def _is_sound(executed: Path) -> bool:
    """Whether a notebook is as it was written; says it where it is not."""
    try:
        read_sealed(executed)
    except Damaged as problem:
        print(f"{problem}; its page stays as it was", file=sys.stderr)
        return False
    return True


def _render_all(run: str, notebooks: list[Path]) -> list[Path]:
    folder = paths.results(run)
    notice, navigation = notice_of(readable_metrics(run)), _links(notebooks)
    written = []
    for notebook in notebooks:
        page = folder / f"{notebook.stem}.html"
        render(notebook, page, notice=notice, navigation=navigation)
        written.append(page)
        if notebook.stem == REPORT:
            written.append(folder / "report.html")
            render(notebook, written[-1], code=False, notice=notice, navigation=navigation)
    return written


def find_chromium() -> str | None:
    """Return a Chromium or Chrome: $CHROMIUM, else one on the path, else macOS's application."""
    names = filter(None, (os.environ.get("CHROMIUM"), *CHROMIUMS, str(MAC_CHROME)))
    return next(filter(None, map(shutil.which, names)), None)


def chromium_command(browser: str, profile: str, *options: str) -> list[str]:
    """Return the command of a headless browser that leaves the user's own profile alone."""
    command = [browser, "--headless=new", "--disable-gpu", "--no-first-run"]
    command.append(f"--user-data-dir={profile}")
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        command.append("--no-sandbox")  # Chromium's sandbox refuses to run as root (containers, CI)
    return [*command, *options]


def print_pdf(run: str) -> Path:
    """Print results/RUN/report.html to report.pdf; UserError without page, browser or success."""
    page = paths.results(run) / "report.html"
    pdf = page.with_suffix(".pdf")
    if not page.is_file():
        raise UserError(f"{shown(page)}: not rendered yet; run `make html RUN={run}` first")
    if (browser := find_chromium()) is None:
        missing = "no Chromium or Chrome found; install one or set CHROMIUM to its path"
        raise UserError(f"{shown(pdf)}: {missing}")
    printed = pdf.with_name(".report.pdf.part")
    printed.unlink(missing_ok=True)
    target, address = f"--print-to-pdf={printed.resolve()}", page.resolve().as_uri()
    problem = ""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        command = chromium_command(browser, profile, target, "--no-pdf-header-footer", address)
        try:
            subprocess.run(command, capture_output=True, timeout=PRINT_SECONDS, check=True)
        except (OSError, subprocess.SubprocessError) as error:
            problem = f"failed ({type(error).__name__})"
    if not problem and not (printed.is_file() and printed.stat().st_size):
        problem = "wrote no PDF"
    if problem:
        raise UserError(f"{shown(pdf)}: {browser} {problem}; set CHROMIUM to another browser")
    printed.replace(pdf)
    return pdf
