"""The notebook for Colab and Kaggle: outside the sequence, of the same form, and it runs."""

import ast
import importlib.metadata
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from bundle import surroundings
from bundle.runs import params
from tests.notebooks.test_notebooks import ABSOLUTE

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOK = nbformat.read(ROOT / "notebooks" / "colab.ipynb", as_version=nbformat.NO_CONVERT)
CODE = [cell.source for cell in NOTEBOOK.cells if cell.cell_type == "code"]


def test_it_is_no_part_of_a_run():
    assert "colab" not in params.notebooks() and len(params.notebooks()) >= 6


def test_its_form_is_that_of_the_others():
    nbformat.validate(NOTEBOOK)
    assert NOTEBOOK.metadata["kernelspec"]["name"] == "python3"
    titles = [line for cell in NOTEBOOK.cells for line in cell.source.splitlines()[:1]]
    assert re.fullmatch(r"# .*\?", titles[0])
    for number, cell in enumerate(NOTEBOOK.cells, 1):
        assert cell.id == f"colab-{number:02}" and not ABSOLUTE.search(cell.source)
        if cell.cell_type == "code":
            assert not cell.outputs and cell.execution_count is None
            lines = cell.source.splitlines()
            assert len(lines) <= 15 and max(map(len, lines)) <= 88


def test_it_asks_for_standard_modules_only_before_the_bundle_is_there():
    tree = ast.parse("\n".join(CODE))
    names = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    names |= {a.name for node in ast.walk(tree) if isinstance(node, ast.Import) for a in node.names}
    assert {name.split(".")[0] for name in names} <= sys.stdlib_module_names | {"IPython"}


@pytest.fixture
def cells(monkeypatch, tmp_path):
    """Return a function that executes code cells by number in a folder, with changed parameters."""
    called = []

    def execute(folder, *numbers, missing="", **parameters):
        monkeypatch.chdir(folder)
        monkeypatch.setattr(subprocess, "check_output", lambda *_, **__: missing)
        monkeypatch.setattr(subprocess, "run", lambda command, **_: called.append(command))
        names = {}
        for number in numbers:
            exec(CODE[number], names)
            names |= parameters if number == 1 else {}
        return names, called

    return execute


def test_it_works_within_a_clone_and_clones_elsewhere(cells, tmp_path):
    names, called = cells(ROOT / "notebooks", 0, 1, 2)
    assert (names["folder"], Path.cwd(), called) == (ROOT, ROOT, [])
    with pytest.raises(AssertionError, match="set repository"):
        cells(tmp_path, 0, 1, 2)
    with pytest.raises(FileNotFoundError):  # the clone is only pretended
        cells(tmp_path, 0, 1, 2, repository="https://x.org/y")
    target = tmp_path / "cifar10-under-5m"
    assert called == [["git", "clone", "--depth=1", "https://x.org/y", target]]


def test_it_installs_what_is_missing_in_the_versions_of_the_lock(cells):
    names, called = cells(ROOT, 0, 1, 2, 3, missing="papermill latex2mathml pyyaml\n")
    versions = {name: importlib.metadata.version(name) for name in ("papermill", "latex2mathml")}
    pinned = [f"{name}=={version}" for name, version in versions.items()]
    assert called == [[sys.executable, "-m", "pip", "install", "--quiet", *names["pins"]]]
    assert set(names["pins"]) == {*pinned, "pyyaml"}
    assert cells(ROOT, 0, 1, 2, 3)[0]["pins"] == []
    assert set(surroundings.PACKAGES.values()) <= {pin.split("==")[0] for pin in names["wanted"]}


def test_it_runs_and_shows_the_report(cells, tmp_path, monkeypatch, capsys):
    (tmp_path / "bundle").mkdir()
    (tmp_path / "results" / "smoke").mkdir(parents=True)
    (tmp_path / "bundle" / "__init__.py").touch()
    (tmp_path / "bundle" / "__main__.py").write_text("import sys; print('ran', *sys.argv[1:])")
    (tmp_path / "results/smoke/report.html").write_text('<p title="a">b & c</p>')
    monkeypatch.delenv("PYTHONPATH", raising=False)
    names, _ = cells(tmp_path, 0, 1, 2, 4, 5, run="smoke")
    assert capsys.readouterr().out == "ran run smoke\n"
    shown = eval(CODE[5].splitlines()[-1], names)
    assert 'srcdoc="&lt;p title=&quot;a&quot;&gt;b &amp; c&lt;/p&gt;"' in shown.data
    (tmp_path / "bundle" / "__main__.py").write_text("raise SystemExit(2)")
    with pytest.raises(AssertionError, match="did not end well"):
        cells(tmp_path, 0, 1, 2, 4, run="smoke")
