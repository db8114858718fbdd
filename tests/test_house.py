"""The house rule of CONTRIBUTING.md: where imports may lead, what `lib` may do, how long code is.

Each rule is a function of a root folder that returns what breaks it, so that it can be tried on a
made-up tree. `python -m tests.test_house` prints the lengths that stand in the tables below.
"""

import ast
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

# Limits: what the project may grow to with what is asked of it today.
LIB_FILES, LIB_LINES, ALL_LINES = 22, 3_000, 20_510
FUNCTION_LINES, FILE_LINES = 25, 330

# The floors, from the ground up. Rooms of one floor do not import each other; the modules of the
# second, which have no folder, count as one room.
GROUND = (
    "bundle.words paths surroundings interruption files figures inputs checks command by_hand "
    "diagrams effects install"
)
FLOORS = (
    ("lib",),
    (GROUND,),
    ("bundle.fingerprint", "bundle.dataset"),
    ("bundle.training",),
    ("bundle.runs",),
    ("bundle.pages", "bundle.report", "bundle.deploy"),
    ("bundle.own",),
    ("bundle.notebook",),
    ("bundle.release", "bundle.study", "bundle.demo"),
    ("bundle.compare",),
    ("bundle.claims", "bundle.house"),
    ("bundle.readme",),
    ("bundle.__main__", "bundle"),  # bundle/__init__.py hands on Notebook, load_released
)
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
# fmt: off
LIB_USES = {
    "lib", "torch", "torchvision", "numpy", "pandas", "scipy", "sklearn", "matplotlib", "seaborn",
    "pydantic",
}
REACHES_OUT = {
    "tempfile", "subprocess", "socket", "urllib", "http", "sqlite3", "zipfile", "tarfile",
}
TOUCHES_DISK = {  # functions and methods by their last name
    "open", "read_text", "read_bytes", "write_text", "write_bytes", "savefig", "mkdir", "makedirs",
    "unlink", "rmdir", "rmtree", "copyfile", "copytree", "touch", "rename", "exists", "is_file",
    "is_dir", "iterdir", "glob", "rglob", "stat", "listdir", "scandir", "memmap", "fromfile",
    "tofile", "loadtxt", "savetxt", "savez", "savez_compressed", "imread", "imsave", "read_csv",
    "read_json", "read_pickle", "to_csv", "to_pickle",
}
LOADERS = {f"{module}.{name}" for module in ("np", "numpy", "torch", "json", "pickle")
           for name in ("load", "save", "dump")} | {"os.remove", "os.replace"}
# fmt: on
NOTEBOOK_USES = LIB_USES | {
    "IPython",
    "bundle.Notebook",
    "bundle.by_hand",
    "bundle.diagrams",
    "bundle.load_released",
}  # fmt: skip
USES_MORE = {  # what the notebooks about what others left may import besides
    "06_report": {"bundle.report", "bundle.claims"},
    "08_deploy": {"bundle.deploy", "bundle.report"},
}

# fmt: off
FILES = {  # longer than FILE_LINES today
}
FUNCTIONS = {  # longer than FUNCTION_LINES today
    "lib/augment.py: cutmix": 29,
    "lib/augment.py: train_batch": 35,
    "lib/data.py: load": 30,
    "lib/layers.py: layer_table": 32,
    "lib/model.py: __init__": 32,
    "lib/optimise.py: make_optimiser": 28,
    "lib/step.py: loss_function": 32,
    "lib/step.py: train_epoch": 42,
    "lib/train.py: train": 27,
    "bundle/__main__.py: parser": 50,
    "bundle/dataset/cifar10.py: resolve": 33,
    "bundle/dataset/cifar10.py: download": 32,
    "bundle/dataset/download.py: _ask": 28,
    "bundle/pages/publish.py: render": 29,
    "bundle/release/card.py: use": 35,
    "bundle/release/verify.py: verify": 28,
    "bundle/study/cluster.py: study_on_cluster": 27,
    "bundle/study/compare.py: summary": 28,
    "bundle/training/session.py: train": 30,
    "benchmarks/baseline.py: cutmix": 33,
    "benchmarks/cluster.py: measure": 36,
    "benchmarks/cluster.py: main": 26,
    "benchmarks/memory.py: train_and_look": 27,
    "benchmarks/picture.py: _bars": 30,
    "benchmarks/prediction.py: measure": 29,
}
# fmt: on


def sources(root: Path, *folders: str) -> Iterator[tuple[str, ast.Module]]:
    """Yield file name (from the root) and syntax tree of each Python file below the folders."""
    for folder in folders:
        for path in sorted((root / folder).rglob("*.py")):
            yield path.relative_to(root).as_posix(), ast.parse(path.read_text(encoding="utf-8"))


def imported(tree: ast.AST, package: str) -> Iterator[str]:
    """Yield the dotted name of everything a file imports, also within functions."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1]
            base = ".".join([*above, node.module or ""] if node.level else [node.module])
            yield from (f"{base.rstrip('.')}.{alias.name}" for alias in node.names)


def room(dotted: str) -> str:
    """Return the room of a module or of a name in it; "bundle" for what bundle hands on itself."""
    parts = dotted.split(".")
    if parts[0] != "bundle":
        return parts[0]
    if ".".join(parts[1:2]) in GROUND.removeprefix("bundle.").split():
        return GROUND
    name = ".".join(parts[:2])
    return name if name in FLOOR else "bundle"


def of_file(name: str) -> str:
    """Return the dotted module of a file name."""
    return name.removesuffix(".py").replace("/", ".").removesuffix(".__init__")


# The rules


def imports_lead_up(root: Path) -> list[str]:
    """Imports of lib and bundle that lead neither down nor to the same room."""
    broken = []
    for name, tree in sources(root, "lib", "bundle"):
        module = of_file(name)
        package = module if name.endswith("__init__.py") else module.rpartition(".")[0]
        for target in imported(tree, package):
            here, there = room(module), room(target)
            if there in FLOOR and here != there and FLOOR[there] >= FLOOR.get(here, 0):
                broken.append(f"{name} imports {target}")
    return broken


def unknown_rooms(root: Path) -> list[str]:
    """Files of bundle that stand on no floor."""
    names = (name for name, _ in sources(root, "bundle"))
    return [name for name in names if room(of_file(name)) == "bundle" and "__init__" not in name]


def lib_uses_more(root: Path) -> list[str]:
    """Imports of lib beyond the packages of the experiment and the standard library."""
    allowed = LIB_USES | (sys.stdlib_module_names - REACHES_OUT)
    found = []
    for name, tree in sources(root, "lib"):
        targets = imported(tree, "lib")
        found += [f"{name} imports {one}" for one in targets if one.split(".")[0] not in allowed]
    return found


def lib_opens_files(root: Path) -> list[str]:
    """Calls in lib, data.py excepted, that touch the disk."""
    found = []
    for name, tree in sources(root, "lib"):
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and name != "lib/data.py":
                called = ast.unparse(node.func)
                if called.rpartition(".")[2] in TOUCHES_DISK or called in LOADERS:
                    found.append(f"{name}: {called}")
    return found


def notebooks_use_more(root: Path) -> list[str]:
    """Imports of notebooks beyond lib, its packages and Notebook; the report's own are its own."""
    found = []
    for path in sorted((root / "notebooks").glob("*.ipynb")):
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
        allowed = NOTEBOOK_USES | USES_MORE.get(path.stem, set())
        for target in imported(ast.parse("\n".join(code)), ""):
            starts = {target.split(".")[0], ".".join(target.split(".")[:2])}
            if not starts & (allowed | sys.stdlib_module_names):
                found.append(f"{path.name} imports {target}")
    return found


def lines(root: Path, *folders: str) -> dict[str, int]:
    """Return the lines of each Python file below the folders."""
    paths = (path for folder in folders for path in sorted((root / folder).rglob("*.py")))
    text = {path: path.read_text(encoding="utf-8") for path in paths}
    return {path.relative_to(root).as_posix(): len(text[path].splitlines()) for path in text}


def long_files(root: Path) -> dict[str, int]:
    """Return the files of more than FILE_LINES lines."""
    found = lines(root, "lib", "bundle", "benchmarks")
    return {name: count for name, count in found.items() if count > FILE_LINES}


def long_functions(root: Path) -> dict[str, int]:
    """Return the functions of more than FUNCTION_LINES lines, docstring included."""
    found = {}
    for name, tree in sources(root, "lib", "bundle", "benchmarks"):
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                count = node.end_lineno - node.lineno + 1
                if count > FUNCTION_LINES:
                    found[f"{name}: {node.name}"] = count
    return found


# The project as it is


RULES = (imports_lead_up, unknown_rooms, lib_uses_more, lib_opens_files, notebooks_use_more)


@pytest.mark.parametrize("rule", RULES)
def test_rule_is_kept(rule):
    assert rule(ROOT) == []


def test_lib_is_thin_and_the_whole_stays_small():
    lib = lines(ROOT, "lib")
    assert len(lib) <= LIB_FILES and sum(lib.values()) <= LIB_LINES
    assert sum(lines(ROOT, "lib", "bundle").values()) <= ALL_LINES


@pytest.mark.parametrize(("measure", "known"), [(long_files, FILES), (long_functions, FUNCTIONS)])
def test_what_is_too_long_only_shrinks(measure, known):
    """An entry that is no longer needed must go: nothing grows back."""
    found = measure(ROOT)
    grown = {name: count for name, count in found.items() if count > known.get(name, 0)}
    assert not grown, "shorten these, the table stays"
    assert not known.keys() - found.keys(), (
        "take these out: python -m tests.test_house prints the table"
    )


# The types


UNTYPED = """
def untyped(value): ...
def wrong() -> int:
    return "1"
hidden: int = ""  # type: ignore
"""


def test_mypy_reads_all_code_and_refuses_what_is_untyped_or_wrong(tmp_path):
    """With the settings of pyproject.toml; that lib and bundle pass is for `make lint`."""
    pytest.importorskip("mypy")
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["mypy"]
    assert settings["packages"] == ["lib", "bundle"] and "exclude" not in settings
    assert not [each for each in (settings, *settings["overrides"]) if "ignore_errors" in each]
    (tmp_path / "tried.py").write_text(UNTYPED, encoding="utf-8")
    options = [f"--config-file={ROOT / 'pyproject.toml'}", f"--cache-dir={tmp_path}"]
    command = [sys.executable, "-m", "mypy", *options, str(tmp_path / "tried.py")]
    said = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    for code in ("no-untyped-def", "return-value", "ignore-without-code"):
        assert f"[{code}]" in said.stdout, said


def test_types_are_ignored_in_a_handful_of_places():
    paths = [path for folder in ("lib", "bundle") for path in (ROOT / folder).rglob("*.py")]
    found = [path.name for path in paths for _ in re.findall("type: ignore", path.read_text())]
    assert len(found) <= 4, found


# The rules, each broken once in a made-up tree


def tree(root: Path, files: dict[str, str]) -> Path:
    """Write files below `root`: a notebook's text is its code cell."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".ipynb":
            text = json.dumps({"cells": [{"cell_type": "code", "source": text}]})
        path.write_text(text)
    return root


@pytest.mark.parametrize(
    ("name", "line", "target"),
    [
        ("lib/step.py", "from bundle import words", "bundle.words"),
        ("lib/step.py", "def f():\n    import bundle.paths", "bundle.paths"),
        ("bundle/words.py", "from bundle.training import store", "bundle.training.store"),
        ("bundle/training/a.py", "from bundle.runs import status", "bundle.runs.status"),
        ("bundle/training/a.py", "from ..claims import judge", "bundle.claims.judge"),
        ("bundle/training/__init__.py", "from ..claims import judge", "bundle.claims.judge"),
        ("bundle/pages/a.py", "from bundle.report.recipe import b", "bundle.report.recipe.b"),
        ("bundle/study/a.py", "from bundle import Notebook, claims", "bundle.claims"),
        ("bundle/runs/a.py", "from bundle import Notebook", "bundle.Notebook"),
        ("bundle/readme.py", "from bundle import __main__", "bundle.__main__"),
    ],
)
def test_an_import_that_leads_up_is_found(tmp_path, name, line, target):
    assert f"{name} imports {target}" in imports_lead_up(tree(tmp_path, {name: line}))


def test_imports_that_lead_down_or_stay_are_right(tmp_path):
    files = {
        "lib/a.py": "import torch\nfrom lib import b",
        "bundle/__init__.py": "def f():\n    from bundle.notebook import Notebook",
        "bundle/files.py": "from bundle import paths\nfrom lib.errors import UserError",
        "bundle/claims/a.py": "from bundle.claims import b\nfrom bundle.study import plan",
        "bundle/__main__.py": "from bundle.claims import judge",
    }
    assert imports_lead_up(tree(tmp_path, files)) == []


def test_a_room_without_a_floor_is_found(tmp_path):
    files = {"bundle/shed/a.py": "", "bundle/shed/__init__.py": "", "bundle/hut.py": ""}
    assert unknown_rooms(tree(tmp_path, files)) == ["bundle/hut.py", "bundle/shed/a.py"]


@pytest.mark.parametrize(
    "line", ["import requests", "from bundle import paths", "import urllib.request", "import PIL"]
)
def test_a_package_too_much_in_lib_is_found(tmp_path, line):
    root = tree(tmp_path, {"lib/a.py": f"import math, numpy\n{line}", "lib/data.py": "import os"})
    assert len(lib_uses_more(root)) == 1


@pytest.mark.parametrize(
    "call",
    [
        "open('x')", "path.open('wb')", "Path('x').read_text()", "(a / 'b').write_bytes(b'')",
        "figure.savefig('x')", "np.load('x')", "torch.save(a, 'x')", "torch.load('x')",
        "path.parent.mkdir()", "path.is_file()", "frame.to_csv('x')",
    ],
)  # fmt: skip
def test_a_file_opened_in_lib_is_found(tmp_path, call):
    root = tree(tmp_path, {"lib/a.py": f"text.replace('a', 'b')\n{call}", "lib/data.py": call})
    assert len(lib_opens_files(root)) == 1


def test_a_notebook_that_uses_more_is_found(tmp_path):
    code = "import numpy as np\nfrom bundle import Notebook\nfrom lib import data, plots\n"
    more = "from bundle.report import sentences\nfrom bundle import paths, claims"
    names = ("03_train", "06_report", "08_deploy")
    root = tree(tmp_path, {f"notebooks/{name}.ipynb": code + more for name in names})
    assert notebooks_use_more(root) == [
        "03_train.ipynb imports bundle.report.sentences",
        "03_train.ipynb imports bundle.paths",
        "03_train.ipynb imports bundle.claims",
        "06_report.ipynb imports bundle.paths",
        "08_deploy.ipynb imports bundle.paths",
        "08_deploy.ipynb imports bundle.claims",
    ]


def test_what_is_too_long_is_found(tmp_path):
    body = "    pass\n" * FUNCTION_LINES
    method = "class A:\n    def g(self):\n" + "        pass\n" * FILE_LINES
    files = {"lib/a.py": f"def f():\n{body}", "bundle/b.py": method, "lib/c.py": "x = 1\n" * 330}
    root = tree(tmp_path, files)
    assert long_files(root) == {"bundle/b.py": FILE_LINES + 2}
    assert long_functions(root) == {"lib/a.py: f": FUNCTION_LINES + 1, "bundle/b.py: g": 331}
    assert lines(root, "lib") == {"lib/a.py": 26, "lib/c.py": 330}


if __name__ == "__main__":
    for name, table in (("FILES", long_files(ROOT)), ("FUNCTIONS", long_functions(ROOT))):
        print(f"{name} = {json.dumps(table, indent=4)}")
    for rule in (
        imports_lead_up,
        unknown_rooms,
        lib_uses_more,
        lib_opens_files,
        notebooks_use_more,
    ):
        print(f"{rule.__name__}: {json.dumps(rule(ROOT), indent=4)}")
    lib, whole = lines(ROOT, "lib"), lines(ROOT, "lib", "bundle")
    print(f"lib: {len(lib)} files, {sum(lib.values())} lines; with bundle {sum(whole.values())}")
