"""Render a release anew by the present code, from its record alone: ``python -m bundle render``.

A release's metrics.json and training/ are a record: what a run found is never written again. Its
report, figures and model card are made from that record, so they can follow the code: the report's
notebook is executed on a copy of the record, in a folder of its own. It needs neither the dataset
nor predictions. What an older record does not hold, the report leaves out.
"""

import shutil
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from bundle import files, paths
from bundle.files import write_json
from bundle.release import card, pages
from bundle.runs import execute
from bundle.runs.params import RunParameters, runs
from bundle.training import released
from lib.settings import SECTIONS

# The part of the metrics that stands for those of all notebooks before the report.
RECORD = "metrics/05_confusion.json"


def released_runs() -> list[str]:
    """Return the names of the released runs."""
    found = (paths.RESULTS / "released").glob("*/metrics.json")
    return sorted(path.parent.name for path in found)


def render(run: str) -> Path:
    """Render results/released/RUN anew, whole, or leave it as it was; return its folder.

    Raises UserError where there is no such release, Failed where the report's notebook fails.
    """
    metrics, target = pages.record_of(run), released.folder(run)
    stage, root = (paths.RESULTS / f".rendering-{run}{end}" for end in ("", "-run"))
    shutil.rmtree(root, ignore_errors=True)  # where the last try failed
    with files.staged(stage, target):
        shutil.copytree(target, stage)
        if (target / pages.PAGE).is_file():  # not where a record alone is released
            made_run(target, run, metrics, root)
            with paths.results_in(root):
                execute.run_one(pages.REPORT, parameters(run, metrics))
                pages.report(root / run, stage)
            shutil.rmtree(root)  # a notebook that failed stays to be looked at
            pages.pdf(stage)
        told = card.write(RunParameters(file_of(run), run), stage)
        files.write_atomically(stage / "model_card.md", told.encode())
    return target


def made_run(target: Path, run: str, metrics: dict[str, Any], root: Path) -> None:
    """Make `root` a folder of results that holds the record as a run, and all that is released.

    The run has what a report needs: metrics and the history of the training.
    """
    folder = root / run
    for path in (target / "training").iterdir():
        files.read_sealed(path)
    shutil.copytree(target / "training", folder / "training")
    (folder / "metrics").mkdir()
    write_json(folder / RECORD, metrics)
    write_json(folder / "metrics.json", metrics)
    for name in ("released", "studies"):
        if (paths.RESULTS / name).is_dir():
            (root / name).symlink_to((paths.RESULTS / name).resolve(), target_is_directory=True)


def parameters(run: str, metrics: dict[str, Any]) -> RunParameters:
    """Return the parameters of the report's notebook: those that the record holds, or defaults."""
    section, told = SECTIONS[pages.REPORT], metrics.get("report") or {}
    known = {field.name: told[field.name] for field in fields(section) if field.name in told}
    values = asdict(section(**{**known, "run": run}))
    return RunParameters(file_of(run), run, {pages.REPORT: values})


def file_of(run: str) -> str:
    """Return the parameter file of a run's folder: "cpu" for "cpu-seed43"."""
    stems = [name for name in runs() if run == name or run.startswith(f"{name}-")]
    return max(stems, key=len, default=run)
