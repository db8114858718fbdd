"""A study's statistics: accuracy over seeds, runs against bases, views, normalisation, changes.

A job is what study.jobs.of_study found for one run and seed. Accuracies are fractions, differences
percentage points.
"""

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from operator import itemgetter
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from bundle import effects, words
from bundle.training.alike import with_defaults
from lib import metrics

Job = Mapping[str, Any]
Predictions = Mapping[str, NDArray]  # predictions, labels, index, each (N,), of the test images
COLUMNS = ["seeds", "accuracies", "accuracy", "sd", "low", "high", "interval", "base"]
UNTESTED = ("p", "least", "most", "paired")  # NaN where there is no test
COLUMNS += ["difference", "test", *UNTESTED, "audit"]


def holm(p: ArrayLike) -> NDArray[np.float64]:
    """Return p values (n,) corrected for number (Holm, Scand. J. Statist. 1979), in order."""
    p = np.asarray(p, dtype=float)
    order, corrected = np.argsort(p), np.empty(len(p))
    corrected[order] = np.minimum(1, np.maximum.accumulate(p[order] * (len(p) - np.arange(len(p)))))
    return corrected


def corrected(table: pd.DataFrame) -> pd.DataFrame:
    """Return `summary`'s table with a column holm: p corrected for the number of tests in it."""
    tested = table["p"].dropna().astype(float)
    return table.assign(holm=pd.Series(holm(tested), tested.index, dtype=float))


def by_run(jobs: Iterable[Job], order: Sequence[str] = ()) -> dict[str, list[Job]]:
    """Return run file -> its jobs by seed; the files in `order`, then in that of the jobs."""
    groups: dict[str, list[Job]] = {name: [] for name in order}
    for job in jobs:
        groups.setdefault(job["file"], []).append(job)
    seed = itemgetter("seed")
    return {name: sorted(group, key=seed) for name, group in groups.items() if group}


def bases(jobs: Iterable[Job]) -> set[str]:
    """Return the run files that others are compared with or that have no base themselves."""
    return {job["base"] or job["file"] for job in jobs}


def summary(
    jobs: Iterable[Job],
    predictions_of: Callable[[Job], Predictions | None],
    order: Sequence[str] = (),
) -> pd.DataFrame:
    """Return one row a run file: its accuracy over seeds and difference to the base with a test.

    `predictions_of` gives a job's arrays, None where they are not here; `order` is that of the run
    files.

    Columns: seeds, accuracies (tuples), accuracy (their mean), sd (ddof 1, NaN for one seed), low,
    high and interval (95%, and whose), base, difference (of the means, NaN without a base), test
    (its name), p, least and most (the difference's 95% interval, NaN where none can be had), paired
    (the difference on the one seed that McNemar's test saw), audit (whether the run followed the
    test set: never a headline), holm (p corrected for the number of tests; the interval is not).
    """
    groups = by_run(jobs, order)
    rows = [
        {
            **_accuracy(group),
            **_against(group, groups.get(group[0]["base"], []), predictions_of),
            "base": group[0]["base"] or "",
            "audit": bool(group[0]["settings"].get("audit")),
        }
        for group in groups.values()
    ]
    index = pd.Index(list(groups), name="run", dtype=object)
    return corrected(pd.DataFrame(rows, columns=COLUMNS, index=index))


NO_PREDICTIONS = "none: predictions are not here"


def with_record(table: pd.DataFrame, recorded: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """Return `summary`'s table with the tests of a study.json where predictions are not here.

    `recorded` is its "summary". A row is taken where run, base and difference are the same.
    """
    filled, known = table.copy(), {row["run"]: row for row in recorded}
    for name, row in table[table["test"] == NO_PREDICTIONS].iterrows():
        theirs = known.get(name, {"base": None})
        if theirs["base"] != row["base"] or not math.isclose(
            theirs["difference"], row["difference"], abs_tol=1e-9
        ):
            continue
        for key in ("test", *UNTESTED):
            value = theirs.get(key)
            filled.loc[name, key] = math.nan if value is None else value
    return corrected(filled)


def ranked(table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows that have a difference, base by base, from the best to the worst.

    A column seed_differences is added: each seed's accuracy minus the base's mean, in points.
    """
    compared = table[table["difference"].notna()]
    means = compared["base"].map(table["accuracy"])
    seeds = [
        tuple(100 * (value - mean) for value in values) if len(values) > 1 else ()
        for values, mean in zip(compared["accuracies"], means, strict=True)
    ]
    firsts = {base: place for place, base in reversed([*enumerate(compared["base"])])}
    placed = compared.assign(seed_differences=seeds, place=compared["base"].map(firsts))
    ordered = placed.sort_values(["place", "difference"], ascending=[True, False], kind="stable")
    return ordered.drop(columns="place")


def _accuracy(group: Sequence[Job]) -> dict[str, Any]:
    scores, test = tuple(job["test"]["accuracy"] for job in group), group[0]["test"]
    single = len(group) == 1
    low, high = (test["low"], test["high"]) if single else mean_interval(scores)
    interval = "Wilson, of the one seed" if single else "t, over seeds"
    spread = {"sd": float(pd.Series(scores).std()), "low": low, "high": high, "interval": interval}
    seeds = tuple(job["seed"] for job in group)
    return {"seeds": seeds, "accuracies": scores, "accuracy": float(np.mean(scores)), **spread}


def mean_interval(values: Sequence[float]) -> tuple[float, float]:
    """Return a 95% interval of n > 1 values' mean (Student's t, n - 1 degrees), cut at 0, 1."""
    mean = effects.mean_effect(values)
    return max(0.0, mean.low), min(1.0, mean.high)


def _against(group: Sequence[Job], base: Sequence[Job], predictions_of: Callable) -> dict[str, Any]:
    """Return what COLUMNS has from difference to paired.

    Welch's test needs two seeds on both sides, McNemar's one in common.
    """
    none = {"difference": math.nan, "test": words.NONE, **dict.fromkeys(UNTESTED, math.nan)}
    if not base:
        return none
    if len({(job["dataset"], job["test"]["images"]) for job in [*group, *base]}) > 1:
        return {**none, "test": "none: not the same data"}
    ours, theirs = ([job["test"]["accuracy"] for job in part] for part in (group, base))
    none["difference"] = 100 * float(np.mean(ours) - np.mean(theirs))
    if min(len(ours), len(theirs)) >= 2:
        spread = np.ptp(ours) or np.ptp(theirs)
        tested = _tested(effects.welch(ours, theirs)) if spread else {}
        return {**none, "test": "Welch's t over seeds", **tested}
    partners = {job["seed"]: job for job in base}
    pairs = [(partners[job["seed"]], job) for job in group if job["seed"] in partners]
    if not pairs:
        return {**none, "test": "none: no seed in common"}
    result = {**none, **_mcnemar(*pairs[0], predictions_of)}
    of_means = {} if len(ours) == len(theirs) == 1 else {"least": math.nan, "most": math.nan}
    return {**result, **of_means}


def _tested(effect: effects.Effect) -> dict[str, float]:
    return {"p": effect.p, "least": 100 * effect.low, "most": 100 * effect.high}


def _mcnemar(base: Job, job: Job, predictions_of: Callable) -> dict[str, Any]:
    theirs, ours = predictions_of(base), predictions_of(job)
    if theirs is None or ours is None:
        return {"test": NO_PREDICTIONS}
    if not all(np.array_equal(theirs[key], ours[key]) for key in ("index", "labels")):
        return {"test": "none: not the same test images"}
    test = metrics.mcnemar(theirs["predictions"], ours["predictions"], ours["labels"])
    effect = effects.paired(test.only_second, test.only_first, len(ours["labels"]))
    name = f"McNemar, {test.method}, seed {job['seed']}"
    return {"test": name, **_tested(effect), "paired": 100 * effect.size}


def views(jobs: Iterable[Job], order: Sequence[str] = ()) -> pd.DataFrame:
    """Return each view's and combination's effect against the original view, a row a run and view.

    Columns: run, view, combined, seeds (how many), accuracy, change (points), gained, lost (images)
    - means over seeds - and p: McNemar's for one seed, otherwise a one-sample t-test of the seeds'
    changes against 0.
    """
    rows = [
        {"run": name, "view": view, "combined": kind == "combinations", **_view(group, kind, view)}
        for name, group in by_run(jobs, order).items()
        for kind in ("views", "combinations")
        for view in group[0][kind]
        if view != "original"
    ]
    columns = ["run", "view", "combined", "seeds", "accuracy", "change", "gained", "lost", "p"]
    return pd.DataFrame(rows, columns=columns)


def _view(group: Sequence[Job], kind: str, view: str) -> dict[str, Any]:
    shown = [job for job in group if view in job[kind]]
    scores = pd.DataFrame([{**job["test"], **job[kind][view]} for job in shown])
    points = 100 * (scores["gained"] - scores["lost"]) / scores["images"]
    p = float(scores["p"][0]) if len(scores) == 1 else _from_zero(points)
    means = scores[["accuracy", "gained", "lost"]].mean().to_dict()
    return {"seeds": len(scores), "change": float(points.mean()), "p": p, **means}


def _from_zero(points: pd.Series) -> float:
    if np.ptp(points) == 0:  # t is 0/0, or infinite without evidence for it
        return math.nan if points[0] else 1.0
    return effects.mean_effect(points).p


def beside(jobs: Iterable[Job], order: Sequence[str] = ()) -> pd.DataFrame:
    """Return the runs whose test images were also normalised in another way, means over seeds.

    Columns: run, normalisation (the other one), seeds (how many), accuracy, other, difference
    (other - accuracy).
    """
    rows = []
    for name, group in by_run([job for job in jobs if job["beside"]], order).items():
        scores = [[job[key]["accuracy"] for key in ("test", "beside")] for job in group]
        kind = group[0]["beside"]["normalisation"]
        rows.append((name, kind, len(group), *np.mean(scores, axis=0)))
    table = pd.DataFrame(rows, columns=["run", "normalisation", "seeds", "accuracy", "other"])
    return table.assign(difference=100 * (table["other"] - table["accuracy"]))


def audits(jobs: Iterable[Job], order: Sequence[str] = ()) -> pd.DataFrame:
    """Return what choosing the epoch on the test set gives.

    Columns: run, seed, phase, best_epoch, best, last, bias (points).
    """
    rows = [
        {"run": name, "seed": job["seed"], **phase}
        for name, group in by_run([job for job in jobs if job["audit"]], order).items()
        for job in group
        for phase in job["audit"]["phases"]
    ]
    table = pd.DataFrame(rows, columns=["run", "seed", "phase", "best_epoch", "best", "last"])
    return table.assign(bias=100 * (table["best"] - table["last"]))


def changes(jobs: Iterable[Job], order: Sequence[str] = ()) -> pd.DataFrame:
    """Return the settings in which each run differs from its base.

    Columns: run, base, setting, before, after (as text). Runs whose base is not among the jobs have
    no row; one that differs in nothing has one with setting "".
    """
    groups, rows = by_run(jobs, order), []
    for name, (job, *_) in groups.items():
        if base := groups.get(job["base"]):
            before, after = (with_defaults(each["settings"]) for each in (base[0], job))
            keys = [key for key in before if key != "seed" and before[key] != after[key]]
            texts = [(key, in_text(before, key), in_text(after, key)) for key in keys or [""]]
            rows += [(name, job["base"], *text) for text in texts]
    return pd.DataFrame(rows, columns=["run", "base", "setting", "before", "after"])


def in_text(settings: Mapping[str, Any], key: str) -> str:
    """Return a setting's value as text, an en dash where it is not known."""
    value = settings.get(key)
    return words.NONE if value is None else value if isinstance(value, str) else json.dumps(value)
