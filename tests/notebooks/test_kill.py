"""A training killed as by power cuts: at ten random moments, among its last file operations."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from bundle.paths import ROOT

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


@pytest.mark.slow
def test_killed_at_ten_random_moments(tmp_path):
    _, (never_killed,) = drive(tmp_path / "whole", "random", 0)
    hits, (digest,) = drive(tmp_path / "killed", "random", 10)
    assert hits == 10 and digest == never_killed


@pytest.mark.slow
def test_killed_before_each_of_the_last_operations_on_files(tmp_path):
    """They write the last two checkpoints and turn the unfinished state into the complete one."""
    hits, (never_killed, *digests) = drive(tmp_path, "operation", 20)
    assert hits == 20 and len(digests) == 20 and set(digests) == {never_killed}
