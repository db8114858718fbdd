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

SAMPLE = partial(pytest.param, marks=pytest.mark.slow)
WHOLE = partial(pytest.param, marks=pytest.mark.hostile)
DRIVER = Path(__file__).with_name("kill_driver.py")


def drive(folder: Path, mode: str, number: int) -> tuple[int, list[str]]:
    """Return how many kills hit, and the hashes of the weights in the end."""
    done = subprocess.run(
        [sys.executable, DRIVER, folder, mode, str(number)],
        cwd=ROOT,
        text=True,
        capture_output=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("times", [SAMPLE(4), WHOLE(60)])
def test_killed_at_random_moments(tmp_path, times):
    hits, (never_killed, digest) = drive(tmp_path, "random", times)
    assert hits == times and digest == never_killed


@pytest.mark.parametrize("times", [SAMPLE(8), WHOLE(50)])
def test_killed_before_each_of_the_last_operations_on_files(tmp_path, times):
    """They write the last two checkpoints and turn the unfinished state into the complete one."""
    hits, (never_killed, *digests) = drive(tmp_path, "operation", times)
    assert hits == times and len(digests) == times and set(digests) == {never_killed}


@pytest.mark.parametrize("step", [SAMPLE(5), WHOLE(1)])
def test_killed_before_each_operation_that_moves_a_notebook_s_files_into_place(tmp_path, step):
    """Before every fifth one, or, by command, before each."""
    hits, (never_killed, *left) = drive(tmp_path, "move", step)
    assert hits == len(left) >= 90 / step and set(left) == {never_killed}
