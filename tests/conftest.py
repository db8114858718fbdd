"""Shared pieces: a bundle that a test may run and break, and the real dataset where it is."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bundle.dataset import cifar10
from bundle.paths import ROOT

# fmt: off
PARTS = (
    "lib", "bundle", "notebooks", "params", "docs", "pyproject.toml", "requirements.txt",
    "Makefile", "CITATION.cff", "Snakefile", "cluster", "requirements-cluster.txt",
)
# fmt: on


class Bundle:
    """A copy of the bundle in a folder of its own, run as a user would, on the embedded dataset."""

    def __init__(self, folder: Path):
        self.folder = folder
        for name in PARTS:
            source = ROOT / name
            if source.is_dir():
                shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(source, folder / name)
        self.environment = {
            **os.environ,
            "PYTHONPATH": str(folder),
            "BUNDLE_OFFLINE": "1",
            "CIFAR10_ROOT": "",
        }
        self.environment.pop("BUNDLE_COMMAND", None)

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
        """Run a module of lib to its end and return what it printed."""
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


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A bundle with a finished smoke run; tests that use it put back what they change."""
    made = Bundle(tmp_path_factory.mktemp("finished") / "bundle")
    done = made.run("bundle", "run", "smoke")
    assert done.returncode == 0, done.stdout + done.stderr
    made.said = done.stdout
    return made


@pytest.fixture(scope="session")
def cifar10_root() -> Path:
    """The real CIFAR-10; a test that needs it is skipped where it is not."""
    root = cifar10.locate()
    if root is None:
        pytest.skip("CIFAR-10 is not here (CIFAR10_ROOT or data/)")
    return root
