"""The structure that every notebook keeps, read from the files without executing anything."""

import ast
import importlib
import re
import tokenize
from dataclasses import fields
from io import StringIO
from pathlib import Path

import nbformat
import pytest
import yaml

from bundle import checks, fingerprint
from bundle.notebook import Notebook
from bundle.runs import graph
from lib import settings

ROOT = Path(__file__).resolve().parents[2]
PATHS = sorted((ROOT / "notebooks").glob("[0-9]*.ipynb"))
NOTEBOOKS = {path.stem: nbformat.read(path, as_version=nbformat.NO_CONVERT) for path in PATHS}
NAMES = list(NOTEBOOKS)
ABSOLUTE = re.compile(
    r"(?<![\w.:/])/(home|root|work|usr|tmp|Users|mnt|opt|var|media|content)/|\b[A-Z]:\\"
)


def code_cells(name):
    return [cell for cell in NOTEBOOKS[name].cells if cell.cell_type == "code"]


def is_parameters(cell):
    return "parameters" in cell.metadata.get("tags", [])


def parameters_cell(name):
    (cell,) = [cell for cell in NOTEBOOKS[name].cells if is_parameters(cell)]
    return cell


def parsed(name):
    """The syntax trees of the code cells, each with its cell."""
    return [(cell, ast.parse(cell.source)) for cell in code_cells(name)]


def prose(name):
    return "\n".join(cell.source for cell in NOTEBOOKS[name].cells if cell.cell_type == "markdown")


def merged_quick():
    """params/quick.yaml by the plain YAML reader, left-out values by the dataclass."""
    tree = yaml.safe_load((ROOT / "params" / "quick.yaml").read_text(encoding="utf-8"))
    assert "base" not in tree
    return tree


def declared(name):
    return NOTEBOOKS[name].metadata["bundle"]


def test_the_notebooks_are_there():
    assert NAMES == [
        "01_explore_data",
        "02_build_model",
        "03_train",
        "04_predict_tta",
        "05_confusion",
        "06_report",
        "07_robustness",
        "08_deploy",
    ]
    assert list(settings.SECTIONS) == NAMES


def test_the_report_runs_last_and_the_others_in_the_order_of_their_numbers():
    assert [node.name for node in graph.nodes()] == [*NAMES[:5], *NAMES[6:], "06_report"]


@pytest.mark.parametrize("name", NAMES)
def test_valid_format(name):
    nbformat.validate(NOTEBOOKS[name])
    # 4.5: cells have ids.
    assert (NOTEBOOKS[name].nbformat, NOTEBOOKS[name].nbformat_minor >= 5) == (4, True)


@pytest.mark.parametrize("name", NAMES)
def test_kernel(name):
    kernel = NOTEBOOKS[name].metadata["kernelspec"]
    assert (kernel["name"], kernel["language"]) == ("python3", "python")


@pytest.mark.parametrize("name", NAMES)
def test_committed_without_results(name):
    for cell in code_cells(name):
        assert cell.outputs == [] and cell.execution_count is None
    assert not {"papermill", "widgets"} & set(NOTEBOOKS[name].metadata)
    for cell in NOTEBOOKS[name].cells:
        assert set(cell.metadata) <= {"tags", "jupyter", "editable", "slideshow"}, cell.id


@pytest.mark.parametrize("name", NAMES)
def test_first_cell_is_the_one_title(name):
    cells = NOTEBOOKS[name].cells
    assert cells[0].cell_type == "markdown" and re.match(r"# \S", cells[0].source)
    titles = re.findall(r"^# .*", prose(name), flags=re.MULTILINE)
    assert len(titles) == 1 and titles[0].endswith("?")  # the question that the notebook answers
    assert not re.search(r"<h1|^=+$", prose(name), flags=re.MULTILINE)


@pytest.mark.parametrize("name", NAMES)
def test_no_absolute_paths(name):
    for cell in NOTEBOOKS[name].cells:
        assert not ABSOLUTE.search(cell.source), cell.source


def test_the_search_for_absolute_paths_finds_them():
    assert all(
        ABSOLUTE.search(text)
        for text in ('"/home/me/data"', "see /tmp/x", "C:\\data", "('/opt/bundle')")
    )
    assert not any(
        ABSOLUTE.search(text)
        for text in ("https://x.org/home/me", "results/tmp/", "a / b", "and/var/")
    )


@pytest.mark.parametrize("name", NAMES)
def test_cell_ids_are_named_in_order(name):
    ids = [cell.id for cell in NOTEBOOKS[name].cells]
    stem = name[3:].replace("_", "-")
    # Not drawn at random: they stay.
    assert all(re.fullmatch(rf"{stem}-\d\d[a-z]?", one) for one in ids), ids
    assert len(set(ids)) == len(ids) and ids == sorted(ids)


def test_cell_ids_are_unique_over_the_bundle():
    ids = [cell.id for notebook in NOTEBOOKS.values() for cell in notebook.cells]
    assert len(set(ids)) == len(ids)


@pytest.mark.parametrize("name", NAMES)
def test_size(name):
    assert 3 <= len(code_cells(name)) <= 20
    assert len(parameters_cell(name).source.splitlines()) <= 35
    for cell in code_cells(name):
        if not is_parameters(cell):
            assert len(cell.source.splitlines()) <= 15, cell.id
        assert cell.source.strip(), f"{cell.id} is empty"


# The parameters cell


def cell_values(name):
    """The names and values that the parameters cell sets."""
    return {
        statement.targets[0].id: ast.literal_eval(statement.value)
        for statement in ast.parse(parameters_cell(name).source).body
    }


def defaults_of(name):
    """Every parameter of the notebook's section with its default, lists as YAML has them."""
    return {
        item.name: list(item.default) if isinstance(item.default, tuple) else item.default
        for item in fields(settings.SECTIONS[name])
    }


@pytest.mark.parametrize("name", NAMES)
def test_parameters_cell_holds_literals_each_with_a_comment(name):
    source = parameters_cell(name).source
    statements = ast.parse(source).body
    for statement in statements:
        assert isinstance(statement, ast.Assign) and len(statement.targets) == 1
        assert isinstance(statement.targets[0], ast.Name)
        ast.literal_eval(statement.value)
    tokens = tokenize.generate_tokens(StringIO(source).readline)
    comments = {token.start[0]: token for token in tokens if token.type == tokenize.COMMENT}
    assert set(comments) == set(range(1, len(source.splitlines()) + 1))
    lines = [statement.lineno for statement in statements]
    assert all(len(comments[line].string) > 5 for line in lines) and len(set(lines)) == len(lines)


@pytest.mark.parametrize("name", NAMES)
def test_parameters_stand_under_the_headers_of_their_groups(name):
    groups = {row.name: row.group for row in checks.described(settings.SECTIONS[name])}
    source = parameters_cell(name).source
    blocks = re.findall(r"^# (.+)\n((?:(?!#).+\n?)+)", source, flags=re.MULTILINE)
    headers = [header for header, _ in blocks]
    assert source.startswith("# ") and len(set(headers)) == len(headers) >= 2
    assert sum(1 + len(block.splitlines()) for _, block in blocks) == len(source.splitlines())
    elsewhere = {"holdout_images": "data"}  # what is looked at, with what is held out
    for header, block in blocks:
        for key in (line.split(" = ")[0] for line in block.splitlines()):
            assert elsewhere.get(key, groups[key]) == header or groups[key] == header, key


@pytest.mark.parametrize("name", NAMES)
def test_parameters_are_those_of_the_dataclass(name):
    names = [statement.targets[0].id for statement in ast.parse(parameters_cell(name).source).body]
    assert len(set(names)) == len(names)
    assert set(names) <= set(defaults_of(name))


@pytest.mark.parametrize("name", NAMES)
def test_parameters_are_those_of_quick(name):
    """By hand a notebook does what the run quick does, whether the cell names a value or not."""
    values, defaults, tree = cell_values(name), defaults_of(name), merged_quick()
    common = {key: value for key, value in tree.items() if key in defaults}
    given = {"run": "quick"} | common | tree[name]
    for key, default in defaults.items():
        assert values.get(key, default) == given.get(key, default), key
        words = {item.name: item.metadata["choices"] for item in fields(settings.SECTIONS[name])}
        value = values.get(key, default)
        assert type(value) is type(default) or value in words[key], key  # such as threads = "auto"
    assert set(given) <= set(values)  # what quick sets is seen


@pytest.mark.parametrize("name", NAMES)
def test_parameters_come_before_what_uses_them(name):
    cells = code_cells(name)
    place = next(number for number, cell in enumerate(cells) if is_parameters(cell))
    assert place == 1  # after the imports
    made = f'book = Notebook("{name}", globals())\n'
    assert [cell for cell in cells if "Notebook(" in cell.source] == [cells[place + 1]]
    # Checked at once, in every way of running the notebook; then the table of all of them.
    assert cells[place + 1].source.startswith(made)
    assert cells[place + 2].source == "book.parameters()"


def stored(tree):
    """The names that code binds, those of comprehensions left out."""
    scopes = [node.target for node in ast.walk(tree) if isinstance(node, ast.comprehension)]
    local = {part.id for scope in scopes for part in ast.walk(scope) if isinstance(part, ast.Name)}
    names = {
        node.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
    }
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]
    bound = {alias.asname or alias.name for node in imports for alias in node.names}
    return (names - local) | bound


@pytest.mark.parametrize("name", NAMES)
def test_no_cell_gives_a_parameter_another_value(name):
    """Else the notebook's settings, or a second run of their cell in JupyterLab, would read it."""
    for cell, tree in parsed(name):
        if not is_parameters(cell):
            assert not stored(tree) & set(defaults_of(name)), cell.id


# Style


@pytest.mark.parametrize("name", NAMES)
def test_notebooks_narrate_and_lib_computes(name):
    for cell, tree in parsed(name):
        for node in ast.walk(tree):
            assert not isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef), (
                cell.id
            )
            assert not isinstance(node, ast.While | ast.Global | ast.Try), cell.id
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                assert node.func.id not in ("print", "exec", "eval"), cell.id
        assert not re.search(r"^\s*[%!]", cell.source, flags=re.MULTILINE), cell.id
        assert (
            "filterwarnings" not in cell.source
            and "'cuda'" not in cell.source
            and '"cuda"' not in cell.source
        )


@pytest.mark.parametrize("name", NAMES)
def test_imports_stand_in_one_cell(name):
    importing = [
        cell
        for cell, tree in parsed(name)
        if any(isinstance(node, ast.Import | ast.ImportFrom) for node in ast.walk(tree))
    ]
    assert importing == [code_cells(name)[0]]
    tree = ast.parse(importing[0].source)
    assert all(isinstance(node, ast.Import | ast.ImportFrom) for node in tree.body)


@pytest.mark.parametrize("name", NAMES)
def test_what_the_facade_is_asked_for_is_there(name):
    for cell in code_cells(name):
        for attribute in re.findall(r"\bbook\.(\w+)", cell.source):
            assert attribute in ("settings", "run", "notice", "folder", "dataset") or hasattr(
                Notebook, attribute
            ), f"{cell.id}: {attribute}"


@pytest.mark.parametrize("name", NAMES)
def test_each_code_cell_belongs_to_a_section_with_prose(name):
    """Sentence, cell, output: each heading is followed by a cell that computes something."""
    cells = NOTEBOOKS[name].cells
    headings = [number for number, cell in enumerate(cells) if re.match(r"## ", cell.source)]
    assert len(headings) >= 4
    for number in headings[:-1]:
        assert cells[number + 1].cell_type == "code", cells[number].id


@pytest.mark.parametrize("name", NAMES)
def test_one_cell_records_the_metrics(name):
    recording = [
        cell
        for cell, tree in parsed(name)
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "book.metrics"
    ]
    assert len(recording) == 1
    later = code_cells(name)[code_cells(name).index(recording[0]) + 1 :]
    assert not any(".figure(" in cell.source or ".table(" in cell.source for cell in later)


@pytest.mark.parametrize("name", NAMES)
def test_each_figure_has_a_name_of_its_own_and_alternative_text(name):
    names = []
    for _, tree in parsed(name):
        given = {
            ast.unparse(node.targets[0]): node.value
            for node in ast.walk(tree)
            if isinstance(node, ast.Assign)
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "book.figure":
                assert len(node.args) >= 3
                names.append(ast.literal_eval(node.args[1]))
                alt = given.get(ast.unparse(node.args[2]), node.args[2])
                texts = [part for part in ast.walk(alt) if isinstance(part, ast.Constant)]
                assert sum(len(str(part.value)) for part in texts) > 20
    assert len(set(names)) == len(names)


def test_figures_and_tables_do_not_overwrite_each_other():
    for method in ("figure", "table"):
        names = [
            ast.literal_eval(node.args[1])
            for name in NAMES
            for _, tree in parsed(name)
            for node in ast.walk(tree)
            if isinstance(node, ast.Call) and ast.unparse(node.func) == f"book.{method}"
        ]
        assert len(names) >= 6 and len(set(names)) == len(names)


# The graph


def test_what_is_read_was_written_by_an_earlier_notebook():
    written = set()
    for name in [node.name for node in graph.nodes()]:
        assert {"reads", "writes"} <= set(declared(name)) <= set(graph.KEYS)
        assert set(declared(name)["reads"]) <= written, name
        assert not set(declared(name)["writes"]) & written, name
        written |= {*declared(name)["writes"], f"metrics/{name}.json"}
    read = {file for name in NAMES for file in declared(name)["reads"]}
    assert {
        "training/weights.pt",
        "training/history.jsonl",
        "predictions.npz",
        "metrics/05_confusion.json",
    } <= read


@pytest.mark.parametrize("name", NAMES)
def test_the_text_says_what_is_read_and_written(name):
    text = prose(name)
    assert "**Reads**" in text and "**Writes**" in text
    reads, writes = text.split("**Reads**")[1].split("**Writes**")
    for file in declared(name)["reads"]:
        assert f"`{file}`" in reads or f"`{file.split('/')[0]}/`" in reads, file
    for file in [*declared(name)["writes"], f"metrics/{name}.json"]:
        assert f"`{file}`" in writes or f"`{file.split('/')[0]}/`" in writes, file


@pytest.mark.parametrize("name", NAMES)
def test_files_that_the_code_needs_are_declared(name):
    """book.needed("file") is how a notebook reads an earlier one's file."""
    for _, tree in parsed(name):
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "book.needed":
                assert ast.literal_eval(node.args[0]) in declared(name)["reads"]


# What a notebook's result depends on


@pytest.fixture(scope="module")
def nodes():
    return {name: graph.read(name) for name in NAMES}


@pytest.fixture(scope="module")
def code(nodes):
    return {name: nodes[name].code() for name in NAMES}


def after_edit(monkeypatch, nodes, module, old, new):
    """The definitions that the notebooks reach once a line of a module reads otherwise."""
    source = fingerprint._read(module)
    assert old in source
    edited, read = source.replace(old, new, 1), fingerprint._read
    monkeypatch.setattr(fingerprint, "_read", lambda name: edited if name == module else read(name))
    return {name: node.code() for name, node in nodes.items()}


@pytest.mark.slow
def test_an_edit_of_the_data_sets_rooms_marks_no_notebook(monkeypatch, nodes, code):
    for path in sorted((ROOT / "bundle" / "dataset").glob("[a-z]*.py")):
        source, module = path.read_text(encoding="utf-8"), f"bundle.dataset.{path.stem}"
        with monkeypatch.context() as patch:
            edited = after_edit(patch, nodes, module, source, source + "\n\nMORE = 1\n")
            assert edited == code, module


@pytest.mark.parametrize(
    ("module", "old", "new", "marked"),
    [
        ("lib.data", "holdout = len(train) // 10", "holdout = len(train) // 9", NAMES),
        ("lib.plots", "def pixel_histograms(", "@staticmethod\ndef pixel_histograms(", NAMES[:1]),
        ("lib.train", "def train(", "@staticmethod\ndef train(", NAMES[2:3]),
        (
            "lib.predict",
            "def view_logits(",
            "@staticmethod\ndef view_logits(",
            [NAMES[3], NAMES[6]],
        ),
        ("bundle.notebook", "    def source(", "    @staticmethod\n    def source(", NAMES[2:3]),
    ],
)
def test_an_edit_of_what_a_notebook_uses_marks_it(
    monkeypatch, nodes, code, module, old, new, marked
):
    """Also of what it uses by way of the facade."""
    edited = after_edit(monkeypatch, nodes, module, old, new)
    assert [name for name in NAMES if edited[name] != code[name]] == marked


@pytest.mark.parametrize("name", NAMES)
def test_what_is_imported_exists(name):
    """A notebook that imports a name which moved would only fail when it runs."""
    for cell in code_cells(name):
        for node in ast.walk(ast.parse("".join(cell["source"]))):
            if isinstance(node, ast.ImportFrom):
                module = importlib.import_module(node.module)
                for alias in node.names:
                    if not hasattr(module, alias.name):
                        importlib.import_module(f"{node.module}.{alias.name}")


@pytest.mark.parametrize("name", NAMES)
def test_what_an_imported_module_is_asked_for_is_there(name):
    """A name that a module lost would only fail in the runs whose parameters lead to it."""
    nodes = [node for _, tree in parsed(name) for node in ast.walk(tree)]
    modules = {
        alias.asname or alias.name: importlib.import_module(f"lib.{alias.name}")
        for node in nodes
        if isinstance(node, ast.ImportFrom) and node.module == "lib"
        for alias in node.names
    }
    asked = [
        (node.value.id, node.attr)
        for node in nodes
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)
    ]
    assert [at for at in asked if at[0] in modules and not hasattr(modules[at[0]], at[1])] == []
