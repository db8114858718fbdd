"""Shared pieces: a bundle that a test may run and break, and the real dataset where it is."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from filelock import FileLock

# Set before PyTorch is loaded. Tests run two at a time on two cores: threads that wait must not
# spin, and what checks no bits computes with one thread.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("OMP_NUM_THREADS", "1")

# A copy of the bundle is compiled once, whatever the shell says, and its copies take that along.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

# What other programs keep in a home is not found: a test has its own data, or none.
os.environ |= {"KERAS_HOME": os.devnull, "HF_HOME": os.devnull}

from bundle import paths
from bundle.__main__ import main
from bundle.dataset import cifar10, places
from bundle.paths import ROOT
from tests import preloaded

PRELOADED = preloaded.Preloaded()

# Nor are copies beside this checkout, ../data say; the tests of places look there again.
PLACES = places.known
places.known = list

# A user's git may sign commits, call hooks, or be told of another repository by a hook of its own.
for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"):
    os.environ.pop(name, None)
os.environ |= {
    "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_COUNT": "1",
    "GIT_CONFIG_KEY_0": "safe.directory", "GIT_CONFIG_VALUE_0": "*",
}  # fmt: skip

# fmt: off
PARTS = (
    "lib", "bundle", "notebooks", "params", "docs", "pyproject.toml", "requirements.txt",
    "Makefile", "CITATION.cff", "Snakefile", "cluster", "requirements-cluster.txt",
)
# fmt: on
# What JupyterLab and systems leave in folders.
LEFT = (".ipynb_checkpoints", ".virtual_documents", ".DS_Store")
# A test that uses one of these fixtures runs commands or notebooks in processes of their own; one
# with these marks starts a browser or reads 60,000 images.
SLOW, SLOW_MARKS = {"smoke", "bundle", "done", "cifar10_root"}, ("chromium", "cifar10")
# The files that take longest begin, so that the two processes end at about the same time.
LONGEST = ("test_run.py", "test_study.py", "test_release.py", "test_extend.py", "test_golden.py")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what is slow by its fixtures or marks, and put the longest files first."""
    for item in items:
        marked = any(item.get_closest_marker(name) for name in SLOW_MARKS)
        if marked or SLOW & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.slow)
    names = [*LONGEST, ""]
    items.sort(key=lambda item: names.index(item.path.name if item.path.name in names else ""))


class Bundle:
    """A copy of the bundle in a folder of its own, run as a user would, on the embedded dataset."""

    def __init__(self, folder: Path, source: Path = ROOT, parts: tuple[str, ...] = PARTS):
        self.folder = folder
        for name in parts:
            if (source / name).is_dir():
                ignored = shutil.ignore_patterns(*LEFT)
                shutil.copytree(source / name, folder / name, ignore=ignored)
            else:
                shutil.copy(source / name, folder / name)
        self.environment = {
            **os.environ,
            "PYTHONPATH": str(folder),
            "BUNDLE_OFFLINE": "1",
            "CIFAR10_ROOT": "",
        }
        self.environment.pop("BUNDLE_COMMAND", None)

    def copy(self, folder: Path) -> "Bundle":
        """Return a copy of this bundle and of its results."""
        return Bundle(folder, self.folder, (*PARTS, "results"))

    @property
    def said(self) -> str:
        """What the run printed that made this bundle's results."""
        return (self.folder / "results" / "said.txt").read_text()

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", *arguments]

    def start(self, *arguments: str) -> subprocess.Popen:
        """Start a module of lib; the caller waits for it."""
        return subprocess.Popen(
            self.command(*arguments),
            cwd=self.folder,
            env=self.environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def run(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess:
        """Run a module to its end and return what it printed, forked where that is the same."""
        whole = {**self.environment, **environment}
        if preloaded.can_run(arguments, whole):
            return PRELOADED.run(arguments, self.folder, whole)
        return self.run_cold(*arguments, **environment)

    def run_cold(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess:
        """Run a module to its end in a Python of its own and return what it printed."""
        return subprocess.run(
            self.command(*arguments),
            cwd=self.folder,
            env={**self.environment, **environment},
            text=True,
            capture_output=True,
            timeout=600,
            check=False,
        )

    def results(self, run: str = "smoke") -> Path:
        return self.folder / "results" / run


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return Bundle(tmp_path / "bundle")


@pytest.fixture(scope="session")
def smoke(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A bundle with a finished smoke run, executed once for all processes of pytest; not to change.

    The first process that needs it executes it below the folder that all of them share.
    """
    shared = tmp_path_factory.getbasetemp()
    shared = shared.parent if "PYTEST_XDIST_WORKER" in os.environ else shared
    folder = shared / "smoke-run"
    with FileLock(shared / "smoke-run.lock"):
        if not (folder / "results" / "said.txt").is_file():
            shutil.rmtree(folder, ignore_errors=True)
            done = Bundle(folder).run("bundle", "run", "smoke")
            assert done.returncode == 0, done.stdout + done.stderr
            (folder / "results" / "said.txt").write_text(done.stdout)
    return Bundle(folder, parts=())


@pytest.fixture(scope="module")
def finished(smoke: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A module's own copy of the finished smoke run; its tests put back what they change."""
    return smoke.copy(tmp_path_factory.mktemp("finished") / "bundle")


@pytest.fixture
def own(smoke: Bundle, tmp_path: Path) -> Bundle:
    """A test's own copy of the finished smoke run, to change and to break."""
    return smoke.copy(tmp_path / "own")


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> Callable:
    """Return `Bundle.run` for commands of bundle in this process: no Python starts for each."""

    def command(bundle: Bundle, *arguments: str) -> SimpleNamespace:
        monkeypatch.setattr(paths, "ROOT", bundle.folder)
        for name in ("RESULTS", "PARAMS", "NOTEBOOKS", "DATA"):
            monkeypatch.setattr(paths, name, bundle.folder / name.lower())
        for name in ("BUNDLE_OFFLINE", "CIFAR10_ROOT"):
            monkeypatch.setenv(name, bundle.environment[name])
        capsys.readouterr()
        code = main(list(arguments))
        out, err = capsys.readouterr()
        return SimpleNamespace(returncode=code, stdout=out, stderr=err)

    return command


@pytest.fixture(scope="session")
def cifar10_root() -> Path:
    """The real CIFAR-10; a test that needs it is skipped where it is not."""
    root = cifar10.locate()
    if root is None:
        pytest.skip("CIFAR-10 is not here (CIFAR10_ROOT or data/)")
    return root
