"""What a cluster adds to a job, and how long many take: ``python -m benchmarks.cluster [measure]``.

``measure`` (Debian, as root) starts the Slurm of tests/cluster and sends it one tiny job at a time,
as `make study-cluster` would; without it the table in docs/cluster.md is written from what is kept.
"""

import argparse
import math
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bundle import paths
from bundle.files import read_json, write_json
from bundle.readme import put
from bundle.report import anchors
from bundle.report.anchors import Result
from bundle.words import clock, markdown
from lib.errors import UserError, exit_on_user_error

KEPT = paths.ROOT / "benchmarks" / "results" / "cluster" / "overhead.json"
SCRIPT = paths.ROOT / "tests" / "cluster" / "slurm.sh"
JOBS, AT_ONCE, ROUNDS = 200, (1, 8, 64), 3
PARTS = (
    "lib",
    "bundle",
    "notebooks",
    "params",
    "docs",
    "cluster",
    "Makefile",
    "Snakefile",
    "pyproject.toml",
    "requirements.txt",
    "requirements-cluster.txt",
)


def duration(jobs: int, at_once: int, seconds: float, overhead: float) -> float:
    """Return the seconds of equal jobs, `at_once` at a time: rounds of training and overhead."""
    return math.ceil(jobs / at_once) * (seconds + overhead)


def measure(folder: Path) -> dict[str, Any]:
    """Return the seconds of ROUNDS jobs, from call to end, that are not training, and their median.

    They hold all that a job costs beside: check and submission, Slurm's queue, the start of Python
    twice, data, prediction with five views of a tiny network, the engine's next look, the page.
    """
    bundle, found = folder / "bundle", []
    bundle.mkdir()
    for name in PARTS:
        source = paths.ROOT / name
        copy = shutil.copytree if source.is_dir() else shutil.copy
        copy(source, bundle / name)
    for name in (".venv", ".venv-cluster"):
        (bundle / name).symlink_to(paths.ROOT / name)
    profile = bundle / "cluster" / "slurm" / "config.yaml"
    profile.write_text(
        profile.read_text().replace("train:gpu=1 ", "train:gpu=0 ").replace("=8000", "=3000")
    )
    for seed in range(1, ROUNDS + 1):
        (bundle / "params" / "studies" / "one.yaml").write_text(f"runs: [smoke]\nseeds: [{seed}]\n")
        begun = time.monotonic()
        asked = [
            "make",
            "study-cluster",
            "PLAN=one",
            "PROFILE=slurm",
            "BIN=.venv/bin",
            "CLUSTER_READY=Snakefile",
        ]
        subprocess.run(asked, cwd=bundle, check=True, capture_output=True)
        whole = time.monotonic() - begun
        trained = read_json(bundle / "results" / f"smoke-seed{seed}" / "study.json")["train"][
            "seconds"
        ]
        found.append(round(whole - trained, 1))
    return {"overhead_s": found, "median_s": statistics.median(found)}


def rows(results: Sequence[Result], overhead: float) -> list[list[str]]:
    """Return heading and, for each result and kind of machine, its time and that of JOBS jobs.

    On AT_ONCE machines, with an `overhead` in seconds a job.
    """
    body = []
    for one in results:
        for seconds, machine in one.times:
            times = [clock(duration(JOBS, count, seconds, overhead)) for count in AT_ONCE]
            body.append([f"`{one.name}`", machine, clock(seconds), *times])
    return [["run", "on each", "one training", *(f"{JOBS} on {count}" for count in AT_ONCE)], *body]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure where asked, then write the table in docs/cluster.md; raises UserError."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.cluster", description=__doc__.splitlines()[0]
    )
    parser.add_argument("action", nargs="?", choices=("measure",))
    if parser.parse_args(arguments).action:
        with tempfile.TemporaryDirectory() as scratch:
            subprocess.run([SCRIPT, "start", f"{scratch}/slurm"], check=True)
            try:
                KEPT.parent.mkdir(parents=True, exist_ok=True)
                write_json(KEPT, measure(Path(scratch)))
            finally:
                subprocess.run([SCRIPT, "stop", f"{scratch}/slurm"], check=False)
    if not KEPT.is_file():
        raise UserError(
            f"{paths.shown(KEPT)}: not measured yet; python -m benchmarks.cluster measure"
        )
    overhead = read_json(KEPT)["median_s"]
    note = (
        "A job's overhead, measured on the two-node Slurm of the tests: "
        f"{overhead:.0f} s (median of {ROUNDS})."
    )
    released = anchors.ours(anchors.runs("released/*"))
    put(f"{markdown(rows(released, overhead))}\n\n{note}", "cluster")
    return 0


if __name__ == "__main__":
    exit_on_user_error(main)
