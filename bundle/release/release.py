"""Release a finished run: ``python -m bundle release RUN [--weights] [--logits] [--record]``.

It writes results/released/RUN. That folder is committed; what runs leave elsewhere is not, so
running never makes a clone dirty.

With --weights they are rounded to float16, and everything that is released is measured again with
the rounded ones: a run of its own, results/RUN-released, executes the notebooks on them. With
--logits a run whose weights are not kept can still be predicted from and judged; beside the weights
they spare a slow machine the prediction. --record leaves out report and figures: one seed of a
recipe is enough to read, and the numbers of all stand in its report.
"""

from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from bundle import files, paths
from bundle.dataset import cifar10
from bundle.files import locked, write_atomically, write_json
from bundle.pages import publish
from bundle.release import card, pages
from bundle.runs import execute, launch, results, status
from bundle.runs.params import RunParameters
from bundle.training import code, identity, logits, released, store, weights
from bundle.training.store import complete_folder
from lib import compute, data, predict
from lib.errors import UserError
from lib.settings import PredictTta


def finished(
    parameters: RunParameters, record: bool = False
) -> tuple[identity.Training, data.Dataset]:
    """Return a finished run's training and data; UserError if it cannot be released so."""
    run, again = parameters.name, f"{files.run_again(parameters.name)} first"
    if changed := status.changed(paths.results(run)):
        raise UserError(f"{paths.shown(changed[0])}: not as it was written; {again}")
    metrics, training = results.read_metrics(run), released.load(paths.results(run))
    needed = {"train", "test", "confusion" if record else "report"}
    if training is None or not needed <= metrics.keys():
        raise UserError(f"results/{run}: no finished run there to release; {again}")
    if metrics["train"]["weights_sha256"] != training.summary["weights_sha256"]:
        raise UserError(f"results/{run}: its metrics are not those of its training; {again}")
    if training.summary.get("released"):
        remedy = "RETRAIN=1 makes one to release"
        raise UserError(f"results/{run}: its training was itself taken from a release; {remedy}")
    settings = parameters.settings("03_train")
    dataset = cifar10.load(settings.dataset, settings.train_images, settings.holdout)
    if not released.fits(training.summary, settings, dataset):
        problem = "made with other parameters or data than are asked for"
        raise UserError(f"results/{run}: {problem}; {again}")
    return training, dataset


def rounding(before: torch.Tensor, after: torch.Tensor, labels: torch.Tensor) -> dict[str, Any]:
    """Return what rounding did by predictions (N,) before, after: images, accuracies, changed."""
    return {
        "images": len(labels),
        "before": (before == labels).double().mean().item(),
        "after": (after == labels).double().mean().item(),
        "changed": int((before != after).sum()),
    }


def round_weights(
    parameters: RunParameters, training: identity.Training, dataset: data.Dataset, stage: Path
) -> None:
    """Write rounded weights with state and history into `stage`; the state says what it did."""
    source = complete_folder(paths.results(parameters.name))
    saved = store.load_weights(source)
    packed = weights.pack({**saved, "model": weights.rounded(saved["model"])})
    write_atomically(stage / weights.FILE, packed)
    network, _statistics, _classes = weights.read_network(stage / weights.FILE)
    change = _change(parameters, training, dataset, network)
    _keep(source, stage, training, store.weights_digest(network.cpu()), rounding=change)


def _change(
    parameters: RunParameters, training: identity.Training, dataset: data.Dataset, network: Any
) -> dict[str, Any]:
    """Return what rounding the training's weights to those of `network` did to predictions."""
    settings = parameters.settings("04_predict_tta")
    test = data.subset(dataset.test, settings.test_images)
    device, statistics = compute.prepare(settings), dataset.normalisation(training.normalisation)
    precision = compute.precision_of(settings, device)
    options = (statistics, "original", precision, settings.batch_size)
    before, after = (
        predict.logits(model.to(device), test.pixels, *options).argmax(1).cpu()
        for model in (training.network, network)
    )
    made = {"to": "float16", "device": device.type, "precision": precision}
    return {**made, **rounding(before, after, test.labels)}


def _keep(
    source: Path, stage: Path, training: identity.Training, digest: str, **change: Any
) -> None:
    """Write history and state of released weights; "released" holds what they were made of."""
    write_atomically(stage / store.HISTORY, files.read_sealed(source / store.HISTORY))
    origin = {"weights_sha256": training.summary["weights_sha256"], **change}
    summary = {**training.summary, "weights_sha256": digest, "released": origin}
    write_json(stage / "state.json", summary)


def measure_again(parameters: RunParameters, rounded: Path) -> str:
    """Execute the notebooks on the rounded weights, in a run of its own, and return its name."""
    name = f"{parameters.name}-released"
    if (paths.PARAMS / f"{name}.yaml").exists():
        problem = f"results/{name} is where a release is measured"
        raise UserError(f"params/{name}.yaml: {problem}; rename that run")
    folder = paths.results(name)
    here, _problem = released.sound(folder)
    if not here or not here.model or here.summary != files.read_json(rounded / store.STATE):
        with locked(folder, name):
            released.place(rounded, complete_folder(folder), weights.unpack(rounded / weights.FILE))
    values = {notebook: {**given, "run": name} for notebook, given in parameters.values.items()}
    with launch.Server() as server:
        again = replace(parameters, name=name, values=values)
        execute.run_all(again, server, retrain=False, until="")
    publish.render_run(name)
    return name


def keep_logits(
    settings: PredictTta, training: identity.Training, dataset: data.Dataset, stage: Path
) -> None:
    """Write the logits into `stage`: those kept with the training where they suffice, or anew."""
    source, path = logits.source(training, dataset, settings), stage / released.LOGITS
    if isinstance(source, logits.FromFile):
        write_atomically(path, files.read_sealed(source.path))
    else:
        logits.write(path, training, dataset, settings)


def release(parameters: RunParameters, what: Collection[str] = ()) -> Path:
    """Write results/released/RUN whole, or leave it as it was.

    `what`: "weights", "logits", "record" (neither report nor figures). Raises UserError for a run
    that cannot be released so, Failed where a notebook fails on the rounded weights.
    """
    stage = paths.RESULTS / f".releasing-{parameters.name}"
    target = released.folder(parameters.name)
    training, dataset = finished(parameters, "record" in what)
    with files.staged(stage, target):
        (stage / "training").mkdir(parents=True)
        fill(stage, parameters, training, dataset, what)
    return target


def fill(
    stage: Path,
    parameters: RunParameters,
    training: identity.Training,
    dataset: data.Dataset,
    what: Collection[str],
) -> None:
    """Put everything that is released into `stage`, which has an empty folder `training`."""
    run = measured = parameters.name
    if "weights" in what:
        released.with_network(run, "WEIGHTS=1")
        round_weights(parameters, training, dataset, stage / "training")
        measured = measure_again(parameters, stage / "training")
        training = released.load(paths.results(measured)) or training
    else:
        source, digest = complete_folder(paths.results(run)), training.summary["weights_sha256"]
        _keep(source, stage / "training", training, digest)
    verified = complete_folder(paths.results(measured)) / code.VERIFIED
    if files.intact(verified) and verified.is_file():
        write_atomically(stage / "training" / code.VERIFIED, verified.read_bytes())
    if "logits" in what:
        settings = replace(parameters.settings("04_predict_tta"), run=measured)
        keep_logits(settings, training, dataset, stage / "training")
    show(paths.results(measured), stage, record="record" in what)
    write_atomically(stage / "model_card.md", card.write(parameters, stage).encode())


def show(source: Path, stage: Path, record: bool) -> None:
    """Put a run's metrics into `stage` and, but for a record, its figures and its report."""
    write_atomically(stage / "metrics.json", files.read_sealed(source / "metrics.json"))
    if not record:
        pages.report(source, stage)
        pages.pdf(stage)
