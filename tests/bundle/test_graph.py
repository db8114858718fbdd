"""The order of the notebooks: each after those whose files it reads, then by name."""

import json

import pytest

from bundle import paths
from bundle.runs import graph, params, status
from lib.errors import UserError


@pytest.fixture
def notebooks(tmp_path, monkeypatch):
    """Write notebooks that read and write these files, and nothing else."""
    monkeypatch.setattr(paths, "NOTEBOOKS", tmp_path)

    def write(**files):
        for name, (reads, writes) in files.items():
            about = {"bundle": {"reads": reads, "writes": writes}}
            content = json.dumps({"cells": [], "metadata": about})
            (tmp_path / f"{name[1:]}.ipynb").write_text(content)

    return write


def test_a_reader_runs_after_all_writers_and_names_decide_the_rest(notebooks):
    notebooks(
        _01_report=(["metrics/03_late.json", "a.npz", "metrics/01_report.json"], []),
        _02_plain=([], ["a.npz"]),
        _03_late=(["a.npz"], []),
        _04_alone=(["not/written/here.json"], []),
    )
    assert [node.name for node in graph.nodes()] == ["02_plain", "03_late", "01_report", "04_alone"]
    after = [node.name for node in graph.dependents("02_plain")]
    assert after == ["03_late", "01_report"]


def test_a_circle_is_one_line(notebooks):
    notebooks(_01_a=([], ["a"]), _02_b=(["c"], ["b"]), _03_c=(["b"], ["c"]))
    with pytest.raises(UserError, match="02_b, 03_c read in a circle") as caught:
        graph.nodes()
    assert "01_a" not in str(caught.value) and "\n" not in str(caught.value)


def test_a_variable_that_a_notebook_names_marks_it(tmp_path, monkeypatch):
    node = graph.read("07_robustness")
    assert node.variables == ("CIFAR10C_ROOT",)
    monkeypatch.delenv("CIFAR10C_ROOT", raising=False)
    parameters = params.load("smoke")
    before = status.fingerprint_of(node, parameters, tmp_path)
    monkeypatch.setenv("CIFAR10C_ROOT", "/elsewhere")
    now = status.fingerprint_of(node, parameters, tmp_path)
    assert status.differences(before["variables"], now["variables"]) == [
        "CIFAR10C_ROOT  -> /elsewhere"
    ]
    assert {key for key in now if now[key] != before[key]} == {"variables"}
