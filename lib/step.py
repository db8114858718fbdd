"""One epoch of training: batches, loss, optimiser, step. Nothing here waits for a GPU."""

import hashlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from lib import compute
from lib.augment import train_batch
from lib.average import Average
from lib.data import Images, Statistics
from lib.optimise import Optimiser, at_sharpest
from lib.schedule import Phase
from lib.settings import Train

GROUP_IMAGES = 2048  # augmented at once: an operation on one batch is too small to keep a GPU busy


@dataclass(frozen=True)
class Batch:
    """What a step is given.

    images float32 (N, 3, 32, 32) channels last; labels, partners int64 (N,); lam (N,).
    """

    images: Tensor
    labels: Tensor
    partners: Tensor
    lam: Tensor

    def __len__(self) -> int:
        return len(self.labels)


LossOf = Callable[[Batch, Train], tuple[Tensor, Tensor]]  # loss and share of labels predicted


def generator_of(seed: int, purpose: int | str, device: torch.device | str = "cpu") -> Generator:
    """Return `seed`'s generator for everything random in an epoch (its number) or for a purpose.

    From (seed, epoch) alone: going on with a training needs no generator's state.
    """
    digest = hashlib.sha256(f"{seed}/{purpose}".encode()).digest()
    return torch.Generator(device).manual_seed(int.from_bytes(digest[:7]))


def mixed_cross_entropy(
    logits: Tensor, labels: Tensor, partners: Tensor, lam: Tensor, smoothing: float
) -> Tensor:
    """Return the mean over the batch of lam CE(labels) + (1 - lam) CE(partners).

    The loss of Yun et al., CutMix (ICCV 2019), with a lambda of its own for each image; logits (N,
    classes) float32, labels and partners int64 (N,), lam (N,) in [0, 1].
    """
    own, other = (
        F.cross_entropy(logits, target, reduction="none", label_smoothing=smoothing)
        for target in (labels, partners)
    )
    return (lam * own + (1 - lam) * other).mean()


def distillation(logits: Tensor, taught: Tensor, temperature: float) -> Tensor:
    """Return T^2 KL(softmax(taught / T) || softmax(logits / T)), the batch's mean.

    Both are (N, classes) float32. Hinton et al., Distilling the Knowledge in a Neural Network
    (2015), section 2: T^2 keeps the gradients' size.
    """
    own, other = (F.log_softmax(each / temperature, 1) for each in (logits, taught))
    return F.kl_div(own, other, reduction="batchmean", log_target=True) * temperature**2


def loss_function(
    model: nn.Module, precision: str, compiled: bool = False, teacher: nn.Module | None = None
) -> LossOf:
    """Return the function from batch and recipe to loss and share of (mixed) labels predicted.

    Both are 0-d tensors on the model's device. With `compiled`, full batches go through
    torch.compile; an epoch's smaller last one does not: to compile again would not pay. A `teacher`
    (in evaluation mode, on the same device) is shown the very same images.
    """
    device = next(model.parameters()).device

    def forward(images: Tensor, labels: Tensor, partners: Tensor, lam: Tensor, smoothing: float,
                weight: float, temperature: float) -> tuple[Tensor, Tensor]:  # fmt: skip
        with compute.autocast(device, precision):
            logits = model(images).float()
        loss = mixed_cross_entropy(logits, labels, partners, lam, smoothing)
        if teacher is not None:
            with torch.no_grad(), compute.autocast(device, precision):
                taught = teacher(images).float()
            loss = (1 - weight) * loss + weight * distillation(logits, taught, temperature)
        predicted = logits.detach().argmax(1)
        hits = lam * (predicted == labels) + (1 - lam) * (predicted == partners)
        return loss, hits.mean()

    fast = compute.compiled(forward) if compiled else forward

    def of_batch(batch: Batch, recipe: Train) -> tuple[Tensor, Tensor]:
        chosen = fast if len(batch) == recipe.batch_size else forward
        shown = (batch.images, batch.labels, batch.partners, batch.lam)
        return chosen(*shown, recipe.label_smoothing, recipe.teacher_weight, recipe.temperature)

    return of_batch


def train_step(
    model: nn.Module, loss_of: LossOf, optimiser: Optimiser, batch: Batch, recipe: Train
) -> Tensor:
    """Do one step; return its loss and share of labels predicted, (2,), still on the device."""
    loss, hits = loss_of(batch, recipe)
    optimiser.zero_grad(set_to_none=True)
    loss.backward()
    sums = torch.stack([loss.detach(), hits])
    if recipe.sam:
        with at_sharpest(model, recipe.sam, recipe.sam_adaptive):
            loss_of(batch, recipe)[0].backward()
    optimiser.step()
    return sums


def alternating_flips(count: int, epoch: int, seed: int, device: torch.device | str) -> Tensor:
    """Return for each image whether `epoch` shows it mirrored, bool (count,): a coin, then in turn.

    Over two successive epochs every image is seen both ways, as Jordan, 94% on CIFAR-10 in 3.29
    seconds (2024), section 3.6.
    """
    first = torch.rand(count, device=device, generator=generator_of(seed, "flip", device)) < 0.5
    return first ^ bool(epoch % 2)


def prepared_batches(
    images: Images, recipe: Train, epoch: int, statistics: Statistics, seed: int
) -> Iterator[Batch]:
    """Yield an epoch: each image (on its device) once, in random order, augmented, in batches.

    Augmented in groups of whole batches, some GROUP_IMAGES each; partners for mixing come from the
    same group, and a group is of full or of half resolution.
    """
    device = images.labels.device
    generator, host = generator_of(seed, epoch, device), generator_of(seed, f"{epoch}/host")
    turns, passed = recipe.flip_mode == "alternating", float(epoch)
    flips = alternating_flips(len(images), epoch, seed, device) if turns else None
    order = torch.randperm(len(images), device=device, generator=generator)
    for positions in order.split(max(1, GROUP_IMAGES // recipe.batch_size) * recipe.batch_size):
        group = images.take(positions)
        mirrored = None if flips is None else flips[positions]
        pixels, partners, lam = train_batch(
            group.pixels, group.labels, recipe, statistics, generator, host, mirrored
        )
        if passed < recipe.half_resolution * recipe.epochs:
            pixels = F.avg_pool2d(pixels, 2)
        passed += len(positions) / len(images)
        pixels = pixels.contiguous(memory_format=torch.channels_last)
        parts = (part.split(recipe.batch_size) for part in (pixels, group.labels, partners, lam))
        yield from map(Batch, *parts)


def train_epoch(
    model: nn.Module,
    optimiser: Optimiser,
    images: Images,
    phase: Phase,
    epoch: int,
    statistics: Statistics,
    seed: int,
    loss_of: LossOf,
    average: Average | None = None,
    beat: Callable[[int, int, int], None] = lambda step, steps, images: None,
) -> dict[str, float]:
    """Train one epoch and return its row of the history, without the hold-out.

    Args:
        model, optimiser, average: what changes; loss_of: of `loss_function` for this model.
        images: on the training device; epoch: from 0, over all phases.
        beat: called after each step with (step, steps, images seen).
    """
    size, started, sums = phase.recipe.batch_size, time.perf_counter(), torch.zeros(())
    steps = -(-len(images) // size)
    model.train()
    for step, batch in enumerate(prepared_batches(images, phase.recipe, epoch, statistics, seed)):
        rate = phase.rate(epoch + step / steps)
        for group in optimiser.param_groups:
            group["lr"] = rate * group["factor"]
        sums = sums + train_step(model, loss_of, optimiser, batch, phase.recipe) * len(batch)
        if average:
            average.update(model)
        beat(step + 1, steps, min((step + 1) * size, len(images)))
    loss, accuracy = (sums / len(images)).tolist()
    seconds = time.perf_counter() - started
    return {
        "epoch": epoch + 1,
        "phase": phase.number,
        "learning_rate": rate,
        "next_learning_rate": phase.rate(epoch + 1),
        "train_loss": loss,
        "train_accuracy": accuracy,
        "seconds": seconds,
        "images_per_second": len(images) / seconds,
    }
