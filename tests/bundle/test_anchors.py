"""This bundle's runs compared with others: which are shown, what is said, and by whom."""

import json
import re
from itertools import combinations
from math import sqrt

import numpy as np
import pytest
from bs4 import BeautifulSoup

from bundle import paths, readme
from bundle.report import anchors, anchors_plot
from bundle.report.anchors import Result
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
        "cpu": metrics(0.93),
    }
    best, cpu = anchors.ours(found)
    assert (best.name, best.runs, cpu.name, cpu.runs) == ("best", 3, "cpu", 1)
    assert best.accuracy == pytest.approx(0.962) and best.deviation == pytest.approx(0.002)
    assert cpu.deviation is None and best.averaged == pytest.approx(0.964)


def test_a_name_alone_makes_no_seed():
    other = metrics(0.95, 3)
    other["settings"]["epochs"] = 50
    found = anchors.ours(
        {"best": metrics(0.96), "best-seed3": other, "best-epochs5-seed3": metrics(0.90, 3)}
    )
    assert [one.name for one in found] == ["best", "best-seed3", "best-epochs5"]


# The table


def cells(result):
    return anchors.table([result]).iloc[0].to_dict()


def test_our_row_by_hand():
    (one,) = anchors.ours({"as_written": metrics()})
    low, high = wilson(ACCURACY)
    assert one.interval == pytest.approx((low, high), abs=1e-7)
    assert cells(one) == {
        "network": "as_written",
        "parameters": "4,754,218",
        "MMAC": "271",
        "epochs": "100",
        "test accuracy": f"95.12% ({low:.2%} to {high:.2%}); averaged views 95.32%",
        "training PFLOP": "8.14",
        "time, energy": "1:02:05, CPU, 2 threads, bf16, energy 41.2 kJ",
        "reported by": "measured here",
    }


def test_several_seeds_give_their_deviation_and_energy_needs_all_of_them():
    second = metrics(0.9532, 3)
    second["train"] |= {"joules": None, "seconds": 3727.0}
    (one,) = anchors.ours({"best": metrics(0.9512), "best-seed3": second})
    low, high = wilson(0.9522)
    text = cells(one)
    assert text["test accuracy"].startswith(f"95.22% ({low:.2%} to {high:.2%}), 2 seeds, SD 0.14")
    assert text["time, energy"] == "1:02:06, CPU, 2 threads, bf16"


def test_seeds_of_other_machines_have_a_time_of_their_own():
    slow = [
        metrics(0.95, seed, environment={"device": "cpu", "threads": 2, "precision": "fp32"})
        for seed in (3, 4)
    ]
    for metric, seconds in zip(slow, (7200.0, 7210.0), strict=True):
        metric["train"] |= {"seconds": seconds}
    (one,) = anchors.ours({"best": metrics(), "best-seed3": slow[0], "best-seed4": slow[1]})
    times = "1:02:05, CPU, 2 threads, bf16; 2:00:05, CPU, 2 threads, fp32"
    assert one.runs == 3 and cells(one)["time, energy"] == f"{times}, energy 41.2 kJ"


def test_a_stale_run_says_so_and_a_gpu_is_named():
    found = metrics(environment={"device": "cuda", "device_name": "NVIDIA X", "threads": 2})
    found["train"]["stale"] = ["lib/step.py"]
    (one,) = anchors.ours({"best": found})
    assert one.name == "best (stale)" and "NVIDIA X" in cells(one)["time, energy"]


def test_others_are_those_of_the_reference_file():
    stated = runs_results.reference()["others"]
    for one, told in zip(anchors.others(), stated, strict=True):
        row = cells(one)
        assert row["network"] == told["network"]
        assert row["reported by"] == told["source"]
        assert row["test accuracy"].startswith(f"{told['accuracy']:.2%}") and one.interval is None
        assert (row["training PFLOP"] == "–") == (told["training_pflop"] is None)
        assert ("over limit" in row["parameters"]) == told["over_limit"] == one.over_limit
        assert ("computed" in row["training PFLOP"]) == bool(told["computed"])


def test_the_reference_and_an_anchor_by_hand():
    rows = {one.name: cells(one) for one in anchors.others()}
    assert rows["the reference"]["training PFLOP"] == "16.3, computed"
    assert rows["airbench95"] == {
        "network": "airbench95",
        "parameters": "4.6M",
        "MMAC": "302",
        "epochs": "15",
        "test accuracy": "95.01%, 200 runs",
        "training PFLOP": "1.39",
        "time, energy": "10.4 s, A100",
        "reported by": "KellerJordan cifar10-airbench",
    }


def test_the_note_says_that_others_were_not_measured_here():
    reported = anchors.others()
    assert "as reported by their authors, not measured here" in anchors.note(reported)
    assert anchors.note(reported).startswith(anchors.NONE_YET)
    assert anchors.NONE_YET not in anchors.note(anchors.ours({"cpu": metrics()}) + reported)


# The figure


def fixed(name, accuracies, parameters, pflop):
    return Result(
        name, parameters, 271, 100, accuracies, len(accuracies), pflop, ((100.0, "CPU, 2 threads"),)
    )


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
        [(one, 100 * one.accuracy) for one in results],
        [(one, one.parameters / 1e6) for one in results],
        [(one, one.pflop) for one in results if one.pflop],
    )
    for axis, expected in zip(drawn.axes, figures, strict=True):
        marks = [line for line in axis.lines if line.get_gid() == "mark"]
        named = []
        for mark in marks:
            place = axis.transData.transform(mark.get_xydata()[0])
            assert not any(box.contains(*place) for box in boxes)
            assert axis.bbox.contains(*place)
            gaps = [abs(place[1] - (box.y0 + box.y1) / 2) for box in boxes]
            assert sorted(gaps)[0] < 0.2 * sorted(gaps)[1], "it is as near to another name"
            named.append((labels[int(np.argmin(gaps))].get_text(), mark.get_xdata()[0]))
        expected = {anchors_plot.label(one, results): value for one, value in expected}
        assert len(named) == len(expected) and dict(named) == pytest.approx(expected)


def test_the_most_accurate_stands_first(shown):
    labels = anchors_plot.draw(shown).axes[0].get_yticklabels()
    best = max(shown, key=lambda one: one.accuracy)
    assert labels[-1].get_text() == anchors_plot.label(best, shown)


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
            anchors_plot.OVER,
            anchors_plot.REBUILT,
        } <= set(texts)
        assert anchors_plot.alt(shown) in page.find("dc:description").get_text()
        assert path.stat().st_size < 100_000
    before = (tmp_path / "anchors.svg").read_bytes()
    anchors_plot.save(shown, tmp_path / "anchors")
    assert (tmp_path / "anchors.svg").read_bytes() == before


def test_alternative_text_says_whose_figures_are_whose(shown):
    text = anchors_plot.alt(shown)
    assert "measured here: best 96.84%, as_written 95.32%" in text
    assert f"{len(shown) - 4} results as reported by their authors, not measured here" in text
    assert "Filled" not in anchors_plot.alt(anchors.others())


def test_ours_are_filled_and_others_hollow(shown):
    assert "not measured here" in anchors_plot.REPORTED
    for name, look in anchors_plot.LOOKS.items():
        assert (look.get("markerfacecolor") in ("white", "none")) == (name != anchors_plot.HERE)
    kinds = {one.name: anchors_plot.kind(one) for one in shown}
    assert kinds["best"] == anchors_plot.HERE and kinds["the reference"] == anchors_plot.REBUILT
    assert kinds["airbench96"] == anchors_plot.OVER and kinds["airbench95"] == anchors_plot.REPORTED
    assert (
        len({(look["marker"], look.get("markerfacecolor")) for look in anchors_plot.LOOKS.values()})
        == 4
    )


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
    assert rows[2].startswith("| **`best`** | 4,754,218 |") and "measured here" in rows[2]
    assert len(rows) == 3 + len(anchors.others()) and not any(
        "measured here" in row for row in rows[3:]
    )
    assert "quick" not in text and anchors.NONE_YET not in text
    named = re.findall(r'(?:src|srcset)="([^"]+)"', text)
    assert named == ["anchors-narrow.svg", "anchors.svg"]
    assert all((results / "docs" / name).is_file() for name in named)
    assert f'alt="{anchors_plot.alt(anchors.ours(anchors.runs()) + anchors.others())}"' in text


def test_committed_page_has_the_anchors():
    section = readme.read("anchors")
    for row in anchors.table(anchors.others()).values.tolist():
        assert f"| {' | '.join(row)} |" in section
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


def test_committed_page_has_the_screenings():
    assert readme.read("ingredients") == readme.ingredients()
