"""The network and the recipe of a training in words: for tables, sentences and the model card."""

import pandas as pd

from bundle.words import count
from lib.schedule import Phase, phases
from lib.settings import Network, Train

NORMALISATIONS = {
    "pixel": "the standard deviation of all pixels",
    "image": "the mean of the images' own standard deviations",
}


STEMS = {
    "convolution": "a 3×3 convolution",
    "whitening": "a fixed 2×2 convolution that whitens patches",
}
BLOCKS = {
    "basic": "basic residual blocks (He et al., 2016): two 3×3 convolutions with batch norm, "
    "their result added to the block's input, by way of a 1×1 convolution where stride or "
    "width change",
    "preactivation": "residual blocks with batch norm and activation before each of two 3×3 "
    "convolutions (He et al., Identity Mappings, 2016)",
    "pooled": "blocks of a 3×3 convolution, a maximum over its stride, and another 3×3 "
    "convolution with a shortcut around it (after Jordan, 2024)",
}
ACTIVATIONS = {"relu": "ReLU", "gelu": "GELU"}
POOLINGS = {"mean": "the mean", "max": "the maximum"}
PADDINGS = {"zero": "zeros", "reflect": "reflection"}
MIXES = {
    "CutMix": "CutMix (Yun et al., 2019)",
    "mixup": "mixup (Zhang et al., 2018)",
    "TrivialAugment": "TrivialAugment",
}


def in_words(network: Network) -> str:
    """Return the network from the stem to the classifier, as a part of a sentence."""
    block = BLOCKS.get(network.block, f"{network.block} blocks")
    return (
        f"{STEMS[network.stem]}, {count(len(network.blocks), 'stage')} of {block}; after each "
        f"batch norm {ACTIVATIONS[network.activation]}; {POOLINGS[network.pooling]} of the last "
        "feature map; a linear classifier"
    )


def ingredients(recipe: Train) -> dict[str, str]:
    """Return what is done to images, labels and gradients, in words; "" for what is not done."""
    low, high = recipe.blur_sigma
    blur = f"(kernel {recipe.blur_kernel}, sigma {low:g} to {high:g})"
    sharpness = f"{'adaptive ' * recipe.sam_adaptive}sharpness-aware minimisation of radius {{:g}}"
    learned = f"learned with weight {recipe.teacher_weight:g}, temperature {recipe.temperature:g}"
    return {
        "crop": f"at random after {recipe.crop_padding} pixels of padding by "
        f"{PADDINGS[recipe.crop_mode]}",
        "mirroring": "mirrored every other epoch"
        if recipe.flip_mode == "alternating"
        else f"flipped with probability {recipe.horizontal_flip:g}",
        "vertical flip": _if(recipe.vertical_flip, "turned upside down with probability {:g}"),
        "Gaussian blur": _if(recipe.blur, f"blurred with probability {{:g}} {blur}"),
        "random erasing": _if(recipe.erasing, "a part erased with probability {:g}"),
        "CutMix": _mixed(recipe.cutmix, recipe.cutmix_alpha),
        "mixup": _mixed(recipe.mixup, recipe.mixup_alpha),
        "TrivialAugment": _if(recipe.trivial_augment, "on {:.0%} of the images"),
        "label smoothing": _if(recipe.label_smoothing, "labels smoothed by {:g}"),
        "sharpness-aware": _if(recipe.sam, sharpness),
        "teacher": _if(recipe.teacher, f"a teacher's predictions ({{}}) {learned}"),
    }


def _if(value: float | str, words: str) -> str:
    """Return the words with the value in them, "" where the value is 0 or empty: not done."""
    return words.format(value) if value else ""


def _mixed(share: float, alpha: float) -> str:
    return _if(share, f"on {{:.0%}} of the images, λ from Beta({alpha:g}, {alpha:g})")


def _optimiser(recipe: Train) -> str:
    nesterov = "Nesterov " if recipe.nesterov else ""
    sgd = f"stochastic gradient descent with {nesterov}momentum {recipe.momentum:g}"
    if recipe.optimiser == "sgd":
        return sgd
    muon = f"rate {recipe.muon_learning_rate:g}, momentum {recipe.muon_momentum:g}"
    return f"Muon (Jordan et al., 2024; {muon}) for the convolutions and {sgd} for all else"


def describe(phase: Phase) -> dict[str, str]:
    """Return a phase's recipe in words, for a table."""
    recipe = phase.recipe
    decay = "all parameters" if recipe.decay_all else "weights only"
    decay += ", convolutions excepted" if recipe.optimiser == "muon" else ""
    rate = f"{recipe.learning_rate:g}, {recipe.schedule} by {recipe.schedule_by}"
    biases = f"; biases of batch norm {recipe.shift_rate:g} times that"
    done = {name: words or "none" for name, words in ingredients(recipe).items()}
    return {
        "epochs": str(recipe.epochs),
        "batch size": str(recipe.batch_size),
        "optimiser": _optimiser(recipe),
        "learning rate": rate + biases * (recipe.shift_rate != 1),
        "warm-up": _if(recipe.warmup_epochs, "{:g} epochs") or "none",
        "weight decay": f"{recipe.weight_decay:g} on {decay}",
        "divided by": NORMALISATIONS[recipe.normalisation],
        **done,
        "averaged weights": _if(recipe.ema, "decay {:g} a step") or "none",
    }


def in_sentences(settings: Train) -> str:
    """Return the recipe as two sentences; nothing that is not done is named."""
    first, *later = phases(settings)
    recipe, done = first.recipe, ingredients(first.recipe)
    mixed = [f"{name} {done[key]}" for key, name in MIXES.items() if done[key]]
    extras = [done[key] for key in ("label smoothing", "sharpness-aware", "teacher") if done[key]]
    optimiser = _optimiser(recipe)
    ramp = recipe.warmup_epochs if recipe.schedule != "one_cycle" else 0
    runs = f"{recipe.epochs} epochs {_under(recipe)}{_if(ramp, ' after {:g} epochs of warm-up')}"
    for phase in later:
        runs += f", then {phase.recipe.epochs} more {_under(phase.recipe)}"
        runs += _if(", ".join(_changed_images(phase.recipe)), ", the images now {}")
    return (
        f"Images are cropped {done['crop']} and "
        f"{', '.join([done['mirroring'], *_changed_images(recipe)])}; "
        f"{', '.join(mixed) or 'no mixing of images'}. {optimiser[0].upper()}{optimiser[1:]} "
        f"(weight decay {recipe.weight_decay:g}, batch {recipe.batch_size}) runs for "
        f"{runs}{_if(' and '.join(extras), ', with {}')}."
    )


def _under(recipe: Train) -> str:
    schedule = recipe.schedule.replace("_", "-")
    return f"under a {schedule} schedule from {recipe.learning_rate:g}"


def _changed_images(recipe: Train) -> list[str]:
    """Return the rarer augmentations in use."""
    done = ingredients(recipe)
    rarer = ("vertical flip", "Gaussian blur", "random erasing")
    return [done[name] for name in rarer if done[name]]


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
