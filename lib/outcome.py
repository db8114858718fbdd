"""A finished training in numbers: as a run's metrics.json and a job's study.json hold it."""

from typing import Any

import numpy as np
import torch

from lib import compute, data, energy, metrics, predict, shipped, train
from lib.data import Dataset, Images
from lib.model import count_parameters, layer_table
from lib.params import RunParameters
from lib.settings import VIEWS


def of_training(training: train.Training) -> dict[str, Any]:
    """Return a training's size and cost.

    They are epochs, images, seconds, images_per_second, TFLOP, joules, hash, last, stale. weights:
    whether they are here; released: what its release says of it (lib.release), None for one's own
    training. Arithmetic: two operations a multiply-accumulate, the backward pass twice the forward
    pass's; a step that is sharpness-aware does both twice. A teacher's passes are not counted.
    Joules: None where they could not be read.
    """
    summary, last = training.summary, training.history[-1]
    mmac = layer_table(training.model or shipped.architecture(summary))["mmac"].sum()
    # Those before it was added have no such parameter.
    passes = 2 if summary["parameters"].get("sam") else 1
    kept = ("epochs", "images", "seconds", "images_per_second", "weights_sha256", "finished")
    return {
        **{key: summary[key] for key in kept},
        "tflop": 6 * mmac * passes * summary["epochs"] * summary["images"] / 1e6,
        "joules": energy.total(training.history),
        "stale": training.stale(),
        "weights": training.model is not None,
        "released": summary.get("released"),
        "last": {key: value for key, value in last.items() if key != "next_learning_rate"},
    }


def score(predictions: torch.Tensor, labels: torch.Tensor) -> dict[str, float]:
    """Return accuracy with its 95% Wilson interval: accuracy, low, high."""
    found = metrics.accuracy(predictions, labels)
    return {"accuracy": found.accuracy, "low": found.low, "high": found.high}


def single_view(
    model, images: Images, statistics: data.Statistics, precision: str, batch_size: int = 0
):
    """Return the score of the original view of `images`, normalised by `statistics`."""
    logits = predict.logits(model, images.pixels, statistics, "original", precision, batch_size)
    return score(logits.argmax(1).cpu(), images.labels)


def beside(
    model, images: Images, dataset: Dataset, normalisation: str, precision: str, batch_size: int = 0
):
    """Return the single view's score with images normalised otherwise, None where none is named."""
    if not normalisation:
        return None
    found = single_view(model, images, dataset.normalisation(normalisation), precision, batch_size)
    return {"normalisation": normalisation, **found}


def audit(history: list[dict[str, Any]]) -> dict[str, Any] | None:
    """Return what choosing the epoch on the test set would give, by phase; None without audit.

    test_accuracy: after each epoch; phases: phase, best, best_epoch (from 1), last.
    """
    if "test_accuracy" not in history[-1]:
        return None
    phases = []
    for number in sorted({row["phase"] for row in history}):
        rows = [row for row in history if row["phase"] == number]
        best = max(rows, key=lambda row: row["test_accuracy"])
        found = {"phase": number, "best": best["test_accuracy"], "best_epoch": best["epoch"]}
        phases.append({**found, "last": rows[-1]["test_accuracy"]})
    return {"test_accuracy": [row["test_accuracy"] for row in history], "phases": phases}


def of_study(
    training: train.Training, dataset: Dataset, parameters: RunParameters, judged_on: str = "test"
):
    """Return findings for study.json and, for study.npz, its views' predictions and logits.

    Every view and combination is scored on the test images: claims about them are tested, nothing
    is chosen. A study that serves a choice is judged on the hold-out ("holdout"), whose scores then
    stand in place of the test images'.
    """
    asked = parameters.settings("04_predict_tta")
    machine, test = compute.prepare(asked), data.subset(dataset.test, asked.test_images)
    if judged_on == "holdout":
        test = data.subset(dataset.holdout, asked.holdout_images)
    network, precision = training.model.to(machine), compute.precision_of(asked, machine)
    statistics = dataset.normalisation(training.normalisation)
    by_view = predict.view_logits(network, test, VIEWS, statistics, precision, asked.batch_size)
    alone = {view: logits.argmax(1) for view, logits in by_view.items()}
    together = {name: predict.combine(by_view, name).argmax(1) for name in predict.available(VIEWS)}
    notice = data.notice(dataset, *((len(test),) if judged_on == "test" else ()))
    confusion = metrics.confusion(alone["original"], test.labels, len(dataset.classes))
    found = {
        "judged_on": judged_on,
        "run": parameters.name,
        "file": parameters.file,
        "seed": parameters.values["03_train"]["seed"],
        "settings": training.summary["parameters"],
        "dataset": data.label(dataset.name, notice),
        "notice": notice,
        "data_checksum": dataset.checksum,
        "parameters": count_parameters(network),
        "mmac": float(layer_table(network)["mmac"].sum()),
        "train": of_training(training),
        "weights_sha256": training.summary["weights_sha256"],
        "environment": {**training.summary["environment"], **training.summary["compute"]},
        "test": {"images": len(test), **score(alone["original"], test.labels)},
        "beside": beside(network, test, dataset, asked.beside, precision, asked.batch_size),
        "views": compared(alone, test.labels),
        "combinations": compared(together, test.labels),
        "confusion": confusion.tolist(),
        "audit": audit(training.history),
    }
    arrays = {"predictions": alone["original"], "labels": test.labels, "index": test.index}
    arrays |= {f"logits_{view}": logits for view, logits in by_view.items()}
    return found, {name: np.asarray(values) for name, values in arrays.items()}


def compared(
    predictions: dict[str, torch.Tensor], labels: torch.Tensor
) -> dict[str, dict[str, float]]:
    """Return each score and test against the first, as `predict.compare`; the first's p is 1."""
    rows = predict.compare(predictions, labels).to_dict("index")
    first = next(iter(rows))
    rows[first] |= {"gained": 0, "lost": 0, "p": 1.0}
    return {name: {key: float(value) for key, value in row.items()} for name, row in rows.items()}
