"""The report: what it says of recipes and results, and its citations."""

import dataclasses
import json
import re

import numpy as np
import pandas as pd
import pytest
import torch
from bs4 import BeautifulSoup
from matplotlib.text import Text

from bundle import diagrams, figures, paths, words
from bundle.by_hand import count_by_hand
from bundle.pages.index import TEMPLATE
from bundle.report import (
    anchors,
    anchors_plot,
    learned,
    opening,
    recipe,
    references,
    reproduced,
    sentences,
)
from bundle.runs import results
from bundle.training.predictions import Predictions
from lib import plots
from lib.settings import Network, Train

REFERENCE = results.reference()


def metrics(**settings) -> dict:
    given = {"cutmix": 0.0, **settings}
    return {
        "settings": json.loads(json.dumps(dataclasses.asdict(Train(**given)))),
        "data": {"train": 45000, "holdout": 5000},
        "holdout": {"images": 5000},
        "tta": {"combination": "flip", "views": ["original", "horizontal_flip"]},
    }


@pytest.fixture
def record():
    """The record of the released run cpu, which a test may change."""
    return results.readable_metrics("released/cpu")


def as_lines(table):
    return "\n".join(f"{what}: {how}" for what, how in table.itertuples(index=False))


# The recipe


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (
            {},
            "images: cropped at random after 4 pixels of padding by zeros, flipped with "
            "probability 0.5\nloss: cross entropy\n",
        ),
        (
            {"crop_mode": "reflect", "vertical_flip": 0.05, "erasing": 0.5},
            "by reflection, flipped with probability 0.5, turned upside down with probability "
            "0.05, a part erased with probability 0.5 (Zhong et al., 2020)\n",
        ),
        ({"blur": 0.3}, "blurred with probability 0.3 (kernel 3, sigma 0.1 to 1.5)"),
        ({"nesterov": True}, "optimiser: stochastic gradient descent with Nesterov momentum 0.9\n"),
        ({}, "weight decay: 0.0005 on all parameters\n"),
        (
            {"optimiser": "muon"},
            "Muon (Jordan et al., 2024), rate 0.24, momentum 0.6, 5 Newton-Schulz steps, for the "
            "convolutions; stochastic gradient descent with momentum 0.9 for all else\n",
        ),
        (
            {"stem_bias_epochs": 3, "nesterov": True},
            "with Nesterov momentum 0.9 (the stem's bias for 3 epochs alone)\n",
        ),
        ({"warmup_epochs": 5.0}, "from 0.1 after 5 epochs of warm-up\n"),
        (
            {"schedule": "one_cycle", "warmup_epochs": 5.0},
            "learning rate: one-cycle schedule (Smith and Topin, 2019) from 0.1\n",
        ),
        ({"schedule": "one_cycle"}, "learning rate: falling in a straight line from 0.1 to 0\n"),
        (
            {"phase2_epochs": 50, "phase2_erasing": 0.5},
            "phase 2: 50 more epochs, cosine schedule (Loshchilov and Hutter, 2017) from 0.01; "
            "the images now a part erased with probability 0.5",
        ),
        ({}, "length: 100 epochs, batches of 128\n"),
        ({}, "weights: the last epoch's\n"),
        ({"flip_mode": "alternating"}, "mirrored every other epoch"),
        (
            {"mixup": 0.25, "mixup_alpha": 0.2},
            "mixing: mixup (Zhang et al., 2018) on 25% of the images, λ from Beta(0.2, 0.2)",
        ),
        ({"trivial_augment": 0.5}, "TrivialAugment (Müller and Hutter, 2021) on 50%"),
        ({"ema": 0.999}, "weights: averaged over the steps, decay 0.999"),
        (
            {},
            "test images: a single view; then two views (the image and its mirror image) "
            "averaged; chosen on 5,000 hold-out images",
        ),
    ],
)
def test_the_recipe_table_says_what_was_done(settings, said):
    assert said in as_lines(sentences.recipe_table(metrics(**settings)))


def test_the_recipe_table_has_no_row_for_what_was_not_done():
    text = as_lines(sentences.recipe_table(metrics(weight_decay=0.0)))
    assert not re.search(r"mixing|weight decay|phase 2|none|warm-up| 0[,; \n]|smooth|teacher", text)
    assert len(text.splitlines()) == 7 and len(sentences.recipe_table(metrics())) == 8


def test_without_a_holdout_the_views_were_set_beforehand():
    told = metrics() | {"holdout": {"images": 0}}
    text = as_lines(sentences.recipe_table(told))
    assert text.endswith("averaged; set beforehand") and "hold-out" not in text


def test_a_single_view_names_no_average():
    told = metrics() | {"holdout": {"images": 0}}
    told["tta"] = {"combination": "original", "views": ["original"]}
    assert as_lines(sentences.recipe_table(told)).endswith("test images: a single view")


def test_the_method_says_how_the_test_set_was_used():
    said = sentences.method(metrics())
    assert said.startswith("45,000 images are trained on, 5,000 are held out for choices. ")
    assert "No choice within this run was made by the test set: it was used once" in said
    none = sentences.method(metrics() | {"data": {"train": 50000, "holdout": 0}})
    assert "50,000 images are trained on, none is held out." in none
    audit = sentences.method(metrics(audit=True))
    assert "No choice" not in audit and "an audit, no result" in audit


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["original"], "one view (the image)"),
        (["original", "horizontal_flip"], "two views (the image and its mirror image)"),
        (
            ["original", "horizontal_flip", *recipe.SHIFTS],
            "six views (the image, two shifts, and their mirror images)",
        ),
    ],
)
def test_views_in_words(names, said):
    assert recipe.views(names) == said


# The first screen


def test_the_accuracy_comes_first_then_the_cost_then_the_size(record):
    page = BeautifulSoup(opening.headline(record), "html.parser")
    numbers = [tag.get_text() for tag in page.find_all("p", "headline")]
    assert numbers == ["93.6%", "21 min", "1.97 M"]
    labels = [tag.get_text() for tag in page.find_all("p", "label")]
    assert "95% interval 93.1% to 94.0%" in labels[0] and "10,000 test images" in labels[0]
    assert labels[1] == "of training on 2 CPU cores, 10 epochs"
    assert labels[2] == "parameters: 1,971,362, 39% of the 5,000,000 allowed"
    assert page.find("i")["style"] == "width: 39.4%"


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (45.2, "45 s"), (60, "1 min"), (191, "3 min 11 s"), (1275, "21 min"), (5399, "90 min"),
        (5400, "1.5 h"), (266000, "73.9 h"),
    ],
)  # fmt: skip
def test_a_time_has_its_unit(seconds, said):
    assert words.duration(seconds, exact=True) == said


def test_an_unset_author_is_marked_and_a_set_one_is_escaped(record):
    unset = BeautifulSoup(opening.byline(record, "", ""), "html.parser")
    assert unset.find(class_="unset").get_text().startswith("Author: set with")
    byline = opening.byline(record, "A. <b>", "Deep Learning")
    assert "unset" not in byline and "A. &lt;b&gt; · Deep Learning · run cpu" in byline


def ours(*accuracies, name="other", record=None):
    """One result of ours for each accuracy, or for each tuple of the accuracies of its seeds.

    `record`: the metrics of a run that they are of.
    """
    scores = [each if isinstance(each, tuple) else (each,) for each in accuracies]
    made = []
    for n, seeds in enumerate(scores):
        score, called = (anchors.Score("single", seeds),), f"{name}{n or ''}"
        made.append(anchors.Result(called, 1, 1.0, score, len(seeds), 1.0, (), record=record))
    return made


def test_the_scale_goes_from_chance_over_the_run_to_the_reference(record):
    shown = opening.marks(record, REFERENCE, ours(0.9357, name="cpu", record=record))
    assert [(kind, value) for kind, _, value in shown] == [
        ("chance", 0.1),
        ("run", 0.9357),
        ("theirs", 0.9465),
    ]
    html = opening.scale(shown)
    assert "chance 10%, this run 93.6%, the reference report 94.65%" in html
    assert 'class="run" style="left: 93.6%"' in html
    better = opening.marks(record, REFERENCE, ours(0.95, 0.97))
    assert better[-1] == ("best", "best here (other1)", 0.97)
    assert [kind for kind, *_ in opening.marks(record | {"dataset": "digits"}, REFERENCE, [])] == [
        "chance",
        "run",
    ]


def test_the_abstract_has_five_sentences_with_their_numbers(record):
    said = opening.abstract(record, REFERENCE)
    ends = re.findall(r"[.?](?= [A-Z]|$)", said)
    assert len(ends) == 5
    for number in ("1,971,362", "10 epochs", "21 min", "93.57%", "93.07% to 94.03%", "94.32%",
                   "+0.75 points", "94.65%", "19% of all"):  # fmt: skip
        assert number in said


@pytest.mark.parametrize(
    ("accuracy", "said"),
    [
        (0.9357, "1.08 points below the 94.65%"),
        (0.9600, "1.35 points above the 94.65%"),
        (0.9440, "the difference of −0.25 points (95% interval −0.88 to +0.38) is within chance"),
    ],
)
def test_the_comparison_says_what_the_interval_allows(record, accuracy, said):
    record["test"] |= {"accuracy": accuracy}
    assert said in opening.compared(record, REFERENCE)


def test_the_curves_are_told_phase_by_phase():
    history = pd.DataFrame({"phase": [1, 1, 2, 2], "train_loss": [2.0, 0.5, 0.9, 0.25]})
    said = "In 4 epochs the training loss falls from 2.00 to 0.50 in phase 1 and from 0.90 to 0.25"
    assert sentences.curves(history) == f"{said} in phase 2."
    assert sentences.curves(history[:2]) == "In 2 epochs the training loss falls from 2.00 to 0.50."
    assert sentences.curves(history[:1]) == "In 1 epoch the training loss is 2.00."


def test_the_recipe_says_what_divides_the_images_where_it_is_not_that_of_all_pixels():
    row, pixels = "input divided by", "the standard deviation of all pixels"
    assert row not in recipe.in_rows(Train())
    both = Train(normalisation="image", phase2_epochs=1, phase2_normalisation="pixel")
    mean = "the mean of the images' own standard deviations"
    assert recipe.in_rows(both)[row] == f"{mean}; in phase 2 {pixels}"
    assert recipe.in_rows(Train(normalisation="image"))[row] == mean


def test_the_reported_figure_is_compared_with_the_one_that_is_measured_alike(record):
    """94.67 of 10,000 against 94.65: +0.02, and 1.96 times the root of both variances, 0.62."""
    record["test"] |= {"accuracy": 0.9504}
    record["beside"] = {"normalisation": "image", "accuracy": 0.9467}
    said = opening.compared(record, REFERENCE)
    assert said.startswith("Normalised as in the reference's notebook, the test images give 94.67%")
    assert "+0.02 points (95% interval −0.60 to +0.64) is within chance" in said
    assert "Normalised as in the reference's notebook: 94.67%" in sentences.result(record)
    marks = [mark[1:] for mark in opening.marks(record, REFERENCE, [])]
    assert ("this run, normalised as there", 0.9467) in marks
    assert "this run, normalised as there <b>94.67%" in opening.scale(
        opening.marks(record, REFERENCE, [])
    )
    record["beside"]["normalisation"] = "pixel"  # trained as the reference measured, and otherwise
    assert "Normalised" not in opening.compared(record, REFERENCE) + sentences.result(record)
    assert len(opening.marks(record, REFERENCE, [])) == len(marks) - 1


def test_a_run_on_less_is_not_compared(record):
    record["notice"] = "a subset of CIFAR-10"
    assert "cannot be compared" in opening.compared(record, REFERENCE)


def test_a_percentage_has_the_digits_its_images_support():
    assert (words.percent(0.48512, 1000), words.percent(0.93573, 10000)) == ("48.5%", "93.57%")


# Results


def test_the_result_names_views_and_p_in_words(record):
    said = sentences.result(record)
    assert "**Test accuracy: 93.57%** of 10,000 images" in said
    assert "six views (the image, two shifts, and their mirror images) gives 94.32%" in said
    assert "p < 0.001" in said and "_" not in said and "within chance" not in said
    record["tta"]["mcnemar"]["p"] = 0.56
    assert "within chance (p = 0.56" in sentences.result(record)
    record["tta"]["combination"] = "original"
    assert "No average of views was better" in sentences.result(record)


def test_the_parameters_say_that_the_report_prints_the_count_itself(record):
    said = sentences.counted(record, REFERENCE)
    assert "1,971,362 trainable parameters" in said and "prints 4,754,218" in said
    assert "4.87 million" in said and "5,090,656" in said and "neither" not in said


def test_only_what_compares_is_set_beside_the_report(record):
    table = reproduced.table(record, REFERENCE)
    assert table["agrees?"].tolist() == ["yes", "no", "no", "yes"]
    assert "no reproduction" in reproduced.note(record, REFERENCE)
    same = record | {"parameters": 4754218, "test": record["test"] | {"low": 0.94, "high": 0.95}}
    rows = reproduced.table(same, REFERENCE).set_index("quantity")
    assert rows.loc["test accuracy of this run, single view", "agrees?"] == "yes"
    assert rows.loc["averaging views, in this run", ["here", "agrees?"]].tolist() == [
        "+0.75 points, p < 0.001",
        "yes",
    ]
    other = "That figure is of the recipe that its notebook executed: the fact check"
    assert "no reproduction" not in reproduced.note(same, REFERENCE)
    assert other in reproduced.note(same, REFERENCE)
    executed = same | {"settings": same["settings"] | {"phase2_epochs": 100}}
    assert other not in reproduced.note(executed, REFERENCE)
    missed = same | {"test": same["test"] | {"low": 0.9466}}
    assert reproduced.table(missed, REFERENCE)["agrees?"].tolist()[4] == "no"
    digits = same | {"notice": "handwritten digits, not CIFAR-10", "dataset": "digits"}
    assert not reproduced.reproduces(digits)
    assert "cannot be compared" in reproduced.note(digits, REFERENCE)


def test_what_limits_the_accuracy_is_computed(record):
    assert learned.limit(record).startswith("**The step to new images limits the acc")
    record["train"]["last"]["train_accuracy"] = 0.94
    assert learned.limit(record).startswith("**The training itself limits the accuracy**")
    record["settings"]["cutmix"] = 0.5
    assert learned.limit(record) == ""


def test_what_was_learned_has_a_sentence_for_what_is_recorded(record):
    said = learned.learned(record)
    assert "164 images become right and 89 become wrong" in said
    assert "**Cat is hardest**: 87.5% are found" in said
    assert "97.7% of the augmented training images are classified right, and 93.6% of" in said
    assert (
        "among 45 pairs: cat/dog is number 1 here and 1 there; deer/horse is number 13 here" in said
    )
    assert "hardest pairs" not in said and "calibration" not in said
    bins = [[0.0, 0.5, 0, None, None], [0.5, 1.0, 1000, 0.9, 0.8]]
    told = record | {"calibration": {"ece": 0.1, "top2": 0.984, "bins": bins}}
    trust = learned.learned(told).splitlines()[-1]
    assert "too sure of itself" in trust and "10.0 points" in trust and "98.4%" in trust


# The 95% interval of 800 of 1,000 is 77.4% to 82.4%.
@pytest.mark.parametrize(
    ("confidence", "said"),
    [(0.77, "not sure enough"), (0.78, "as sure as it is right"), (0.83, "too sure of itself")],
)
def test_a_confidence_within_the_accuracy_s_interval_is_called_right(confidence, said):
    bins = [[0.0, 0.5, 0, None, None], [0.5, 1.0, 1000, confidence, 0.8]]
    assert said in learned.trust({"calibration": {"ece": 0.02, "bins": bins}})


def test_the_limitations_name_seeds_origin_and_what_is_not_covered(record):
    assert "One seed (42)" in learned.limitations(record, [])
    said = learned.limitations(record, ours((0.93, 0.95), record=record))
    assert "2 seeds of this recipe reach 93.00% and 95.00%: mean 94.00%" in said
    assert "trained on" not in said
    (group,) = ours((0.93, 0.95), record=record)
    mixed = dataclasses.replace(group, times=((1275.0, "CPU, bf16"), (2771.0, "CPU, fp32")))
    assert "points; they were trained on CPU, bf16 and CPU, fp32." in learned.limitations(
        record, [mixed]
    )
    assert "blurred, noisy or shifted" in said
    small = learned.limitations(record | {"notice": "a subset of CIFAR-10"}, [])
    assert "This run covers a subset of CIFAR-10" in small
    record["train"] |= {"weights": False, "stale": ["lib.step"]}
    said = learned.limitations(record, [])
    assert "Not trained by this run" in said and "Stale" in said


def test_provenance_is_one_table_with_both_commits(record):
    values = sentences.provenance(record)["value"]
    assert values["trained at commit"] == "c1c3a1e1ccda"
    assert values["numbers recorded at commit"] == "969b27782da7"
    record["provenance"]["05_confusion"]["commit"] = "0" * 40
    said = sentences.provenance(record)["value"]["numbers recorded at commit"]
    assert said.endswith("000000000000 (notebook 05)") and "01, 02, 03, 04, 06" in said


# Citations


def test_works_are_numbered_in_the_order_they_are_named_and_only_those_are_listed():
    cite = references.Citations()
    assert cite("a (Wilson, 1927), b (He et al., 2016), a (Wilson, 1927) (p < 0.001)") == (
        "a [1], b [2], a [1] (p < 0.001)"
    )
    heading, _, *lines = cite.listed().splitlines()
    assert heading == "## References" and len(lines) == 2
    assert lines[0].startswith("1. E. B. Wilson") and lines[1].startswith("2. K. He")


def test_every_work_that_a_sentence_names_is_in_the_list():
    named = set()
    for path in (paths.ROOT / "bundle" / "report").glob("*.py"):
        source = re.sub(r'"\s*\n\s*f?"', "", path.read_text(encoding="utf-8"))
        named |= set(re.findall(r"\(([A-Z][^()\"]*, (?:19|20)\d\d)\)", source))
    assert len(named) >= 12 and named <= references.WORKS.keys()
    named.add(references.REPORT)
    links = [entry for name, entry in references.WORKS.items() if "](https://" in entry]
    assert len(links) >= len(references.WORKS) - 2


# Pictures


def made_up():
    """Four images: two right, one dog taken for a cat, one cat for a dog."""
    probabilities = np.array([[0.9, 0.1], [0.2, 0.8], [0.7, 0.3], [0.4, 0.6]])
    pixels = np.zeros((4, 3, 32, 32), dtype=np.uint8)
    labels, places = np.array([0, 1, 1, 0]), np.arange(4)
    return Predictions(pixels, labels, probabilities, ("cat", "dog"), np.log(probabilities), places)


def test_predictions_choose_the_surest_mistakes():
    shown = made_up()
    assert shown.mistakes(5).tolist() == [2, 3]
    assert [group.tolist() for group in shown.confused(3, 6)] == [[2, 3]]
    assert shown.examples() == [0, 1]
    assert shown.title(2) == "dog 30%\n→ cat 70%"


def test_the_matrix_can_be_read_in_the_dark_too():
    matrix = np.array(REFERENCE["confusion_matrix"])
    axis = diagrams.confusion_matrix(matrix, REFERENCE["classes"]).axes[0]
    for cell, text in zip(axis.patches, axis.texts, strict=True):
        red, green, blue, alpha = cell.get_facecolor()
        ground = "#" + "".join(f"{round(255 * part):02x}" for part in (red, green, blue))
        ground = figures.dark(ground if alpha else "#ffffff")
        assert diagrams.contrast(figures.dark(text.get_color()), ground) >= 4.5, text.get_text()


def test_the_shares_of_the_parts_are_told():
    by_part = count_by_hand(Network())
    assert sentences.largest_part(by_part) == "Stage 4 alone holds 69% of the parameters"
    assert "stage 3 23%" in sentences.parts(by_part)


# Print

STYLE = (TEMPLATE / "style.css").read_text(encoding="utf-8")
PRINTED = 174.0, 64.0  # mm: width of A4's text, height of a figure without a rule of its own
LEAST = 6.0  # points


def tallest(name):
    """Return the height that the style sheet gives a printed figure of the report, mm."""
    rule = rf'\[id\^="report-{name}-"\]\)[^{{}}]*\{{[^}}]*max-height: (\d+)mm'
    return max(map(float, re.findall(rule, STYLE)), default=PRINTED[1])


def smallest(figure, width=PRINTED[0], height=PRINTED[1]):
    """Return the size of a printed figure's smallest text, points: it shrinks to fit, in mm."""
    across, up = 25.4 * figure.get_size_inches()
    scale = min(
        0.75 * 100 / 72, width / across, height / up
    )  # 100 pixels an inch, 0.75 points each
    texts = [
        text for text in figure.findobj(Text) if text.get_text().strip() and text.get_visible()
    ]
    return scale * min(text.get_fontsize() for text in texts)


def test_text_in_printed_figures_is_legible(record):
    network, by_part = sentences.settings_of(record), count_by_hand(Network())
    history = pd.DataFrame([
        {"epoch": n, "learning_rate": 0.1, "train_loss": 1, "train_accuracy": 0.5} for n in (1, 2)
    ])  # fmt: skip
    matrix, classes = np.array(REFERENCE["confusion_matrix"]), REFERENCE["classes"]
    bins = [[n / 15, (n + 1) / 15, 10, n / 15, n / 15] for n in range(15)]
    whole = anchors.ours({"cpu": record}) + anchors.others()
    image = torch.zeros(3, 32, 32, dtype=torch.uint8)
    titles = [["automobile 19%\n→ automobile 70%"] * 6] * 3
    half = 0.48 * PRINTED[0]  # two columns
    sizes = {
        "network": smallest(diagrams.architecture(network, by_part, 10), height=tallest("network")),
        "curves": smallest(plots.training_curves(history), height=tallest("curves")),
        "confusion": smallest(
            diagrams.confusion_matrix(matrix, classes, narrow=True), half, tallest("confusion")
        ),
        "reliability": smallest(diagrams.reliability(bins), half),
        "anchors": smallest(anchors_plot.draw(whole, True), 0.52 * PRINTED[0], tallest("anchors")),
        "classes": smallest(
            plots.image_grid([[image] * 10], titles=[["automobile"] * 10], size=0.8)
        ),
        "mistakes": smallest(
            plots.image_grid([[image] * 6] * 3, titles=titles, size=8 / 6), height=90
        ),
    }
    assert "main .cell figure .photographs { max-height: 90mm; }" in STYLE
    assert {name: size for name, size in sizes.items() if size < LEAST} == {}
