"""The network and the recipe of a training in words: for tables, sentences and the model card."""

from collections.abc import Sequence

import pandas as pd

from bundle.words import count, divisor, listed, spelled
from lib.schedule import Phase, phases
from lib.settings import SHIFTS, Network, Train

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
    "convolution with a shortcut around it, after airbench (Jordan, 2024)",
}
ACTIVATIONS = {"relu": "ReLU", "gelu": "GELU"}
POOLINGS = {"mean": "the mean", "max": "the maximum"}
PADDINGS = {"zero": "zeros", "reflect": "reflection"}
MIXES = {
    "CutMix": "CutMix (Yun et al., 2019)",
    "mixup": "mixup (Zhang et al., 2018)",
    "TrivialAugment": "TrivialAugment (Müller and Hutter, 2021)",
    "AugMix": "AugMix (Hendrycks et al., 2020)",
}
EXTRAS = ("label smoothing", "sharpness-aware", "teacher")
RARER = ("vertical flip", "Gaussian blur", "random erasing")
SCHEDULES = {
    "cosine": "cosine schedule (Loshchilov and Hutter, 2017)",
    "one_cycle": "one-cycle schedule (Smith and Topin, 2019)",
}
VIEWS = {
    "original": "the image",
    "horizontal_flip": "its mirror image",
    "vertical_flip": "the image upside down",
    "pad_center_crop": "the image padded and cropped back",
    "gaussian_blur": "the image blurred",
    "gaussian_blur_mixed": "the image blurred, its colours mixed",
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
    blur = "(kernel {}, sigma {:g} to {:g})".format(recipe.blur_kernel, *recipe.blur_sigma)
    sharpness = "adaptive " * recipe.sam_adaptive
    sharpness += "sharpness-aware minimisation (Foret et al., 2021) of radius {:g}"
    taught = f"with weight {recipe.teacher_weight:g}, temperature {recipe.temperature:g}"
    erased = "a part erased with probability {:g} (Zhong et al., 2020)"
    smoothed = "labels smoothed by {:g} (Szegedy et al., 2016)"
    learned = f"a teacher's predictions ({{}}) learned {taught} (Hinton et al., 2015)"
    padding = f"{recipe.crop_padding} pixels of padding by {PADDINGS[recipe.crop_mode]}"
    return {
        "crop": _if(recipe.crop_padding, f"at random after {padding}"),
        "mirroring": _mirrored(recipe),
        "vertical flip": _if(recipe.vertical_flip, "turned upside down with probability {:g}"),
        "Gaussian blur": _if(recipe.blur, f"blurred with probability {{:g}} {blur}"),
        "random erasing": _if(recipe.erasing, erased),
        "CutMix": _mixed(recipe.cutmix, recipe.cutmix_alpha),
        "mixup": _mixed(recipe.mixup, recipe.mixup_alpha),
        "TrivialAugment": _if(recipe.trivial_augment, "on {:.0%} of the images"),
        "AugMix": _if(recipe.augmix, "on {:.0%} of the images"),
        "half resolution": _if(recipe.half_resolution, "the first {:.0%} of the steps"),
        "label smoothing": _if(recipe.label_smoothing, smoothed),
        "sharpness-aware": _if(recipe.sam, sharpness),
        "teacher": _if(recipe.teacher, learned),
    }


def _mirrored(recipe: Train) -> str:
    if recipe.flip_mode == "alternating":
        return "mirrored every other epoch"
    return _if(recipe.horizontal_flip, "flipped with probability {:g}")


def _if(value: float | str, words: str) -> str:
    """Return the words with the value in them, "" where the value is 0 or empty: not done."""
    return words.format(value) if value else ""


def _mixed(share: float, alpha: float) -> str:
    return _if(share, f"on {{:.0%}} of the images, λ from Beta({alpha:g}, {alpha:g})")


def _optimiser(recipe: Train) -> str:
    sgd = "stochastic gradient descent with " + "Nesterov " * recipe.nesterov
    bias = _if(recipe.stem_bias_epochs, " (the stem's bias for {} epochs alone)")
    sgd += f"momentum {recipe.momentum:g}{bias}"
    if recipe.optimiser == "sgd":
        return sgd
    muon = f"rate {recipe.muon_learning_rate:g}, momentum {recipe.muon_momentum:g}, "
    muon += f"{recipe.muon_steps} Newton-Schulz steps"
    return f"Muon (Jordan et al., 2024), {muon}, for the convolutions; {sgd} for all else"


def describe(phase: Phase) -> dict[str, str]:
    """Return a phase's recipe in words, for a table."""
    recipe = phase.recipe
    decay = "all parameters" if recipe.decay_all else "weights only"
    decay += ", convolutions excepted" if recipe.optimiser == "muon" else ""
    straight = recipe.schedule == "one_cycle" and not recipe.warmup_epochs
    rate = f"{recipe.learning_rate:g}, {recipe.schedule.replace('_', ' ')} by {recipe.schedule_by}"
    rate += ": falling in a straight line" * straight
    biases = f"; biases of batch norm and stem {recipe.shift_rate:g} times that"
    done = {name: words or "none" for name, words in ingredients(recipe).items()}
    return {
        "epochs": str(recipe.epochs),
        "batch size": str(recipe.batch_size),
        "optimiser": _optimiser(recipe),
        "learning rate": rate + biases * (recipe.shift_rate != 1),
        "warm-up": _if(recipe.warmup_epochs, "{:g} epochs") or "none",
        "weight decay": f"{recipe.weight_decay:g} on {decay}",
        "input divided by": divisor(recipe.normalisation),
        **done,
        "averaged weights": _if(recipe.ema, "decay {:g} a step") or "none",
    }


def table(settings: Train) -> pd.DataFrame:
    """Return the recipe, what is used of it, one column a phase."""
    stages = phases(settings)
    names = [f"phase {stage.number}" for stage in stages] if len(stages) > 1 else ["value"]
    described = pd.DataFrame(dict(zip(names, map(describe, stages), strict=True)))
    return described[(described != "none").any(axis=1)]


def in_rows(settings: Train) -> dict[str, str]:
    """Return the recipe for a table of two columns, a row for each thing that is done."""
    first, *later = phases(settings)
    recipe, done = first.recipe, ingredients(first.recipe)
    mixed = [f"{name} {done[key]}" for key, name in MIXES.items() if done[key]]
    ramp = recipe.warmup_epochs if recipe.schedule != "one_cycle" else 0
    decay = "all parameters" if recipe.decay_all else "weights alone"
    decay += " but the convolutions" * (recipe.optimiser == "muon")
    rows = {
        "length": f"{'phase 1: ' * bool(later)}{count(recipe.epochs, 'epoch')}, batches of "
        f"{recipe.batch_size}",
        "optimiser": _optimiser(recipe),
        "learning rate": _under(recipe) + _if(ramp, " after {:g} epochs of warm-up"),
        "weight decay": _if(recipe.weight_decay, f"{{:g}} on {decay}"),
        "images": ", ".join(_images(recipe, done)),
        "input divided by": _divided([first, *later]),
        "mixing": ", ".join(mixed),
        "loss": "cross entropy"
        + _if(" and ".join(done[key] for key in EXTRAS if done[key]), ", {}"),
    }
    rows |= {f"phase {phase.number}": _more(phase.recipe) for phase in later}
    return {name: text for name, text in rows.items() if text}


def in_short(settings: Train) -> str:
    """Return what a training uses by name alone, for a sentence: "Muon, CutMix and ..."."""
    done = ingredients(settings)
    named = ["Muon" if settings.optimiser == "muon" else "stochastic gradient descent"]
    named += [name for name in (*MIXES, *RARER, *EXTRAS) if done[name]]
    usual = {"crop": "random crops", "mirroring": "mirror images"}
    usual["half resolution"] = "half the resolution at first"
    return listed(named + [words for name, words in usual.items() if done[name]])


def _images(recipe: Train, done: dict[str, str]) -> list[str]:
    crop = _if(done["crop"], "cropped {}")
    parts = [crop, done["mirroring"], *(done[name] for name in RARER)]
    parts.append(_if(done["half resolution"], "at half resolution in {}"))
    return [part for part in parts if part]


def _divided(stages: Sequence[Phase]) -> str:
    """Return what divides the images, phase by phase; "" where it is that of all pixels alone."""
    names = [stage.recipe.normalisation for stage in stages]
    return "; in phase 2 ".join(map(divisor, names)) if "image" in names else ""


def _more(recipe: Train) -> str:
    """Return a later phase in words: its length, schedule, and the images' rarer changes."""
    changed = ", ".join(filter(None, map(ingredients(recipe).get, RARER)))
    return f"{recipe.epochs} more epochs, {_under(recipe)}{_if(changed, '; the images now {}')}"


def _under(recipe: Train) -> str:
    rate = f"from {recipe.learning_rate:g}"
    if recipe.schedule == "one_cycle" and not recipe.warmup_epochs:
        return f"falling in a straight line {rate} to 0"
    return f"{SCHEDULES.get(recipe.schedule, recipe.schedule + ' schedule')} {rate}"


def views(names: Sequence[str]) -> str:
    """Return the views of a test image that are averaged, in words, for a sentence."""
    number = spelled(len(names))
    if {*names} == {"original", "horizontal_flip", *SHIFTS}:
        return f"{number} views (the image, two shifts, and their mirror images)"
    known = [VIEWS.get(name, name.replace("_", " ")) for name in names]
    return f"{number} view{'s' * (len(names) != 1)} ({listed(known)})"


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
