"""Numbers in words: accuracies, points, p, counts, durations, devices, lists, Markdown tables."""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

    from lib.data import Dataset

NONE = MISSING = "–"
FINE = 5000  # test images from which the second decimal of a percentage means something
MIXING = {  # parameters by which a training's images, or their labels, are not those of the test
    "cutmix": "CutMix",
    "mixup": "mixup",
    "trivial_augment": "TrivialAugment",
    "augmix": "AugMix",
}
SPELLED = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")


def clock(seconds: float) -> str:
    """Return a duration as "45 s", "3:20" (minutes) or "1:02:00" (hours)."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    hours, minutes = divmod(whole // 60, 60)
    return f"{hours}:{minutes:02}:{whole % 60:02}" if hours else f"{minutes}:{whole % 60:02}"


def duration(seconds: float, exact: bool = False) -> str:
    """Return a duration as one remembers it: "45 s", "21 min", "1.5 h"; `exact`: "3 min 11 s"."""
    minutes, rest = divmod(round(seconds), 60)
    if exact and 0 < minutes < 10:
        return f"{minutes} min" + (f" {rest} s" if rest else "")
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def rate(value: float) -> str:
    """Return a learning rate with three digits, "0" for what is left of one at the very end."""
    return f"{value:.3g}" if value >= 1e-6 else "0"


def points(value: float, digits: int = 2) -> str:
    """Return a difference in points with its sign, none if it rounds to 0, an en dash for NaN."""
    if value != value:
        return NONE
    text = f"{value:+.{digits}f}"
    return text.replace("-", "−") if float(text) else f"{0:.{digits}f}"


def percent(value: float | None, images: int = FINE) -> str:
    """Return a fraction as a percentage, an en dash for None or NaN; of few images one decimal."""
    digits = 2 if images >= FINE else 1
    return NONE if value is None or value != value else f"{value:.{digits}%}"


def accuracy(score: Mapping[str, Any], prefix: str = "") -> str:
    """Return "94.65% (94.19% to 95.07%)" from `prefix` + accuracy, low and high of a score."""
    value, low, high = (percent(score[f"{prefix}{key}"]) for key in ("accuracy", "low", "high"))
    return f"{value} ({low} to {high})"


def interval(low: float | None, high: float | None) -> str:
    """Return the ends of an interval for a table: "94.19 to 95.07%", an en dash without them."""
    ends = percent(low), percent(high)
    return NONE if NONE in ends else f"{ends[0][:-1]} to {ends[1]}"


def p_value(value: float) -> str:
    """Return a p value for reading, an en dash for NaN."""
    from lib.metrics import p_value as shown  # late: SciPy is slow to load, `make status` is quick

    return shown(value) if value == value else NONE


def p_is(value: float) -> str:
    """Return "p = 0.03" or "p < 0.001"."""
    shown = p_value(value)
    return f"p {shown}" if shown.startswith("<") else f"p = {shown}"


def difference(
    size: float, low: float, high: float, p: float | None = None, digits: int = 2
) -> str:
    """Return "+0.32 points (95% interval −0.10 to +0.74, p = 0.13)" from fractions."""
    told, least, most = (points(100 * value, digits) for value in (size, low, high))
    return f"{told} points (95% interval {least} to {most}{'' if p is None else f', {p_is(p)}'})"


def decimals(value: float) -> str:
    """Return a number with two decimals, an en dash for NaN."""
    return f"{value:.2f}" if value == value else NONE


def images(mean: float) -> str:
    """Return a mean count of images: whole where it is, else with one decimal."""
    return f"{mean:,.0f}" if mean == round(mean) else f"{mean:,.1f}"


def listed(values: Iterable[Any]) -> str:
    """Return values as a list in a sentence: "a, b and c", "" for none."""
    *most, last = [*map(str, values)] or [""]
    return f"{', '.join(most)} and {last}" if most else last


def divisor(normalisation: str) -> str:
    """Return what a normalisation (of lib.settings.NORMALISATIONS) divides images by."""
    own = "the mean of the images' own standard deviations"
    return own if normalisation == "image" else "the standard deviation of all pixels"


def spelled(number: int) -> str:
    """Return a number up to ten as a word, "no" for 0, a larger one in digits."""
    return SPELLED[number] if number < len(SPELLED) else str(number)


def count(number: int, noun: str) -> str:
    """Return a number with its noun: "1 run", "2 runs"."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def markdown(lines: Sequence[Sequence[str]]) -> str:
    """Return rows of cells as a Markdown table, the first its heading."""
    heading, *body = lines
    rows = (heading, ["---"] * len(heading), *body)
    return "\n".join(
        f"| {' | '.join(cell.replace('|', '&#124;') for cell in row)} |" for row in rows
    )


def machine(environment: Mapping[str, Any]) -> str:
    """Return where training computed: device, its name, a CPU's capability, precision, threads."""
    keys = ["device", "device_name", "precision"]
    if environment.get("device") == "cpu":
        keys.insert(2, "cpu_capability")
    parts = [str(environment[key]) for key in keys if environment.get(key)]
    threads, begun_on = environment.get("threads"), environment.get("begun_on")
    parts += [count(threads, "thread")] if threads else []
    return ", ".join(parts + ([f"begun elsewhere ({begun_on})"] if begun_on else [])) or NONE


def run(metrics: Mapping[str, Any]) -> str:
    """Return a run's name; of rounded weights it is that of the run whose weights they were."""
    return str(metrics["run"]).removesuffix("-released" * bool(metrics["train"].get("released")))


def device(environment: Mapping[str, Any]) -> str:
    """Return the device in short: "CPU", or the name of the GPU."""
    name = "CPU" if environment["device"] == "cpu" else str(environment["device_name"])
    return name + ", begun elsewhere" * bool(environment.get("begun_on"))


def number(metrics: dict[str, Any], *keys: str) -> float | None:
    """Return the finite number at `keys` of nested dictionaries, else None."""
    value: Any = metrics
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    kind = isinstance(value, int | float) and not isinstance(value, bool)
    return value if kind and math.isfinite(value) else None


def energy(joules: float | None) -> str:
    """Return an energy with three digits and its unit: "41.2 kJ"."""
    if joules is None:
        return "not readable"
    scale, unit = (1e6, "MJ") if joules >= 1e6 else (1e3, "kJ") if joules >= 1e3 else (1, "J")
    return f"{joules / scale:#.3g}".rstrip(".") + f" {unit}"


def cost(train: Mapping[str, Any], machine: Mapping[str, Any]) -> str:
    """Return what a training cost, for a sentence: `train`, `environment` of the metrics."""
    used = f" and {energy(train['joules'])}, by the device's own counter"
    return (
        f"{clock(train['seconds'])}, {train['images_per_second']:,.0f} images per second "
        f"({machine['device']}, {machine['precision']}, {machine['threads']} threads): some "
        f"{train['tflop']:,.1f} TFLOP of arithmetic{used if train['joules'] else ''}"
    )


def machine_in_short(environment: Mapping[str, Any]) -> str:
    """Return where training computed, for a cell: "CPU, 2 threads, bf16"."""
    threads = count(environment["threads"], "thread") if environment["device"] == "cpu" else ""
    return ", ".join(filter(None, (device(environment), threads, environment["precision"])))


DIGITS_NOTICE = "handwritten digits, not CIFAR-10"


def notice(
    dataset: "Dataset", test_images: int | None = None, holdout_images: int | None = None
) -> str:
    """Return the sentence for every page and figure of a run on less than full CIFAR-10, or "".

    `test_images`, `holdout_images`: how many of them are looked at, where that is known.
    """
    if dataset.name == "digits":
        return DIGITS_NOTICE
    parts = (
        [f"{len(dataset.train):,} of {len(dataset.all_train):,} training"]
        if dataset.is_subset
        else []
    )
    if holdout_images is not None and holdout_images < len(dataset.holdout):
        parts.append(f"{holdout_images:,} of {len(dataset.holdout):,} hold-out")
    if test_images is not None and test_images < len(dataset.test):
        parts.append(f"{test_images:,} of {len(dataset.test):,} test")
    return f"a subset of CIFAR-10: {listed(parts)} images" if parts else ""


# What a planned rehearsal says: no reason for an alarm.
REHEARSALS = ("a subset of CIFAR-10", "at a fraction", "a short training settles")


def alarm(notice: str) -> str:
    """Return what of a notice is an alarm (other data, an audit, stale), "" for a rehearsal."""
    return "; ".join(part for part in notice.split("; ") if not part.startswith(REHEARSALS))


def notice_in_short(notice: str) -> str:
    """Return a notice for a window's title: "rehearsal", "not CIFAR-10", "audit", "stale"."""
    loud = alarm(notice)
    known = {DIGITS_NOTICE: "not CIFAR-10", "audit": "audit", "stale": "stale"}
    short = [text for start, text in known.items() if start in loud]
    return ", ".join(short) or (loud and "see the notice") or ("rehearsal" if notice else "")


def rehearsal(notice: str) -> str:
    """Return the sentence of a page on a part of CIFAR-10, "" where it is not one.

    "A rehearsal: 16% of the training images, 1,000 of 10,000 test images."
    """
    parts = re.findall(r"([\d,]+) of ([\d,]+) (training|hold-out|test)", notice)
    if not parts:
        return ""
    used = {part: (int(some.replace(",", "")), whole) for some, whole, part in parts}
    told = []
    if "training" in used:
        some, whole = used["training"]
        share = 100 * some / int(whole.replace(",", ""))
        told.append(f"{share:.{'0' if share >= 1 else '1'}f}% of the training images")
    for part in ("test", "hold-out"):
        if part in used and (part == "test" or not told):
            told.append(f"{used[part][0]:,} of {used[part][1]} {part} images")
    return f"A rehearsal: {', '.join(told)}."


def dataset_label(name: str, notice: str) -> str:
    """Return the dataset as metrics.json names it: cifar10, cifar10-subset or digits."""
    return "cifar10-subset" if name == "cifar10" and notice else name


def scores_in_words(scores: "pd.DataFrame") -> "pd.DataFrame":
    """Return `per_class`'s table for reading: precision and recall in percent with intervals."""
    table, text = scores[["images"]].copy(), scores.map("{:.1%}".format)
    for name in ("precision", "recall"):
        span = text[name] + " (" + text[f"{name}_low"] + " to " + text[f"{name}_high"] + ")"
        table[name] = span.where(scores[name].notna(), NONE)
    table["F1"] = text["f1"].where(scores["f1"].notna(), NONE)
    return table
