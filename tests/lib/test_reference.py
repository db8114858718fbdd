"""The reference figures agree with themselves, with the architecture described and their page."""

import json
import math
import re
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binomtest

DOCS = Path(__file__).resolve().parents[2] / "docs"
MEBIBYTE = 2**20
FLOAT32_BYTES = 4


@pytest.fixture(scope="module")
def reference():
    return json.loads((DOCS / "reference.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def log():
    return json.loads((DOCS / "reference_log.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def page():
    return (DOCS / "reference.md").read_text(encoding="utf-8")


def confusions(reference, first, second):
    """Images of either class taken for the other."""
    matrix, classes = reference["confusion_matrix"], reference["classes"]
    i, j = classes.index(first), classes.index(second)
    return matrix[i][j] + matrix[j][i]


def conv_bn(inputs, outputs, kernel, side):
    """Rows of a bias-free convolution and its batch norm: name, parameters, output values, MACs."""
    weights, values = inputs * outputs * kernel**2, outputs * side * side
    return [
        ("Conv2d", weights, values, weights * side * side),
        ("BatchNorm2d", 2 * outputs, values, 0),
    ]


def layer_rows(blocks, widths, strides, side=32, classes=10):
    """The layer table made by hand from the architecture, independently of any network code."""
    rows, channels = conv_bn(3, widths[0], 3, side), widths[0]
    for count, width, stride in zip(blocks, widths, strides, strict=True):
        side //= stride
        for block in range(count):
            rows += conv_bn(channels, width, 3, side) + conv_bn(width, width, 3, side)
            if channels != width or (block == 0 and stride != 1):
                rows += conv_bn(channels, width, 1, side)
            rows.append(("BasicBlock", 0, width * side * side, 0))
            channels = width
    head = ("Linear", (channels + 1) * classes, classes, channels * classes)
    return [*rows, ("AvgPool", 0, channels, 0), head]


@pytest.fixture(scope="module")
def rows(reference):
    return layer_rows(reference["blocks"], reference["widths"], reference["strides"])


def test_confusion_matrix_covers_the_test_set(reference):
    matrix = reference["confusion_matrix"]
    assert [len(row) for row in matrix] == [10] * 10
    assert [sum(row) for row in matrix] == [1000] * 10
    assert min(min(row) for row in matrix) >= 0


def test_diagonal_is_the_reported_accuracy(reference):
    correct = sum(row[i] for i, row in enumerate(reference["confusion_matrix"]))
    assert correct == 9465
    assert (
        correct / reference["test_images"]
        == reference["test_accuracy"]
        == reference["phase2"]["last"]
    )


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ("cat", "dog", 113),
        ("automobile", "truck", 44),
        ("airplane", "ship", 39),
        ("deer", "horse", 13),
    ],
)
def test_confused_pairs(reference, first, second, expected):
    assert confusions(reference, first, second) == expected


def all_pairs(matrix):
    """Images of either class taken for the other, for each pair of class numbers."""
    return {(i, j): matrix[i][j] + matrix[j][i] for i, j in combinations(range(10), 2)}


def test_of_the_pairs_named_one_is_the_first_and_one_an_average_pair(reference, log, page):
    pairs, classes = all_pairs(reference["confusion_matrix"]), reference["classes"]
    assert reference["similar_pairs_named"] == [["cat", "dog"], ["deer", "horse"]]
    cat_dog, deer_horse = [
        tuple(map(classes.index, two)) for two in (("cat", "dog"), ("deer", "horse"))
    ]
    assert max(pairs, key=pairs.get) == cat_dog and pairs[deer_horse] == 13
    assert sum(count > 13 for count in pairs.values()) == 12
    assert (round(np.mean(list(pairs.values())), 1), np.median(list(pairs.values()))) == (11.9, 6)
    first = all_pairs(log["phase1_confusion_matrix"])
    assert (first[deer_horse], sum(count > 23 for count in first.values())) == (23, 8)
    assert "the mean is 11.9, the median 6" in page


def test_learning_rates_follow_the_cosine(reference, log):
    rates = reference["learning_rates_phase2"]
    assert list(rates) == [*map(str, range(1, 11)), "46", "92", "93"]
    epochs = reference["phase2"]["epochs"]
    printed = {row["epoch"]: row["learning_rate"] for row in log["phase2"]}
    assert list(printed) == list(range(1, epochs + 1))
    for epoch, rate in printed.items():
        assert rate == round(0.005 * (1 + math.cos(math.pi * epoch / epochs)), 6), epoch
    assert rates == {epoch: printed[int(epoch)] for epoch in rates}


def test_the_log_holds_what_is_reported_of_both_phases(reference, log):
    for phase in ("phase1", "phase2"):
        stated, rows = reference[phase], log[phase]
        scores = [row["test_accuracy"] for row in rows]
        assert [row["epoch"] for row in rows] == list(range(1, stated["epochs"] + 1))
        assert (max(scores), scores.index(max(scores)) + 1) == (
            stated["best"],
            stated["best_epoch"],
        )
        assert (scores[-1], rows[-1]["train_loss"]) == (stated["last"], stated["train_loss"])
    last = log["phase1"][-1]
    keys = ("train_accuracy", "test_loss")
    assert [last[key] for key in keys] == [reference["phase1"][key] for key in keys]
    first = [row["test_accuracy"] for row in log["phase2"][:10]]
    assert first == reference["phase2_first_epochs"]
    (first, last), accuracy = reference["phase2"]["plateau"].values()
    plateau = [row["test_accuracy"] for row in log["phase2"] if first <= row["epoch"] <= last]
    assert [min(plateau), max(plateau)] == accuracy


def test_matrix_after_phase_1_has_its_last_accuracy(reference, log):
    matrix = log["phase1_confusion_matrix"]
    assert [sum(row) for row in matrix] == [1000] * 10
    assert sum(matrix[i][i] for i in range(10)) / 10_000 == reference["phase1"]["last"]


def test_page_states_how_steady_the_curves_are(log, page):
    table = cells(page)
    windows = {("phase1", 11, 50): "0.1", ("phase1", 51, 75): "0.01", ("phase1", 76, 100): "0.001"}
    windows |= {("phase2", 1, 50): "0.01, falling as a cosine", ("phase2", 51, 100): "falling to 0"}
    for (phase, first, last), rate in windows.items():
        scores = [row["test_accuracy"] for row in log[phase][first - 1 : last]]
        steady = 100 * np.abs(np.diff(scores)).mean()
        assert [phase[-1], f"{first}-{last}", rate, f"{steady:.2f}"] in table


def test_halving_the_first_filters_alone(page):
    halved = sum(row[1] for row in layer_rows([2, 2, 2, 2], [32, 64, 128, 256], [1, 2, 2, 2]))
    assert halved == 2_797_610 and f"{halved:,}" in page
    assert round(100 * (1 - halved / 11_173_962), 1) == 75.0


def test_figures_3_and_4_print_93_rates(reference):
    ends = [reference["captions"][key] for key in ("called_start", "called_end")]
    assert sum(last - first + 1 for first, last in ends) == reference["rates_in_report"] == 93


def test_pairs_under_shift(reference, page):
    table = cells(page)
    for pair in reference["shifted_pairs"]:
        drop = 100 * (pair["test"] - pair["shifted"])
        row = next(row for row in table if row[:2] == [pair["team"], pair["network"]])
        assert row[2] == stated(pair["parameters"]) and row[5] == f"{drop:.1f}"
        assert [float(cell) for cell in row[3:5]] == pytest.approx(
            [100 * pair["test"], 100 * pair["shifted"]]
        )
    own = reference["shifted_pairs"][0]
    assert (own["test"], own["shifted"]) == (
        reference["test_accuracy"],
        reference["kaggle_accuracy"],
    )


def test_parameter_counts_follow_from_the_architecture(reference, rows):
    assert sum(row[1] for row in rows) == reference["parameters"]
    resnet18 = layer_rows([2, 2, 2, 2], [64, 128, 256, 512], [1, 2, 2, 2])
    assert sum(row[1] for row in resnet18) == reference["resnet18_parameters"]
    assert reference["parameters"] <= reference["parameter_limit"] < reference["parameters_formula"]


@pytest.mark.parametrize(
    ("count", "percent"),
    [("parameters", 57.5), ("parameters_formula", 54.4), ("parameters_reported", 56.4)],
)
def test_reduction_against_resnet18(reference, count, percent):
    reduction = 1 - reference[count] / reference["resnet18_parameters"]
    assert round(100 * reduction, 1) == percent


def test_reported_reduction_fits_the_formula_best(reference):
    def gap(count):
        return abs(
            1
            - reference[count] / reference["resnet18_parameters"]
            - reference["reduction_reported"]
        )

    assert (
        min(("parameters", "parameters_formula", "parameters_reported"), key=gap)
        == "parameters_formula"
    )


def test_layer_table(reference, log, rows):
    printed = [(row["layer"], row["parameters"]) for row in log["layer_table"]]
    pool = {"AvgPool": "AdaptiveAvgPool2d"}
    made = [(f"{pool.get(row[0], row[0])}-{n}", row[1]) for n, row in enumerate(rows, 1)]
    assert made == printed and len(printed) == 85
    for row, stated in zip(log["layer_table"], reference["layer_table_head"], strict=False):
        assert stated == {"layer": row["layer"].split("-")[0], "parameters": row["parameters"]}
    assert len(reference["layer_table_head"]) == 9
    assert reference["last_layer"] == {"name": printed[-1][0], "parameters": printed[-1][1]}


def test_memory_estimate(reference, rows):
    expected = {
        "input": 3 * 32 * 32 * FLOAT32_BYTES / MEBIBYTE,
        "forward_backward": 2 * sum(row[2] for row in rows) * FLOAT32_BYTES / MEBIBYTE,
        "parameters": reference["parameters"] * FLOAT32_BYTES / MEBIBYTE,
    }
    expected["total"] = sum(expected.values())
    assert reference["memory_mb"] == {part: round(size, 2) for part, size in expected.items()}


def test_multiply_accumulates(reference, rows):
    assert round(sum(row[3] for row in rows), -6) == reference["macs"]


def test_wilson_interval_of_the_headline(reference):
    images = reference["test_images"]
    correct = round(reference["test_accuracy"] * images)
    interval = binomtest(correct, images).proportion_ci(0.95, method="wilson")
    assert (round(100 * interval.low, 2), round(100 * interval.high, 2)) == (94.19, 95.07)


def test_kaggle_predictions(reference):
    assert len(reference["kaggle_counts"]) == len(reference["classes"])
    assert sum(reference["kaggle_counts"]) == reference["kaggle_images"] == 10_000
    correct = reference["kaggle_accuracy"] * reference["kaggle_images"]
    assert abs(correct - round(correct)) > 0.1, "the score would be a whole number of images"


def test_phases(reference):
    assert reference["phase1"]["last"] < reference["phase1"]["best"] < reference["phase2"]["last"]
    low, high = reference["phase2"]["plateau"]["accuracy"]
    assert low <= reference["phase2"]["last"] <= high
    assert len(reference["phase2_first_epochs"]) == 10
    assert max(reference["phase2_first_epochs"]) < reference["phase1"]["last"]


# fmt: off
KEYS = {
    "network", "parameters", "over_limit", "residual", "mmac", "epochs", "accuracy", "views",
    "single_accuracy", "runs", "training_pflop", "seconds", "device", "computed", "source",
    "source_url",
}
# fmt: on


def test_others_say_the_same_of_each_network_in_order_of_accuracy(reference):
    others = reference["others"]
    assert all(set(other) == KEYS for other in others)
    accuracies = [other["accuracy"] for other in others]
    assert accuracies == sorted(accuracies, reverse=True)
    assert len({(other["network"], other["epochs"]) for other in others}) == len(others) == 20


def test_others_say_which_views_their_accuracy_is_of(reference):
    """Averaged: the airbench scripts and the speed run; a single view: the reference's test set."""
    of = {views: set() for views in ("single", "averaged", None)}
    for other in reference["others"]:
        of[other["views"]].add(other["network"].split("_")[0][:8])
    assert of["averaged"] == {"airbench", "hiverge "} and of["single"] == {"the refe"}
    singles = {o["network"]: o["single_accuracy"] for o in reference["others"]}
    assert {name: one for name, one in singles.items() if one} == {"hiverge speed run": 0.9316}


def test_shortcuts_of_the_airbench_networks(reference):
    residual = {other["network"]: other["residual"] for other in reference["others"]}
    assert not residual["airbench94"] and not residual["airbench95"]
    assert residual["airbench96"] and residual["airbench96_faster"]


def test_addresses_of_others_are_repositories_or_papers(reference):
    addresses = {other["source"]: other["source_url"] for other in reference["others"]}
    known = {source: address for source, address in addresses.items() if address}
    assert len(known) == 11
    assert all(re.match(r"https://(github\.com|arxiv\.org)/\S+$", one) for one in known.values())


def test_others_over_the_limit_are_marked(reference):
    over = [other["network"] for other in reference["others"] if other["over_limit"]]
    assert over == [
        o["network"]
        for o in reference["others"]
        if o["parameters"] and o["parameters"] > reference["parameter_limit"]
    ]
    assert sorted(over) == ["airbench96", "airbench96_faster", "standard ResNet-18"]
    (unknown,) = [o["network"] for o in reference["others"] if o["over_limit"] is None]
    assert unknown.startswith("ResNet-164")


def test_what_others_state_of_a_time_names_its_machine(reference):
    timed = [other for other in reference["others"] if other["seconds"]]
    assert {(other["source"], other["device"]) for other in timed} == {
        ("KellerJordan cifar10-airbench", "A100"),
        ("hiverge cifar10-speedrun", "A100"),
        ("DAWNBench", "16 virtual CPU cores"),
    }
    assert len(timed) == 8 and all(
        not other["device"] for other in reference["others"] if other not in timed
    )


def test_the_reference_among_the_others_is_the_reference(reference):
    (own,) = [other for other in reference["others"] if other["network"] == "the reference"]
    assert (own["parameters"], own["accuracy"]) == (
        reference["parameters"],
        reference["test_accuracy"],
    )
    assert own["epochs"] == reference["phase1"]["epochs"] + reference["phase2"]["epochs"]
    assert own["mmac"] * 1e6 == reference["macs"]
    assert (
        own["training_pflop"]
        == round(6 * reference["macs"] * own["epochs"] * 50_000 / 1e15, 2)
        == 16.26
    )


def test_what_is_computed_from_what_others_report_is_marked(reference):
    computed = {
        other["network"]: other["computed"] for other in reference["others"] if other["computed"]
    }
    assert computed == {
        "the reference": ["training_pflop"],
        "hiverge speed run": ["single_accuracy"],
    }


def test_stated_arithmetic_is_six_operations_a_mac(reference):
    """Forward, gradient of the inputs and of the weights: two operations a MAC; 50,000 images."""
    stated = [o for o in reference["others"] if o["training_pflop"] and o["mmac"]]
    assert len(stated) == 7  # airbench96_faster leaves half of each batch out
    for other in stated:
        operations = 6 * other["mmac"] * 1e6 * other["epochs"] * 50_000
        assert other["training_pflop"] == pytest.approx(operations / 1e15, rel=0.04), other[
            "network"
        ]


def cells(page):
    """The table rows of the page, each as a list of stripped cells."""
    lines = (line for line in page.splitlines() if line.startswith("|"))
    return [[cell.strip() for cell in line[1:-1].split("|")] for line in lines]


def test_page_states_the_same_matrix(reference, page):
    (block,) = re.findall(r"```\n(.*?)```", page, flags=re.DOTALL)
    assert [[int(v) for v in line.split()] for line in block.splitlines()] == reference[
        "confusion_matrix"
    ]


def test_page_states_the_same_tables(reference, page):
    table = cells(page)
    for row in reference["report_against_notebook"]:
        assert [row["topic"], row["report"], row["notebook"]] in table
    accuracies = [f"{100 * accuracy:.2f}" for accuracy in reference["phase2_first_epochs"]]
    for epoch, rate in reference["learning_rates_phase2"].items():
        accuracy = accuracies[int(epoch) - 1] if int(epoch) <= len(accuracies) else ""
        assert [epoch, f"{rate:.6f}", accuracy] in table
    for label, (name, count) in enumerate(
        zip(reference["classes"], reference["kaggle_counts"], strict=True)
    ):
        assert [str(label), name, f"{count:,}"] in table


def table_under(page, heading):
    """The rows of the first table under the page's heading, each a dict by its column names."""
    lines = page.split(f"\n## {heading}\n")[1].split("\n## ")[0].splitlines()
    names, _rule, *rows = cells("\n".join(line for line in lines if line.startswith("|")))
    return [dict(zip(names, row, strict=True)) for row in rows]


def stated(value):
    """A value as the page writes it: nothing stated in words, millions if a count was rounded."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int) and value > 1e6:
        return f"{value:,}" if value % 10_000 else f"{value / 1e6:g}M"
    return (
        "not stated" if value is None else f"{value:g}" if isinstance(value, int | float) else value
    )


def test_page_states_the_same_figures_of_others(reference, page):
    rows = table_under(page, "What others reach with at most five million parameters")
    within = [other for other in reference["others"] if other["over_limit"] is False]
    for row, other in zip(rows, within, strict=True):
        assert float(row.pop("accuracy, %")) == pytest.approx(100 * other["accuracy"])
        address, source = other["source_url"], other["source"]
        assert row.pop("source") == (f"[{source}]({address})" if address else source)
        keys = ("network", "parameters", "epochs", "views", "runs", "residual")
        assert list(row.values()) == [stated(other[key]) for key in keys]


def test_page_states_the_same_speed_anchors(reference, page):
    rows = table_under(page, "Speed anchors")
    others = sorted(
        (o for o in reference["others"] if o["training_pflop"] or o["seconds"]),
        key=lambda one: one["training_pflop"] or math.inf,
    )
    for row, other in zip(rows, others, strict=True):
        assert float(row.pop("accuracy, %")) == pytest.approx(100 * other["accuracy"])
        assert ("(computed)" in row["PFLOP"]) == ("training_pflop" in other["computed"])
        row["PFLOP"] = row["PFLOP"].removesuffix(" (computed)")
        keys = (
            "network",
            "parameters",
            "mmac",
            "epochs",
            "views",
            "runs",
            "training_pflop",
            "seconds",
            "device",
        )
        assert list(row.values()) == [stated(other[key]) for key in keys]


def test_page_states_the_same_accuracies_under_corruption(reference, page):
    rows = table_under(page, "What others report under corruption")
    for row, other in zip(rows, reference["corruptions"]["networks"], strict=True):
        rates = [f"{100 * other[key]:.2f}" for key in ("clean", "of_15", "of_13", "of_7")]
        assert list(row.values()) == [other["network"], *rates]


@pytest.mark.parametrize(
    "key", ["parameters", "parameters_formula", "resnet18_parameters", "parameter_limit"]
)
def test_page_states_the_same_counts(reference, page, key):
    assert f"{reference[key]:,}" in page
