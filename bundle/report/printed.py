"""The reference's own training, as its notebook printed it, to be drawn behind a run's.

Which runs: those of its network and recipe, that is the two phases that its notebook ran. Where
they end, and on which images the accuracy is measured, may differ; seed and machine may too.
"""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from bundle.runs.results import reference
from bundle.words import MIXING


def curves() -> pd.DataFrame:
    """Return both phases, 200 epochs counted through, a row an epoch.

    Columns: epoch; train_loss, test_loss (nats); train_accuracy, test_accuracy (fractions of 1);
    learning_rate. Its second phase printed neither training accuracy nor test loss: NaN.
    """
    facts = reference()
    log, first = facts["log"], facts["phase1"]
    rows = [{**row, "learning_rate": _rate(row["epoch"], first)} for row in log["phase1"]]
    rows += [{**row, "epoch": first["epochs"] + row["epoch"]} for row in log["phase2"]]
    return pd.DataFrame(rows)


def _rate(epoch: int, phase: Mapping[str, Any]) -> float:
    """Return the rate of an epoch (from 1): a tenth after each milestone, printed nowhere."""
    passed = sum(epoch > milestone for milestone in phase["milestones"])
    return phase["learning_rate"] / 10**passed


def is_its_recipe(settings: Mapping[str, Any]) -> bool:
    """Whether a training on all of CIFAR-10 has the reference's network and recipe.

    `settings` are a training's parameters by name, as in metrics.json. Only the two phases that the
    notebook ran count: the recipe as the report describes it is another one.
    """
    facts = reference()
    first, second = facts["phase1"], facts["phase2"]
    wanted = {key: facts[key] for key in ("blocks", "widths", "strides")}
    wanted |= {"dataset": "cifar10", "train_images": 0, "block": "basic", "stem": "convolution"}
    wanted |= {"optimiser": "sgd", "schedule": "step", "phase2_schedule": "cosine"}
    wanted |= {key: first[key] for key in ("epochs", "learning_rate", "milestones")}
    wanted |= {f"phase2_{key}": second[key] for key in ("epochs", "learning_rate")}
    unused = (*MIXING, "teacher", "ema", "sam", "label_smoothing")
    there = {key: settings.get(key) for key in wanted}
    there = {key: list(one) if isinstance(one, tuple) else one for key, one in there.items()}
    return there == wanted and not any(settings.get(key) for key in unused)
