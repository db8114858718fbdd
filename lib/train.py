"""Training: the loop over the epochs, in memory unless it is handed a store.

from lib import data, train
from lib.settings import Train
training = train.train(Train(dataset="digits", epochs=2), data.load("digits"))
"""

import time
from dataclasses import dataclass
from typing import Any, Protocol

import torch.nn.functional as F
from torch import nn

from lib import compute, predict
from lib.average import Average
from lib.data import Dataset, Images, Statistics, normalise, subset
from lib.model import ResNet, build, channels_last
from lib.optimise import make_optimiser
from lib.schedule import Phase, phases, total_epochs
from lib.settings import Train
from lib.step import loss_function, train_epoch

WHITENING_IMAGES = 5000  # that a whitening stem is made from: 4.8 million patches, 12 directions


class Store(Protocol):
    """Where a training keeps its state after every epoch, to go on from."""

    def load(self) -> dict[str, Any] | None:
        """Return the state that was saved last, None to begin at the first epoch."""

    def save(self, state: dict[str, Any]) -> None:
        """Keep what `Loop.state` returns: plain values and tensors."""


class Watch:
    """Hears how a training goes; this one does nothing with it."""

    def begin(self, epoch: int) -> None:
        """An epoch begins (from 0, over all phases)."""

    def step(self, step: int, steps: int, images: int) -> None:
        """A step is done, of so many in the epoch, which has seen so many images."""

    def end(self, row: dict[str, Any]) -> None:
        """An epoch is done; what is added to its row of the history is kept with it."""


@dataclass
class Training:
    """A training that is done.

    model: with its last epoch's weights or their average. history: a row an epoch. seconds: of
    all epochs, looks at the hold-out included.
    """

    model: nn.Module
    history: list[dict[str, Any]]
    seconds: float


def train(
    settings: Train,
    dataset: Dataset,
    store: Store | None = None,
    watch: Watch | None = None,
    teacher: nn.Module | None = None,
) -> Training:
    """Train a network and return it with its history.

    Args:
        settings: all that decides the result.
        dataset: what `data.load` gave for it.
        store: keeps the state after every epoch; a training goes on from what it has.
        watch: hears of epochs and steps.
        teacher: the network whose predictions are learned too (settings.teacher_weight).

    Raises:
        UserError: a GPU is asked for and none is here, or the network has too many parameters.
    """
    loop, watch = Loop(settings, dataset, teacher), watch or Watch()
    if store and (state := store.load()):
        loop.load_state(state)
    while loop.epoch < total_epochs(settings):
        loop.one_epoch(watch)
        if store:
            store.save(loop.state())
    return Training(loop.result, loop.history, loop.seconds)


class Loop:
    """One training under way: what changes from epoch to epoch, in one place."""

    def __init__(self, settings: Train, dataset: Dataset, teacher: nn.Module | None = None):
        device = compute.prepare(settings)
        self.settings, self.dataset = settings, dataset
        self.precision = compute.precision_of(settings, device)
        self.phases, self.epoch, self.seconds = phases(settings), 0, 0.0
        self.history: list[dict[str, Any]] = []
        model = build(settings, len(dataset.classes), settings.seed)
        self._whiten(model)
        self.model = channels_last(model.to(device))
        self.average = Average(self.model, settings.ema) if settings.ema else None
        taught = teacher and teacher.to(device).eval().requires_grad_(False)
        compiled = compute.compiles(settings, device)
        self.loss_of = loss_function(self.model, self.precision, compiled, taught)
        self._enter(self.phases[0])
        self.images = dataset.train.to(device)
        self.holdout = subset(dataset.holdout, settings.holdout_images).to(device)
        self.test = dataset.test.to(device) if settings.audit else None

    @property
    def result(self) -> nn.Module:
        """The network that the training gives: the averaged one where there is one."""
        return self.average.model if self.average else self.model

    def one_epoch(self, watch: Watch) -> None:
        """Train one epoch, look at the hold-out, and add a row to the history."""
        phase = next(phase for phase in self.phases if self.epoch < phase.end)
        if self.phase != phase.number:
            self._enter(phase)
        watch.begin(self.epoch)
        started = time.perf_counter()
        statistics = self.dataset.normalisation(phase.recipe.normalisation)
        given = (self.images, phase, self.epoch, statistics, self.settings.seed, self.loss_of)
        held = 0 < self.settings.stem_bias_epochs <= self.epoch
        bias = self.model.conv.bias if held else None  # a learned stem has none
        if bias is not None:
            bias.requires_grad_(False)  # its gradient would be all that the stem's images are for
        row = train_epoch(self.model, self.optimiser, *given, self.average, watch.step)
        if bias is not None:
            bias.requires_grad_(True)
        seen = evaluate(self.result, self.holdout, statistics, self.precision)
        row |= {f"holdout_{name}": value for name, value in seen.items()}
        if self.test:
            row["test_accuracy"] = self._audit(self.test)
        self.epoch += 1
        self.seconds += time.perf_counter() - started
        watch.end(row)
        self.history.append(row)

    def state(self) -> dict[str, Any]:
        """Return what a training needs to go on to the same bits."""
        return {
            "model": self.model.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "average": self.average.state_dict() if self.average else None,
            "epoch": self.epoch,
            "phase": self.phase,
            "history": self.history,
            "seconds": self.seconds,
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Take up what `state` gave."""
        self.model.load_state_dict(state["model"])
        self.epoch, self.history = state["epoch"], state["history"]
        self.seconds = state["seconds"]
        self._enter(self.phases[state["phase"] - 1])
        self.optimiser.load_state_dict(state["optimiser"])
        if self.average:
            self.average.load_state_dict(state["average"])

    def _enter(self, phase: Phase) -> None:
        self.optimiser, self.phase = make_optimiser(self.model, phase.recipe), phase.number

    def _whiten(self, model: ResNet) -> None:
        """Fix a whitening stem's filters by the first training images, normalised as in phase 1."""
        first = self.dataset.train.pixels[:WHITENING_IMAGES].float() / 255
        model.whiten(normalise(first, self.dataset.normalisation(self.settings.normalisation)))

    def _audit(self, test: Images) -> float:
        """Return the test accuracy, normalised as in phase 1: as the reference measured it."""
        statistics = self.dataset.normalisation(self.settings.normalisation)
        return evaluate(self.result, test, statistics, self.precision)["accuracy"]


def evaluate(
    model: nn.Module, images: Images, statistics: Statistics, precision: str
) -> dict[str, float]:
    """Return loss and accuracy on images without augmentation; {} where there are none."""
    if not len(images):
        return {}
    logits = predict.logits(model, images.pixels, statistics, precision=precision)
    labels = images.labels.to(logits.device)
    accuracy = (logits.argmax(1) == labels).float().mean().item()
    return {"loss": F.cross_entropy(logits, labels).item(), "accuracy": accuracy}
