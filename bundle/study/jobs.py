"""A study: the runs and seeds of a plan, each trained, predicted and recorded without notebooks.

``python -m bundle study jobs PLAN`` lists them, ``job PLAN RUN@SEED`` does one, ``collect PLAN``
writes the study's page. `make study` gives the jobs to make as targets, so that its -j decides how
many work at a time.
"""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bundle import fingerprint, paths, words
from bundle.dataset import cifar10
from bundle.files import Damaged, intact, locked, read_json, read_sealed, seal, write_json
from bundle.runs import params, results
from bundle.runs.params import RunParameters
from bundle.study.plan import Plan, every_job
from bundle.training import alike, outcome, released, session
from bundle.training.identity import Training
from bundle.training.progress import epoch_line
from bundle.training.store import complete_folder, load_checkpoint, partial_folder
from lib import compute, data, metrics, predict
from lib.data import Dataset
from lib.layers import layer_table
from lib.model import count_parameters
from lib.schedule import total_epochs
from lib.settings import VIEWS, Train

RESULT, ARRAYS = "study.json", "study.npz"  # in results/RUN: what a job found
# Of a plan, for its page and its study.json.
DESCRIBED = ("name", "title", "runs", "seeds", "epochs", "train_images", "full", "set", "judged_on")


def do_job(
    parameters: RunParameters, judged_on: str = "test", say: Callable = print, wait_s: float = 0.0
) -> None:
    """Train, or go on, predict and record; what is there, of these parameters, is not redone.

    A job that was done elsewhere needs its study.json alone, neither its weights nor its training.
    Raises Busy where another process, such as a node given up, is at it after `wait_s` seconds.
    """
    folder, settings = paths.results(parameters.name), parameters.settings("03_train")
    dataset = cifar10.load(settings.dataset, settings.train_images, settings.holdout)

    def log(text: str) -> None:
        say(f"{parameters.name}: {text}", flush=True)

    with locked(folder, parameters.name, wait_s):
        if is_done(folder, settings, judged_on, dataset.checksum):
            return log("done already")
        if changed := outdated(folder, settings):
            say(f"{changed}; it is trained again, and stays until that is done", flush=True)
        if not released.sound(folder)[1]:  # a damaged training is trained again
            released.with_network(parameters.name, "make study")
        training = session.train(settings, dataset, folder, lambda row: log(epoch_line(row)))
        result, arrays = of_study(training, dataset, parameters, judged_on)
        _keep(folder, result, arrays)
    log(f"{judged_on} accuracy {result['test']['accuracy']:.2%}")


def _keep(folder: Path, result: dict[str, Any], arrays: dict[str, Any]) -> None:
    np.savez_compressed(folder / ARRAYS, **arrays)
    write_json(folder / RESULT, result)
    seal(folder, ARRAYS, RESULT)


def is_done(folder: Path, settings: Train, judged_on: str, checksum: str = "") -> bool:
    """Whether the job in `folder` was done with these parameters, images and any training here."""
    try:
        read = [
            read_json(path) for path in (folder / RESULT, complete_folder(folder) / "state.json")
        ]
    except Damaged:
        return False
    result, trained = read
    return intact(folder / ARRAYS) and (
        bool(result)
        and result.get("judged_on", "test") == judged_on
        and checksum in ("", result["data_checksum"])
        and alike.same_parameters(result["settings"], alike.parameters_of(settings))
        and trained.get("weights_sha256", result["weights_sha256"]) == result["weights_sha256"]
    )


def outdated(folder: Path, settings: Train) -> str:
    """Return, in a line, the parameters in which a job differs from its file now, "" for none.

    Where what it left is not as it was written, that is the line.
    """
    try:
        result, _ = read_json(folder / RESULT), read_json(complete_folder(folder) / "state.json")
        if (folder / ARRAYS).is_file():
            read_sealed(folder / ARRAYS)
    except Damaged as problem:
        return str(problem)
    if not result:
        return ""
    both = (result["settings"], alike.parameters_of(settings))
    changed = fingerprint.differences(*map(alike.with_defaults, both))
    line = f"{paths.shown(folder)}: done with other parameters ({', '.join(changed[:4])})"
    return line if changed else ""


def collect(plan: Plan) -> dict[str, Any]:
    """Return every job's findings, in the plan's order, and the plan; jobs not done are named.

    What is known of trainings under way that follow the test accuracy stands under "unfinished".
    """
    done, missing, unfinished = [], [], []
    for job, parameters in every_job(plan).items():
        folder, settings = paths.results(parameters.name), parameters.settings("03_train")
        if is_done(folder, settings, plan.judged_on):
            marked = results.marked(read_json(folder / RESULT), folder)
            done.append({**marked, "base": params.base_of(parameters.file)})
            continue
        missing.append(job)
        unfinished += under_way(parameters)
        if changed := outdated(folder, settings):
            remedy = f"make study PLAN={plan.name} does it again"
            print(f"{changed}; left out: {remedy}", file=sys.stderr)
    described = {key: getattr(plan, key) for key in DESCRIBED}
    lists = {"runs": list(plan.runs), "seeds": list(plan.seeds)}
    found = {"plan": {**described, **lists}, "jobs": done, "missing": missing}
    return found | ({"unfinished": unfinished} if unfinished else {})


def under_way(parameters: RunParameters) -> list[dict[str, Any]]:
    """Return how far an unfinished training is that follows the test accuracy, [] without one."""
    settings = parameters.settings("03_train")
    partial = partial_folder(paths.results(parameters.name)) if settings.audit else None
    saved = partial and load_checkpoint(partial, lambda problem: print(problem, file=sys.stderr))
    if not saved:
        return []
    began = saved["identity"]
    if not alike.same_parameters(began["parameters"], alike.parameters_of(settings)):
        return []
    said = {"run": parameters.name, "file": parameters.file, "seed": settings.seed}
    said |= {"epochs": saved["epoch"], "of": total_epochs(settings)}
    about = {"settings": began["parameters"], "data_checksum": began["data"]["checksum"]}
    about |= {"environment": began["compute"], "audit": outcome.audit(saved["history"])}
    return [{**said, **about}]


def folder_of(plan: str) -> Path:
    """Return where a study's page and figures lie."""
    return paths.RESULTS / "studies" / plan


def of_study(
    training: Training, dataset: Dataset, parameters: RunParameters, judged_on: str = "test"
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Return findings for study.json and, for study.npz, its views' predictions and logits.

    Every view and combination is scored on the test images: claims about them are tested, nothing
    is chosen. A study that serves a choice is judged on the hold-out ("holdout"), whose scores then
    stand in place of the test images'.
    """
    settings = parameters.settings("04_predict_tta")
    machine, test = compute.prepare(settings), data.subset(dataset.test, settings.test_images)
    if judged_on == "holdout":
        test = data.subset(dataset.holdout, settings.holdout_images)
    network, precision = training.network.to(machine), compute.precision_of(settings, machine)
    statistics, size = dataset.normalisation(training.normalisation), settings.batch_size
    by_view = predict.view_logits(network, test, VIEWS, statistics, precision, size)
    beside = outcome.beside(network, test, dataset, settings.beside, precision, size)
    notice = words.notice(dataset, *((len(test),) if judged_on == "test" else ()))
    about: dict[str, Any] = {"dataset": words.dataset_label(dataset.name, notice), "notice": notice}
    about |= {"data_checksum": dataset.checksum, "beside": beside, "judged_on": judged_on}
    arrays = {f"logits_{view}": logits for view, logits in by_view.items()} | {"index": test.index}
    arrays |= {"predictions": by_view["original"].argmax(1), "labels": test.labels}
    result = _trained(training, parameters) | about | _scored(by_view, test.labels)
    return result, {name: np.asarray(values) for name, values in arrays.items()}


def _trained(training: Training, parameters: RunParameters) -> dict[str, Any]:
    """Return what is known of a job before it predicts."""
    summary = training.summary
    return {
        "run": parameters.name,
        "file": parameters.file,
        "seed": parameters.values["03_train"]["seed"],
        "settings": summary["parameters"],
        "parameters": count_parameters(training.network),
        "mmac": float(layer_table(training.network)["mmac"].sum()),
        "train": outcome.of_training(training),
        "weights_sha256": summary["weights_sha256"],
        "environment": {**summary["environment"], **summary["compute"]},
        "audit": outcome.audit(training.history),
    }


def _scored(by_view: dict[str, torch.Tensor], labels: torch.Tensor) -> dict[str, Any]:
    """Return the scores of each view's logits (N, classes) and of their combinations."""
    alone = {view: logits.argmax(1) for view, logits in by_view.items()}
    together = {name: predict.combine(by_view, name).argmax(1) for name in predict.available(VIEWS)}
    classes = by_view["original"].shape[1]
    return {
        "test": {"images": len(labels), **outcome.score(alone["original"], labels)},
        "views": compared(alone, labels),
        "combinations": compared(together, labels),
        "confusion": metrics.confusion(alone["original"], labels, classes).tolist(),
    }


def compared(predictions: dict[str, torch.Tensor], labels: torch.Tensor) -> dict[str, dict]:
    """Return each score and test against the first, as `predict.compare`; the first's p is 1."""
    table = predict.compare(predictions, labels).astype(float)
    table.iloc[0] = table.iloc[0].fillna({"gained": 0.0, "lost": 0.0, "p": 1.0})
    return table.to_dict("index")
