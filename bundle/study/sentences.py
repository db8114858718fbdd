"""What a study's page says in sentences. All is computed from the jobs."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from bundle import words
from bundle.runs.results import DATASETS
from bundle.study.plan import HOLDOUT, JUDGED_ON
from bundle.words import count, listed, points

Job = Mapping[str, Any]
TRAINING_IMAGES = 50_000  # of CIFAR-10
SIGNIFICANT = 0.05
CAUTION = "it decides no claim: which way a difference points can turn with the length of training"
ONE_SEED = (
    "Where a run has one seed, interval and test speak of that one network on these {} images: two "
    "seeds of the same recipe may differ as clearly."
)


def notice_of(plan: Mapping[str, Any], jobs: Sequence[Job]) -> str:
    """Return what a reader must know of all numbers: other data than CIFAR-10, share of length."""
    images, on_test = plan["train_images"], judged(plan) == "test"
    # The share of the images is said below already.
    subset = f"a subset of CIFAR-10: {images:,} of {TRAINING_IMAGES:,} training images"
    parts = list(dict.fromkeys(job["notice"] for job in jobs if job["notice"] not in ("", subset)))
    if not plan["full"]:
        whole = TRAINING_IMAGES if on_test else TRAINING_IMAGES - HOLDOUT
        scaled = [f"{100 * plan['epochs']:g}% of the epochs"] if plan["epochs"] != 1 else []
        scaled += [f"{images:,} of {whole:,} training images"] if images else []
        scaled += [f"every run with {plan['set']}"] if plan.get("set") else []
        scaled += [] if on_test else ["judged on the hold-out"]
        parts.append(f"at a fraction: {', '.join(scaled)}; {CAUTION}")
    return "; ".join(parts)


def judged(plan: Mapping[str, Any]) -> str:
    """Return the images a study is judged on: test or hold-out."""
    return JUDGED_ON[plan.get("judged_on", "test")]


def opening(plan: Mapping[str, Any], jobs: Sequence[Job], table: pd.DataFrame) -> str:
    """Return the page's first paragraph, every number of it from the jobs."""
    if not jobs:
        return f"No training of this plan is done yet, of {_whole(plan)}."
    reached = table[(table["base"] == "") & ~table["audit"]]
    reach = listed(f"{name} reaches {words.accuracy(row)}" for name, row in reached.iterrows())
    tested = table["p"].notna()
    sentences = [
        _done(plan, jobs, table),
        f"{reach}." if reach else "",
        _differences(table[~table["audit"] & tested]),
        _audits(list(table.index[table["audit"] & tested])),
        ONE_SEED.format(judged(plan)) if (table["seeds"].map(len) == 1).any() else "",
    ]
    return " ".join(sentence for sentence in sentences if sentence)


def _whole(plan: Mapping[str, Any]) -> int:
    return len(plan["runs"]) * len(plan["seeds"])


def _done(plan: Mapping[str, Any], jobs: Sequence[Job], table: pd.DataFrame) -> str:
    """Return what is done, and what the accuracies are of."""
    whole, number = _whole(plan), len(jobs)
    seeds, images = ({job["seed"] for job in jobs}, {job["test"]["images"] for job in jobs})
    done = f"All {whole}" if number == whole > 1 else f"{number} of {whole}"
    aside = ", kept out of training for choices; the test set was not looked at"
    return (
        f"{done} {'training' if whole == 1 else 'trainings'} {'is' if number == 1 else 'are'} "
        f"done: {count(len(table), 'run')}, {'seed' if len(seeds) == 1 else 'seeds'} "
        f"{listed(sorted(seeds))}. Accuracy is that of the weights a training ended with, on a "
        f"single view of {listed(f'{size:,}' for size in sorted(images))} {judged(plan)} images"
        f"{'' if judged(plan) == 'test' else aside}."
    )


def _differences(tested: pd.DataFrame) -> str:
    """Return sentences on the differences to the bases, those with a small p by name."""
    if tested.empty:
        return "No run can be tested against its base yet."
    clear = tested[tested["p"] < SIGNIFICANT]
    named = "; ".join(
        f"{listed(f'{name} {points(value)}' for name, value in part['difference'].items())} points "
        f"against {base}"
        for base, part in clear.groupby("base", sort=False)
    )
    whole = count(len(tested), "difference")
    every = 1 < len(clear) == len(tested)
    number = f"All {whole}" if every else f"{len(clear) or 'None'} of {whole}"
    return (
        f"{number} to a base {'has' if len(clear) <= 1 else 'have'} p below {SIGNIFICANT:g}"
        f"{': ' if named else ''}{named}. p is not corrected for the number of tests."
    )


def _audits(names: Sequence[str]) -> str:
    verb = "is" if len(names) == 1 else "are"
    followed = f"followed the test set and {verb} not among these differences."
    return f"{listed(names)} {followed}" if names else ""


def mixed(jobs: Sequence[Job]) -> list[str]:
    """Return a sentence for the data and for the machines where the jobs do not share them."""
    data, machines = {}, {}
    for job in jobs:
        name = f"{job['file']}@{job['seed']}"
        dataset = job["notice"] or DATASETS.get(job["dataset"], job["dataset"])
        data.setdefault(dataset, []).append(name)
        machines.setdefault(words.machine(job["environment"]), []).append(name)
    reasons = {
        "used different data, so that their accuracies are not comparable": data,
        "ran on different devices, where the same seed gives other weights": machines,
    }
    return [
        f"The trainings {reason}: "
        f"{'; '.join(f'{name} ({listed(members)})' for name, members in groups.items())}."
        for reason, groups in reasons.items()
        if len(groups) > 1
    ]


def described(table: pd.DataFrame, images: str = "test") -> str:
    """Return the figure in words; `images`: what it is judged on."""
    parts = [f"{name.replace('_', ' ')} {words.accuracy(row)}" for name, row in table.iterrows()]
    what = f"{images.capitalize()} accuracy of {count(len(table), 'run')}"
    return f"{what}, mean over seeds with its 95% interval: {'; '.join(parts)}."
