"""This bundle's runs compared with others: which are shown, what is said, and by whom."""

import json
import re
from itertools import combinations
from math import sqrt

import numpy as np
import pytest
from bs4 import BeautifulSoup
from matplotlib.text import Text

from bundle import paths, readme
from bundle.report import anchors, anchors_plot
from bundle.report.anchors import AVERAGED, SINGLE, UNSTATED, Result, Score
from bundle.runs import results as runs_results
from bundle.runs import status
from bundle.runs.graph import Node

ACCURACY, COUNT = 0.9512, 4_754_218


def metrics(accuracy=ACCURACY, seed=42, **changed):
    """The metrics of a made-up full run; `changed` replaces values at the top."""
    return {
        "dataset": "cifar10",
        "notice": "",
        "seed": seed,
        "parameters": COUNT,
        "mmac": 271.4,
        "audit": None,
        "settings": {"seed": seed, "epochs": 100, "comparison": False, "audit": False},
        "test": {"images": 10_000, "accuracy": accuracy, "tta_accuracy": accuracy + 0.002},
        "tta": {"combination": "flip"},
        "environment": {"device": "cpu", "threads": 2, "precision": "bf16"},
        "train": {
            "epochs": 100,
            "seconds": 3725.0,
            "tflop": 8142.0,
            "joules": 41_234.0,
            "stale": [],
        },
        **changed,
    }


@pytest.fixture
def results(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "RESULTS", tmp_path)
    return tmp_path


def write(results, name, found):
    (results / name).mkdir(parents=True)
    (results / name / "metrics.json").write_text(json.dumps(found))


def wilson(p, n=10_000, z=1.959964):
    """The interval by its formula: Wilson (1927)."""
    middle, spread = p + z**2 / (2 * n), z * sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    return (middle - spread) / (1 + z**2 / n), (middle + spread) / (1 + z**2 / n)


# Which runs


OTHER = {
    "quick": metrics(dataset="cifar10-subset", notice="a subset of CIFAR-10"),
    "part": metrics(test={"images": 1_000, "accuracy": ACCURACY, "tta_accuracy": ACCURACY}),
    "smoke": metrics(dataset="digits", notice="handwritten digits"),
    "wide": metrics(settings={"seed": 42, "comparison": True}),
    "audit": metrics(settings={"seed": 42, "audit": True}),
    "followed": metrics(audit={"test_accuracy": [0.9]}),
    "begun": {"dataset": "cifar10"},
}


@pytest.mark.parametrize("name", OTHER)
def test_a_run_that_is_not_full_is_never_shown(results, name):
    write(results, name, OTHER[name])
    write(results, f"released/{name}", OTHER[name])
    assert anchors.runs() == {} and not anchors.is_full(OTHER[name])


def test_a_run_here_goes_before_the_released_one(results):
    write(results, "released/best", metrics(0.96))
    write(results, "released/as_run", metrics(0.94))
    write(results, "best", metrics(0.97))
    write(results, "as_run", OTHER["quick"])  # hides no full run
    found = anchors.runs()
    assert {name: one["test"]["accuracy"] for name, one in found.items()} == {
        "best": 0.97,
        "as_run": 0.94,
    }
    assert set(anchors.runs("released/*")) == {"best", "as_run"}


def test_unreadable_metrics_are_passed_over(results):
    (results / "broken").mkdir()
    (results / "broken" / "metrics.json").write_text("{")
    assert anchors.runs() == {}


def test_seeds_of_a_run_are_one_result():
    found = {
        "best": metrics(0.960),
        "best-seed3": metrics(0.964, 3),
        "best-seed4": metrics(0.962, 4),
        "cpu": metrics(0.93, settings={"seed": 42, "epochs": 8}),
    }
    best, cpu = anchors.ours(found)
    assert (best.name, best.runs, cpu.name, cpu.runs) == ("best", 3, "cpu", 1)
    single, averaged = best.scores
    assert (single.views, averaged.views) == (SINGLE, AVERAGED)
    assert best.accuracy == single.accuracy == pytest.approx(0.962)
    assert single.deviation == pytest.approx(0.002) and cpu.scores[0].deviation is None
    assert averaged.accuracy == pytest.approx(0.964)


def test_a_run_that_averages_no_views_has_one_score():
    (one,) = anchors.ours({"cpu": metrics(tta={"combination": "original"})})
    assert [score.views for score in one.scores] == [SINGLE]


def test_a_name_alone_makes_no_seed():
    other = metrics(0.95, 3)
    other["settings"]["epochs"] = 50
    short = metrics(0.90, 3)
    short["settings"]["epochs"] = 5
    found = anchors.ours({"best": metrics(0.96), "best-seed3": other, "best-epochs5-seed3": short})
    assert [one.name for one in found] == ["best", "best-seed3", "best-epochs5"]


def test_another_name_makes_no_other_recipe():
    """Equal parameters and data: one row, a seed that is there twice counts once."""
    mine, again, other = metrics(0.97, 3), metrics(0.90), metrics(0.95, 4, data_checksum="other")
    runs = {"best": metrics(0.96), "mine": mine, "again": again, "part": other}
    part, best = sorted(anchors.ours(runs), key=lambda one: one.runs)
    assert (best.name, best.accuracies, part.name) == ("again", (0.90, 0.97), "part")
    assert anchors.of_recipe({**metrics(0.5, 9), "run": "x"}, [part, best]) is best
    assert anchors.of_recipe({**other, "run": "best"}, [part, best]) is part
    unlike = metrics(notice="a subset of CIFAR-10")
    assert anchors.of_recipe({**unlike, "run": "best"}, [part, best]) is None


# The table


def cells(result, views=None):
    """The row of a result's first score, or of the one with these views."""
    table = anchors.table([result])
    wanted = views or result.scores[0].views
    return table[table["views"] == wanted].iloc[0].to_dict()


def test_our_rows_by_hand():
    """A row for the single view and one for the averaged views, each with its own interval."""
    (one,) = anchors.ours({"as_written": metrics()})
    low, high = wilson(ACCURACY)
    assert one.scores[0].interval == pytest.approx((low, high), abs=1e-7)
    assert cells(one) == {
        "network": "as_written",
        "parameters": "4,754,218",
        "test accuracy": "95.12%",
        "views": "single",
        "95% interval": f"{100 * low:.2f} to {high:.2%}",
        "runs": "1",
        "training": "100 epochs; 8.14 PFLOP; 62 min on CPU, 2 threads, bf16; 41.2 kJ",
        "reported by": "measured here",
    }
    low, high = wilson(ACCURACY + 0.002)
    averaged = cells(one, AVERAGED)
    assert averaged["test accuracy"] == "95.32%" and averaged["training"] == "the same training"
    assert averaged["95% interval"] == f"{100 * low:.2f} to {high:.2%}"


def test_several_seeds_give_their_deviation_and_energy_needs_all_of_them():
    second = metrics(0.9532, 3)
    second["train"] |= {"joules": None, "seconds": 3727.0}
    (one,) = anchors.ours({"best": metrics(0.9512), "best-seed3": second})
    low, high = wilson(0.9522)
    text = cells(one)
    assert (text["test accuracy"], text["runs"]) == ("95.22%", "2 seeds, SD 0.14")
    assert text["95% interval"] == f"{100 * low:.2f} to {high:.2%}"
    assert text["training"].endswith("62 min on CPU, 2 threads, bf16")


def test_seeds_of_other_machines_have_a_time_of_their_own():
    slow = [
        metrics(0.95, seed, environment={"device": "cpu", "threads": 2, "precision": "fp32"})
        for seed in (3, 4)
    ]
    for metric, seconds in zip(slow, (7200.0, 7210.0), strict=True):
        metric["train"] |= {"seconds": seconds}
    (one,) = anchors.ours({"best": metrics(), "best-seed3": slow[0], "best-seed4": slow[1]})
    times = "62 min on CPU, 2 threads, bf16; 2 h on CPU, 2 threads, fp32; 41.2 kJ"
    assert one.runs == 3 and cells(one)["training"].endswith(times)


def test_a_stale_run_says_so_and_a_gpu_is_named():
    found = metrics(environment={"device": "cuda", "device_name": "NVIDIA X", "threads": 2})
    found["train"]["stale"] = ["lib/step.py"]
    (one,) = anchors.ours({"best": found})
    assert one.name == "best (stale)" and "on NVIDIA X" in cells(one)["training"]


def test_others_are_those_of_the_reference_file():
    stated = runs_results.reference()["others"]
    for one, told in zip(anchors.others(), stated, strict=True):
        row = cells(one)
        assert row["network"] == told["network"]
        assert row["reported by"] == told["source"] and one.url == (told["source_url"] or "")
        assert row["test accuracy"] == f"{told['accuracy']:.2%}" and row["95% interval"] == "–"
        assert row["views"] == (told["views"] or "not stated")
        assert ("PFLOP" in row["training"]) == (told["training_pflop"] is not None)
        assert ("over limit" in row["parameters"]) == bool(told["over_limit"]) == one.over_limit
        assert ("computed" in row["training"]) == ("training_pflop" in told["computed"])
        assert one.within == (told["over_limit"] is False)


def test_the_reference_and_anchors_by_hand():
    rows = {one.name: cells(one) for one in anchors.others()}
    assert rows["the reference"]["training"] == "200 epochs; 16.3 PFLOP (computed)"
    assert rows["the reference"]["views"] == "single"
    assert rows["airbench95"] == {
        "network": "airbench95",
        "parameters": "4.6M",
        "test accuracy": "95.01%",
        "views": "averaged",
        "95% interval": "–",
        "runs": "200",
        "training": "15 epochs; 1.39 PFLOP; 10.4 s on A100",
        "reported by": "KellerJordan cifar10-airbench",
    }
    slow = rows["ResNet-164 (DAWNBench, 2017)"]
    assert slow["parameters"] == "not stated" and slow["training"].startswith(
        "79.4 h on 16 virtual"
    )


def test_rows_are_ranked_and_what_is_over_the_limit_stands_apart():
    results = anchors.ours({"cpu": metrics(0.9346)}) + anchors.others()
    table = anchors.table(results)
    within = [result.within for result, _ in anchors.rows(results)]
    assert within == sorted(within, reverse=True) and not all(within)
    scores = table["test accuracy"].str.rstrip("%").astype(float)
    for part in (scores[: sum(within)], scores[sum(within) :]):
        assert part.is_monotonic_decreasing and len(part) > 3
    speed = table[table["network"] == "hiverge speed run"]
    assert dict(zip(speed["views"], speed["test accuracy"], strict=True)) == {
        AVERAGED: "94.01%",
        SINGLE: "93.16%",
    }


def test_names_are_linked_and_own_rows_marked():
    results = anchors.ours({"cpu": metrics(0.9346)}) + anchors.others()
    table = anchors.table(results)
    style = anchors.marked(table.style.hide(axis="index"), results)
    for _ in range(2):  # a page may ask for it more than once
        page = BeautifulSoup(style.to_html(), "html.parser")
    rows = page.find("tbody").find_all("tr")
    assert len(rows) == len(table)
    for row, name in zip(rows, table["network"], strict=True):
        own = {"own" in cell["class"] for cell in row.find_all("td")}
        assert own == {name == "cpu"} and row.td.get_text() == name
    links = {link.get_text(): link["href"] for link in page.find_all("a")}
    assert links["airbench95"] == "https://github.com/KellerJordan/cifar10-airbench"
    assert "the reference" not in links and "cpu" not in links


def test_the_note_says_that_others_were_not_measured_here_and_what_views_are():
    reported = anchors.others()
    assert "as reported by their authors, not measured here" in anchors.note(reported)
    assert "compare like with like" in anchors.note(reported)
    assert anchors.note(reported).startswith(anchors.NONE_YET)
    assert anchors.NONE_YET not in anchors.note(anchors.ours({"cpu": metrics()}) + reported)


# The figure


def fixed(name, accuracies, parameters, pflop):
    averaged = Score(AVERAGED, tuple(one + 0.007 for one in accuracies))
    scores, times = (Score(SINGLE, accuracies), averaged), ((100.0, "CPU, 2 threads"),)
    return Result(name, parameters, 100, scores, len(accuracies), pflop, times)


@pytest.fixture(scope="module")
def shown():
    mine = [
        fixed("best", (0.9688, 0.9671, 0.9693), 4_697_162, 71.9),
        fixed("as_written", (0.9532,), COUNT, 8.14),
        fixed("as_run", (0.9472,), COUNT, 16.3),
        fixed("cpu", (0.9322,), 1_970_000, 0.283),
    ]
    return mine + anchors.others()


@pytest.mark.parametrize("narrow", [False, True])
@pytest.mark.parametrize("mine", [0, 4])
def test_labels_cover_neither_each_other_nor_marks(shown, narrow, mine):
    """Each mark stands in the row of its own name, in every panel."""
    results = shown[4 - mine :]
    drawn = anchors_plot.draw(results, narrow)
    drawn.draw_without_rendering()  # gives the labels their places
    labels = drawn.axes[0].get_yticklabels()
    boxes = [label.get_window_extent() for label in labels]
    assert len(labels) == len(results)
    assert not any(first.overlaps(second) for first, second in combinations(boxes, 2))
    assert all(drawn.bbox.contains(*corner) for box in boxes for corner in (box.min, box.max))
    figures = (
        [(one, 100 * score.accuracy) for one in results for score in one.scores],
        [(one, one.parameters / 1e6) for one in results if one.parameters],
        [(one, one.pflop) for one in results if one.pflop],
    )
    for axis, expected in zip(drawn.axes, figures[: 1 if narrow else 3], strict=True):
        marks = [line for line in axis.lines if line.get_gid() == "mark"]
        named = []
        for mark in marks:
            place = axis.transData.transform(mark.get_xydata()[0])
            assert not any(box.contains(*place) for box in boxes)
            assert axis.bbox.contains(*place)
            gaps = [abs(place[1] - (box.y0 + box.y1) / 2) for box in boxes]
            assert sorted(gaps)[0] < 0.2 * sorted(gaps)[1], "it is as near to another name"
            named.append((labels[int(np.argmin(gaps))].get_text(), mark.get_xdata()[0]))
        expected = [(anchors_plot.label(one, results), value) for one, value in expected]
        assert [name for name, _ in sorted(named)] == [name for name, _ in sorted(expected)]
        values = [[value for _, value in sorted(pairs)] for pairs in (named, expected)]
        assert values[0] == pytest.approx(values[1])


def test_what_is_over_the_limit_stands_apart_under_a_heading(shown):
    drawn = anchors_plot.draw(shown)
    rows = anchors_plot.placed(shown)
    heights = {result.name: place for place, result in rows}
    lowest = min(place for place, result in rows if result.within)
    apart = {name for name, place in heights.items() if place < lowest}
    assert apart == {
        "airbench96",
        "airbench96_faster",
        "standard ResNet-18",
        "ResNet-164 (DAWNBench, 2017)",
    }
    (heading,) = [text for text in drawn.axes[0].texts if text.get_text() == anchors_plot.APART]
    assert max(heights[name] for name in apart) < heading.get_position()[1] < lowest


@pytest.mark.parametrize("narrow", [False, True])
def test_text_is_legible(shown, narrow):
    """At least 9 pixels where the figure fills a page of 400 or 800 pixels."""
    drawn = anchors_plot.draw(shown, narrow)
    drawn.draw_without_rendering()
    scale = (400 if narrow else 800) / drawn.get_size_inches()[0]  # pixels an inch
    texts = [text for text in drawn.findobj(Text) if text.get_text() and text.get_visible()]
    assert len(texts) > 20 and min(one.get_fontsize() for one in texts) / 72 * scale >= 9


def test_the_most_accurate_stands_first(shown):
    labels = anchors_plot.draw(shown).axes[0].get_yticklabels()
    best = max(shown, key=lambda one: one.accuracy)
    assert labels[0].get_text() == anchors_plot.label(best, shown)


def test_saved_figures_hold_every_name_and_say_whose_they_are(shown, tmp_path):
    anchors_plot.save(shown, tmp_path / "anchors")
    for path in (tmp_path / "anchors.svg", tmp_path / "anchors-narrow.svg"):
        page = BeautifulSoup(
            path.read_text().split("?>", 1)[1], "html.parser"
        )  # no XML parser is installed
        texts = [text.get_text(strip=True) for text in page.find_all("text")]
        assert {anchors_plot.label(one, shown) for one in shown} <= set(texts)
        assert {
            anchors_plot.HERE,
            anchors_plot.REPORTED,
            anchors_plot.REBUILT,
            anchors_plot.APART,
            *anchors_plot.VIEWS.values(),
        } <= set(texts)
        assert anchors_plot.alt(shown) in page.find("dc:description").get_text()
        assert path.stat().st_size < 120_000
    before = (tmp_path / "anchors.svg").read_bytes()
    anchors_plot.save(shown, tmp_path / "anchors")
    assert (tmp_path / "anchors.svg").read_bytes() == before


def test_alternative_text_says_whose_numbers_are_whose_and_of_which_views(shown):
    text = anchors_plot.alt(shown)
    assert "best 96.84% (single), 97.54% (averaged); as_written 95.32% (single)" in text
    assert f"{len(shown) - 4} results as reported by their authors, not measured here" in text
    assert "Measured here" not in anchors_plot.alt(anchors.others())


def test_shapes_say_who_measured_and_fillings_which_views(shown):
    assert "not measured here" in anchors_plot.REPORTED
    assert len({look["marker"] for look in anchors_plot.LOOKS.values()}) == 3
    assert len(set(anchors_plot.FILLINGS.values())) == 3
    kinds = {one.name: anchors_plot.kind(one) for one in shown}
    assert kinds["best"] == anchors_plot.HERE and kinds["the reference"] == anchors_plot.REBUILT
    assert kinds["airbench96"] == kinds["airbench95"] == anchors_plot.REPORTED
    axis, results = anchors_plot.draw(shown).axes[0], {one.name: one for one in shown}
    heights = {result.name: place for place, result in anchors_plot.placed(shown)}
    drawn = {
        (line.get_ydata()[0], round(line.get_xdata()[0], 2)): line.get_fillstyle()
        for line in axis.lines
        if line.get_gid() == "mark"
    }
    for name, views, accuracy in (
        ("best", SINGLE, 96.84),
        ("best", AVERAGED, 97.54),
        ("hiverge speed run", AVERAGED, 94.01),
        ("hiverge speed run", SINGLE, 93.16),
        ("PC-DARTS", UNSTATED, 97.43),
    ):
        assert results[name] and drawn[heights[name], accuracy] == anchors_plot.FILLINGS[views]


# pages and report


def test_section_is_written(results, monkeypatch):
    told = runs_results.reference()
    monkeypatch.setattr(paths, "ROOT", results)
    monkeypatch.setattr("bundle.report.anchors.reference", lambda: told)
    (results / "docs").mkdir()
    write(results, "quick", OTHER["quick"])
    write(results, "best", metrics(0.9612))
    text = readme.compared()
    rows = [line for line in text.splitlines() if line.startswith("|")]
    mine = [row for row in rows if "measured here" in row]
    assert len(mine) == 2 and all(row.startswith("| **`best`** | 4,754,218 |") for row in mine)
    scores = sum(len(one.scores) for one in anchors.others())
    assert len(rows) == 2 + 2 + scores and text.index("<picture>") < text.index("| network |")
    assert "| [airbench95](https://github.com/KellerJordan/cifar10-airbench) |" in text
    assert r"| [\[4,4,4,3\] 32-256 + SE, mixup, CutMix](https://github.com/samridhsri/" in text
    assert "quick" not in text and anchors.NONE_YET not in text
    named = re.findall(r'(?:src|srcset)="([^"]+)"', text)
    assert named == ["anchors-narrow.svg", "anchors.svg"]
    assert all((results / "docs" / name).is_file() for name in named)
    assert f'alt="{anchors_plot.alt(anchors.ours(anchors.runs()) + anchors.others())}"' in text


def test_committed_page_has_the_anchors():
    section = readme.read("anchors")
    table = anchors.table(anchors.others())
    for row in table.drop(columns="network").values.tolist():
        assert f" | {' | '.join(row)} |" in section
    assert all(name.replace("[", r"\[").replace("]", r"\]") in section for name in table["network"])
    assert "not measured here" in section and (paths.ROOT / "docs" / "anchors.svg").is_file()


def test_what_a_star_matches_is_part_of_a_notebook_s_inputs(results, monkeypatch):
    monkeypatch.setattr(paths, "ROOT", results)
    node = Node("06_report", (), (), ("released/*/metrics.json", "missing.json"), ())
    assert status._shared(node) == {"missing.json": ""}
    write(results, "released/best", metrics())
    assert set(status._shared(node)) == {"missing.json", "released/best/metrics.json"}


def test_ingredients_are_told_from_released_studies(results, monkeypatch):
    """Hand-written numbers; a study judged on the test set serves no choice and is left out."""
    monkeypatch.setattr(paths, "ROOT", results)
    monkeypatch.setattr(readme.params, "purpose", lambda run: "a coin for each mirroring")
    shared = {
        "seeds": 1,
        "sd": None,
        "low": 0.895,
        "high": 0.912,
        "interval": "Wilson",
        "test": "McNemar",
    }
    summary = [
        {"run": "best", "accuracy": 0.9032, "base": "", "difference": None, "p": None, **shared},
        {
            "run": "best_b",
            "accuracy": 0.9132,
            "base": "best",
            "difference": 1.0,
            "p": 0.0004,
            **shared,
        },
        {
            "run": "best_a",
            "accuracy": 0.8982,
            "base": "best",
            "difference": -0.5,
            "least": -1.2,
            "most": 0.2,
            "p": 0.25,
            **shared,
        },
    ]
    plan = {
        "name": "x",
        "title": "A screening",
        "judged_on": "holdout",
        "epochs": 0.1,
        "train_images": 0,
        "full": False,
    }
    for name, told in (("x", plan), ("y", {**plan, "judged_on": "test", "title": "No choice"})):
        folder = results / "released" / "studies" / name
        folder.mkdir(parents=True)
        (folder / "study.json").write_text(
            json.dumps({"plan": told, "jobs": [], "summary": summary})
        )
    text = readme.ingredients()
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    assert lines[2] == "| **`best`** | 90.32% (89.50% to 91.20%) |  |"
    assert lines[3] == (
        "| `best_a`: a coin for each mirroring | 89.82% (89.50% to 91.20%) "
        "| −0.50 (−1.20 to +0.20, p = 0.25) |"
    )
    assert lines[4].endswith("| 91.32% (89.50% to 91.20%) | +1.00 (p < 0.001) |")
    assert "A screening" in text and "10% of the epochs" in text and "No choice" not in text

    assert readme.reproduction() == "*No training of the study `full` is released yet.*"
    (results / "released" / "studies" / "full").mkdir()
    whole = {**plan, "name": "full", "judged_on": "test", "epochs": 1.0, "full": True}
    phases = [{"phase": 1, "last": 0.9401}, {"phase": 2, "last": 0.9463}]
    begun = {"run": "audit", "epochs": 188, "of": 200, "environment": {"device": "cpu"}}
    reference = {"phase1": {"last": 0.9394}, "phase2": {"last": 0.9465}}
    begun["audit"] = {"test_accuracy": [0.9401, 0.9463], "phases": phases}
    record = {"plan": whole, "summary": summary, "unfinished": [begun]}
    record["jobs"] = [{"notice": "", "test": {"images": 10_000}, "dataset": "cifar10"}]
    path = results / "released" / "studies" / "full" / "study.json"
    path.write_text(json.dumps(record))
    monkeypatch.setattr(readme.results, "reference", lambda: reference)
    table, told = readme.reproduction().rsplit("\n\n", 1)
    assert "| change | test accuracy (95% interval) |" in table and "90.32%" in table
    assert "full/study.html))" in table  # nothing is reduced, so nothing is said of it
    assert told == (
        "`audit` (CPU) has 188 of 200 epochs: 94.01% after phase 1 (reported 93.94%), 94.63% so "
        "far."
    )


def test_committed_page_has_the_screenings():
    assert readme.read("ingredients") == readme.ingredients()
    assert readme.read("reproduction") == readme.reproduction()
