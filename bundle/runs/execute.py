"""Run a bundle of notebooks headless: ``python -m bundle run RUN``, except what is up to date.

A notebook writes into a stage below results/RUN and its files are moved into place only when its
process ended well, every code cell completed, and every file it declares is there. Then its
fingerprint is recorded.
"""

import contextlib
import os
import shutil
import subprocess
import time
from pathlib import Path

from bundle import paths
from bundle.files import Failed, locked, run_again, seal, write_json
from bundle.runs import adopt, graph, launch, results, status, terminal
from bundle.runs.failure import explain
from bundle.runs.graph import Node, nodes
from bundle.runs.launch import Server
from bundle.runs.params import RunParameters
from bundle.training.progress import PROGRESS, Follower, Shares
from bundle.words import duration
from lib.schedule import total_epochs

TRAINS = "03_train"  # the notebook that trains: its progress is followed
POLL_SECONDS = 0.5
COMMAND_VARIABLE = "BUNDLE_COMMAND"  # the call of make that tries this again, with its options
GRACE_SECONDS = 10.0  # between asking a notebook to stop and killing it


def run_all(parameters: RunParameters, server: Server, retrain: bool, until: str) -> list[str]:
    """Bring the notebooks of a run up to date, in order up to `until` ("": all of them).

    Returns those that ran, forked from `server` where that can be. The first failure raises Failed,
    one line; earlier results are as they were.
    """
    folder, ran, all_nodes = paths.results(parameters.name), [], nodes()
    steps = terminal.Steps(node.name for node in all_nodes)
    with locked(folder, parameters.name):
        results.mend(folder)
        print(terminal.plan(parameters, retrain, until), flush=True)
        for node in all_nodes:
            if (retrain and node.name == TRAINS) or status.reasons(node, parameters, folder):
                try:
                    _run_node(node, parameters, folder, retrain, steps, server.start)
                finally:
                    steps.break_line()
                ran.append(node.name)
            else:
                _forget_failed(node, folder)
                steps.end(node.name, "up to date")
            if node.name == until:
                break
        status.settle(folder)
    return ran


def run_one(name: str, parameters: RunParameters) -> None:
    """Run one notebook of a run that holds what it reads; Failed, one line, where it fails."""
    folder = paths.results(parameters.name)
    with locked(folder, parameters.name):
        steps = terminal.Steps([name])
        _run_node(graph.read(name), parameters, folder, False, steps, launch.cold)


def _run_node(
    node: Node, parameters: RunParameters, folder: Path, retrain: bool, steps: terminal.Steps,
    start: launch.Start,
) -> None:  # fmt: skip
    stage, started = folder / ".stage" / node.name, time.monotonic()
    if node.name == adopt.NODE and not retrain:
        adopt.take(parameters, folder)
    shutil.rmtree(stage, ignore_errors=True)
    stage.mkdir(parents=True)
    before = status.fingerprint_of(node, parameters, folder)  # of what the notebook starts from
    output = stage / f"{node.name}.ipynb"
    job = {"notebook": str(paths.NOTEBOOKS / output.name), "output": str(output)}
    write_json(stage / "job.json", {**job, "parameters": parameters.injected(node.name)})
    steps.begin(node.name, own_lines=node.name == TRAINS)
    code = _execute(node, stage, parameters, retrain, start)
    if code and status.never_started(output):
        steps.end(node.name, "its kernel did not start; trying once more")
        code = _execute(node, stage, parameters, retrain, start)
    if problem := status.unfinished(output, code) or _missing(node, stage, folder):
        _keep_failed(node, stage, folder)
        raise Failed(explain(node.name, output, problem, folder, again(parameters.name)))
    seconds = time.monotonic() - started
    _move_into_place(node, stage, folder, before, seconds)
    steps.end(node.name, f"done in {duration(seconds)}")


def again(name: str) -> str:
    """Return the call that goes on with a run: as it was called, else by its name."""
    return os.environ.get(COMMAND_VARIABLE) or run_again(name)


def _execute(
    node: Node, stage: Path, parameters: RunParameters, retrain: bool, start: launch.Start
) -> int:
    """Run the notebook's process, show what it trains, and return its exit status."""
    trains = node.name == TRAINS
    environment = {"PYTHONUNBUFFERED": "1", paths.STAGE_VARIABLE: str(stage)}
    environment[paths.RETRAIN_VARIABLE] = "1" if retrain and trains else ""
    follower: Shares | Follower = Shares(stage / PROGRESS)
    if trains:
        epochs = total_epochs(parameters.settings(node.name))
        follower = Follower(paths.results(parameters.name), epochs)
    process = start(stage / "job.json", stage / "log.txt", environment)
    try:
        _wait(process, follower)
    except BaseException:
        _stop(process)
        raise
    finally:
        follower.close()
    return process.wait()


def _wait(process: launch.Started, follower: Follower | Shares) -> None:
    """Wait for the end of a process and meanwhile show how far it is."""
    while process.poll() is None:
        follower.poll()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(POLL_SECONDS)


def _stop(process: launch.Started) -> None:
    """End the notebook's process and with it its kernel, which watches its parent."""
    process.terminate()
    try:
        process.wait(GRACE_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _missing(node: Node, stage: Path, folder: Path) -> str:
    for name in (*node.writes, node.metrics):
        if not (stage / name).exists() and not paths.artefact(folder, name).exists():
            return f"ended, but without its file {name}"
    return ""


def _keep_failed(node: Node, stage: Path, folder: Path) -> None:
    failed = folder / "failed"
    failed.mkdir(exist_ok=True)
    for name, kept in ((f"{node.name}.ipynb",) * 2, ("log.txt", f"{node.name}.log")):
        if (stage / name).exists():
            (stage / name).replace(failed / kept)
    shutil.rmtree(folder / ".stage", ignore_errors=True)


def _move_into_place(node: Node, stage: Path, folder: Path, before: dict, seconds: float) -> None:
    """Move a notebook's files to results/RUN, drop what used the old, record the fingerprint."""
    for name in ("job.json", "log.txt", PROGRESS):
        (stage / name).unlink(missing_ok=True)
    files = (path for path in stage.rglob("*") if path.is_file())
    written = sorted(path.relative_to(stage).as_posix() for path in files)
    status.forget(node, folder, written)
    results.drop_dependents(node.name, folder)
    for name in written:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (stage / name).replace(folder / name)
    seal(folder, *status.read_back(written))
    shutil.rmtree(folder / ".stage", ignore_errors=True)
    _forget_failed(node, folder)
    results.merge(folder)
    status.remember(node, folder, before, written, seconds)


def _forget_failed(node: Node, folder: Path) -> None:
    """Delete the copy of an earlier failure once the notebook is done."""
    for name in (f"{node.name}.ipynb", f"{node.name}.log"):
        (folder / "failed" / name).unlink(missing_ok=True)
    if (folder / "failed").is_dir() and not any((folder / "failed").iterdir()):
        (folder / "failed").rmdir()
