"""Tiny trainings on the digits that together use every ingredient, and the bits they end with.

`python -m tests.golden` prints them for the code that is here, as golden.json keeps them. A change
of code that leaves these bits as they were changes no training's; see tests/lib/test_golden.py.
"""

import json
import math
import sys
import tempfile
from pathlib import Path
from typing import Any
from unittest import mock

import torch

from lib import compute, data
from lib.settings import Train

FILE = Path(__file__).with_name("golden.json")
# fmt: off
COMMON = {
    "dataset": "digits", "train_images": 90, "holdout": 5000, "holdout_images": 40, "epochs": 2,
    "batch_size": 20, "device": "cpu", "threads": 2, "blocks": (1, 2), "widths": (8, 16),
    "strides": (1, 2),
}
AS_WRITTEN = {
    "learning_rate": 0.002, "crop_padding": 2, "vertical_flip": 0.05, "blur": 0.3, "cutmix": 0.5,
}
AS_RUN = {
    "learning_rate": 0.002, "schedule": "step", "milestones": (1,), "blur_kernel": 11,
    "cutmix": 0.0, "normalisation": "image", "epochs": 1, "phase2_epochs": 1,
    "phase2_learning_rate": 0.002, "phase2_vertical_flip": 0.3, "phase2_blur": 0.3,
    "phase2_erasing": 0.5, "phase2_normalisation": "pixel",
}
CPU = {
    "block": "pooled", "stem": "whitening", "activation": "gelu", "pooling": "max",
    "initialisation": "dirac", "norm_scale": False, "norm_momentum": 0.4, "logit_scale": 0.1,
    "strides": (2, 2), "learning_rate": 0.2, "momentum": 0.85, "nesterov": True,
    "optimiser": "muon", "muon_learning_rate": 0.05, "shift_rate": 8.0, "weight_decay": 2e-3,
    "schedule": "one_cycle", "schedule_by": "step", "warmup_epochs": 0.5, "crop_padding": 2,
    "crop_mode": "reflect", "flip_mode": "alternating", "cutmix": 0.0, "label_smoothing": 0.2,
}
BEST = {
    "learning_rate": 0.002, "nesterov": True, "decay_all": False, "schedule_by": "step",
    "warmup_epochs": 0.5, "crop_mode": "reflect", "flip_mode": "alternating",
    "trivial_augment": 0.5, "cutmix": 0.4, "cutmix_alpha": 0.7, "mixup": 0.3, "ema": 0.95,
}
SAM = {
    **BEST, "mixup": 0.0, "sam": 0.05, "sam_adaptive": True, "teacher": "as_written",
    "teacher_weight": 0.5,
}
TWO_PHASES = {
    **CPU, "block": "preactivation", "stem": "convolution", "normalisation": "image",
    "phase2_epochs": 1, "phase2_learning_rate": 0.01, "muon_learning_rate": 0.02,
    "phase2_cutmix": 0.5, "phase2_schedule": "constant", "phase2_normalisation": "image",
    "audit": True,
}
# fmt: on
RECIPES: dict[str, dict[str, Any]] = {
    "as_written": AS_WRITTEN,
    "as_run": AS_RUN,
    "cpu": CPU,
    "best": BEST,
    "sam": SAM,  # taught by as_written, which is trained before it
    "two_phases": TWO_PHASES,
}
PRECISIONS = ("fp32", "bf16")


def trained(recipe: str, precision: str, results: Path, seed: int = 42):
    """Train a recipe below `results`, which stands for results/, and return the finished training.

    In bf16 the processor is said to multiply bf16 natively, so that Muon takes its way for those.
    """
    try:
        from bundle import paths
        from bundle.training.session import train
    except ImportError:  # the layout before lib and bundle were parted
        from bundle import paths
        from bundle.training.session import train

    settings = Train(run=recipe, seed=seed, precision=precision, **{**COMMON, **RECIPES[recipe]})
    dataset = data.load("digits", train_images=settings.train_images)
    native = mock.patch.object(compute, "bf16_is_native", lambda _device: precision == "bf16")
    with native, mock.patch.object(paths, "RESULTS", results):
        return train(settings, dataset, results / recipe)


def values(training) -> dict[str, Any]:
    """Return what a training ends with: its weights' SHA-256, and figures that others come near."""
    tensors = [
        tensor.double()
        for tensor in training.model.state_dict().values()
        if tensor.is_floating_point()
    ]
    return {
        "weights_sha256": training.summary["weights_sha256"],
        "loss": [row["train_loss"] for row in training.history],
        "holdout_loss": [row["holdout_loss"] for row in training.history],
        "norm": math.sqrt(sum(tensor.square().sum().item() for tensor in tensors)),
    }


def machine() -> str:
    """Return the kind of processor that decides the bits."""
    return torch.backends.cpu.get_cpu_capability()


def record(precisions=PRECISIONS) -> dict[str, dict[str, Any]]:
    """Train every recipe in every precision: precision -> recipe -> `values`."""
    found: dict[str, dict[str, Any]] = {}
    for precision in precisions:
        with tempfile.TemporaryDirectory() as folder:
            found[precision] = {
                recipe: values(trained(recipe, precision, Path(folder))) for recipe in RECIPES
            }
    return found


if __name__ == "__main__":
    json.dump({machine(): record()}, sys.stdout, indent=1)
    print()
