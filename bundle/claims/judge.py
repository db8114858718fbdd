"""The claims of the reference experiment, each judged, with one of four verdicts.

They are refuted, confirmed, undecided, pending. What needs no training is computed at once; the
rest waits for the full study (``make study PLAN=full``), for a measurement or for a notebook. No
verdict is written down anywhere.
"""

import inspect
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bundle import paths
from bundle.claims import (
    costs,
    curves,
    deployed,
    network,
    read,
    recipe,
    record,
    results,
    robust,
    trainings,
)
from bundle.claims.claim import OPEN, PENDING, Claim, Finding, Reference, StudyTest
from bundle.files import read_json
from bundle.report import anchors
from bundle.runs import params
from bundle.runs import results as runs_results
from bundle.study.sentences import so_far
from bundle.training import store
from bundle.words import listed
from lib.errors import UserError
from lib.schedule import total_epochs

ROOMS = (network, recipe, curves, results, record, costs, deployed, robust)
NOW = {name: test for room in ROOMS for name, test in room.TESTS.items()}
STUDY = trainings.TESTS
FULL = "full"  # the plan whose study decides
COMMAND = f"make study PLAN={FULL}"
UNDECIDED = "The 95% interval leaves both answers open."

# A run of which another is a copy that is looked at more often: the same weights at every epoch.
FOLLOWED = {"as_run": "audit"}

Study = dict[str, Any]  # a study.json: plan, jobs, missing, and unfinished where any is
Runs = dict[str, dict[str, Any]]  # name -> metrics of a full run


@dataclass(frozen=True)
class Judged:
    """A claim with what was found, verdict and reason; fields as in `Claim` and `Finding`.

    runs: of the full study, whose trainings decide it; none where no training does.
    """

    id: str
    kind: str
    claim: str
    where: str
    words: str
    weight: int
    reported: str
    found: str
    verdict: str
    why: str
    runs: tuple[str, ...] = ()


def read_claims(path: Path | None = None) -> list[Claim]:
    """Return the claims in params/studies/claims.yaml or `path`; UserError for what is wrong."""
    tests = {**NOW, **{name: test.judge for name, test in STUDY.items()}}
    return read.read(path or paths.PARAMS / "studies" / "claims.yaml", tests)


def studies() -> dict[str, Path]:
    """Return name -> folder of the studies, by name: those collected here, else those released."""
    roots = (paths.RESULTS / "released" / "studies", paths.RESULTS / "studies")
    pages = [page for root in roots for page in root.glob("*/study.json")]
    return dict(sorted({page.parent.name: page.parent for page in pages}.items()))


def read_study() -> Study | None:
    """Return the full study as far as collected, else the released one, None without either.

    Raises UserError where the file is damaged.
    """
    path = studies().get(FULL, paths.RESULTS / "studies" / FULL) / "study.json"
    study = read_json(path)
    if study and not {"plan", "jobs"} <= set(study):
        raise UserError(f"{paths.shown(path)}: holds no study; delete it and run: {COMMAND}")
    return study or None


def judge_all(study: Study | None, runs: Runs | None = None) -> list[Judged]:
    """Judge every claim, in the file's order.

    `study` is a collected study or None; `runs` None takes the full runs here and the released.
    """
    reference, runs = runs_results.reference(), anchors.runs() if runs is None else runs
    return [judge(claim, reference, study, runs) for claim in read_claims()]


def judge(claim: Claim, reference: Reference, study: Study | None, runs: Runs) -> Judged:
    """Judge one claim."""
    test, tolerance = STUDY.get(claim.test), claim.tolerance
    options = {} if tolerance is None else {"tolerance": tolerance}
    if test:
        finding = _by_study(test, reference, study, options)
    else:
        given = {"reference": reference, "benchmarks": costs.benchmarks(), "runs": runs, **options}
        takes = inspect.signature(NOW[claim.test]).parameters
        finding = NOW[claim.test](**{name: given[name] for name in takes})
    said = (claim.id, claim.kind, claim.claim, claim.where, claim.words, claim.weight)
    names = test.runs if test else ()
    return Judged(*said, claim.reported, finding.found, finding.verdict, finding.why, names)


def _by_study(
    test: StudyTest, reference: Reference, study: Study | None, options: dict[str, float]
) -> Finding:
    """Judge a claim by the full study; pending where jobs that it needs are not there."""
    jobs = {run: _usable(study, run, test, reference["test_images"]) for run in test.runs}
    size = 100 * options.get("tolerance", 0)
    rule = test.rule.format(tolerance=f"{size:g} point{'' if size == 1 else 's'}")
    if missing := _missing(study, jobs):
        return Finding(PENDING, f"Not yet judged: {missing}.", rule)
    finding = test.judge(jobs, reference, **options)
    return finding._replace(why=f"{rule} {UNDECIDED}" if finding.verdict == OPEN else rule)


def _usable(study: Study | None, run: str, test: StudyTest, images: int) -> list[dict[str, Any]]:
    """Return a run's full-length jobs on all of CIFAR-10 with what a test needs, one a seed."""
    if not study or study["plan"].get("full") is not True:
        return []
    done = [
        job
        for job in study["jobs"]
        if job["test"]["images"] == images and not job.get("notice")
        if not test.part or job.get(test.part)
    ]
    begun = [
        job
        for job in study.get("unfinished", ())
        if test.phase and any(part["phase"] > test.phase for part in job["audit"]["phases"])
    ]
    names = (FOLLOWED.get(run), run)  # the later takes the place of the former
    by_seed = {job["seed"]: job for name in names for job in (*begun, *done) if job["file"] == name}
    return [by_seed[seed] for seed in study["plan"]["seeds"] if seed in by_seed]


def _missing(study: Study | None, jobs: dict[str, list[dict[str, Any]]]) -> str:
    """Return what a claim still waits for, "" where every run that it needs has a seed."""
    runs, waiting = listed(jobs), [run for run, done in jobs.items() if not done]
    if study and study["plan"].get("full") is not True:
        return f"{runs} at a fraction of the full length decides nothing"
    if not waiting:
        return ""
    begun = "".join(epochs_done(run, study) for run in waiting)
    return f"waits for trainings of {listed(waiting)} at full length{begun}"


def epochs_done(run: str, study: Study | None = None) -> str:
    """Return in words how far an unfinished training of a run is, "" without one.

    Here, or where the study was collected; the test accuracy so far only where it is followed.
    """
    if done := len(store.read_history(store.partial_folder(paths.results(run)))):
        return f"; {run} has {done} of {total_epochs(params.load(run).settings('03_train'))} epochs"
    for job in (study or {}).get("unfinished", ()):
        if job["file"] in (run, FOLLOWED.get(run)):
            return f"; {job['file']} has {so_far(job)}"
    return ""
