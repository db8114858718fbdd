"""Killed as by power cuts: a training at random moments and among its last file operations, and
the runner while it moves a notebook's files into place. By command (`make test-hostile`) over 100
times, else a sample."""

import json
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from bundle.paths import ROOT

SAMPLE = {"random": 3, "operation": 6, "move": 6}  # one process makes them all
WHOLE = partial(pytest.param, marks=pytest.mark.hostile)
DRIVER = Path(__file__).with_name("kill_driver.py")


def drive(folder: Path, numbers: dict[str, int]) -> dict[str, tuple[int, list[str]]]:
    """Return for each mode how many kills hit, and the hashes in the end."""
    modes = [f"{mode}={number}" for mode, number in numbers.items()]
    done = subprocess.run(
        [sys.executable, DRIVER, folder, *modes],
        cwd=ROOT,
        text=True,
        capture_output=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    return drive(tmp_path_factory.mktemp("killed"), SAMPLE)


@pytest.fixture
def killed(request, tmp_path):
    """How often the kills of a mode were asked for, hits and hashes: of the sample, or of all."""
    mode, number = request.param
    if number == SAMPLE[mode]:
        return number, *request.getfixturevalue("sample")[mode]
    return number, *drive(tmp_path, {mode: number})[mode]


def kills(mode: str, whole: int):
    """Give a test the kills of a mode: the sample's, and by command all."""
    few = pytest.param((mode, SAMPLE[mode]), marks=pytest.mark.slow, id=f"{SAMPLE[mode]}")
    return pytest.mark.parametrize(
        "killed", [few, WHOLE((mode, whole), id=f"{whole}")], indirect=True
    )


@kills("random", 60)
def test_killed_at_random_moments(killed):
    times, hits, (never_killed, digest) = killed
    assert hits == times and digest == never_killed


@kills("operation", 50)
def test_killed_before_each_of_the_last_operations_on_files(killed):
    """They write the last two checkpoints and turn the unfinished state into the complete one."""
    times, hits, (never_killed, *digests) = killed
    assert hits == times and len(digests) == times and set(digests) == {never_killed}


@kills("move", 1)
def test_killed_before_each_operation_that_moves_a_notebook_s_files_into_place(killed):
    """Before every sixth one, or, by command, before each."""
    step, hits, (never_killed, *left) = killed
    assert hits == len(left) >= 90 / step and set(left) == {never_killed}
