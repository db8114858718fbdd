"""Where a training not done by the run comes from: a release, or another machine's logits."""

from typing import Any

from bundle.words import clock


def of(train: dict[str, Any], machine: dict[str, Any]) -> str:
    """Return, as Markdown, where a training comes from; "" for the run's own.

    Args:
        train: the metrics' "train" (training.outcome.of_training); machine: device and device_name,
            where it was done.
    """
    released = train.get("released")
    if not released and train.get("weights", True):
        return ""
    device = "a CPU" if machine["device"] == "cpu" else machine["device_name"]
    where = (
        f"trained elsewhere: on {device}, {clock(train['seconds'])}, finished "
        f"{train['finished'][:10]}"
    )
    kind = (
        "released weights, rounded to float16"
        if train["weights"]
        else "saved logits, the weights are not here"
    )
    return f"**Not trained by this run** but {where}; {kind}. {rounding(train)}".rstrip()


def rounding(train: dict[str, Any]) -> str:
    """Return a sentence on what rounding released weights changed, "" where none were rounded."""
    change = (train.get("released") or {}).get("rounding")
    if not change:
        return ""
    return (
        f"The rounding took the test accuracy from {change['before']:.2%} to "
        f"{change['after']:.2%}: {change['changed']} of {change['images']:,} predictions changed "
        f"({change['device']}, {change['precision']})."
    )
