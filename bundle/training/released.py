"""How a run takes a released training instead of training itself.

``results/released/RUN/training/`` holds state.json and history.jsonl as ``results/RUN/training/``
does, and with them weights.safetensors or logits.npz for a training whose weights are not kept, or
both, or neither: then it is only a record. What is taken becomes the run's own finished training,
with the release's state.json.
"""

import calendar
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bundle import files, paths
from bundle.files import exchange
from bundle.training import alike, code, identity, session, store, weights
from lib.data import Dataset
from lib.errors import UserError
from lib.settings import Train

LOGITS = store.LOGITS


def folder(run: str) -> Path:
    """Return where the release of a run lies (it need not exist)."""
    return paths.RESULTS / "released" / run


def fits(summary: dict[str, Any], settings: Train, dataset: Dataset) -> bool:
    """Whether a finished training (its state.json) has these parameters and saw this data."""
    if not summary:
        return False
    data = (summary["data"]["name"], summary["data"]["checksum"])
    return data == (dataset.name, dataset.checksum) and alike.is_of(summary, settings)


def load(run_folder: Path) -> identity.Training | None:
    """Return a run's finished training, without a network (None) where only its logits are here.

    Raises Damaged where its files are not as they were written.
    """
    training = store.complete_folder(run_folder)
    if (training / store.WEIGHTS).is_file():
        return identity.load_finished(run_folder)
    summary = identity.read_summary(training)
    if not summary or not (training / LOGITS).is_file():
        return None
    files.read_sealed(training / LOGITS)
    rows = store.finished_history(training, summary["epochs"])
    return identity.Training(None, rows, summary, code.verified(training))


def sound(run_folder: Path) -> tuple[identity.Training | None, str]:
    """Return a run's finished training and "", or None and what is wrong with it, in a line."""
    try:
        return load(run_folder), ""
    except files.Damaged as problem:
        return None, str(problem)


def with_network(run: str, what_for: str) -> None:
    """Raise UserError where `run`'s finished training has no weights, which `what_for` needs."""
    training = load(paths.results(run))
    if training and training.model is None:
        remedy = f"make run-all RUN={run} RETRAIN=1 UNTIL=03_train"
        raise UserError(f"{what_for}: results/{run}/training has logits but no weights; {remedy}")


def train_or_take(
    settings: Train,
    dataset: Dataset,
    run_folder: Path,
    on_epoch: Callable[[dict], None] | None = None,
    retrain: bool = False,
) -> identity.Training:
    """Train as `train.train` does, unless a release of the same parameters and data can be taken.

    A training under way goes on, and one that was done here stays; `retrain` trains whatever is
    there.
    """
    if not retrain and not (store.partial_folder(run_folder) / store.CHECKPOINT).is_file():
        take(settings, dataset, run_folder)
        here, _ = sound(run_folder)  # a damaged one is told of where it is trained again
        own = here and here.model is not None and not here.summary.get("released")
        if here and not own and fits(here.summary, settings, dataset):
            return here
    if settings.teacher:
        with_network(settings.teacher, f"03_train.teacher = {settings.teacher!r}")
    return session.train(settings, dataset, run_folder, on_epoch, retrain)


def take(settings: Train, dataset: Dataset, run_folder: Path) -> None:
    """Take the release as the run's training where it fits and none or an older one is there."""
    source, (here, problem) = folder(run_folder.name) / "training", sound(run_folder)
    whole = here.summary if here and fits(here.summary, settings, dataset) else None
    if whole and not whole.get("released"):
        return
    packed, released = source / weights.FILE, files.read_json(source / store.STATE)
    usable = packed.is_file() or (source / LOGITS).is_file()
    if not usable or not fits(released, settings, dataset) or whole == released:
        return
    if problem:
        print(f"{problem}: its release is taken again", flush=True)
    saved = weights.unpack(packed) if packed.is_file() else None
    place(source, store.complete_folder(run_folder), saved)


def place(source: Path, target: Path, saved: dict[str, Any] | None) -> None:
    """Fill a run's training folder: `source`'s state, history, logits; `saved` as weights.pt."""
    fresh = target.with_name("training.taken")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    kept = [LOGITS] if not saved or (source / LOGITS).is_file() else []
    for name in (store.STATE, store.HISTORY, *kept):
        files.write_atomically(fresh / name, files.read_sealed(source / name))
    summary = files.read_json(fresh / store.STATE)
    store.finished_history(source, summary["epochs"])
    # A history written now would be drawn as the progress of a training that is under way.
    finished = calendar.timegm(time.strptime(summary["finished"], "%Y-%m-%dT%H:%M:%SZ"))
    os.utime(fresh / store.HISTORY, (finished, finished))
    if saved:
        if store.weights_digest(identity.network_of(saved)) != summary["weights_sha256"]:
            what = "weights and state.json are not of one release; restore with git"
            raise UserError(f"{paths.shown(source)}: {what}")
        files.write_atomically(fresh / store.WEIGHTS, store.saved(saved))
    files.seal(fresh, store.STATE, store.HISTORY, store.WEIGHTS, *kept)
    exchange(fresh, target)
