"""A run's training: what goes to disk after every epoch, and what is gone on with."""

import json
import math
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

import torch

from bundle import files, paths
from bundle.training import energy, store
from bundle.training.identity import Training, gone_on, identity_of, load_finished, refuse_other
from bundle.training.provenance import provenance
from lib import compute
from lib import train as loop
from lib.data import Dataset
from lib.errors import UserError
from lib.model import configuration
from lib.schedule import phases, total_epochs
from lib.settings import Train

HEARTBEAT_SECONDS = 1.0


def train(
    settings: Train,
    dataset: Dataset,
    run_folder: Path,
    on_epoch: Callable[[dict], None] | None = None,
    retrain: bool = False,
    say: Callable[[str], None] = print,
    elsewhere: bool = False,
) -> Training:
    """Train, go on with an unfinished training or load a finished one, of equal parameters, data.

    The state is written below `run_folder` after every epoch; then `on_epoch` is called with its
    row. `retrain` starts afresh, and a finished state stays until the new one is complete; but an
    unfinished training of the same identity is always gone on with, to the same bits; `elsewhere`:
    also one that another machine began. Raises UserError where there is one of other parameters.
    """
    device, teacher = compute.prepare(settings), teacher_of(settings, dataset)
    identity = identity_of(settings, dataset, device, teacher)
    saved = store.load_checkpoint(folder := store.partial_folder(run_folder), say)
    under_way = saved and gone_on(saved["identity"], identity, saved["epoch"], elsewhere)
    if not retrain and not under_way and (finished := _finished(run_folder, identity, say)):
        return finished
    if saved and not under_way and not retrain:
        refuse_other(saved["identity"], identity, folder, saved["epoch"])
    identity = under_way or identity
    checkpoints = Checkpoints(folder, identity, saved if under_way else None, on_epoch)
    watch = Heart(folder, total_epochs(settings), energy.meter(device))
    done = loop.train(settings, dataset, checkpoints, watch, teacher.network if teacher else None)
    _finish(done, settings, dataset, identity, run_folder)
    return cast(Training, load_finished(run_folder, identity))


def _finished(run_folder: Path, identity: dict[str, dict], say: Callable) -> Training | None:
    """Return the finished training of an identity, None without one or, said, a damaged one."""
    try:
        return load_finished(run_folder, identity)
    except files.Damaged as problem:
        say(f"{problem}: it is trained again")
        return None


def teacher_of(settings: Train, dataset: Dataset) -> Training | None:
    """Return the finished training that `settings` name as the teacher, None where they name none.

    Raises UserError where it cannot teach.
    """
    if not settings.teacher:
        return None
    teacher = load_finished(paths.results(settings.teacher))
    if problem := _unfit(teacher, settings, dataset):
        raise UserError(f"03_train.teacher = {settings.teacher!r}: {problem}")
    return teacher


def _unfit(teacher: Training | None, settings: Train, dataset: Dataset) -> str:
    """Return why a training cannot teach with these settings, "" where it can."""
    if teacher is None:
        remedy = f"make run-all RUN={settings.teacher} UNTIL=03_train, first"
        return f"no finished training in results/{settings.teacher}; {remedy}"
    if (name := teacher.summary["data"]["name"]) != dataset.name:
        return f"it was trained on {name}, not {dataset.name}"
    if {teacher.normalisation} != {phase.recipe.normalisation for phase in phases(settings)}:
        return f"it is used to the normalisation '{teacher.normalisation}'; train with that one"
    if teacher.summary["parameters"]["holdout"] < (held := settings.holdout):
        return f"it was trained on the images held out here; give it holdout: {held}"
    return ""


class Checkpoints:
    """Keeps a training's state and identity in results/RUN/training.partial: a `lib.train.Store`.

    `saved` is the checkpoint to go on from, None to begin; then the folder is emptied. `on_epoch`
    is called with the last row of the history once it is on disk.
    """

    def __init__(self, folder: Path, identity: dict, saved: dict | None, on_epoch: Callable | None):
        self.folder, self.identity, self.saved, self.on_epoch = folder, identity, saved, on_epoch

    def load(self) -> dict[str, Any] | None:
        """Return the state to go on from; the history on disk is then that state's."""
        if self.saved is None:
            shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True, exist_ok=True)
        self._write(self.saved["history"] if self.saved else [])
        return self.saved

    def save(self, state: dict[str, Any]) -> None:
        """Put state and history on disk, then tell of the epoch; Failed for what is not finite."""
        _check_finite(state)
        store.save_checkpoint(self.folder, {**state, "identity": self.identity})
        self._write(state["history"])
        if self.on_epoch:
            self.on_epoch(state["history"][-1])

    def _write(self, history: list[dict[str, Any]]) -> None:
        lines = "".join(json.dumps(row, allow_nan=False) + "\n" for row in history)
        files.write_atomically(self.folder / "history.jsonl", lines.encode())


def _check_finite(state: dict[str, Any]) -> None:
    """Raise Failed where a training has diverged; the epochs before stay on disk."""
    row, parts = state["history"][-1], [state["model"], (state["average"] or {})]
    numbers = [value for value in row.values() if isinstance(value, float)]
    what = "" if all(map(math.isfinite, numbers)) else "the loss is not finite"
    tensors = [tensor for part in parts for tensor in _tensors(part)]
    if not what and not all(tensor.isfinite().all() for tensor in tensors):
        what = "a weight is not finite"
    if what:
        again = ", with RETRAIN=1" if row["epoch"] > 1 else ""
        remedy = f"lower 03_train.learning_rate{again}"
        raise files.Failed(f"epoch {row['epoch']}: {what}; {remedy}")


def _tensors(value: Any) -> list[torch.Tensor]:
    """Return the tensors in nested dictionaries."""
    if isinstance(value, dict):
        return [tensor for part in value.values() for tensor in _tensors(part)]
    return [value] if isinstance(value, torch.Tensor) else []


class Heart(loop.Watch):
    """Leaves a heartbeat for whoever draws the progress, and reads the energy used."""

    def __init__(self, folder: Path, epochs: int, meter: energy.Meter):
        self.folder, self.epochs, self.meter, self.epoch, self.last = folder, epochs, meter, 0, 0.0

    def begin(self, epoch: int) -> None:
        """Note the epoch, and count its energy from 0."""
        self.epoch = epoch
        self.meter.start()

    def step(self, step: int, steps: int, images: int) -> None:
        """Beat at most once a second."""
        now = time.monotonic()
        if now - self.last > HEARTBEAT_SECONDS:
            self.last = now
            self.meter.look()
            beat = {"epoch": self.epoch + 1, "epochs": self.epochs, "step": step, "steps": steps}
            files.write_json(self.folder / "progress.json", {**beat, "images": images})

    def end(self, row: dict[str, Any]) -> None:
        """Add the energy to the epoch's row, where it can be read."""
        if (joules := self.meter.joules()) is not None:
            row["joules"] = joules


def _finish(
    done: loop.Training, settings: Train, dataset: Dataset, identity: dict, run_folder: Path
) -> None:
    """Write weights and summary and make the state the run's complete one."""
    statistics = dataset.normalisation(phases(settings)[-1].recipe.normalisation)
    weights = {
        "model": done.model.state_dict(),
        "network": configuration(settings, len(dataset.classes)),
        "parameters": identity["parameters"],
        "data": identity["data"],
        "classes": list(dataset.classes),
        "statistics": asdict(statistics),
    }
    epochs, images = len(done.history), len(dataset.train)
    summary = {
        **identity,
        "epochs": epochs,
        "images": images,
        "seconds": done.seconds,
        "images_per_second": images * epochs / sum(row["seconds"] for row in done.history),
        "weights_sha256": store.weights_digest(done.model),
        "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "environment": provenance(),
    }
    store.finish(run_folder, weights, summary)
