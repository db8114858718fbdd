"""The reference's own curves, and which runs they may be drawn behind."""

import json
import re
from dataclasses import asdict, replace

import nbformat
import pytest

from bundle.paths import ROOT
from bundle.report import printed, recipe
from bundle.runs import params
from lib.settings import Train

RUNS = ("as_run", "audit", "as_written", "no_cutmix", "steps", "cpu", "best", "quick", "wide")


def test_curves_are_both_phases_counted_through():
    table = printed.curves().set_index("epoch")
    assert table.index.tolist() == list(range(1, 201))
    assert table.loc[100, "test_accuracy"] == 0.9394 and table.loc[200, "test_accuracy"] == 0.9465
    rates = table["learning_rate"]  # phase 1 in words, phase 2 as printed
    assert [rates[epoch] for epoch in (1, 50)] == [0.1, 0.1]
    assert [rates[epoch] for epoch in (51, 75, 76, 100)] == pytest.approx([0.01] * 2 + [0.001] * 2)
    assert [rates[epoch] for epoch in (101, 146, 192)] == [0.009998, 0.005627, 0.000157]
    assert table.loc[101:, ["train_accuracy", "test_loss"]].isna().all(axis=None)
    assert not table.loc[:100].isna().any(axis=None)


def settings(run, **changed):
    return asdict(params.load(run).settings("03_train")) | changed


@pytest.mark.parametrize("run", RUNS)
def test_only_the_two_phases_of_the_notebook_are_its_recipe(run):
    assert printed.is_its_recipe(settings(run)) == (run in ("as_run", "audit"))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("blocks", (2, 2, 2, 2)),
        ("train_images", 8000),
        ("milestones", (50,)),
        ("phase2_epochs", 10),
        ("cutmix", 0.5),
        ("dataset", "digits"),
        ("stem", "whitening"),
    ],
)
def test_a_changed_value_makes_it_another(key, value):
    assert not printed.is_its_recipe(settings("as_run", **{key: value}))


def test_seed_and_machine_make_no_other_and_a_record_has_lists():
    of_record = {
        key: list(value) if isinstance(value, tuple) else value
        for key, value in settings("as_run", seed=7, threads=8, device="cuda").items()
    }
    assert printed.is_its_recipe(of_record)


@pytest.mark.parametrize("run", ["as_run", "as_written"])
def test_the_report_of_a_released_run_finds_its_recipe(run):
    """A record has the dataset beside the training's parameters, which do not name it."""
    record = json.loads((ROOT / "results/released" / run / "metrics.json").read_text())
    cells = nbformat.read(ROOT / "notebooks/06_report.ipynb", nbformat.NO_CONVERT).cells
    (asked,) = re.findall(r"reference_curves\((.*)\)", "\n".join(cell.source for cell in cells))
    settings = eval(asked, {"metrics": record})
    assert printed.is_its_recipe(settings) == (run == "as_run")


def test_the_recipe_s_table_holds_what_is_used():
    """One phase has one column; what neither phase uses has no row."""
    alone = recipe.table(params.load("as_written").settings("03_train"))
    assert list(alone) == ["value"] and "input divided by" in alone.index
    assert not {"mixup", "teacher", "warm-up"} & set(alone.index) and "none" not in alone.values
    both = recipe.table(params.load("as_run").settings("03_train"))
    assert list(both) == ["phase 1", "phase 2"]
    assert both.loc["vertical flip"].tolist()[0] == "none" and "CutMix" not in both.index
    assert alone.loc["learning rate", "value"] == "0.1, cosine by epoch"
    cpu = params.load("cpu").settings("03_train")
    straight = (
        "0.5, one cycle by step: falling in a straight line; biases of batch norm and stem 50"
    )
    assert recipe.table(cpu).loc["learning rate", "value"].startswith(straight)
    risen = recipe.table(replace(cpu, warmup_epochs=2.0)).loc["learning rate", "value"]
    assert "one cycle by step; biases" in risen


def test_a_recipe_in_short_names_what_is_done_and_nothing_else():
    plain = Train(run="x", cutmix=0.0, crop_padding=0, horizontal_flip=0.0)
    assert recipe.in_short(plain) == "stochastic gradient descent"
    halved = replace(plain, half_resolution=0.5, crop_padding=2, label_smoothing=0.1)
    assert recipe.in_short(halved) == (
        "stochastic gradient descent, label smoothing, random crops and half the resolution at "
        "first"
    )
    turns = replace(plain, flip_mode="alternating")
    assert recipe.in_short(turns) == "stochastic gradient descent and mirror images"
    assert recipe.ingredients(plain)["crop"] == recipe.ingredients(plain)["mirroring"] == ""
