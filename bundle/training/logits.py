"""A finished training's logits: from its network or, without its weights, from the file kept.

``python -m bundle logits RUN`` writes results/RUN/training/logits.npz, which with state.json and
history.jsonl makes a training that notebooks 04, 05 and the report work from. Its arrays, PART
being "test" or "holdout": PART_views and PART_first (the view that gives the same images),
PART_logits_VIEW float32 (N, classes) for each of the latter, PART_labels, PART_index int64 (N,);
beside_NORMALISATION float32 (N, classes), the test images' other normalisation; weights_sha256.
"""

import io
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from bundle import files, paths
from bundle.dataset import competition
from bundle.training import identity, outcome, released, store
from lib import compute, predict
from lib.data import Dataset, Images
from lib.errors import UserError
from lib.settings import PredictTta


class FromNetwork:
    """Predictions computed by the network, on `settings`' device and in their precision."""

    kind = "weights"

    def __init__(self, training: identity.Training, dataset: Dataset, settings: PredictTta):
        machine = compute.prepare(settings)
        self.network, self.dataset = training.network.to(machine), dataset
        statistics = dataset.normalisation(training.normalisation)
        precision = compute.precision_of(settings, machine)
        self.arguments = (statistics, precision, settings.batch_size)
        self.told = f"The weights are here, so the network predicts ({machine.type}, {precision})."

    def views(self, part: str, images: Images, views: Sequence[str]) -> dict[str, Tensor]:
        """Return view -> logits (N, classes) of `images`, of `part` "test" or "holdout"."""
        if not len(images):
            return {}
        return predict.view_logits(self.network, images, views, *self.arguments)

    def beside(self, images: Images, normalisation: str) -> dict | None:
        """Return the single view's score on test images normalised otherwise, None if unasked."""
        arguments = self.arguments[1:]
        return outcome.beside(self.network, images, self.dataset, normalisation, *arguments)

    def normalised_by(self, normalisation: str) -> Tensor:
        """Return the logits of the single view of all test images, normalised otherwise."""
        pixels, statistics = self.dataset.test.pixels, self.dataset.normalisation(normalisation)
        return predict.logits(self.network, pixels, statistics, "original", *self.arguments[1:])

    def submit(self, shifted_set: str, combination: str, path: Path) -> pd.Series | None:
        """Predict a shifted set as `predict.submit`."""
        return competition.submit(self.network, shifted_set, combination, *self.arguments, path)


ABSENT = (
    "> **From saved logits.** The weights of this training are not here; what follows is computed "
    "from the logits that its network gave (`training/logits.npz`), and holds only the views saved "
    "there."
)
KEPT = (
    "> **From saved logits.** What follows is computed from the logits that are kept beside the "
    "weights (`training/logits.npz`): what this network gave when they were written. "
    "`saved_logits: false` under `04_predict_tta` in the run's parameter file lets the network "
    "predict here."
)


class FromFile:
    """Predictions read from logits.npz; UserError for what is not in it: it takes weights."""

    kind = "logits"

    def __init__(self, run_folder: Path, training: identity.Training):
        self.told = ABSENT if training.model is None else KEPT
        self.path = store.complete_folder(run_folder) / released.LOGITS
        content = files.read_sealed(self.path)
        try:
            with np.load(io.BytesIO(content)) as file:
                self.arrays = dict(file)
            self.arrays["weights_sha256"]
        except (ValueError, LookupError, OSError, TypeError, zipfile.BadZipFile) as error:
            raise store.damaged(self.path, "no file of logits") from error
        if str(self.arrays["weights_sha256"]) != training.summary["weights_sha256"]:
            what = "of other weights than state.json; copy both from one training"
            raise UserError(f"{paths.shown(self.path)}: {what}")

    def views(self, part: str, images: Images, views: Sequence[str]) -> dict[str, Tensor]:
        """Return view -> logits (N, classes) of `images`, of `part` "test" or "holdout"."""
        if not len(images):
            return {}
        first = dict(zip(self.arrays[f"{part}_views"], self.arrays[f"{part}_first"], strict=True))
        rows = self._rows(part, images)
        for view in views:
            if view not in first:
                raise self._without(f"the view {view} (it has {', '.join(first)})")
        saved = {view: self.arrays[f"{part}_logits_{first[view]}"] for view in views}
        return {view: torch.from_numpy(logits[rows]) for view, logits in saved.items()}

    def beside(self, images: Images, normalisation: str) -> dict | None:
        """Return the single view's score on test images normalised otherwise, None if unasked."""
        if not normalisation:
            return None
        logits = self.arrays.get(f"beside_{normalisation}")
        if logits is None:
            raise self._without(f"the normalisation {normalisation!r}")
        predictions = torch.from_numpy(logits[self._rows("test", images)].argmax(1))
        return {"normalisation": normalisation, **outcome.score(predictions, images.labels)}

    def submit(self, shifted_set: str, combination: str, path: Path) -> None:
        """Refuse to predict other images than the saved ones; no set named, nothing to do."""
        if shifted_set:
            raise self._without("a shifted set")

    def hold(self, settings: PredictTta, dataset: Dataset) -> bool:
        """Whether all that `settings` ask for is in the file: test and hold-out views, `beside`."""
        views = set(predict.COMBINATIONS.get(settings.combination, settings.views))
        on_test, on_holdout = (set(self.arrays[f"{part}_views"]) for part in ("test", "holdout"))
        return (
            not settings.shifted_set
            and views <= on_test
            and (not len(dataset.holdout) or set(settings.views) <= on_holdout)
            and (not settings.beside or f"beside_{settings.beside}" in self.arrays)
        )

    def _rows(self, part: str, images: Images) -> np.ndarray:
        """Return where `images` are in the file."""
        index, labels = self.arrays[f"{part}_index"], self.arrays[f"{part}_labels"]
        rows = np.searchsorted(index, images.index.numpy()).clip(max=len(index) - 1)
        if not (
            np.array_equal(index[rows], images.index.numpy())
            and np.array_equal(labels[rows], images.labels.numpy())
        ):
            raise self._without(f"these {part} images")
        return rows

    def _without(self, what: str) -> UserError:
        remedy = "not in it, and the weights are not here to compute it; RETRAIN=1 trains them"
        return UserError(f"{paths.shown(self.path)}: {what} {remedy}")


def source(
    training: identity.Training, dataset: Dataset, settings: PredictTta
) -> FromNetwork | FromFile:
    """Return what predicts for a run: saved logits where it has no network or they suffice."""
    folder = paths.results(settings.run)
    if training.model is None:
        return FromFile(folder, training)
    if settings.saved_logits and (store.complete_folder(folder) / released.LOGITS).is_file():
        try:
            saved = FromFile(folder, training)
        except files.Damaged as problem:
            print(f"{problem}; the network predicts")
        else:
            if saved.hold(settings, dataset):
                return saved
    return FromNetwork(training, dataset, settings)


def write(path: Path, training: identity.Training, dataset: Dataset, settings: PredictTta) -> None:
    """Write logits.npz: every view that `settings` name, on all test and hold-out images.

    float32, so that nothing is rounded: what a network computed in bf16 then compresses to about
    half.
    """
    network = FromNetwork(training, dataset, settings)
    named = predict.COMBINATIONS.get(settings.combination, ())  # "auto" names none
    views = list(dict.fromkeys([*settings.views, *named]))
    arrays: dict[str, Any] = {"weights_sha256": training.summary["weights_sha256"]}
    for part, images in (("test", dataset.test), ("holdout", dataset.holdout)):
        first = predict.distinct_views(images.pixels, views) if len(images) else {}
        arrays |= {
            f"{part}_views": list(first),
            f"{part}_first": list(first.values()),
            f"{part}_labels": images.labels,
            f"{part}_index": images.index,
        }
        by_view = network.views(part, images, list(dict.fromkeys(first.values())))
        arrays |= {f"{part}_logits_{view}": logits for view, logits in by_view.items()}
    if settings.beside:
        arrays[f"beside_{settings.beside}"] = network.normalised_by(settings.beside).cpu()
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    files.write_atomically(path, buffer.getvalue())


def save(run: str, settings: PredictTta) -> Path:
    """Write results/RUN/training/logits.npz from the weights of a finished training."""
    training = released.load(paths.results(run))
    if training is None:
        raise UserError(f"results/{run}/training: no finished training; run 03_train first")
    released.with_network(run, "logits")
    path = store.complete_folder(paths.results(run)) / released.LOGITS
    write(path, training, identity.dataset_of(training.summary), settings)
    files.seal(path.parent, path.name)
    return path


def choose(together: pd.DataFrame, combination: str) -> str:
    """Return the combination to use: as named, or for "auto" the best in `together`, then simplest.

    Raises UserError for "auto" without hold-out images to choose on.
    """
    if combination != "auto":
        return combination
    if together.empty:
        raise UserError(
            "04_predict_tta.combination = 'auto': there is no hold-out to choose on; name a "
            "combination"
        )
    sizes = together.index.map(lambda name: len(predict.COMBINATIONS[name]))
    return (
        together.assign(size=sizes)
        .sort_values(["accuracy", "size"], ascending=[False, True])
        .index[0]
    )
