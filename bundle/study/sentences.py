"""What a study's page says in sentences, how it writes numbers. All is computed from the jobs."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from bundle import words
from bundle.runs.results import DATASETS
from bundle.study.plan import HOLDOUT, JUDGED_ON
from bundle.words import count, listed, points
from lib.metrics import p_value

Job = Mapping[str, Any]
TRAINING_IMAGES = 50_000  # of CIFAR-10
SIGNIFICANT = 0.05
CAUTION = "it decides no claim: which way a difference points can turn with the length of training"


def notice_of(plan: Mapping[str, Any], jobs: Sequence[Job]) -> str:
    """Return what a reader must know of all numbers: other data than CIFAR-10, share of length."""
    whole = TRAINING_IMAGES if judged(plan) == "test" else TRAINING_IMAGES - HOLDOUT
    part = f"{plan['train_images']:,} of {whole:,} training images"
    # `told` is said by `part` already.
    told = f"a subset of CIFAR-10: {plan['train_images']:,} of {TRAINING_IMAGES:,} training images"
    parts = list(dict.fromkeys(job["notice"] for job in jobs if job["notice"] not in ("", told)))
    if not plan["full"]:
        scaled = [f"{100 * plan['epochs']:g}% of the epochs"] if plan["epochs"] != 1 else []
        scaled += [part] if plan["train_images"] else []
        scaled += [f"every run with {plan['set']}"] if plan.get("set") else []
        scaled += [] if judged(plan) == "test" else ["judged on the hold-out"]
        parts.append(f"at a fraction: {', '.join(scaled)}; {CAUTION}")
    return "; ".join(parts)


def judged(plan: Mapping[str, Any]) -> str:
    """Return the images a study is judged on: test or hold-out."""
    return JUDGED_ON[plan.get("judged_on", "test")]


def opening(plan: Mapping[str, Any], jobs: Sequence[Job], table: pd.DataFrame) -> str:
    """Return the page's first paragraph, every number of it from the jobs."""
    whole = len(plan["runs"]) * len(plan["seeds"])
    if not jobs:
        return f"No training of this plan is done yet, of {whole}."
    seeds = sorted({job["seed"] for job in jobs})
    tested = sorted({job["test"]["images"] for job in jobs})
    done = f"All {whole}" if len(jobs) == whole > 1 else f"{len(jobs)} of {whole}"
    verb = "is" if len(jobs) == 1 else "are"
    compared = table[(table["base"] == "") & ~table["audit"]]
    reach = [f"{name} reaches {score_of(row)}" for name, row in compared.iterrows()]
    sentences = [
        f"{done} {'training' if whole == 1 else 'trainings'} {verb} done: "
        f"{count(len(table), 'run')}, {'seed' if len(seeds) == 1 else 'seeds'} {listed(seeds)}. "
        "Accuracy is that of the weights a training ended with, on a single view of "
        f"{listed(f'{one:,}' for one in tested)} {judged(plan)} images"
        + (
            "."
            if judged(plan) == "test"
            else ", kept out of training for choices; the test set was not looked at."
        ),
        f"{listed(reach)}." if reach else "",
        _differences(table[~table["audit"] & table["p"].notna()]),
    ]
    if followed := list(table.index[table["audit"] & table["p"].notna()]):
        verb = "is" if len(followed) == 1 else "are"
        said = f"followed the test set and {verb} not among these differences."
        sentences.append(f"{listed(followed)} {said}")
    if (table["seeds"].map(len) == 1).any():
        sentences.append(
            "Where a run has one seed, interval and test speak of that one network on these "
            f"{judged(plan)} images: two seeds of the same recipe may differ as clearly."
        )
    return " ".join(sentence for sentence in sentences if sentence)


def _differences(tested: pd.DataFrame) -> str:
    """Return sentences on the differences to the bases, those with a small p by name."""
    if tested.empty:
        return "No run can be tested against its base yet."
    clear = tested[tested["p"] < SIGNIFICANT]
    found = [
        f"{listed(f'{name} {points(value)}' for name, value in part['difference'].items())} points "
        f"against {base}"
        for base, part in clear.groupby("base", sort=False)
    ]
    whole = count(len(tested), "difference")
    every = 1 < len(clear) == len(tested)
    number = f"All {whole}" if every else f"{len(clear) or 'None'} of {whole}"
    named = f": {'; '.join(found)}" if found else ""
    verb = "has" if len(clear) <= 1 else "have"
    return (
        f"{number} to a base {verb} p below {SIGNIFICANT:g}{named}. p is not corrected for the "
        "number of tests."
    )


def mixed(jobs: Sequence[Job]) -> list[str]:
    """Return a sentence for the data and for the machines where the jobs do not share them."""
    data = _by(jobs, lambda job: job["notice"] or DATASETS.get(job["dataset"], job["dataset"]))
    machines = _by(jobs, lambda job: machine(job["environment"]))
    told = []
    if len(data) > 1:
        told.append(
            "The trainings used different data, so that their accuracies are not comparable: "
            f"{_listed(data)}."
        )
    if len(machines) > 1:
        told.append(
            "The trainings ran on different devices, where the same seed gives other weights: "
            f"{_listed(machines)}."
        )
    return told


def _by(jobs: Iterable[Job], key: Callable[[Job], str]) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = {}
    for job in jobs:
        groups.setdefault(key(job), []).append(f"{job['file']}@{job['seed']}")
    return groups


def _listed(groups: Mapping[str, list[str]]) -> str:
    return "; ".join(f"{name} ({listed(members)})" for name, members in groups.items())


def machine(environment: Mapping[str, Any]) -> str:
    """Return where training computed: device, its name, a CPU's capability, precision, threads."""
    keys = ["device", "device_name", "precision"]
    if environment.get("device") == "cpu":
        keys.insert(2, "cpu_capability")
    parts = [str(environment[key]) for key in keys if environment.get(key)]
    threads = environment.get("threads")
    return ", ".join(parts + ([count(threads, "thread")] if threads else [])) or words.NONE


def described(table: pd.DataFrame, images: str = "test") -> str:
    """Return the figure in words; `images`: what it is judged on."""
    parts = [f"{name.replace('_', ' ')} {score_of(row)}" for name, row in table.iterrows()]
    what = f"{images.capitalize()} accuracy of {count(len(table), 'run')}"
    return f"{what}, mean over seeds with its 95% interval: {'; '.join(parts)}."


def score_of(row: pd.Series) -> str:
    """Return a run's mean accuracy with its interval."""
    return f"{percent(row['accuracy'])} ({percent(row['low'])} to {percent(row['high'])})"


def percent(value: float) -> str:
    """Return a fraction as a percentage, an en dash for NaN."""
    return f"{100 * value:.2f}%" if value == value else words.NONE


def p_of(value: float) -> str:
    """Return a p value for reading, an en dash for NaN."""
    return p_value(value) if value == value else words.NONE
