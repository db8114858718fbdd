"""What a notebook sees of the bundle, without starting one."""

import json
import subprocess
import sys

import nbformat
import pytest

from bundle import Notebook, checks, paths
from bundle.notebook import _which
from bundle.training.identity import Training
from lib import settings, step
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


@pytest.mark.parametrize(
    ("trained", "words"),
    [(3, "**Trained here**: 3 epochs."), (1, "after epoch 2 of 3"), (0, "**Loaded**: 3 epochs")],
)
def test_how_a_training_came_about(monkeypatch, trained, words):
    summary = {"compute": {"device": "cpu"}}
    monkeypatch.setattr("bundle.training.outcome.of_training", lambda training: {})
    assert words in _which(Training(None, [{}] * 3, summary), trained)


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
