"""Training: the loop over the epochs, and what goes to disk after every one.

``python -m lib.train RUN`` trains params/RUN.yaml without a notebook and leaves the same state as
03_train.
"""

import argparse
import json
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import pandas as pd
import torch
import torch.nn.functional as F

from lib import compute, energy, fetch, fingerprint, params, paths, predict, progress, state
from lib.average import Average
from lib.data import NORMALISATIONS, Dataset, Images, load, normalise, subset
from lib.errors import UserError, exit_on_user_error
from lib.model import ResNet, build, configuration
from lib.optimise import make_optimiser
from lib.provenance import provenance
from lib.schedule import Phase, phases, total_epochs
from lib.settings import Train
from lib.step import loss_function, train_epoch

HEARTBEAT_SECONDS = 1.0
# The code that decides the weights; what train imports besides only finds, shows or writes.
# fmt: off
CODE = (
    "augment", "average", "blocks", "compute", "data", "model", "optimise", "schedule", "settings",
    "state", "step", "train", "trivial",
)
# fmt: on
# Parameters of where the training computes; they stand in the identity under "compute".
COMPUTE = ("device", "precision", "threads", "compile", "deterministic")
# From which a whitening stem's filters are made: 4.8 million patches for 12 directions.
WHITENING_IMAGES = 5000


@dataclass
class Training:
    """A finished training: the network with its last epoch's weights, and its state.json."""

    model: ResNet
    history: list[dict[str, Any]]
    summary: dict[str, Any]

    @property
    def normalisation(self) -> str:
        """What the images of the last phase were normalised by, and so must be the test's."""
        parameters = self.summary["parameters"]
        return parameters[
            "phase2_normalisation" if parameters["phase2_epochs"] else "normalisation"
        ]

    def stale(self) -> list[str]:
        """Return the code files that changed since, [] where none did."""
        return fingerprint.differences(self.summary["code"], fingerprint.of_files(CODE))


def describe(phase: Phase) -> dict[str, str]:
    """Return a phase's recipe in words, for a table."""
    recipe = phase.recipe
    decay = "all parameters" if recipe.decay_all else "weights only"
    decay += ", convolutions excepted" if recipe.optimiser == "muon" else ""
    cutmix = f"p {recipe.cutmix:g}, alpha {recipe.cutmix_alpha:g}" if recipe.cutmix else "none"
    mixup = f"p {recipe.mixup:g}, alpha {recipe.mixup_alpha:g}" if recipe.mixup else "none"
    mirrored = (
        "every other epoch"
        if recipe.flip_mode == "alternating"
        else f"p {recipe.horizontal_flip:g}"
    )
    low, high = recipe.blur_sigma
    blur = (
        f"p {recipe.blur:g}, {recipe.blur_kernel}x{recipe.blur_kernel}, sigma {low:g} to {high:g}"
    )
    return {
        "epochs": str(recipe.epochs),
        "batch size": str(recipe.batch_size),
        "optimiser": _optimiser_in_words(recipe),
        "learning rate": f"{recipe.learning_rate:g}, {recipe.schedule} by {recipe.schedule_by}"
        + (f"; shifts {recipe.shift_rate:g} times that" if recipe.shift_rate != 1 else ""),
        "warm-up": f"{recipe.warmup_epochs:g} epochs" if recipe.warmup_epochs else "none",
        "weight decay": f"{recipe.weight_decay:g} on {decay}",
        "divided by": NORMALISATIONS[recipe.normalisation],
        "crop": f"32x32 after {recipe.crop_padding} pixels of {recipe.crop_mode} padding",
        "flips": f"horizontal {mirrored}, vertical p {recipe.vertical_flip:g}",
        "TrivialAugment": f"p {recipe.trivial_augment:g}" if recipe.trivial_augment else "none",
        "Gaussian blur": blur if recipe.blur else "none",
        "random erasing": f"p {recipe.erasing:g}" if recipe.erasing else "none",
        "CutMix": cutmix,
        "mixup": mixup,
        "label smoothing": f"{recipe.label_smoothing:g}",
        "averaged weights": f"decay {recipe.ema:g} a step" if recipe.ema else "none",
        "sharpness-aware": f"radius {recipe.sam:g}" + (", adaptive" if recipe.sam_adaptive else "")
        if recipe.sam
        else "no",
        "teacher": f"{recipe.teacher}, share {recipe.teacher_weight:g}, temperature "
        f"{recipe.temperature:g}"
        if recipe.teacher
        else "none",
    }


def _optimiser_in_words(recipe: Train) -> str:
    sgd = f"SGD, momentum {recipe.momentum:g}" + (", Nesterov" if recipe.nesterov else "")
    if recipe.optimiser == "sgd":
        return sgd
    return (
        f"Muon, {recipe.muon_learning_rate:g}, momentum {recipe.muon_momentum:g}, for "
        f"convolutions; else {sgd}"
    )


def history_table(history: pd.DataFrame) -> pd.DataFrame:
    """Return a history (one row an epoch) with the columns worth reading, named in words."""
    words = {
        "epoch": "epoch",
        "train_loss": "training loss",
        "train_accuracy": "training accuracy",
        "holdout_loss": "hold-out loss",
        "holdout_accuracy": "hold-out accuracy",
        "test_accuracy": "test accuracy (audit)",
        "learning_rate": "learning rate",
        "images_per_second": "images/s",
    }
    return history[[name for name in words if name in history]].rename(columns=words)


def evaluate(model, images: Images, statistics, precision: str) -> dict[str, float]:
    """Return loss and accuracy on images without augmentation; {} where there are none."""
    if not len(images):
        return {}
    logits = predict.logits(model, images.pixels, statistics, precision=precision)
    labels = images.labels.to(logits.device)
    accuracy = (logits.argmax(1) == labels).float().mean().item()
    return {"holdout_loss": F.cross_entropy(logits, labels).item(), "holdout_accuracy": accuracy}


def parameters_of(settings: Train) -> dict[str, Any]:
    """Return the parameters that decide what is trained, not where, as plain values."""
    return {
        key: value
        for key, value in json.loads(json.dumps(asdict(settings))).items()
        if key not in ("run", "dataset", *COMPUTE)
    }


def with_defaults(parameters: dict[str, Any]) -> dict[str, Any]:
    """Return a training's parameters with those added since, at defaults, which change nothing."""
    return json.loads(json.dumps({one.name: one.default for one in fields(Train)})) | parameters


def same_parameters(saved: dict[str, Any], wanted: dict[str, Any]) -> bool:
    """Whether two trainings have equal parameters."""
    return with_defaults(saved) == with_defaults(wanted)


def identity_of(
    settings: Train,
    dataset: Dataset,
    device: torch.device,
    precision: str,
    teacher: Training | None = None,
) -> dict[str, dict[str, Any]]:
    """Return what a training is a function of: parameters, data (and teacher), code, machine."""
    taught = {"teacher": teacher.summary["weights_sha256"]} if teacher else {}
    return {
        "parameters": parameters_of(settings),
        "data": {"name": dataset.name, "checksum": dataset.checksum, **taught},
        "code": fingerprint.of_files(CODE),
        "compute": compute.identity(device, precision, settings),
    }


def train(
    settings: Train,
    dataset: Dataset,
    run_folder: Path,
    on_epoch: Callable[[dict], None] | None = None,
    retrain: bool = False,
    say=print,
) -> Training:
    """Train, go on with an unfinished training or load a finished one, of equal parameters, data.

    Args:
        settings: all that decides the result; dataset: what `data.load` gave for it.
        run_folder: results/RUN; the state is written below it after every epoch.
        on_epoch: called with each new row of the history.
        retrain: start afresh whatever lies there (a finished state stays until the new one is
            complete).

    Raises:
        UserError: an unfinished training of other parameters, data, code or machine lies there.

    An unfinished training of the very same identity is always gone on with, also under `retrain`:
    it ends with the bits that starting afresh would give.
    """
    device = compute.prepare(settings)
    precision = compute.precision_of(settings, device)
    teacher = teacher_of(settings, dataset)
    identity = identity_of(settings, dataset, device, precision, teacher)
    saved = state.load_checkpoint(state.partial_folder(run_folder), say)
    under_way = saved and all(saved["identity"].get(key) == identity[key] for key in identity)
    if not retrain and not under_way and (finished := load_finished(run_folder, identity)):
        return finished
    if saved and not under_way and not retrain:
        state.refuse_other(
            saved["identity"], identity, state.partial_folder(run_folder), saved["epoch"]
        )
    loop = _Loop(settings, dataset, run_folder, device, precision, identity, teacher)
    loop.begin(saved if under_way else None)
    while loop.epoch < total_epochs(settings):
        row = loop.one_epoch()
        if on_epoch:
            on_epoch(row)
    loop.finish()
    return load_finished(run_folder, identity)


def load_finished(run_folder: Path, identity: dict[str, dict] | None = None) -> Training | None:
    """Return the finished training of a run, None without one (of these parameters, this data)."""
    folder = state.complete_folder(run_folder)
    summary = state.read_json(folder / "state.json")
    if not summary:
        return None
    if identity and not (
        same_parameters(summary["parameters"], identity["parameters"])
        and summary["data"] == identity["data"]
    ):
        return None
    saved = torch.load(folder / "weights.pt", map_location="cpu", weights_only=True)
    model = ResNet(**saved["network"])
    model.load_state_dict(saved["model"])
    return Training(
        model.to(memory_format=torch.channels_last), state.read_history(folder), summary
    )


def dataset_of(summary: dict[str, Any]) -> Dataset:
    """Load the dataset that a training (its state.json) used; UserError if other data lies here."""
    parameters, wanted = summary["parameters"], summary["data"]
    dataset = load(wanted["name"], parameters["train_images"], parameters["holdout"])
    if dataset.checksum != wanted["checksum"]:
        raise UserError(
            f"the {wanted['name']} files here are not those the training used: run 03_train again"
        )
    return dataset


def teacher_of(settings: Train, dataset: Dataset) -> Training | None:
    """Return the finished training that `settings` name as the teacher, None where they name none.

    Raises UserError where it is not finished, knows other classes, or is used to another
    normalisation.
    """
    if not settings.teacher:
        return None
    where = f"03_train.teacher = {settings.teacher!r}"
    teacher = load_finished(paths.results(settings.teacher))
    if teacher is None:
        raise UserError(
            f"{where}: no finished training in results/{settings.teacher}; "
            f"make run-all RUN={settings.teacher} UNTIL=03_train, first"
        )
    if teacher.summary["data"]["name"] != dataset.name:
        raise UserError(
            f"{where}: it was trained on {teacher.summary['data']['name']}, not {dataset.name}"
        )
    if {teacher.normalisation} != {phase.recipe.normalisation for phase in phases(settings)}:
        raise UserError(
            f"{where}: it is used to the normalisation '{teacher.normalisation}'; train with that "
            "one"
        )
    if teacher.summary["parameters"]["holdout"] < settings.holdout:
        raise UserError(
            f"{where}: it was trained on the images held out here; give it holdout: "
            f"{settings.holdout}"
        )
    return teacher


class _Loop:
    """One training under way: what changes from epoch to epoch, in one place."""

    def __init__(self, settings, dataset, run_folder, device, precision, identity, teacher):
        self.settings, self.dataset, self.run_folder = settings, dataset, run_folder
        self.precision, self.identity = precision, identity
        self.folder = state.partial_folder(run_folder)
        self.phases, self.epoch, self.history, self.seconds = phases(settings), 0, [], 0.0
        model = build(settings, len(dataset.classes), settings.seed)
        self.model = model.to(device, memory_format=torch.channels_last)
        self._whiten()
        self.average = Average(self.model, settings.ema) if settings.ema else None
        taught = teacher and teacher.model.to(device).eval().requires_grad_(False)
        self.loss_of = loss_function(
            self.model, precision, compute.compiles(settings, device), taught
        )
        self.optimiser, self.optimiser_phase, self.last_beat = None, 0, 0.0
        self.holdout = subset(dataset.holdout, settings.holdout_images).to(device)
        self.meter = energy.meter(device)
        self.images = dataset.train.to(device)
        self.test = dataset.test.to(device) if settings.audit else None

    def begin(self, saved: dict[str, Any] | None) -> None:
        """Take up a checkpoint, or begin at the first epoch in an emptied folder."""
        if saved is None:
            shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True, exist_ok=True)
        if saved:
            self.model.load_state_dict(saved["model"])
            self.epoch, self.history, self.seconds = (
                saved["epoch"],
                saved["history"],
                saved["seconds"],
            )
            self._renew_optimiser(self.phases[saved["phase"] - 1])
            self.optimiser.load_state_dict(saved["optimiser"])
            if self.average:
                self.average.load_state_dict(saved["average"])
        self._write_history()

    def one_epoch(self) -> dict[str, Any]:
        """Train one epoch, look at the hold-out, and put everything on disk."""
        phase = next(phase for phase in self.phases if self.epoch < phase.end)
        if self.optimiser_phase != phase.number:
            self._renew_optimiser(phase)
        self.meter.start()
        started, statistics = (
            time.perf_counter(),
            self.dataset.normalisation(phase.recipe.normalisation),
        )
        row = train_epoch(
            self.model,
            self.optimiser,
            self.images,
            phase,
            self.epoch,
            statistics,
            self.settings.seed,
            self.loss_of,
            self.average,
            self._beat,
        )
        row |= evaluate(self.result, self.holdout, statistics, self.precision)
        if self.test:
            row["test_accuracy"] = self._audit()
        self.epoch += 1
        self.seconds += time.perf_counter() - started
        if (joules := self.meter.joules()) is not None:
            row["joules"] = joules
        self.history.append(row)
        content = {
            "model": self.model.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "epoch": self.epoch,
            "average": self.average.state_dict() if self.average else None,
            "phase": phase.number,
            "history": self.history,
            "seconds": self.seconds,
            "identity": self.identity,
        }
        state.save_checkpoint(self.folder, content)
        self._write_history()
        return row

    @property
    def result(self) -> ResNet:
        """The network that the training gives: the averaged one where there is one."""
        return self.average.model if self.average else self.model

    def finish(self) -> None:
        """Write weights and summary and make the state the run's complete one."""
        statistics = self.dataset.normalisation(self.phases[-1].recipe.normalisation)
        network = configuration(self.settings, len(self.dataset.classes))
        weights = {
            "model": self.result.state_dict(),
            "network": network,
            "parameters": self.identity["parameters"],
            "data": self.identity["data"],
            "classes": list(self.dataset.classes),
            "statistics": asdict(statistics),
        }
        trained = len(self.images) * self.epoch
        epoch_seconds = sum(row["seconds"] for row in self.history)
        finished = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        summary = {
            **self.identity,
            "epochs": self.epoch,
            "images": len(self.images),
            "seconds": self.seconds,
            "images_per_second": trained / epoch_seconds,
            "weights_sha256": state.weights_digest(self.result),
            "finished": finished,
            "environment": provenance(),
        }
        state.finish(self.run_folder, weights, summary)

    def _whiten(self) -> None:
        """Fix a whitening stem's filters by the first training images, normalised as in phase 1."""
        first = self.dataset.train.pixels[:WHITENING_IMAGES].float() / 255
        self.model.whiten(normalise(first, self.dataset.normalisation(self.settings.normalisation)))

    def _audit(self) -> float:
        """Return the test accuracy, normalised as in phase 1: as the reference measured it."""
        statistics = self.dataset.normalisation(self.settings.normalisation)
        return evaluate(self.result, self.test, statistics, self.precision)["holdout_accuracy"]

    def _renew_optimiser(self, phase: Phase) -> None:
        self.optimiser, self.optimiser_phase = (
            make_optimiser(self.model, phase.recipe),
            phase.number,
        )

    def _write_history(self) -> None:
        lines = "".join(json.dumps(row) + "\n" for row in self.history)
        state.write_atomically(self.folder / "history.jsonl", lines.encode())

    def _beat(self, step: int, steps: int, images: int) -> None:
        """Leave a heartbeat for who draws progress, and read energy, at most once a second."""
        now = time.monotonic()
        if now - self.last_beat > HEARTBEAT_SECONDS:
            self.last_beat = now
            self.meter.look()
            beat = {
                "epoch": self.epoch + 1,
                "epochs": total_epochs(self.settings),
                "step": step,
                "steps": steps,
            }
            state.write_json(self.folder / "progress.json", beat | {"images": images})


def main(arguments: list[str] | None = None) -> int:
    """Train a run from the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m lib.train", description=__doc__.splitlines()[0]
    )
    parser.add_argument("run", help="name of a file in params/, without .yaml")
    parser.add_argument("--set", default="", help='overrides, such as "03_train.epochs=2"')
    parser.add_argument("--seed", help="results go to results/RUN-seedN")
    parser.add_argument("--retrain", action="store_true", help="start afresh whatever lies there")
    asked = parser.parse_args(arguments)
    run = params.load(asked.run, asked.set, asked.seed)
    settings = run.settings("03_train")
    name, _ = fetch.resolve(settings.dataset)
    dataset = load(name, settings.train_images, settings.holdout)
    training = train(
        settings, dataset, paths.results(run.name), progress.print_epoch, asked.retrain
    )
    print(
        f"{paths.shown(paths.results(run.name))}/training: complete, {training.summary['epochs']} "
        "epochs"
    )
    return 0


if __name__ == "__main__":
    exit_on_user_error(main)
