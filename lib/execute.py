"""Run a bundle of notebooks headless: ``python -m lib.execute RUN``, except what is up to date.

A notebook writes into a stage below results/RUN and its files are moved into place only when its
process ended well, every code cell completed, and every file it declares is there. Then its
fingerprint is recorded.
"""

import argparse
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

from lib import fetch, paths, publish, record, status
from lib.errors import UserError, exit_on_user_error, nearest
from lib.failure import explain
from lib.graph import Node, nodes
from lib.lock import Failed, locked
from lib.params import RunParameters, load, notebooks
from lib.progress import Follower, clock
from lib.schedule import total_epochs
from lib.state import write_json

POLL_SECONDS = 0.5
GRACE_SECONDS = 10.0  # between asking a notebook to stop and killing it


class Interrupted(Exception):
    """A signal asked the run to stop; its number is the argument."""


def run_all(parameters: RunParameters, retrain: bool = False, until: str = "") -> list[str]:
    """Bring the notebooks of a run up to date, in order up to `until`; stop at the first failure.

    Returns the notebooks that ran. Raises Failed, one line; earlier results are as they were.
    """
    folder, ran = paths.results(parameters.name), []
    with locked(folder, parameters.name):
        for node in nodes():
            reasons = status.reasons(node, parameters, folder)
            if retrain and node.name == "03_train":
                reasons = ["RETRAIN=1"]
            if reasons:
                _run_node(node, parameters, folder, retrain)
                ran.append(node.name)
            else:
                _forget_failed(node, folder)
                print(f"{node.name}: up to date", flush=True)
            if node.name == until:
                break
    return ran


def _run_node(node: Node, parameters: RunParameters, folder: Path, retrain: bool) -> None:
    stage, started = folder / ".stage" / node.name, time.monotonic()
    shutil.rmtree(stage, ignore_errors=True)
    stage.mkdir(parents=True)
    before = status.fingerprint_of(node, parameters, folder)  # of what the notebook starts from
    output = stage / f"{node.name}.ipynb"
    job = {"notebook": str(paths.NOTEBOOKS / output.name), "output": str(output)}
    job["parameters"] = parameters.values[node.name]
    write_json(stage / "job.json", job)
    print(f"{node.name}: running", flush=True)
    code = _execute(node, stage, parameters, retrain)
    if code and status.never_started(output):
        print(f"{node.name}: its kernel did not start; trying once more", flush=True)
        code = _execute(node, stage, parameters, retrain)
    problem = status.unfinished(output, code) or _missing(node, stage, folder)
    if problem:
        _keep_failed(node, stage, folder)
        raise Failed(explain(node.name, output, problem, folder, _command(parameters)))
    _move_into_place(node, stage, folder, before)
    print(f"{node.name}: done in {clock(time.monotonic() - started)}", flush=True)


def _execute(node: Node, stage: Path, parameters: RunParameters, retrain: bool) -> int:
    """Run the notebook's process, show what it trains, and return its exit status."""
    environment = {**os.environ, paths.STAGE_VARIABLE: str(stage), "PYTHONUNBUFFERED": "1"}
    environment[paths.RETRAIN_VARIABLE] = "1" if retrain and node.name == "03_train" else ""
    follower = None
    if node.name == "03_train":
        epochs = total_epochs(parameters.settings(node.name))
        follower = Follower(paths.results(parameters.name), epochs, node.name)
    with (stage / "log.txt").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "lib.node", str(stage / "job.json")],
            cwd=paths.NOTEBOOKS,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        try:
            while process.poll() is None:
                if follower:
                    follower.poll()
                _sleep(process)
        except BaseException:
            _stop(process)
            raise
        finally:
            if follower:
                follower.close()
    return process.returncode


def _sleep(process: subprocess.Popen) -> None:
    try:
        process.wait(POLL_SECONDS)
    except subprocess.TimeoutExpired:
        pass


def _stop(process: subprocess.Popen) -> None:
    """End the notebook's process and with it its kernel, which watches its parent."""
    process.terminate()
    try:
        process.wait(GRACE_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _missing(node: Node, stage: Path, folder: Path) -> str:
    wanted = (*node.writes, node.metrics)
    absent = [
        name
        for name in wanted
        if not (stage / name).exists() and not paths.artefact(folder, name).exists()
    ]
    return f"ended, but without its file {absent[0]}" if absent else ""


def _keep_failed(node: Node, stage: Path, folder: Path) -> None:
    failed = folder / "failed"
    failed.mkdir(exist_ok=True)
    for name in (f"{node.name}.ipynb", "log.txt"):
        if (stage / name).exists():
            (stage / name).replace(failed / (name if name != "log.txt" else f"{node.name}.log"))
    shutil.rmtree(folder / ".stage", ignore_errors=True)


def _move_into_place(node: Node, stage: Path, folder: Path, before: dict) -> None:
    """Move a notebook's files to results/RUN, drop what used the old, record the fingerprint."""
    for name in ("job.json", "log.txt"):
        (stage / name).unlink(missing_ok=True)
    status.forget(node, folder)
    record.drop_dependents(node.name, folder)
    written = sorted(path.relative_to(stage) for path in stage.rglob("*") if path.is_file())
    for name in written:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (stage / name).replace(folder / name)
    shutil.rmtree(folder / ".stage", ignore_errors=True)
    _forget_failed(node, folder)
    record.merge(folder)
    status.remember(node, folder, before, [str(name) for name in written])


def _forget_failed(node: Node, folder: Path) -> None:
    """Delete the copy of an earlier failure once the notebook is done."""
    for name in (f"{node.name}.ipynb", f"{node.name}.log"):
        (folder / "failed" / name).unlink(missing_ok=True)
    if (folder / "failed").is_dir() and not any((folder / "failed").iterdir()):
        (folder / "failed").rmdir()


def _command(parameters: RunParameters) -> str:
    """Return the command that tries this run again, with the options it was called with."""
    asked = os.environ.get("BUNDLE_COMMAND")
    return asked or f"make run-all RUN={parameters.file}"


def summary(parameters: RunParameters) -> str:
    """Return the three closing lines: the main figures, how they were got, where the report is."""
    metrics = record.read_metrics(parameters.name)
    test, train = metrics.get("test", {}), metrics.get("train", {})
    accuracy = (
        f"{test['accuracy']:.2%} (95% {test['low']:.2%} to {test['high']:.2%}) on "
        f"{test['images']:,} test images"
    )
    notice = f"  [{metrics['notice']}]" if metrics.get("notice") else ""
    averaged = "no views averaged"
    if record.averages_views(metrics):
        averaged = f"with averaged views {test['tta_accuracy']:.2%}"
    took = f"{train['epochs']} epochs in {clock(train['seconds'])}"
    took += ", released: trained elsewhere" if train.get("released") else ""
    return (
        f"test accuracy  {accuracy}; {averaged}{notice}\n"
        f"network        {metrics['parameters']:,} parameters; {took}\n"
        f"report         {paths.shown(paths.results(parameters.name) / 'report.html')}"
    )


def with_dataset(parameters: RunParameters, network: bool = True) -> RunParameters:
    """Return parameters with `dataset: auto` resolved, so that all notebooks see the same data."""
    asked = parameters.values["03_train"]["dataset"]
    say = print if network else lambda _line: None
    name, root = fetch.resolve(asked, network=network, verify=False, say=say)
    values = {
        notebook: {**given, "dataset": name} if "dataset" in given else given
        for notebook, given in parameters.values.items()
    }
    return replace(parameters, values=values, data=fetch.checksum(root) if root else name)


def main(arguments: list[str] | None = None) -> int:
    """Run a bundle from the command line; 0 done, 1 failed, 2 bad input, 130 or 143 interrupted."""
    parser = argparse.ArgumentParser(
        prog="python -m lib.execute", description=__doc__.splitlines()[0]
    )
    parser.add_argument("run", help="name of a file in params/, without .yaml")
    parser.add_argument("--set", default="", help='overrides, such as "03_train.epochs=2 seed=7"')
    parser.add_argument("--seed", default="", help="results go to results/RUN-seedN")
    parser.add_argument(
        "--retrain", action="store_true", help="train again although a finished training is there"
    )
    parser.add_argument("--status", action="store_true", help="say what is up to date, run nothing")
    parser.add_argument("--until", default="", help="last notebook to run, such as 03_train")
    asked = parser.parse_args(arguments)
    if asked.until and asked.until not in notebooks():
        raise UserError(f"UNTIL={asked.until}: no such notebook{nearest(asked.until, notebooks())}")
    parameters = load(asked.run, asked.set, asked.seed)
    if asked.status:
        print(status.report(with_dataset(parameters, network=False)))
        return 0
    return _guarded(parameters, asked.retrain, asked.until)


def _guarded(parameters: RunParameters, retrain: bool, until: str) -> int:
    def interrupt(number, _frame):
        raise Interrupted(number)

    signal.signal(signal.SIGINT, interrupt)
    signal.signal(signal.SIGTERM, interrupt)
    try:
        ran = run_all(with_dataset(parameters), retrain, until)
        publish.render_run(parameters.name)
        if "06_report" in ran or not (paths.RESULTS / "study.html").is_file():
            from lib import claims  # late: a call that finds all up to date needs none of it

            claims.write()
        publish.write_index()
        if "report" in record.read_metrics(parameters.name):
            print(summary(parameters))
        return 0
    except Interrupted as stop:
        kept = "finished notebooks and epochs are kept"
        print(
            f"interrupted ({signal.Signals(stop.args[0]).name}): {kept}; go on with: "
            f"{_command(parameters)}",
            file=sys.stderr,
        )
        return 128 + stop.args[0]
    except Failed as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(
            f"error: {error.strerror} ({error.filename or 'results/'}): earlier results are "
            f"unharmed; then try again: {_command(parameters)}",
            file=sys.stderr,
        )
        return 1


if __name__ == "__main__":
    exit_on_user_error(main)
