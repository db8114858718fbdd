"""A study's statistics against values by hand; its page: complete, described, honest on length."""

import json
import math
import re

import numpy as np
import pandas as pd
import pytest
from bs4 import BeautifulSoup
from scipy import stats

from bundle import files, paths, words
from bundle.runs.results import reference
from bundle.study import compare, followed, released, sentences
from bundle.study import page as study_page
from bundle.study.figure import forest
from bundle.study.figure import study as draw
from lib import predict
from lib.errors import UserError

LABELS = np.arange(200) % 10
# fmt: off
CPU = {
    "device": "cpu", "device_name": "A CPU", "cpu_capability": "AVX2", "precision": "fp32",
    "threads": 2, "commit": "0123456789abcdef", "dirty": True,
}
# fmt: on
SETTINGS = {"seed": 42, "cutmix": 0.5, "milestones": [], "schedule": "cosine", "audit": False}
SUBSET = "a subset of CIFAR-10: 8,000 of 50,000 training images"


def score(accuracy, **more):
    return {"accuracy": accuracy, "low": accuracy - 0.03, "high": accuracy + 0.02, **more}


def predicted(wrong):
    """Return predictions (200,) that are wrong at these positions."""
    return np.where(np.isin(np.arange(200), list(wrong)), (LABELS + 1) % 10, LABELS)


def job(file, seed=42, accuracy=0.9, base=None, **more):
    views = {
        "original": score(accuracy, gained=0, lost=0, p=1.0),
        "vertical_flip": score(accuracy - 0.05, gained=4, lost=14, p=0.03),
    }
    made = {
        "run": f"{file}-seed{seed}",
        "file": file,
        "seed": seed,
        "base": base,
        "settings": {**SETTINGS, "seed": seed},
        "dataset": "cifar10",
        "notice": "",
        "parameters": 4_754_218,
        "mmac": 271.4,
        "environment": CPU,
        "train": {
            "epochs": 6,
            "images": 8000,
            "seconds": 75.0,
            "images_per_second": 640.0,
            "last": {},
        },
        "weights_sha256": f"{seed:064x}",
        "test": {"images": 200, **score(accuracy)},
        "beside": None,
        "views": views,
        "combinations": {"flip": score(accuracy + 0.01, gained=3, lost=1, p=0.6)},
        "confusion": np.eye(10, dtype=int).tolist(),
        "audit": None,
    }
    return {**made, **more}


def plan(runs, seeds=(42,), full=False, **more):
    length = {"epochs": 1.0, "train_images": 0} if full else {"epochs": 0.06, "train_images": 8000}
    return {
        "name": "p",
        "title": "A title",
        "runs": list(runs),
        "seeds": list(seeds),
        "full": full,
        **length,
        **more,
    }


def arrays(predictions):
    return {"predictions": predictions, "labels": LABELS, "index": np.arange(200)}


def nothing(_job):
    return None


@pytest.fixture
def results(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "RESULTS", tmp_path)
    return tmp_path


def small():
    """Return collected findings with a base, a variant, an audit run and one job missing."""
    phases = [
        {"phase": 1, "best": 0.88, "best_epoch": 5, "last": 0.87},
        {"phase": 2, "best": 0.9004, "best_epoch": 12, "last": 0.9},
    ]
    jobs = [
        job("as_run", beside={"normalisation": "image", **score(0.8875)}),
        job(
            "no_cutmix",
            accuracy=0.92,
            base="as_run",
            settings={**SETTINGS, "cutmix": 0.0, "milestones": [3, 4]},
        ),
        job(
            "audit",
            base="as_run",
            settings={**SETTINGS, "audit": True},
            audit={"test_accuracy": [], "phases": phases},
        ),
    ]
    jobs = [{**one, "dataset": "cifar10-subset", "notice": SUBSET} for one in jobs]
    return {
        "plan": plan(["as_run", "no_cutmix", "audit", "wide"]),
        "jobs": jobs,
        "missing": ["wide@42"],
    }


def save_predictions(results, jobs, wrong):
    for one, positions in zip(jobs, wrong, strict=True):
        (results / one["run"]).mkdir()
        np.savez(results / one["run"] / "study.npz", **arrays(predicted(positions)))


def soup(page):
    return BeautifulSoup(page.read_text(encoding="utf-8"), "html.parser")


def test_several_seeds_give_mean_spread_and_interval_of_student():
    table = compare.summary(
        [job("a", seed, accuracy) for seed, accuracy in ((44, 0.96), (42, 0.94), (43, 0.95))],
        nothing,
    )
    row = table.loc["a"]
    assert row["seeds"] == (42, 43, 44) and row["accuracies"] == (0.94, 0.95, 0.96)
    assert row["accuracy"] == pytest.approx(0.95) and row["sd"] == pytest.approx(0.01)
    # 97.5% quantile of t with two degrees of freedom, from a table.
    half = 4.302653 * 0.01 / math.sqrt(3)
    assert (row["low"], row["high"]) == (pytest.approx(0.95 - half), pytest.approx(0.95 + half))
    assert row["test"] == "–" and math.isnan(row["p"])


def test_an_interval_ends_at_one():
    low, high = compare.mean_interval([0.97, 0.99])
    assert high == 1 and low == pytest.approx(0.98 - 12.7062 * 0.01, abs=1e-6)


def test_one_seed_keeps_its_own_interval():
    row = compare.summary([job("a")], nothing).loc["a"]
    assert (row["low"], row["high"]) == (pytest.approx(0.87), pytest.approx(0.92)) and math.isnan(
        row["sd"]
    )


@pytest.mark.parametrize("theirs", [(0.90, 0.92, 0.91), (0.90, 0.94)])
def test_welch_over_seeds(theirs):
    ours = (0.94, 0.95, 0.96)
    jobs = [job("a", seed, one) for seed, one in enumerate(theirs)]
    jobs += [job("b", seed, one, base="a") for seed, one in enumerate(ours)]
    row = compare.summary(jobs, nothing).loc["b"]
    n, m = len(ours), len(theirs)
    first, second = (
        sum((x - sum(s) / len(s)) ** 2 for x in s) / (len(s) - 1) / len(s) for s in (ours, theirs)
    )
    t = (sum(ours) / n - sum(theirs) / m) / math.sqrt(first + second)
    # Welch and Satterthwaite.
    freedom = (first + second) ** 2 / (first**2 / (n - 1) + second**2 / (m - 1))
    assert row["test"] == "Welch's t over seeds" and row["p"] == pytest.approx(
        2 * stats.t.sf(t, freedom)
    )
    assert row["difference"] == pytest.approx(100 * (0.95 - sum(theirs) / m))
    half = 100 * stats.t.ppf(0.975, freedom) * math.sqrt(first + second)
    assert (row["least"], row["most"]) == pytest.approx(
        (row["difference"] - half, row["difference"] + half)
    )
    if m == 3:  # four degrees of freedom, for which the distribution has a closed form
        below = 0.5 + 3 / 8 * t / math.sqrt(1 + t * t / 4) * (1 - t * t / (12 * (1 + t * t / 4)))
        assert row["p"] == pytest.approx(2 * (1 - below))


def test_welch_without_spread_has_no_p():
    jobs = [
        job(file, seed, 0.9, base=base)
        for file, base in (("a", None), ("b", "a"))
        for seed in (1, 2)
    ]
    assert compare.summary(jobs, nothing).loc["b", ["p", "least", "most"]].isna().all()


@pytest.mark.parametrize(
    ("only_base", "only_run", "p", "method"),
    [
        (1, 6, 2 * (1 + 7) / 2**7, "exact binomial"),
        (10, 30, math.erfc(math.sqrt(19**2 / 40 / 2)), "chi-square"),
    ],
)
def test_mcnemar_on_the_common_seed(only_base, only_run, p, method):
    saved = {"a": predicted(range(only_run)), "b": predicted(range(100, 100 + only_base))}
    jobs = [job("a", 42, 0.8), job("a", 43, 0.9), job("b", 43, 0.95, base="a")]
    row = compare.summary(jobs, lambda one: arrays(saved[one["file"]])).loc["b"]
    assert row["p"] == pytest.approx(p)
    assert row["test"].startswith(f"McNemar, {method}") and row["test"].endswith("seed 43")
    assert row["difference"] == pytest.approx(10)  # to the mean of both seeds of the base
    # Points of 200 images, on that seed.
    assert row["paired"] == pytest.approx((only_run - only_base) / 2)
    # An interval of one seed is not that of the means.
    assert math.isnan(row["least"]) and math.isnan(row["most"])


def test_the_interval_of_a_difference_on_one_seed():
    """Of 200 images 10 only the base has right, 30 only the run: error sqrt(40 - 20^2 / 200)."""
    saved = {"a": predicted(range(30)), "b": predicted(range(100, 110))}
    jobs = [job("a", 42, 0.85), job("b", 42, 0.95, base="a")]
    row = compare.summary(jobs, lambda one: arrays(saved[one["file"]])).loc["b"]
    half = 1.96 * math.sqrt(38) / 2
    assert (row["least"], row["most"]) == pytest.approx((10 - half, 10 + half))


def test_p_is_corrected_for_the_number_of_tests_by_holm():
    """Of p = 0.02, 0.01 and 0.04 in this order: 0.04 (2 * 0.02), 0.03 (3 * 0.01) and 0.04."""
    table = pd.DataFrame({"p": [math.nan, 0.02, 0.01, 0.04]}, index=list("abcd"))
    found = compare.corrected(table)["holm"]
    assert math.isnan(found["a"]) and list(found[1:]) == pytest.approx([0.04, 0.03, 0.04])
    none = compare.corrected(pd.DataFrame({"p": [math.nan]}))["holm"]
    assert none.isna().all()


def test_a_p_that_is_small_among_many_makes_no_clear_difference():
    """11 images lost and none gained: p is 2 / 2^11 by the exact test, 60 times that above 0.05."""
    jobs = [job("a", accuracy=0.9)]
    jobs += [job(f"b{n}", accuracy=0.89, base="a") for n in range(60)]
    table = table_of(jobs, [range(20), *[range(31)] * 60])
    assert (table["p"][1:] < 0.001).all() and (table["holm"][1:] > 0.05).all()
    assert sentences.opening(plan(["a"]), jobs, table).startswith("60 changes make no clear")
    assert "corrected for 60 tests by Holm's method" in sentences.tests(plan(["a"]), table)
    row = {**table.loc["b0"], "audit": False}
    assert study_page._drawn(row, -5.0, 10.0)["kind"] == "unclear"


def test_a_study_says_what_its_readers_ask():
    jobs = small()["jobs"]
    told = sentences.local_changes(jobs)
    assert told.startswith("With local changes: files differed") and "no such edit counts" in told
    clean = {**jobs[0]["environment"], "dirty": False}
    assert sentences.local_changes([{**jobs[0], "environment": clean}]) == ""
    old = {**jobs[0], "train": {**jobs[0]["train"], "stale": ["lib.step"]}}
    assert "that of as_run@42 was another" in sentences.local_changes([old])
    table = compare.summary(jobs, nothing)
    assert "study.npz" in sentences.tests(plan(["a"]), table)
    assert set(sentences.COMBINATIONS) == {*predict.COMBINATIONS} - {"original"}


def test_what_cannot_be_compared_is_said():
    def test_of(*jobs, predictions=nothing):
        return tuple(compare.summary(jobs, predictions).loc["b", ["test", "difference"]])

    def other_images(one):
        return {**arrays(LABELS), "index": np.arange(200) + (one["file"] == "b")}

    base = job("a")
    assert test_of(base, job("b", base="a"))[0] == "none: predictions are not here"
    assert (
        test_of(base, job("b", base="a"), predictions=other_images)[0]
        == "none: not the same test images"
    )
    assert test_of(base, job("b", 43, base="a"))[0] == "none: no seed in common"
    test, difference = test_of(base, job("b", base="a", dataset="digits"))
    assert test == "none: not the same data" and math.isnan(difference)
    test, difference = test_of(job("b", base="a"))
    assert test == "–" and math.isnan(difference)


def test_rows_stand_in_the_order_of_the_plan_and_audits_are_marked():
    table = compare.summary(small()["jobs"], nothing, ["wide", "audit", "as_run"])
    assert list(table.index) == ["audit", "as_run", "no_cutmix"] and list(table["audit"]) == [
        True,
        False,
        False,
    ]


def test_views_of_one_seed_and_of_several():
    gained = {1: (4, 2), 2: (6, 2), 3: (8, 2)}  # of 200 images: 1, 2 and 3 points
    jobs = [
        job(
            "a",
            seed,
            views={"original": {}, "horizontal_flip": score(0.9, gained=one, lost=two, p=0.5)},
        )
        for seed, (one, two) in gained.items()
    ]
    row = compare.views(jobs).iloc[0]
    assert (row["change"], row["gained"], row["lost"]) == (pytest.approx(2), 6, 2)
    t = 2 / (1 / math.sqrt(3))
    # Closed form for two degrees of freedom.
    assert row["p"] == pytest.approx(1 - t / math.sqrt(2 + t * t))
    assert compare.views(jobs[:1]).iloc[0]["p"] == 0.5 and list(compare.views(jobs)["view"]) == [
        "horizontal_flip",
        "flip",
    ]
    same = [
        job("a", seed, views={"pad_center_crop": score(0.9, gained=0, lost=0, p=1.0)})
        for seed in (1, 2)
    ]
    assert compare.views(same).iloc[0]["p"] == 1


def test_changes_normalisation_and_audit():
    jobs = small()["jobs"]
    found = compare.changes(jobs)
    assert [tuple(row) for row in found.itertuples(index=False)] == [
        ("no_cutmix", "as_run", "milestones", "[]", "[3, 4]"),
        ("no_cutmix", "as_run", "cutmix", "0.5", "0.0"),
        ("audit", "as_run", "audit", "false", "true"),
    ]
    # A setting that was added later is at its default in what was trained before.
    added = {**jobs[1]["settings"], "muon_steps": 5, "stem_bias_epochs": 2}
    late = compare.changes([jobs[0], {**jobs[1], "settings": added}])
    assert list(late["setting"]) == ["stem_bias_epochs", "milestones", "cutmix"]
    assert list(late["before"]) == ["0", "[]", "0.5"]
    assert compare.beside(jobs).loc[0, "difference"] == pytest.approx(-1.25)
    assert list(compare.audits(jobs)["bias"]) == [pytest.approx(1), pytest.approx(0.04)]


def test_numbers_in_words():
    assert [words.points(one) for one in (-0.314, 0.5, -0.001, math.nan)] == [
        "−0.31",
        "+0.50",
        "0.00",
        "–",
    ]
    assert words.listed(["a", "b", "c"]) == "a, b and c" and words.listed([1]) == "1"
    assert words.images(2.5) == "2.5" and words.images(1200.0) == "1,200"


def test_notice_says_the_fraction_once_and_other_data_first():
    fraction = sentences.notice_of(plan(["a"]), [job("a", notice=SUBSET)])
    assert fraction.startswith(
        "at a fraction: 6% of the epochs, 8,000 of 50,000 training images; a short training settles"
    )
    judged = sentences.notice_of(plan(["a"], judged_on="holdout"), [job("a", notice=SUBSET)])
    assert judged.startswith(
        "at a fraction: 6% of the epochs, 8,000 of 45,000 training images, judged on the hold-out"
    )
    assert sentences.notice_of(plan(["a"], full=True), [job("a")]) == ""
    digits = sentences.notice_of(
        plan(["a"], full=True), [job("a", notice="handwritten digits, not CIFAR-10")]
    )
    assert digits == "handwritten digits, not CIFAR-10"
    assert "training images" not in sentences.notice_of(
        plan(["a"], train_images=0, epochs=0.125), []
    )


def test_a_choice_at_full_length_is_no_fraction():
    whole = plan(["a"], judged_on="holdout", epochs=1.0, train_images=0)
    assert sentences.notice_of(whole, [job("a")]) == "judged on the hold-out"
    assert sentences.box(whole, [job("a")]) == "A study judged on the hold-out."


def test_page_is_complete_described_and_honest(results):
    collected = small()
    save_predictions(results, collected["jobs"], [range(40), range(20), range(40)])
    page = study_page.write_page(collected)
    assert page == results / "studies/p/study.html"
    document, source = soup(page), page.read_text(encoding="utf-8")
    assert [h1.get_text() for h1 in document.find_all("h1")] == ["A title"]
    scope = document.select_one("h1 + div.scope").get_text()
    assert "6% of the epochs" in scope and "8,000 of 50,000 training images" in scope
    assert not document.select(".notice, .alarm")  # a planned fraction is no alarm
    wide, narrow = document.select("svg.chart")  # one for each width of a screen
    assert "wide" in wide["class"] and "narrow" in narrow["class"]
    assert "+2.00 (" in wide["aria-label"] and not document.find_all("img")
    assert not re.search(
        r"\b(nan|NaN|None|inf)\b|Undefined|\{\{", re.sub(r"data:[^\"]+", "", source)
    )
    assert not re.search(r'(src|href)="https?:', source)
    anchors = {link["href"][1:] for link in document.find_all("a") if link["href"].startswith("#")}
    assert anchors <= {tag["id"] for tag in document.find_all(id=True)}
    files = {link["href"] for link in document.find_all("a")} - {f"#{anchor}" for anchor in anchors}
    files -= {"../../index.html"}  # the way home
    assert files == {"study.json", "study.svg", "study.pdf", "study.tex"}
    assert all((page.parent / name).is_file() for name in files)
    told = json.loads((page.parent / "study.json").read_text())
    summary = told.pop("summary")
    assert told == collected
    assert [row["accuracy"] for row in summary][:1] == [0.9] and "NaN" not in json.dumps(summary)


def test_page_holds_every_number(results):
    collected = small()
    save_predictions(results, collected["jobs"], [range(40), range(20), range(40)])
    text = " ".join(soup(study_page.write_page(collected)).get_text(" ").split())
    for part in (
        "3 of 4 trainings are done",
        "90.00% 87.00 to 92.00%",
        "+2.00 ",
        "audit followed the test set: its accuracy is no result",
        "exact binomial, seed 42",
        "never a headline",
        "−5.00",
        "88.75%",
        "−1.25",
        "0.04 points in phase 2",
        "milestones [] → [3, 4]",
        "wide@42",
        "make study PLAN=p",
        "000000000000",
        "94.65%",
    ):
        assert part in text, part
    for once in (  # what all trainings share
        "A CPU, AVX2, fp32, 2 threads",
        "training 6 epochs of 8,000 images",
        "0123456789 with local changes",
        "data a subset of CIFAR-10: 8,000 of 50,000 training images",
    ):
        assert text.count(once) == 1, once
    row = next(
        row
        for row in soup(results / "studies/p/study.html").select("#accuracy ~ .scroll tbody tr")
        if row.th.code.get_text() == "audit" and "base" not in row.get("class", [])
    )
    assert "followed the test set" in row.get_text()
    assert "90.00%" in row.get_text() and not row.select_one(".number b")


def table_of(jobs, wrong, order=()):
    saved = {one["file"]: predicted(positions) for one, positions in zip(jobs, wrong, strict=True)}
    return compare.summary(jobs, lambda one: arrays(saved[one["file"]]), order)


def test_the_opening_names_what_helps_and_hurts_most_in_words():
    """Of 200 images: one change wins 20, one 10, one loses 30, two change places of a few."""
    names = ["as_run", "best_muon", "best_no_ema", "best_trivial_all", "cpu_relu", "cpu_sgd"]
    jobs = [job("as_run", accuracy=0.8)]
    found = (0.9, 0.85, 0.65, 0.795, 0.805)
    jobs += [
        job(name, accuracy=one, base="as_run") for name, one in zip(names[1:], found, strict=True)
    ]
    wrong = [range(n) for n in (40, 20, 30, 70, 41, 39)]
    told = sentences.opening(plan(names), jobs, table_of(jobs, wrong))
    assert told == (
        "What helps most: Muon for the convolutions in place of SGD (+10.0 points). What hurts "
        "most: TrivialAugment on every image instead of half of them (−15.0 points). One more "
        "change differs "
        "with p below 0.05; two changes make no clear difference."
    )
    few = jobs[:1] + jobs[4:5]
    assert sentences.opening(plan(names), few, table_of(few, [range(40), range(41)])) == (
        "One change makes no clear difference."
    )


def test_rows_are_described_sorted_and_grouped_by_base(results):
    jobs = [
        job("cpu", accuracy=0.8),
        job("cpu_relu", accuracy=0.7, base="cpu"),
        job("cpu_sgd", accuracy=0.75, base="cpu", parameters=6_000_000),
        job("best_muon", accuracy=0.9, base="best"),
    ]
    page = soup(study_page.write_page({"plan": plan(["cpu"]), "jobs": jobs, "missing": []}))
    alone, of_cpu = page.select("table.changes tbody")
    assert "its base, best, is not done yet" in alone.get_text()
    heads = [" ".join(row.th.get_text(" ").split()) for row in of_cpu.find_all("tr")]
    assert heads[0].startswith("Compared with cpu A small fast network, trained in well")
    assert heads[1].startswith("SGD in place of Muon, at the rate of airbench94: what Muon adds")
    assert "beyond the limit" in heads[1] and heads[2] == "ReLU in place of GELU cpu_relu"
    # Nothing is tested here: no column for p, no interval, and the opening says why.
    head = [cell.get_text() for cell in page.select("table.changes thead th")]
    assert head[1] == "Difference, points" and len(head) == 3 and "p" not in head
    assert "to their bases, in points: " in str(page)
    assert "not tested" in page.select_one(".answer").get_text()


def test_a_drawn_interval_lies_where_its_numbers_are():
    row = {"difference": 2.0, "least": -1.0, "most": 5.0, "p": 0.2, "audit": False}
    drawn = study_page._drawn({**row, "holm": 0.2}, -5.0, 10.0)
    assert drawn == {"zero": 50, "size": 70, "least": 40, "most": 100, "kind": "unclear"}
    assert study_page._drawn({**row, "holm": 0.01}, -5.0, 10.0)["kind"] == "helps"


@pytest.mark.slow
def test_a_page_is_written_again_from_its_record(results):
    """Without predictions the tests are those recorded; study.json keeps its bytes."""
    collected = small()
    save_predictions(results, collected["jobs"], [range(40), range(20), range(40)])
    page = study_page.write_page(collected)
    first, record = page.read_text(), (page.parent / "study.json").read_bytes()
    for one in collected["jobs"]:
        (results / one["run"] / "study.npz").unlink()
    page.unlink()
    assert study_page.write_again(page.parent) == page
    home = '<a href="../../index.html">'  # what is released leads to no page that is not released
    assert home in first and home not in page.read_text()
    assert soup(page).main == BeautifulSoup(first, "html.parser").main
    assert (page.parent / "study.json").read_bytes() == record
    older = {key: value for key, value in json.loads(record).items() if key != "summary"}
    files.write_sealed(page.parent / "study.json", json.dumps(older).encode())
    study_page.write_again(page.parent)
    assert "not tested" in page.read_text() and "+2.00" in page.read_text()


def test_an_older_record_of_other_numbers_is_not_taken():
    jobs = [job("a"), job("b", base="a", accuracy=0.91)]
    table = compare.summary(jobs, nothing)
    row = {"run": "b", "base": "a", "difference": 1.0, "p": 0.01, "least": 0.1, "most": 1.9}
    filled = compare.with_record(table, [{**row, "test": "T"}])
    assert tuple(filled.loc["b", ["test", "p", "least"]]) == ("T", 0.01, 0.1)
    other = compare.with_record(table, [{**row, "test": "T", "difference": 1.1}])
    assert other.loc["b", "test"] == compare.NO_PREDICTIONS and math.isnan(other.loc["b", "p"])


def test_page_without_jobs_leaves_nothing_of_an_earlier_state(results):
    study_page.write_page({"plan": plan(["a"]), "jobs": [job("a")], "missing": []})
    page = study_page.write_page({"plan": plan(["a"]), "jobs": [], "missing": ["a@42"]})
    text = soup(page).get_text(" ")
    assert "No training of this plan is done yet, of 1." in text and "make study PLAN=p" in text
    names = sorted(path.name for path in page.parent.iterdir())
    assert names == ["SHA256SUMS", "study.html", "study.json"]
    assert set(files.sums(page.parent)) == {"study.html", "study.json"}


def test_page_says_where_jobs_differ(results):
    gpu = {**CPU, "device": "cuda", "device_name": "A GPU"}
    jobs = [
        job("a"),
        job(
            "b",
            base="a",
            dataset="digits",
            notice="handwritten digits, not CIFAR-10",
            environment=gpu,
        ),
    ]
    alarms = [
        tag.get_text()
        for tag in soup(
            study_page.write_page({"plan": plan("ab", full=True), "jobs": jobs, "missing": []})
        ).select("p.alarm")
    ]
    assert len(alarms) == 3 and alarms[0] == "Handwritten digits, not CIFAR-10."
    assert "CIFAR-10 (a@42); handwritten digits" in alarms[1]
    assert "A CPU, AVX2" in alarms[2] and "A GPU" in alarms[2]


def test_what_was_written_by_hand_is_escaped(results):
    collected = {
        "plan": plan(["a"], title="5% <b>more</b> & a_b"),
        "jobs": [job("a")],
        "missing": [],
    }
    page = study_page.write_page(collected)
    assert soup(page).h1.get_text() == "5% <b>more</b> & a_b"
    latex = (page.parent / "study.tex").read_text(encoding="utf-8")
    assert r"5\% <b>more</b> \& a\_b" in latex and not re.search(r"(?<!\\)%", latex)
    assert (
        all(rule in latex for rule in (r"\toprule", r"\midrule", r"\bottomrule"))
        and "nan" not in latex
    )


def test_figure_has_a_dot_for_every_seed():
    jobs = [job("a", 1, 0.90), job("a", 2, 0.92), job("b", 1, 0.94, base="a")]
    axis = draw(compare.summary(jobs, nothing), "A title", "accuracy (%)").axes[0]
    dots = {
        line.get_label(): list(line.get_xdata())
        for line in axis.lines
        if line.get_linestyle() == "None" and "seed" in str(line.get_label())
    }
    assert dots == {"base, one seed": [90, 92], "variant, one seed": [94]}
    base = next(line for line in axis.lines if line.get_label() == "mean of its base")
    assert list(base.get_xdata()) == [pytest.approx(91)] * 2 and base.get_ydata().mean() == 0
    assert [label.get_text() for label in axis.get_yticklabels()] == ["a", "b\nagainst a"]


@pytest.mark.parametrize("narrow", [False, True])
def test_a_forest_has_a_row_for_every_difference_in_order(narrow):
    jobs = [job("a", seed, 0.9) for seed in (1, 2)]
    jobs += [job("b", 1, 0.88, base="a"), job("b", 2, 0.90, base="a"), job("c", 1, 0.95, base="a")]
    ranked = compare.ranked(compare.summary(jobs, nothing))
    assert list(ranked.index) == ["c", "b"]
    drawn = forest(ranked, ["Change c", "Change b"], "A title", narrow)
    axis = drawn.axes[0]
    marks = [line for line in axis.lines if line.get_marker() in ("o", "s", "D")]
    assert [line.get_xdata()[0] for line in marks] == [pytest.approx(5), pytest.approx(-1)]
    (seeds,) = [line for line in axis.lines if line.get_marker() == "." and len(line.get_xdata())]
    assert list(seeds.get_xdata()) == [pytest.approx(-2), pytest.approx(0, abs=1e-9)]
    tops = [line.get_ydata()[0] for line in marks]
    assert axis.yaxis_inverted() and tops == sorted(tops)
    shown = [text.get_text() for text in (*axis.texts, *axis.get_yticklabels())]
    assert {"Change c", "Change b", "+5.0", "−1.0"} <= set(shown)
    assert drawn.get_size_inches()[0] == (3.8 if narrow else 8)


@pytest.mark.slow
def test_a_released_study_is_rendered_whole_or_stays(results, monkeypatch):
    study_page.write_page({"plan": plan("ab"), "jobs": [job("a")], "missing": ["b@42"]})
    (results / "released").mkdir()
    (results / "studies").rename(results / "released" / "studies")
    folder = results / "released/studies/p"
    assert released.names() == ["studies/p"]
    (folder / "study.html").write_text("older")
    monkeypatch.setattr(study_page, "latex", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        released.render("studies/p")
    assert (folder / "study.html").read_text() == "older"
    monkeypatch.undo()
    monkeypatch.setattr(paths, "RESULTS", results)
    assert released.render("studies/p") == folder and soup(folder / "study.html").h1
    assert [path.name for path in results.iterdir()] == ["released"]
    with pytest.raises(UserError, match=r"studies/q: no released study there"):
        released.render("studies/q")


@pytest.mark.slow
def test_released_studies_are_shown_by_the_present_code():
    """`python -m bundle render` writes their pages anew, in two minutes."""
    assert released.names()
    for name in released.names():
        folder = paths.RESULTS / "released" / name
        wanted = study_page.rendered_by(json.loads((folder / "study.json").read_text())["plan"])
        text = (folder / "study.html").read_text(encoding="utf-8")
        assert f'name="fingerprint" content="{wanted}"' in text, name


def test_curves_over_the_printed_ones_by_hand(tmp_path):
    """A tenth of a point above all that was printed; what is not done or of another length."""
    log = reference()["log"]
    printed = [row["test_accuracy"] for name in ("phase1", "phase2") for row in log[name]]
    job = {"run": "audit", "seed": 42, "settings": {"epochs": 100, "phase2_epochs": 100}}
    whole = {**job, "audit": {"test_accuracy": [value + 0.001 for value in printed]}}
    found = followed.shown([whole, {**job, "audit": None}], tmp_path)
    assert found["said"] == (
        "Phase 1 ends at 94.04% here, at 93.94% there; over its last 25 epochs ours lies +0.10 "
        "points from theirs. Phase 2 ends at 94.75% here, at 94.65% there; over its last 25 epochs "
        "ours lies +0.10 points from theirs. Both normalise the test images as in phase 1."
    )
    assert found["picture"].count("<svg") == 2 and found["alt"].endswith(found["said"])
    begun = {**job, "audit": {"test_accuracy": whole["audit"]["test_accuracy"][:188]}}
    said = followed.shown([begun], tmp_path)["said"]
    assert "Phase 1 ends" in said
    there = f"{printed[187]:.2%}"  # 94.63% by the log
    assert f"has done 88 of 100 epochs, and stands at 94.73% here, at {there} there" in said
    assert "over its last 25 epochs so far ours lies +0.10 points" in said
    few = {**job, "audit": {"test_accuracy": [0.5]}}
    assert followed.shown([few], tmp_path)["said"] == "No phase has come far yet."
    assert {path.name for path in tmp_path.iterdir()} == {"study_epochs.svg", "study_epochs.pdf"}
    assert followed.shown([{**whole, "settings": {"epochs": 30}}], tmp_path) == {}
    assert not list(tmp_path.iterdir())  # the figure would speak of trainings that are no more


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("batches of 1,000 at 0.5, as others", "batches of 1,000 at 0.5"),
        ("what ran (here: two phases, no CutMix), followed: why", "what ran"),
    ],
)
def test_a_label_ends_at_a_pause_and_not_within_a_number_or_brackets(monkeypatch, change, said):
    monkeypatch.setattr(sentences.params, "change", lambda *_: change)
    assert sentences.label("any") == said
