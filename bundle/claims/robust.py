"""Claims that something makes the network robust, judged by what notebook 07 measured.

It takes full trainings with a record of corrupted images (the part "robustness" of their metrics).
"""

from typing import Any

from bundle.claims.claim import PENDING, Finding, Reference, decided, named
from bundle.report.shift import mean_of
from bundle.words import difference, listed
from lib.corrupt import CORRUPTIONS

Runs = dict[str, dict[str, Any]]  # name -> metrics of a full run
WRITTEN, WITHOUT, AS_RUN = "as_written", "no_cutmix", "as_run"
ONE = "One seed each; the interval is over the images alone."


def _records(runs: Runs, *names: str) -> tuple[list[dict[str, Any]], str]:
    """Return the records of runs under corruption, and what is still waited for, "" for nothing."""
    found = {name: runs.get(name, {}).get("robustness") or {} for name in names}
    missing = [name for name, record in found.items() if not record]
    waits = f"waits for notebook 07 on trainings of {listed(missing)} at full length"
    return list(found.values()), f"Not yet judged: {waits}." if missing else ""


def robustness(reference: Reference, runs: Runs) -> Finding:
    """The fall under corruption against that of a published network of standard training."""
    networks = reference["corruptions"]["networks"]
    known = next(row for row in networks if "standard" in row["network"])
    theirs = known["clean"] - known["of_13"]
    rule = (
        f"Confirmed where the accuracy falls less under the {len(CORRUPTIONS)} corruptions than "
        f"that of {known['network']} ({100 * theirs:.1f} points, as published), refuted where it "
        f"falls more, by more than the 95% interval. {ONE}"
    )
    (record, *_), waits = _records(runs, WRITTEN)
    if waits:
        return Finding(PENDING, waits, rule)
    mean = mean_of(record, [*CORRUPTIONS])
    half = record["mean"]["high"] - record["mean"]["accuracy"]
    fall = record["clean"]["accuracy"] - mean
    return Finding(
        decided(fall + half < theirs, fall - half > theirs),
        f"Over {len(CORRUPTIONS)} corruptions the accuracy falls by {100 * fall:.1f} points, from "
        f"{record['clean']['accuracy']:.1%} to {mean:.1%}; that of a network of standard training "
        f"falls by {100 * theirs:.1f} points.",
        rule,
    )


def cutmix_robust(reference: Reference, runs: Runs) -> Finding:
    """The mean under corruption with CutMix against that without, in the recipe as written."""
    rule = (
        "The mean over all corruptions of the recipe as written against the same without CutMix: "
        f"confirmed or refuted where the 95% interval of the difference leaves out zero. {ONE}"
    )
    records, waits = _records(runs, WRITTEN, WITHOUT)
    if waits:
        return Finding(PENDING, waits, rule)
    means = [record["mean"] for record in records]
    size = means[0]["accuracy"] - means[1]["accuracy"]
    half = sum((mean["high"] - mean["accuracy"]) ** 2 for mean in means) ** 0.5
    return Finding(
        decided(size - half > 0, size + half < 0),
        f"Under corruption {means[0]['accuracy']:.1%} with CutMix, "
        f"{means[1]['accuracy']:.1%} without: "
        f"{difference(size, size - half, size + half, digits=1)}.",
        rule,
    )


def tta_robust(reference: Reference, runs: Runs) -> Finding:
    """What the mean over the report's views changes under corruption."""
    rule = (
        "The mean over the report's views against the single view on the same corrupted images, "
        "severity 3: confirmed or refuted where the 95% interval of the mean difference over all "
        f"corruptions leaves out zero. {ONE}"
    )
    (record, *_), waits = _records(runs, AS_RUN)
    if waits:
        return Finding(PENDING, waits, rule)
    gain = record["averaged"]["gain"]
    size, low, high = (gain[key] for key in ("size", "low", "high"))
    return Finding(
        decided(low > 0, high < 0),
        "At severity 3 averaging views changes the accuracy on average by "
        f"{difference(size, low, high, digits=1)}.",
        rule,
    )


TESTS = named(robustness, cutmix_robust, tta_robust)
