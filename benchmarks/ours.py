"""Our training, as `lib` does it, in parts that can be timed. It knows nothing of the baseline."""

from collections.abc import Callable, Iterator

import torch

from benchmarks.plan import BATCH
from benchmarks.timing import seconds
from lib import compute, model, optimise, step
from lib.data import Dataset, subset
from lib.schedule import phases
from lib.settings import Train

WARMUP_STEPS = 3  # compile, record the CUDA graph, let the libraries choose their kernels


class Ours:
    """Our training of one network by lib's own code, `steps` batches an epoch (0: all images)."""

    def __init__(self, dataset: Dataset, chosen: Train, steps: int):
        self.settings, self.statistics, self.epochs = chosen, dataset.statistics, 0
        self.device = compute.prepare(chosen)
        compiled = compute.compiles(chosen, self.device)
        if compiled:
            # Only a few compilations are allowed, and an earlier network's graphs hold memory.
            torch.compiler.reset()
        self.images = subset(dataset.train, steps * BATCH).to(self.device)
        built = model.build(chosen, len(dataset.classes), chosen.seed)
        self.model = built.to(self.device, memory_format=torch.channels_last)
        self.phase = phases(chosen)[0]
        self.optimiser = optimise.make_optimiser(self.model, self.phase.recipe)
        self.precision = compute.precision_of(chosen, self.device)
        self.loss_of = step.loss_function(self.model, self.precision, compiled)
        self.batch = next(self.batches())
        self.fixed(WARMUP_STEPS)

    def epoch(self) -> None:
        """Train one epoch: all that happens between two looks at the hold-out."""
        step.train_epoch(
            self.model,
            self.optimiser,
            self.images,
            self.phase,
            self.epochs,
            self.statistics,
            self.settings.seed,
            self.loss_of,
        )
        self.epochs += 1

    def batches(self) -> Iterator[step.Batch]:
        """Return the next epoch's batches: what loading and augmentation give."""
        recipe, seed = self.phase.recipe, self.settings.seed
        return step.prepared_batches(self.images, recipe, self.epochs, self.statistics, seed)

    def prepare(self) -> None:
        """Load and augment one epoch and use it for nothing."""
        for _batch in self.batches():
            pass

    def fixed(self, steps: int = 0) -> None:
        """Do `steps`, or an epoch's, on one batch again and again: what is left without loading."""
        self.model.train()
        for _step in range(steps or len(self.images) // BATCH):
            step.train_step(self.model, self.loss_of, self.optimiser, self.batch, self.phase.recipe)

    def rate(self, work: Callable[[], None]) -> float:
        """Return images/s of `epoch`, `prepare` or `fixed`."""
        return len(self.images) / seconds(work, self.device)
