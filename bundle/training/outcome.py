"""A finished training in numbers: as a run's metrics.json and a job's study.json hold it."""

from typing import Any

import torch
from torch import nn

from bundle.training import energy, identity
from lib import data, metrics, predict
from lib.data import Dataset, Images
from lib.layers import layer_table


def of_training(training: identity.Training) -> dict[str, Any]:
    """Return a training's size and cost.

    weights: whether they are here; released: what its release says of it, None for one's own;
    joules: None where they could not be read. tflop: two operations a multiply-accumulate, the
    backward pass twice the forward pass; a sharpness-aware step does both twice, one at half
    resolution a quarter. A teacher's passes are not counted.
    """
    summary, last = training.summary, training.history[-1]
    mmac = layer_table(training.model or identity.architecture(summary))["mmac"].sum()
    recipe = summary["parameters"]  # of an older training, without what it did not know
    passes = 2 if recipe.get("sam") else 1
    whole = summary["epochs"] - 0.75 * recipe.get("half_resolution", 0.0) * recipe["epochs"]
    kept = ("epochs", "images", "seconds", "images_per_second", "weights_sha256", "finished")
    return {
        **{key: summary[key] for key in kept},
        "tflop": 6 * mmac * passes * whole * summary["images"] / 1e6,
        "joules": energy.total(training.history),
        "stale": training.stale(),
        "weights": training.model is not None,
        "released": summary.get("released"),
        "last": {key: value for key, value in last.items() if key != "next_learning_rate"},
    }


def score(predictions: torch.Tensor, labels: torch.Tensor) -> dict[str, float]:
    """Return accuracy with its 95% Wilson interval: accuracy, low, high."""
    wilson = metrics.accuracy(predictions, labels)
    return {"accuracy": wilson.accuracy, "low": wilson.low, "high": wilson.high}


def single_view(
    model: nn.Module,
    images: Images,
    statistics: data.Statistics,
    precision: str,
    batch_size: int = 0,
) -> dict[str, float]:
    """Return the score of the original view of `images`, normalised by `statistics`."""
    logits = predict.logits(model, images.pixels, statistics, "original", precision, batch_size)
    return score(logits.argmax(1).cpu(), images.labels)


def beside(
    model: nn.Module,
    images: Images,
    dataset: Dataset,
    normalisation: str,
    precision: str,
    batch_size: int = 0,
) -> dict[str, Any] | None:
    """Return the single view's score with images normalised otherwise, None where none is named."""
    if not normalisation:
        return None
    statistics = dataset.normalisation(normalisation)
    single = single_view(model, images, statistics, precision, batch_size)
    return {"normalisation": normalisation, **single}


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
        chosen = {"best": best["test_accuracy"], "best_epoch": best["epoch"]}
        phases.append({"phase": number, **chosen, "last": rows[-1]["test_accuracy"]})
    return {"test_accuracy": [row["test_accuracy"] for row in history], "phases": phases}
