"""A network and a recipe in words, for tables and sentences."""

import pandas as pd

from lib.data import NORMALISATIONS
from lib.schedule import Phase
from lib.settings import Network, Train

STEM_WORDS = {
    "convolution": "a 3×3 convolution",
    "whitening": "a fixed 2×2 convolution that whitens patches",
}


BLOCK_WORDS = {
    "basic": "basic residual blocks (He et al., 2016): two 3×3 convolutions with batch norm, "
    "their result added to the block's input, by way of a 1×1 convolution where stride or "
    "width change",
    "preactivation": "residual blocks with batch norm and activation before each of two 3×3 "
    "convolutions (He et al., Identity Mappings, 2016)",
    "pooled": "blocks of a 3×3 convolution, a maximum over its stride, and another 3×3 "
    "convolution with a shortcut around it (after Jordan, 2024)",
}


def in_words(network: Network) -> str:
    """Return the network from the stem to the classifier, as a part of a sentence."""
    count, pooled = len(network.blocks), {"mean": "the mean", "max": "the maximum"}[network.pooling]
    return (
        f"{STEM_WORDS[network.stem]}, {count} stage{'s' * (count != 1)} of "
        f"{BLOCK_WORDS.get(network.block, f'{network.block} blocks')}; after each batch norm "
        f"{'GELU' if network.activation == 'gelu' else 'ReLU'}; {pooled} of the last feature map; "
        "a linear classifier"
    )


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
