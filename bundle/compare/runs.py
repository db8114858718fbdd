"""A finished run, done here or released, as far as a comparison of two needs it; all of it checked.

Predictions are those of the single view: from predictions.npz, which notebook 04 writes, or from
training/logits.npz, which a release keeps with LOGITS=1.
"""

import io
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bundle import paths
from bundle.files import Damaged, read_json, read_sealed, remedy, run_again
from bundle.runs.results import marked
from bundle.training import store
from bundle.words import number
from lib import metrics
from lib.errors import UserError
from lib.metrics import Accuracy

NUMBERS = (  # of a finished run's metrics.json
    *(("test", key) for key in ("images", "accuracy", "low", "high")),
    *(("train", key) for key in ("epochs", "images", "seconds", "images_per_second", "tflop")),
    *((key,) for key in ("seed", "parameters", "mmac")),
)
TEXTS = ("dataset", "data_checksum")
SINGLE = "original"  # the view


@dataclass(frozen=True)
class Finished:
    """A run: its name as given, folder, metrics.json, epochs (a row each), predictions.

    predictions: predictions, labels, index, each int (N,), of the test images; None where they are
    not here.
    """

    name: str
    folder: Path
    metrics: dict[str, Any]
    history: list[dict[str, Any]]
    predictions: dict[str, NDArray] | None

    @property
    def matrix(self) -> NDArray[np.int64]:
        """Counts (classes, classes) of the test images, rows the true class."""
        return np.array(self.metrics["confusion"]["matrix"])

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes."""
        return tuple(self.metrics["confusion"]["classes"])

    @property
    def accuracy(self) -> Accuracy:
        """The single view's accuracy on the test images."""
        images = int(self.metrics["test"]["images"])
        return metrics.wilson(round(self.metrics["test"]["accuracy"] * images), images)


def read(option: str, name: str) -> Finished:
    """Return the run that OPTION=name names, the one done here before a released one.

    Raises UserError, one line, where there is none, and where it is unfinished or damaged.
    """
    paths.check_run_name(option, name)
    folder, again = paths.results(name), run_again(name.removeprefix("released/"))
    if not (folder / "metrics.json").exists() and not any(folder.glob("training*")):
        folder = paths.results(f"released/{name}")
    if not folder.is_dir():
        raise UserError(f"{option}={name}: no such run in results/ or results/released/; {again}")
    told = read_json(folder / "metrics.json")
    if "confusion" not in told:
        raise UserError(f"{option}={name}: not finished: 05_confusion has not run; {again}")
    _check(told, folder / "metrics.json")
    history = store.finished_history(store.complete_folder(folder), int(told["train"]["epochs"]))
    _check_history(history, folder)
    return Finished(name, folder, marked(told, folder), history, _predictions(folder))


def _check(told: dict[str, Any], path: Path) -> None:
    """Raise Damaged where metrics.json lacks what a finished run records."""
    missing = [".".join(keys) for keys in NUMBERS if number(told, *keys) is None]
    missing += [key for key in TEXTS if not isinstance(told.get(key), str)]
    missing += [key for key in ("settings", "environment") if not isinstance(told.get(key), dict)]
    if missing or not _is_confusion(told["confusion"]):
        what = missing[0] if missing else "confusion"
        raise Damaged(f"{paths.shown(path)}: no {what} that can be read; {remedy(path)}")


def _is_confusion(told: Any) -> bool:
    """Whether it holds counts of as many classes as it names."""
    try:
        matrix, classes = np.array(told["matrix"]), told["classes"]
        names = all(isinstance(name, str) for name in classes)
        return names and matrix.shape == (len(classes),) * 2 and matrix.dtype.kind == "i"
    except (LookupError, TypeError, ValueError):
        return False


def _check_history(history: list[dict[str, Any]], folder: Path) -> None:
    keys = ("learning_rate", "train_loss", "train_accuracy")
    if not all(number(row, key) is not None for row in history for key in keys):
        path = store.complete_folder(folder) / store.HISTORY
        raise store.damaged(path, "an epoch without loss, accuracy or rate")


def _predictions(folder: Path) -> dict[str, NDArray] | None:
    """Return what the single view predicts, None where that is not kept; raises Damaged."""
    for name, part in (("predictions.npz", ""), (f"training/{store.LOGITS}", "test_")):
        if (folder / name).is_file():
            content = read_sealed(folder / name)
            try:
                with np.load(io.BytesIO(content)) as saved:
                    return _single(saved, part)
            except (ValueError, LookupError, OSError, TypeError, zipfile.BadZipFile) as error:
                raise store.damaged(folder / name, "no file of predictions") from error
    return None


def _single(saved: Any, part: str) -> dict[str, NDArray]:
    """Return the arrays of the single view from predictions.npz or, `part` "test_", logits.npz."""
    if part:
        logits = saved[f"{part}logits_{SINGLE}"]
    else:
        logits = saved["logits"][list(saved["views"]).index(SINGLE)]
    labels, index = saved[f"{part}labels"], saved[f"{part}index"]
    if not logits.ndim == 2 or not len(logits) == len(labels) == len(index):
        raise ValueError("arrays of different lengths")
    return {"predictions": logits.argmax(1), "labels": labels, "index": index}
