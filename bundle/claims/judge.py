"""The claims of the reference experiment, each judged, with one of four verdicts.

They are confirmed, refuted, pending the full run, not testable here. ``python -m bundle claims``
writes results/study.html. What needs no training is computed at once; the rest waits for the full
study (``make study PLAN=full``). No verdict is written down anywhere.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from bundle import paths
from bundle.claims import network, read, recipe, results, trainings, views
from bundle.claims.claim import OPEN, PENDING, VERDICTS, Claim, Finding, Reference, joined
from bundle.files import read_json
from bundle.runs import results as runs_results
from lib.errors import UserError

NOW = {**network.TESTS, **recipe.TESTS, **results.TESTS}
STUDY = {**trainings.TESTS, **views.TESTS}
FULL = "full"  # the plan whose study decides
COMMAND = f"make study PLAN={FULL}"
UNDECIDED = "The 95% interval leaves both answers open."


@dataclass(frozen=True)
class Judged:
    """A claim with what was found, verdict and reason; `reported` is "" where it has no figure.

    runs: of the full study, whose trainings decide it; none where it is judged from what was
    reported alone.
    """

    id: str
    claim: str
    source: str
    reported: str
    found: str
    verdict: str
    why: str
    runs: tuple[str, ...] = ()


def read_claims(path: Path | None = None) -> list[Claim]:
    """Return the claims in params/studies/claims.yaml or `path`; UserError for what is wrong."""
    tests = {**NOW, **{name: test.judge for name, test in STUDY.items()}}
    return read.read(path or paths.PARAMS / "studies" / "claims.yaml", tests)


def read_study() -> dict[str, Any] | None:
    """Return the full study as far as collected, else the released one, None without either.

    Raises UserError where the file is damaged.
    """
    for path in (folder / "study.json" for folder in studies() if folder.name == FULL):
        study = read_json(path)
        if study and not {"plan", "jobs"} <= set(study):
            raise UserError(f"{paths.shown(path)}: holds no study; delete it and run: {COMMAND}")
        return study or None
    return None


def studies() -> list[Path]:
    """Return the folders of the studies, by name: those collected here, else those released."""
    found = {}
    for root in (paths.RESULTS / "released" / "studies", paths.RESULTS / "studies"):
        found |= {page.parent.name: page.parent for page in root.glob("*/study.json")}
    return [found[name] for name in sorted(found)]


def judge_all(study: dict[str, Any] | None) -> list[Judged]:
    """Judge every claim, in the file's order; `study` is a collected study or None."""
    reference = runs_results.reference()
    return [judge(claim, reference, study) for claim in read_claims()]


def judge(claim: Claim, reference: Reference, study: dict[str, Any] | None) -> Judged:
    """Judge one claim."""
    tolerance = {} if claim.tolerance is None else {"tolerance": claim.tolerance}
    if claim.test in STUDY:
        found = _by_study(claim, reference, study, tolerance)
    else:
        found = NOW[claim.test](reference, **tolerance)
    runs = STUDY[claim.test].runs if claim.test in STUDY else ()
    return Judged(
        claim.id,
        claim.claim,
        claim.source,
        claim.reported,
        found.found,
        found.verdict,
        found.why,
        runs,
    )


def _by_study(
    claim: Claim, reference: Reference, study: dict[str, Any] | None, tolerance: dict[str, float]
) -> Finding:
    """Judge a claim by the full study; pending where jobs that it needs are not there."""
    test = STUDY[claim.test]
    jobs = {run: _usable(study, run, test.part, reference["test_images"]) for run in test.runs}
    size = 100 * (claim.tolerance or 0)
    rule = test.rule.format(tolerance=f"{size:g} point" + "s" * (size != 1))
    if missing := _missing(study, jobs):
        return Finding(PENDING, missing, rule)
    found = test.judge(jobs, reference, **tolerance)
    return found._replace(why=f"{rule} {UNDECIDED}" if found.verdict == OPEN else rule)


def _usable(study: dict[str, Any] | None, run: str, part: str, images: int) -> list[dict[str, Any]]:
    """Return a run's full-length jobs on all of CIFAR-10 with `part`, one a seed of the plan."""
    if not study or study["plan"].get("full") is not True:
        return []
    ours = [job for job in study["jobs"] if job["file"] == run and (not part or job.get(part))]
    found = {
        job["seed"]: job
        for job in ours
        if job["test"]["images"] == images and not job.get("notice")
    }
    return [found[seed] for seed in study["plan"]["seeds"] if seed in found]


def _missing(study: dict[str, Any] | None, jobs: dict[str, list[dict[str, Any]]]) -> str:
    """Return what a claim still waits for, "" where every run has every seed; one has no spread."""
    runs = joined(list(jobs))
    if not study:
        return f"Nothing yet: no training of {runs} at full length."
    if study["plan"].get("full") is not True:
        return f"Nothing yet: {runs} at a fraction of the full length decides nothing."
    found, needed = sum(map(len, jobs.values())), max(2, len(study["plan"]["seeds"])) * len(jobs)
    return (
        ""
        if found == needed
        else f"Nothing yet: {found} of {needed} trainings of {runs} at full length are done."
    )


def table(judged: list[Judged]) -> pd.DataFrame:
    """Return the claims for a page or a paper: claim, reported, found, verdict."""
    rows = [(one.claim, one.reported or "no figure", one.found, one.verdict) for one in judged]
    return pd.DataFrame(rows, columns=["claim", "reported", "found", "verdict"])


def by_verdict(judged: list[Judged]) -> pd.DataFrame:
    """Return the claims, one row a verdict, as fits a short report: verdict, number, claims."""
    groups = {
        verdict: [one.claim for one in judged if one.verdict == verdict] for verdict in VERDICTS
    }
    rows = [(verdict, len(group), " ".join(group)) for verdict, group in groups.items() if group]
    return pd.DataFrame(rows, columns=["verdict", "number", "claims"])


def write() -> Path:
    """Judge every claim, write the page and return where it is."""
    from bundle.claims.page import write_page

    return write_page(judge_all(read_study()))
