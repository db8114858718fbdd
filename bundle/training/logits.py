"""A finished training's logits: from its network or, without its weights, from the file kept.

``python -m bundle logits RUN`` writes results/RUN/training/logits.npz, which with state.json and
history.jsonl makes a training that notebooks 04 to 06 work from. Its arrays, PART being "test" or
"holdout": PART_views and PART_first (the view that gives the same images), PART_logits_VIEW float32
(N, classes) for each of the latter, PART_labels, PART_index int64 (N,); beside_NORMALISATION
float32 (N, classes), the test images' other normalisation; weights_sha256.
"""

import io
from pathlib import Path

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
        self.network, self.dataset = training.model.to(machine), dataset
        statistics = dataset.normalisation(training.normalisation)
        self.arguments = (statistics, compute.precision_of(settings, machine), settings.batch_size)
        self.told = (
            f"The weights are here, so the network predicts ({machine.type}, {self.arguments[1]})."
        )

    def views(self, part: str, images: Images, views) -> dict[str, Tensor]:
        """Return view -> logits (N, classes) of `images`, of `part` "test" or "holdout"."""
        return (
            predict.view_logits(self.network, images, views, *self.arguments) if len(images) else {}
        )

    def beside(self, images: Images, normalisation: str) -> dict | None:
        """Return the single view's score on test images normalised otherwise, None if unasked."""
        return outcome.beside(
            self.network, images, self.dataset, normalisation, *self.arguments[1:]
        )

    def submit(self, shifted_set: str, combination: str, path: Path) -> pd.Series | None:
        """Predict a shifted set as `predict.submit`."""
        return competition.submit(self.network, shifted_set, combination, *self.arguments, path)


class FromFile:
    """Predictions read from logits.npz; UserError for what is not in it: it takes weights."""

    kind = "logits"

    def __init__(self, run_folder: Path, training: identity.Training):
        self.told = (
            "> **From saved logits.** The weights of this training are not here; what follows is "
            "computed from the logits that its network gave (`training/logits.npz`), and holds "
            "only the views saved there."
            if training.model is None
            else "> **From saved logits.** What follows is computed from the logits that are kept "
            "beside the weights (`training/logits.npz`): what this network gave when they "
            "were written. `saved_logits: false` under `04_predict_tta` in the run's "
            "parameter file lets the network predict here."
        )
        self.path = store.complete_folder(run_folder) / released.LOGITS
        with np.load(self.path) as file:
            self.arrays = dict(file)
        if str(self.arrays["weights_sha256"]) != training.summary["weights_sha256"]:
            raise UserError(
                f"{paths.shown(self.path)}: of other weights than state.json; copy both from one "
                "training"
            )

    def views(self, part: str, images: Images, views) -> dict[str, Tensor]:
        """Return view -> logits (N, classes) of `images`, of `part` "test" or "holdout"."""
        if not len(images):
            return {}
        first = dict(zip(self.arrays[f"{part}_views"], self.arrays[f"{part}_first"], strict=True))
        rows, missing = self._rows(part, images), [view for view in views if view not in first]
        if missing:
            raise self._without(f"the view {missing[0]} (it has {', '.join(first)})")
        return {
            view: torch.from_numpy(self.arrays[f"{part}_logits_{first[view]}"][rows])
            for view in views
        }

    def beside(self, images: Images, normalisation: str) -> dict | None:
        """Return the single view's score on test images normalised otherwise, None if unasked."""
        if not normalisation:
            return None
        if f"beside_{normalisation}" not in self.arrays:
            raise self._without(f"the normalisation {normalisation!r}")
        predicted = torch.from_numpy(
            self.arrays[f"beside_{normalisation}"][self._rows("test", images)].argmax(1)
        )
        return {"normalisation": normalisation, **outcome.score(predicted, images.labels)}

    def submit(self, shifted_set: str, combination: str, path: Path) -> None:
        """Refuse to predict other images than the saved ones; no set named, nothing to do."""
        if shifted_set:
            raise self._without("a shifted set")

    def hold(self, settings: PredictTta, dataset: Dataset) -> bool:
        """Whether all that `settings` ask for is in the file: test and hold-out views, `beside`."""
        asked = set(predict.COMBINATIONS.get(settings.combination, settings.views))
        there = {part: set(self.arrays[f"{part}_views"]) for part in ("test", "holdout")}
        return (
            not settings.shifted_set
            and asked <= there["test"]
            and (not len(dataset.holdout) or set(settings.views) <= there["holdout"])
            and (not settings.beside or f"beside_{settings.beside}" in self.arrays)
        )

    def _rows(self, part: str, images: Images) -> np.ndarray:
        """Return where `images` are in the file."""
        rows = np.searchsorted(self.arrays[f"{part}_index"], images.index.numpy())
        rows = rows.clip(max=len(self.arrays[f"{part}_index"]) - 1)
        same = all(
            np.array_equal(self.arrays[f"{part}_{name}"][rows], value.numpy())
            for name, value in (("index", images.index), ("labels", images.labels))
        )
        if not same:
            raise self._without(f"these {part} images")
        return rows

    def _without(self, what: str) -> UserError:
        return UserError(
            f"{paths.shown(self.path)}: {what} not in it, and the weights are not here to compute "
            "it; RETRAIN=1 trains them"
        )


def source(
    training: identity.Training, dataset: Dataset, settings: PredictTta
) -> FromNetwork | FromFile:
    """Return what predicts for a run: saved logits where it has no network or they suffice."""
    folder = paths.results(settings.run)
    if training.model is None:
        return FromFile(folder, training)
    if settings.saved_logits and (store.complete_folder(folder) / released.LOGITS).is_file():
        saved = FromFile(folder, training)
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
    arrays = {"weights_sha256": training.summary["weights_sha256"]}
    for part, images in (("test", dataset.test), ("holdout", dataset.holdout)):
        first = predict.distinct_views(images.pixels, views) if len(images) else {}
        arrays |= {
            f"{part}_views": list(first),
            f"{part}_first": list(first.values()),
            f"{part}_labels": images.labels,
            f"{part}_index": images.index,
        }
        found = network.views(part, images, list(dict.fromkeys(first.values())))
        arrays |= {f"{part}_logits_{view}": logits for view, logits in found.items()}
    if settings.beside:
        statistics, (_, precision, batch_size) = (
            dataset.normalisation(settings.beside),
            network.arguments,
        )
        found = predict.logits(
            network.network, dataset.test.pixels, statistics, "original", precision, batch_size
        )
        arrays[f"beside_{settings.beside}"] = found.cpu()
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **{name: np.asarray(value) for name, value in arrays.items()})
    files.write_atomically(path, buffer.getvalue())


def save(run: str, settings: PredictTta) -> Path:
    """Write results/RUN/training/logits.npz from the weights of a finished training."""
    training = released.load(paths.results(run))
    if training is None:
        raise UserError(f"results/{run}/training: no finished training; run 03_train first")
    released.with_network(run, "logits")
    path = store.complete_folder(paths.results(run)) / released.LOGITS
    write(path, training, identity.dataset_of(training.summary), settings)
    return path
