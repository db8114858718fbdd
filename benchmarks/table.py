"""The measurements as rows of words, for the terminal and for docs/speed.md."""

from typing import Any

from benchmarks.plan import BATCH

REHEARSAL = "a rehearsal with a tiny network: these figures mean nothing"
MIB = 2**20


def number(value: float) -> str:
    """Return a number with three digits that count, thousands separated."""
    digits = 0 if value >= 100 else 1 if value >= 10 else 2
    return f"{value:,.{digits}f}"


def between(found: dict[str, float], unit: str = "", scale: float = 1) -> str:
    """Return a median with lowest and highest reading, times `scale`; alone where all are one."""
    middle, low, high = (number(found[key] * scale) for key in ("median", "low", "high"))
    return f"{middle}{unit}" + (f" ({low} to {high})" if low != high else "")


def percent(found: dict[str, float]) -> str:
    """Return shares as `between` does, in per cent."""
    return between(found, "%", 100)


def rows(found: dict[str, Any]) -> list[tuple[str, str]]:
    """Return (what, value) for all that was measured on one machine, in the order of the table."""
    return [row for part, told in SECTIONS.items() if part in found for row in told(found)]


def _training(found: dict[str, Any]) -> list[tuple[str, str]]:
    training = found["training"]
    return [
        ("Training, the reference's pipeline, images/s", between(training["baseline"])),
        ("Training, ours, images/s", between(training["ours"])),
        ("Training, ours : the reference's", between(training["ratio"])),
        (
            "Loading and augmentation alone, share of our training time",
            percent(training["loading_share"]),
        ),
        (
            "Our speed in proportion to the same step on one fixed batch",
            percent(training["of_fixed_batch"]),
        ),
    ]


def _networks(found: dict[str, Any]) -> list[tuple[str, str]]:
    return [
        (
            f"Training, {name} network: {one['parameters']:,} parameters, {number(one['mmac'])} "
            "MMAC, images/s",
            between(one),
        )
        for name, one in found["networks"].items()
    ]


def _prediction(measured: dict[str, Any]) -> list[tuple[str, str]]:
    found = measured["prediction"]
    what = f"Five views of {found['images']:,} test images"
    scaled = f" (scaled from {found['baseline_images']:,} images)"
    return [
        (f"{what}, the reference's way, s", number(found["baseline_seconds"]) + scaled),
        (f"{what}, ours, s", number(found["ours_seconds"])),
        ("Prediction, the reference's time : ours", between(found["ratio"])),
    ]


def _views(found: dict[str, Any]) -> list[tuple[str, str]]:
    return [("Five views : the single view, time", between(found["views"]["cost"]))]


def _cutmix(found: dict[str, Any]) -> list[tuple[str, str]]:
    return [("CutMix : none, training time", between(found["cutmix"]["cost"]))]


def _kept(found: dict[str, Any]) -> list[tuple[str, str]]:
    what = "Memory kept between steps : given back"
    return [(f"{what}, {run}, speed", between(one["gain"])) for run, one in found["kept"].items()]


def _memory(found: dict[str, Any]) -> list[tuple[str, str]]:
    memory = found["memory"]
    listed = [
        (
            f"Peak memory of a training process (batch {BATCH}, all training images), MiB",
            number(memory["peak"] / MIB),
        )
    ]
    if "gpu" in memory:
        listed.append(("the same, of the GPU, MiB", number(memory["gpu"] / MIB)))
    return listed


def _startup(found: dict[str, Any]) -> list[tuple[str, str]]:
    medians = [one["median"] for one in found["startup"].values()]
    if not medians:
        return []
    spent = f"{min(medians):.1f} to {max(medians):.1f}"
    return [("Start of a notebook: kernel and imports, s", spent)]


def _limits(found: dict[str, Any]) -> list[tuple[str, str]]:
    limits = found["limits"]
    size = limits["matrix"]
    return [
        ("Matrix products, TFLOP/s", f"{number(limits['flops'] / 1e12)} ({size:,} x {size:,})"),
        ("Bound they set on training the reference network, images/s", number(limits["bound"])),
        ("Share of the bound that is reached", percent(limits["reached"])),
    ]


def _profile(found: dict[str, Any]) -> list[tuple[str, str]]:
    groups = found["profile"]["groups"].items()
    shares = ", ".join(f"{group} {share:.0%}" for group, share in groups if share >= 0.02)
    return [("Where our training time goes", shares)]


# What was measured -> its rows, in the order of the table.
SECTIONS = {
    "training": _training, "networks": _networks, "prediction": _prediction, "views": _views,
    "cutmix": _cutmix, "kept": _kept, "memory": _memory, "startup": _startup, "limits": _limits,
    "profile": _profile,
}  # fmt: skip


def text(found: dict[str, Any]) -> str:
    """Return the table for a terminal."""
    listed = rows(found)
    width = max((len(what) for what, _value in listed), default=0)
    lines = [f"{what:<{width}}  {value}" for what, value in listed]
    return "\n".join([*([f"({REHEARSAL})"] if found["rehearsal"] else []), *lines])
