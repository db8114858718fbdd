"""What a notebook sees of the bundle, without starting one."""

import json
import re
import subprocess
import sys

import nbformat
import numpy as np
import pandas as pd
import pytest
import torch

from bundle import Notebook, checks, figures, paths, words
from bundle.pages import frames
from bundle.report.sentences import which
from bundle.training.identity import Training
from bundle.words import DIGITS_NOTICE
from lib import plots, settings, step
from lib.errors import UserError


@pytest.fixture(autouse=True)
def results(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "RESULTS", tmp_path)
    return tmp_path


def test_settings_are_those_of_the_variables_and_else_the_defaults():
    variables = {"run": "mine", "epochs": 3, "cutmix": 0.25, "pd": object(), "In": []}
    book = Notebook("03_train", variables)
    assert book.settings == settings.Train(run="mine", epochs=3, cutmix=0.25)
    assert book.folder == paths.RESULTS / "mine" and book.folder.is_dir()


def test_a_wrong_value_is_one_line():
    with pytest.raises(UserError, match=r"^03_train: epochs = '3': must be a whole number"):
        Notebook("03_train", {"epochs": "3"})


def test_a_notebook_without_a_section_has_a_run():
    assert Notebook("07_new", {"run": "mine", "own": 1}).settings == settings.Run(run="mine")


def test_every_parameter_is_shown_and_what_differs_is_marked():
    html = Notebook("03_train", {"epochs": 3, "blocks": [1, 1, 1, 1]}).parameters().data
    rows = checks.described(settings.Train)
    assert f"All {len(rows)} parameters" in html and "(marked *): blocks, epochs." in html
    assert all(f"<td>{row.name}</td>" in html for row in rows)
    assert "<td>epochs</td><td><b>3&nbsp;*</b></td><td>100</td>" in html
    assert "<td><b>[1, 1, 1, 1]&nbsp;*</b></td><td>[4, 4, 4, 3]</td>" in html
    assert html.count("*</b>") == 2 and html.count("<tbody>") == len({row.group for row in rows})


def test_source_is_shown_as_code():
    text = Notebook("03_train", {}).source(step.train_step).data
    assert text.startswith("```python\ndef train_step(") and text.endswith("\n```")


def test_what_is_missing_names_the_notebook_that_makes_it():
    book = Notebook("05_confusion", {"run": "mine"})
    for call in (book.data, lambda: book.needed("predictions.npz")):
        with pytest.raises(UserError, match=r"results/mine/\S+ is missing: run notebook 0[34]_"):
            call()


def test_data_says_what_it_falls_short_of():
    book = Notebook("01_explore_data", {"dataset": "digits"})
    dataset = book.data(test_images=20)
    assert len(dataset.test) == 20 and len(dataset.holdout) > 20
    assert book.notice == "handwritten digits, not CIFAR-10"
    assert "Handwritten digits, not CIFAR-10." in book.heading().data


@pytest.fixture
def shown(monkeypatch):
    """What is displayed: (data, metadata) of each."""
    outputs = []
    monkeypatch.setattr(
        "IPython.display.display", lambda data, metadata, raw: outputs.append((data, metadata))
    )
    return outputs


def drawing(width=6.0):
    figure, axis = plots.figure(width, 2)
    axis.plot([1, 2], [3, 4])
    return figure


def saved(book, name):
    return (book.folder / "figures" / f"{name}.svg").read_text()


def test_a_rehearsal_is_a_quiet_mark_in_saved_figures_alone(shown):
    book = Notebook("03_train", {"run": "mine"})
    book.notice = "a subset of CIFAR-10: 8,000 of 50,000 training images"
    book.figure(drawing(), "loss", "Loss")
    assert figures.MARK in saved(book, "loss") and "a subset" not in saved(book, "loss")
    colour = re.search(rf'style="([^"]*)"[^>]*>{figures.MARK}', saved(book, "loss"))[1]
    assert plots.GREY in colour and plots.RED.lower() not in saved(book, "loss")
    ((data, _),) = shown
    plain = figures.svg(drawing(), "Loss", "loss")
    assert data == {"image/svg+xml": plain, "text/plain": "Loss"}


def test_fewer_test_images_alone_are_no_rehearsal(shown):
    book = Notebook("07_robustness", {"run": "mine"})
    book.notice = "a subset of CIFAR-10: 2,000 of 10,000 test images"
    book.figure(drawing(), "shift", "Accuracy")
    assert "2,000 of 10,000 test images" in saved(book, "shift")
    assert "rehearsal" not in saved(book, "shift")


def test_an_alarm_stands_in_red_in_every_figure(shown):
    book = Notebook("03_train", {"run": "mine"})
    book.notice = "handwritten digits, not CIFAR-10"
    book.figure(drawing(), "loss", "Loss", "It falls.", narrow=drawing(3.8))
    assert "handwritten digits, not CIFAR-10" in saved(book, "loss")
    assert plots.RED.lower() in saved(book, "loss")
    ((data, about),) = shown
    red = f"var(--fig-{plots.RED[1:].lower()}"
    assert red in data["image/svg+xml"] and red in about["image/svg+xml"]["narrow"]
    assert about["image/svg+xml"]["caption"] == "It falls."


def test_titles_of_photographs_follow_the_dark_mode_and_their_ground_is_clear():
    image = torch.full((3, 32, 32), 200, dtype=torch.uint8)
    figure = plots.image_grid([[image, image]], ["cat"], [["a", "b"]])
    text = figures.svg(figure, "Two cats", "cats")
    assert 'class="chart photographs"' in text and "--fig-000000:" in text
    (drawn,) = figure.axes[0].images
    alpha = drawn.get_array()[..., 3]
    assert set(np.unique(alpha)) == {0, 255} and (alpha == 255).sum() == 2 * 32 * 32


def test_the_same_content_is_drawn_and_saved_as_the_same_bytes(tmp_path):
    """No id is drawn at random and nothing holds a date; lines, clips and images have ids."""

    def drawn():
        figure, (left, right) = plots.figure(6, 2, 1, 2)
        left.plot([1, 2], [3, 4], "o-", label="loss")
        left.fill_between([1, 2], [2, 3], [4, 5], hatch="//", clip_on=True)
        right.imshow(np.eye(4))
        figure.legend()
        return figure

    texts = [figures.svg(drawn(), "Loss", "loss") for _ in range(2)]
    assert texts[0] == texts[1] and 'id="loss-' in texts[0]
    for name in ("a", "b"):
        figures.save(drawn(), tmp_path / name, "Loss")
    for suffix in (".svg", ".pdf"):
        first, second = (tmp_path.joinpath(name).with_suffix(suffix) for name in "ab")
        assert first.read_bytes() == second.read_bytes()
    short = (tmp_path / "a.svg").read_text()
    assert re.search(r' (d|x|y)="[^"]*\.\d\d\b', short) and "DejaVu Sans" in short
    assert not re.search(r' (d|x|y)="[^"]*\.\d\d\d', short) and "Bitstream" not in short


def test_images_of_the_dataset_stay_pixels_and_are_marked(shown):
    book = Notebook("01_explore_data", {"run": "mine"})
    image = torch.zeros(3, 32, 32, dtype=torch.uint8)
    book.figure(plots.image_grid([[image]]), "cats", "A cat")
    book.figure(drawing(), "loss", "Loss")
    (data, about), (_, other) = shown
    assert (
        set(data) == {"image/svg+xml", "text/plain"} and "data:image/png" in data["image/svg+xml"]
    )
    assert about["image/svg+xml"]["photographs"] is True
    assert "photographs" not in other["image/svg+xml"]


@pytest.mark.parametrize(
    ("notice", "alarm", "short", "sentence"),
    [
        ("", "", "", ""),
        (DIGITS_NOTICE, DIGITS_NOTICE, "not CIFAR-10", ""),
        (
            "a subset of CIFAR-10: 300 of 50,000 training, 500 of 5,000 hold-out images",
            "",
            "rehearsal",
            "A rehearsal: 0.6% of the training images.",
        ),
        (
            "a subset of CIFAR-10: 500 of 5,000 hold-out images",
            "",
            "rehearsal",
            "A rehearsal: 500 of 5,000 hold-out images.",
        ),
        (
            "a subset of CIFAR-10: 200 of 10,000 test images; stale: by other code",
            "stale: by other code",
            "stale",
            "A rehearsal: 200 of 10,000 test images.",
        ),
    ],
)
def test_a_rehearsal_is_no_alarm(notice, alarm, short, sentence):
    assert words.alarm(notice) == alarm and words.notice_in_short(notice) == short
    assert words.rehearsal(notice) == sentence


def test_a_table_has_its_caption():
    book = Notebook("03_train", {"run": "mine"})
    table = book.table(pd.DataFrame({"a_b": [0.5]}), "small", "One number").to_html()
    assert "<caption>One number</caption>" in table and "a b" in table
    assert r"\caption{One number}" in (book.folder / "tables" / "small.tex").read_text()


def test_a_table_shown_again_is_the_same_bytes():
    book, frame = Notebook("03_train", {"run": "mine"}), pd.DataFrame({"a": [0.5], "b": ["x"]})
    first, second = (book.table(frame, "small", "One number").to_html() for _ in range(2))
    assert first == second and re.findall(r'id="(.*?)"', first) == ["T_small"]


def test_numbers_of_a_column_have_the_same_decimals():
    frame = pd.DataFrame(
        {"std": [0.247, 0.2435], "size": [1e-7, 2.5], "n": [1000, 2], "x": ["a", float("nan")]}
    )
    text = frames.as_text(frame, {})
    assert text.to_dict("list") == {
        "std": ["0.2470", "0.2435"],
        "size": ["1e-07", "2.5"],
        "n": ["1,000", "2"],
        "x": ["a", "–"],
    }
    assert frames.as_text(frame, {"std": "{:.1f}"})["std"].tolist() == ["0.2", "0.2"]


def test_a_minus_is_a_minus_on_the_page_and_in_latex():
    falls = pd.DataFrame({"fall": [-10.94, 0.5], "of": ["a-b", "-"]})
    text = frames.as_text(falls, {"fall": "{:+.1f}"})
    assert text.to_dict("list") == {"fall": ["−10.9", "+0.5"], "of": ["a-b", "-"]}
    assert "$-$10.9" in frames.latex(text) and "a-b" in frames.latex(text)


@pytest.mark.parametrize(
    ("trained", "words"),
    [(3, "**Trained here**: 3 epochs."), (1, "after epoch 2 of 3"), (0, "**Loaded**: 3 epochs")],
)
def test_how_a_training_came_about(monkeypatch, trained, words):
    summary = {"compute": {"device": "cpu"}}
    monkeypatch.setattr("bundle.training.outcome.of_training", lambda training: {})
    assert words in which(Training(None, [{}] * 3, summary), trained)


@pytest.mark.slow
def test_a_parameter_that_the_cell_does_not_name_is_injected_without_a_warning(tmp_path):
    cells = [
        nbformat.v4.new_code_cell("run = 'quick'", metadata={"tags": ["parameters"]}),
        nbformat.v4.new_code_cell("assert (run, ema) == ('mine', 0.9)"),
    ]
    notebook = nbformat.v4.new_notebook(cells=cells)
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "", "language": "python"}
    nbformat.write(notebook, tmp_path / "in.ipynb")
    job = {"notebook": f"{tmp_path}/in.ipynb", "output": f"{tmp_path}/out.ipynb"}
    job["parameters"] = {"run": "mine", "ema": 0.9}
    (tmp_path / "job.json").write_text(json.dumps(job))
    command = [sys.executable, "-m", "bundle.runs.kernel", str(tmp_path / "job.json")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=paths.ROOT)
    assert done.returncode == 0, done.stderr
    assert "unknown" not in done.stdout + done.stderr
