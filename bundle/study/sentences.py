"""What a study's page says in sentences. All is computed from the jobs."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from bundle import words
from bundle.runs import params, results
from bundle.runs.results import DATASETS
from bundle.study.compare import NO_PREDICTIONS
from bundle.study.plan import HOLDOUT, JUDGED_ON
from bundle.words import count, listed

Job = Mapping[str, Any]
TRAINING_IMAGES = 50_000  # of CIFAR-10
SIGNIFICANT = 0.05
CAUTION = (
    "a short training settles no claim: the sign of a difference may change in a longer training"
)
ON_HOLDOUT = "judged on the hold-out"
DIGITS = words.DIGITS_NOTICE
ONE_SEED = (
    "Interval and test of one seed count these {} images alone: the spread between seeds, a "
    "standard deviation of some 0.15 points in trainings of others, is not in them."
)
CORRECTED = (
    "corrected for {} by Holm's method (Scandinavian Journal of Statistics 6, 1979): if no change "
    "did anything, a p below 0.05 would stand in at most one of twenty such studies. An interval "
    "is that of its difference alone"
)
NO_TEST = (
    "Without p: McNemar's test compares two runs image by image. Their predictions lie in the "
    "runs' folders (study.npz), which are not here, and the record of this study holds no test."
)
COMBINATIONS = {  # lib.predict.COMBINATIONS in words
    "flip": "the image and its mirror image, probabilities averaged",
    "shifts": "the image, two shifts and their mirror images, probabilities averaged",
    "report": "the five views of the reference report as its code computes them: logits averaged, "
    "the blur on whole levels and across the colours",
    "report_spatial": "the same five views, the blur over height and width alone",
}
LOCAL_CHANGES = (
    "With local changes: files differed from that commit when the training ran, so the commit "
    "alone is not its code. What decides a training's bits is recorded definition by definition, "
    "and "
)


def local_changes(jobs: Sequence[Job]) -> str:
    """Return what "with local changes" means for the numbers, "" where no job has any."""
    changed = [job for job in jobs if job["environment"]["dirty"]]
    if not changed:
        return ""
    stale = [f"{job['file']}@{job['seed']}" for job in changed if job["train"].get("stale")]
    if stale:
        return f"{LOCAL_CHANGES}that of {listed(stale)} was another when the study was collected."
    return f"{LOCAL_CHANGES}it was the same as at the collection of the study: no such edit counts."


def notice_of(plan: Mapping[str, Any], jobs: Sequence[Job]) -> str:
    """Return what a reader must know of all numbers: other data than CIFAR-10, share of length."""
    parts = other_data(plan, jobs)
    if not plan["full"]:
        cut = ", ".join(scope(plan))
        parts.append(cut if cut == ON_HOLDOUT else f"at a fraction: {cut}; {CAUTION}")
    return "; ".join(parts)


def other_data(plan: Mapping[str, Any], jobs: Sequence[Job]) -> list[str]:
    """Return what the jobs' data fall short of, but for the share of images that the plan names."""
    subset = (
        f"a subset of CIFAR-10: {plan['train_images']:,} of {TRAINING_IMAGES:,} training images"
    )
    return list(dict.fromkeys(job["notice"] for job in jobs if job["notice"] not in ("", subset)))


def scope(plan: Mapping[str, Any]) -> list[str]:
    """Return what a plan cuts short of full-length runs judged on the test set, part by part."""
    images, on_test = plan["train_images"], judged(plan) == "test"
    whole = TRAINING_IMAGES if on_test else TRAINING_IMAGES - HOLDOUT
    parts = [f"{100 * plan['epochs']:g}% of the epochs"] if plan["epochs"] != 1 else []
    parts += [f"{images:,} of {whole:,} training images"] if images else []
    parts += [f"every run with {plan['set']}"] if plan.get("set") else []
    return parts + ([] if on_test else [ON_HOLDOUT])


def box(plan: Mapping[str, Any], jobs: Sequence[Job]) -> str:
    """Return the sentences of the calm box below the title, "" for a study at full length.

    The values that a plan sets for every run are shown apart, folded.
    """
    told = [f"The data is {notice}." for notice in other_data(plan, jobs) if notice != DIGITS]
    if not plan["full"]:
        parts = [part for part in scope(plan) if not part.startswith("every run with")]
        parts += ["settings of its own for every run"] * bool(plan.get("set"))
        cut = f"A study at a fraction: {listed(parts)}. {_sentence(CAUTION)}"
        told = [f"A study {ON_HOLDOUT}." if parts == [ON_HOLDOUT] else cut, *told]
    return " ".join(told)


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."


def judged(plan: Mapping[str, Any]) -> str:
    """Return the images a study is judged on: test or hold-out."""
    return JUDGED_ON[plan.get("judged_on", "test")]


def label(run: str, base: str = "") -> str:
    """Return what a run changes in a few words: `params.change` to its first pause, no brackets."""
    told = re.sub(r" \([^)]*\)", "", params.change(run, base))
    return re.split(r"[:;,](?!\d)", told, maxsplit=1)[0].strip()


def opening(plan: Mapping[str, Any], jobs: Sequence[Job], table: pd.DataFrame) -> str:
    """Return the answer in at most three sentences, every number of it from the jobs."""
    if not jobs:
        return f"No training of this plan is done yet, of {_whole(plan)}."
    compared = table[~table["audit"] & table["difference"].notna()]
    tested = compared[compared["p"].notna()]
    if not compared.empty and tested.empty:
        return "The differences below are not tested: the predictions of the runs are not here."
    if not tested.empty:
        return _differences(tested)
    reached = table[(table["base"] == "") & ~table["audit"]]
    reach = listed(f"{name} reaches {words.accuracy(row)}" for name, row in reached.iterrows())
    return f"{reach}." if reach else "No run can be tested against its base yet."


def _differences(tested: pd.DataFrame) -> str:
    """Return what helps and what hurts most, how many more differ, how many do not clearly."""
    clear = tested[tested["holm"] < SIGNIFICANT].sort_values("difference")
    helps, hurts = clear[clear["difference"] > 0], clear[clear["difference"] < 0]
    ends = [("helps", helps[-1:], len(helps)), ("hurts", hurts[:1], len(hurts))]
    told = [_most(verb, part, number, tested) for verb, part, number in ends if number]
    others, unclear = len(clear) - len(told), len(tested) - len(clear)
    more = f"{_many(others, 'more ')} {'differs' if others == 1 else 'differ'} with p below 0.05"
    none = f"{_many(unclear)} {'makes' if unclear == 1 else 'make'} no clear difference"
    last = "; ".join(filter(None, (more * bool(others), none * bool(unclear))))
    return " ".join([*told, *([_sentence(last)] if last else [])])


def _most(verb: str, part: pd.DataFrame, number: int, tested: pd.DataFrame) -> str:
    """Return "What helps most: Muon in place of SGD (+15.9 points)."; the base, if there are more.

    So the words of a change need not be a subject: "without CutMix".
    """
    (name, row), bases = next(part.iterrows()), set(tested["base"])
    size = words.points(row["difference"], 1)
    against = f" against {row['base'].replace('_', ' ')}" if len(bases) > 1 else ""
    most = " most" if number > 1 or len(tested) > 1 else ""
    return _sentence(f"what {verb}{most}: {label(name, row['base'])} ({size} points{against})")


def _many(number: int, more: str = "") -> str:
    """Return a number of changes in words: "five changes", "two more changes"."""
    return f"{words.spelled(number)} {more}change{'' if number == 1 else 's'}"


def _whole(plan: Mapping[str, Any]) -> int:
    return len(plan["runs"]) * len(plan["seeds"])


def done(plan: Mapping[str, Any], jobs: Sequence[Job], table: pd.DataFrame) -> str:
    """Return what is done, and what the accuracies are of."""
    whole, number = _whole(plan), len(jobs)
    seeds, images = ({job["seed"] for job in jobs}, {job["test"]["images"] for job in jobs})
    made = f"All {whole}" if number == whole > 1 else f"{number} of {whole}"
    aside = " that were kept out of training; the test set was not used"
    return (
        f"{made} {'training' if whole == 1 else 'trainings'} {'is' if number == 1 else 'are'} "
        f"done: {count(len(table), 'run')}, {'seed' if len(seeds) == 1 else 'seeds'} "
        f"{listed(sorted(seeds))}. Accuracy is that of the weights at the end of a training, on a "
        f"single view of {listed(f'{size:,}' for size in sorted(images))} {judged(plan)} images"
        f"{'' if judged(plan) == 'test' else aside}."
    )


def tests(plan: Mapping[str, Any], table: pd.DataFrame) -> str:
    """Return which tests gave p and the intervals, what one seed cannot say, audits left out."""
    made: dict[str, list[str]] = {}
    for name, row in table[table["p"].notna()].iterrows():
        made.setdefault(row["test"], []).append(str(name).replace("_", " "))
    named = [kind + f" ({listed(runs)})" * (len(made) > 1) for kind, runs in made.items()]
    audits = [str(name).replace("_", " ") for name in table.index[table["audit"]]]
    followed = f"{listed(audits)} followed the test set: {'its' if len(audits) == 1 else 'their'}"
    number = count(int(table["p"].notna().sum()), "test")
    sentences = [
        f"p: {'; '.join(named)}; {CORRECTED.format(number)}." * bool(made),
        NO_TEST * bool((table["test"] == NO_PREDICTIONS).any()),
        ONE_SEED.format(judged(plan)) * bool((table["seeds"].map(len) == 1).any()),
        f"{followed} accuracy is no result." * bool(audits),
    ]
    return " ".join(filter(None, sentences))


def warnings(plan: Mapping[str, Any], jobs: Sequence[Job]) -> list[str]:
    """Return what is said loudly: data that is not CIFAR-10, jobs that are not comparable."""
    loud = [_sentence(notice) for notice in other_data(plan, jobs) if notice == DIGITS]
    return loud + mixed(jobs)


def mixed(jobs: Sequence[Job]) -> list[str]:
    """Return a sentence for the data and for the machines where the jobs do not share them."""
    data, machines = dict[str, list[str]](), dict[str, list[str]]()
    for job in jobs:
        name = f"{job['file']}@{job['seed']}"
        dataset = str(job["notice"] or DATASETS.get(job["dataset"], job["dataset"]))
        data.setdefault(dataset, []).append(name)
        machines.setdefault(words.machine(job["environment"]), []).append(name)
    reasons = {
        "used different data, so that their accuracies are not comparable": data,
        "ran on different devices, where the same seed may give other weights": machines,
    }
    return [
        f"The trainings {reason}: "
        f"{'; '.join(f'{name} ({listed(members)})' for name, members in groups.items())}."
        for reason, groups in reasons.items()
        if len(groups) > 1
    ]


def bias(audits: pd.DataFrame) -> str:
    """Return by how much the best epoch on the test set flatters, phase by phase."""
    means = audits.groupby("phase")["bias"].mean()
    if not (means.round(2) > 0).any():
        return "Here the last epoch was the best, so that nothing was gained by choosing."
    parts = [f"{value:.2f} points in phase {phase}" for phase, value in means.items()]
    return (
        f"Taking the best epoch instead of the last adds on average {listed(parts)}: by so much an "
        "accuracy flatters that was chosen on the test set."
    )


def described(table: pd.DataFrame, images: str = "test") -> str:
    """Return the figure in words; `images`: what it is judged on."""
    compared = table[table["difference"].notna()]
    if compared.empty:
        parts = [
            f"{name.replace('_', ' ')} {words.accuracy(row)}" for name, row in table.iterrows()
        ]
        what = f"{images.capitalize()} accuracy of {count(len(table), 'run')}"
        return f"{what}, mean over seeds with its 95% interval: {'; '.join(parts)}."
    parts = [_described(str(name), row) for name, row in compared.iterrows()]
    what = f"Differences in {images} accuracy of {count(len(compared), 'run')} to their bases"
    ends = ", with 95% intervals" if compared["least"].notna().any() else ""
    return f"{what}, in points{ends}: {'; '.join(parts)}."


def _described(name: str, row: pd.Series) -> str:
    known = row["least"] == row["least"]
    ends = f" ({words.points(row['least'])} to {words.points(row['most'])})" if known else ""
    return f"{label(name, row['base'])} {words.points(row['difference'])}{ends}"


def so_far(job: Mapping[str, Any]) -> str:
    """Return how far a training under way is, beside what was reported of each phase it ended."""
    reported, audit = results.reference(), job["audit"]
    said = [f"{words.percent(audit['test_accuracy'][-1])} so far"]
    for part in audit["phases"][-2::-1]:
        there = words.percent(reported[f"phase{part['phase']}"]["last"])
        said[:0] = [f"{words.percent(part['last'])} after phase {part['phase']} (reported {there})"]
    return f"{job['epochs']} of {job['of']} epochs: {', '.join(said)}"
