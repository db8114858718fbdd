"""The learning rate as a function of time, and the phases a training consists of."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

from lib.settings import Train


def learning_rate(
    schedule: str, time: float, epochs: float, peak: float, warmup: float = 0.0,
    milestones: Sequence[float] = (), gamma: float = 0.1,
) -> float:  # fmt: skip
    """Return the learning rate at `time` (in epochs, 0 to `epochs`).

    constant: `peak`. step: `peak` times `gamma` for each milestone reached. cosine: peak (1 +
    cos(pi t / T)) / 2 (Loshchilov & Hutter, SGDR, ICLR 2017, equation 5, without restarts).
    one_cycle: linearly to 0. The first `warmup` epochs rise linearly from 0; cosine and one_cycle
    then use what is left of the time.
    """
    if time < warmup:
        return peak * time / warmup
    done = (time - warmup) / (epochs - warmup) if epochs > warmup else 1.0
    if schedule == "constant":
        return peak
    if schedule == "step":
        return peak * gamma ** sum(time >= milestone for milestone in milestones)
    if schedule == "cosine":
        return peak * (1 + math.cos(math.pi * done)) / 2
    if schedule == "one_cycle":
        return peak * (1 - done)
    raise ValueError(f"schedule {schedule!r}: must be constant, step, cosine or one_cycle")


@dataclass(frozen=True)
class Phase:
    """Training with one optimiser: `recipe` is settings with its own epochs, rates etc."""

    number: int
    first_epoch: int  # of the whole training, from 0
    recipe: Train

    @property
    def end(self) -> int:
        """The epoch after its last, counted over the whole training."""
        return self.first_epoch + self.recipe.epochs

    def rate(self, time: float) -> float:
        """Return the learning rate at `time` epochs of the whole training; warm-up is by step."""
        recipe, local = self.recipe, time - self.first_epoch
        if recipe.schedule_by == "epoch":
            local = max(math.floor(local + 1e-9), min(local, recipe.warmup_epochs))
        shape = (recipe.epochs, recipe.learning_rate, recipe.warmup_epochs, recipe.milestones)
        return learning_rate(recipe.schedule, local, *shape, recipe.gamma)


def phases(settings: Train) -> list[Phase]:
    """Return a training's one or two phases; phase2_* values replace namesakes in the second."""
    first = Phase(1, 0, settings)
    if not settings.phase2_epochs:
        return [first]
    prefix = "phase2_"
    names = [one.name for one in fields(settings) if one.name.startswith(prefix)]
    changes = {name.removeprefix(prefix): getattr(settings, name) for name in names}
    changes |= {"warmup_epochs": 0.0, "half_resolution": 0.0}
    return [first, Phase(2, settings.epochs, replace(settings, **changes))]


def total_epochs(settings: Train) -> int:
    """Return the epochs of all phases together."""
    return settings.epochs + settings.phase2_epochs
