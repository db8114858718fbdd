"""A plan of six runs on a real Slurm of two nodes, with jobs killed and a node lost.

Run by `make test-cluster`, on Debian, as root. Not part of `make test`. The result must be that of
`make study` on one machine, bit for bit. Takes some ten minutes on two cores, since two nodes share
them.
"""

import json
import os
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest

from bundle.paths import ROOT
from tests.conftest import Bundle

SCRIPT = Path(__file__).with_name("slurm.sh")
PLAN = "title: Six\nruns: [quick, smoke]\nseeds: [1, 2, 3]\n"
PLAIN = (
    "# smoke: quick without CutMix; only these two run on embedded data.\n"
    "base: quick\n"
    "03_train:\n"
    "  cutmix: 0.0\n"
)
EPOCHS = 12  # of a second or two each
SMALL = {
    "[8, 16]": "[16, 32]",
    "epochs: 2": f"epochs: {EPOCHS}",
    "train_images: 300": "train_images: 1200",
}
TESTED = {"train:gpu=1 ": "train:gpu=0 ", "mem_mb=8000": "mem_mb=3000", "checks: 20": "checks: 2"}
PATIENCE_S = 600
# Not of the result: when, how fast and under which commit it was made.
TIMES = (
    "seconds",
    "images_per_second",
    "finished",
    "joules",
    "commit",
    "dirty",
    "started",
    "wall_s",
)


def shell(*words: str) -> str:
    return subprocess.run(words, capture_output=True, text=True, check=True, timeout=60).stdout


@pytest.fixture(scope="module")
def slurm(tmp_path_factory):
    folder = tmp_path_factory.mktemp("slurm")
    subprocess.run([SCRIPT, "start", folder], check=True, timeout=600)
    yield folder
    subprocess.run([SCRIPT, "stop", folder], check=True, timeout=60)


def prepared(folder: Path) -> Bundle:
    """A copy of the bundle with plan, runs and a profile without GPU; both environments linked."""
    made = Bundle(folder / "bundle")
    for name in (".venv", ".venv-cluster"):
        (made.folder / name).symlink_to(ROOT / name)
    params = made.folder / "params"
    (params / "quick.yaml").write_text(replaced((params / "smoke.yaml").read_text(), SMALL))
    (params / "smoke.yaml").write_text(PLAIN)
    (made.folder / "params" / "studies" / "six.yaml").write_text(PLAN)
    (made.folder / "cluster" / "tested").mkdir()
    (made.folder / "cluster" / "tested" / "config.yaml").write_text(
        replaced((made.folder / "cluster" / "slurm" / "config.yaml").read_text(), TESTED)
    )
    return made


def replaced(text: str, changes: dict[str, str]) -> str:
    for old, new in changes.items():
        assert old in text, old
        text = text.replace(old, new)
    return text


def start(bundle: Bundle, *words: str) -> subprocess.Popen:
    """Call make in a session of its own, which a test may kill; Slurm's jobs are not in it."""
    asked = ["make", *words, "PLAN=six", "BIN=.venv/bin", "CLUSTER_READY=Snakefile"]
    with (bundle.folder / "said.txt").open("a") as said:
        return subprocess.Popen(
            asked,
            cwd=bundle.folder,
            env=bundle.environment,
            stdout=said,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def queue() -> list[dict[str, str]]:
    """Slurm's jobs: id, state, node and which of the plan's it is."""
    lines = shell("squeue", "--noheader", "--format=%i|%T|%N|%k").splitlines()
    rows = [
        dict(zip(("id", "state", "node", "comment"), line.split("|"), strict=True))
        for line in lines
    ]
    return [{**row, "job": row["comment"].rpartition("wildcards_")[2]} for row in rows]


def in_training(bundle: Bundle, but: set[str], node: str = "") -> dict[str, str]:
    """Wait for a job on `node` with an epoch behind and several before it, none of `but`."""
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        for row in queue():
            if row["state"] == "RUNNING" and row["job"] not in but and node in ("", row["node"]):
                run, _, seed = row["job"].partition("@")
                history = bundle.results(f"{run}-seed{seed}") / "training.partial" / "history.jsonl"
                if history.is_file() and 1 <= len(history.read_text().splitlines()) < EPOCHS - 2:
                    return row
        time.sleep(0.05)
    raise AssertionError(
        f"no job in training: {queue()}\n{(bundle.folder / 'said.txt').read_text()[-3000:]}"
    )


def lose_node(folder: Path, name: str) -> None:
    """Kill the node's daemon and all that it runs, as a loss of power would."""
    jobs = {row["id"] for row in queue() if row["node"] == name}
    os.kill(int((folder / f"slurmd.{name}.pid").read_text()), signal.SIGKILL)
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "environ").read_bytes().split(b"\0")
            title = (process / "cmdline").read_bytes().decode(errors="replace")
        except OSError:
            continue
        mine = any(
            f"SLURM_JOB_ID={job}".encode() in words or title.startswith(f"slurmstepd: [{job}.")
            for job in jobs
        )
        if mine:
            os.kill(int(process.name), signal.SIGKILL)


def result(bundle: Bundle) -> dict:
    """What the study found, without the times."""

    def kept(value):
        if isinstance(value, dict):
            return {key: kept(one) for key, one in value.items() if key not in TIMES}
        return [kept(one) for one in value] if isinstance(value, list) else value

    return kept(json.loads((bundle.results("studies") / "six" / "study.json").read_text()))


def test_study_through_kills_and_a_lost_node_is_that_of_one_machine(slurm, tmp_path):
    bundle, gone = prepared(tmp_path / "cluster"), set()
    process = start(bundle, "study-cluster", "PROFILE=tested")
    cancelled = in_training(bundle, gone)
    shell("scancel", cancelled["id"])
    gone.add(cancelled["job"])
    preempted = in_training(bundle, gone)
    shell("scontrol", "requeue", preempted["id"])
    gone.add(preempted["job"])
    late = in_training(bundle, gone)
    shell("scontrol", "update", f"JobId={late['id']}", "EndTime=now")
    gone.add(late["job"])
    lost = in_training(bundle, gone, "two")
    lose_node(slurm, "two")
    end = time.monotonic() + 120
    while "two" not in shell("sinfo", "--noheader", "--Node", "--states=down", "--format=%N"):
        assert time.monotonic() < end, "Slurm did not notice that the node is gone"
        time.sleep(1)
    shell("slurmd", "-N", "two")
    assert process.wait(PATIENCE_S) == 0, (bundle.folder / "said.txt").read_text()[-4000:]
    logs = bundle.results("studies") / "six" / "cluster"
    stopped = {"cancelled": cancelled, "preempted": preempted, "out of time": late, "lost": lost}
    for name, job in ((name, row["job"]) for name, row in stopped.items()):
        log = (logs / f"{job}.log").read_text()
        assert len(re.findall(r" on .*: " + job, log)) >= 2, f"{job} was not started again:\n{log}"
        epochs = [int(one) for one in re.findall(r"epoch (\d+) ", log)]
        assert epochs == sorted(set(epochs)) and epochs[-1] == EPOCHS, (
            f"{job} did not go on where it was:\n{log}"
        )
        print(
            f"{job} ({name}): {log.count('epoch ')} epochs in "
            f"{len(re.findall(' on .*: ' + job, log))} starts"
        )

    alone = prepared(tmp_path / "alone")
    assert start(alone, "study").wait(PATIENCE_S) == 0, (alone.folder / "said.txt").read_text()[
        -4000:
    ]
    assert result(bundle) == result(alone) and len(result(alone)["jobs"]) == 6
    tables = [one.results("studies") / "six" / "study.tex" for one in (bundle, alone)]
    assert tables[0].read_bytes() == tables[1].read_bytes()

    before = {path: path.stat().st_mtime_ns for path in bundle.folder.glob("results/*/study.json")}
    # Nothing is submitted.
    assert start(bundle, "study-cluster", "PROFILE=tested").wait(PATIENCE_S) == 0
    assert {
        path: path.stat().st_mtime_ns for path in bundle.folder.glob("results/*/study.json")
    } == before
    assert not queue()


def test_jobs_of_a_call_that_was_cut_off_are_named(slurm, tmp_path):
    bundle = prepared(tmp_path)
    process = start(bundle, "study-cluster", "PROFILE=tested")
    in_training(bundle, set())
    os.killpg(process.pid, signal.SIGKILL)  # make and the engine; Slurm's jobs go on
    left = {row["id"] for row in queue()}
    again = start(bundle, "study-cluster", "PROFILE=tested")
    assert again.wait(PATIENCE_S) != 0
    said = (bundle.folder / "said.txt").read_text()
    assert "Slurm still has jobs of an earlier call" in said and all(one in said for one in left)
    shell("scancel", *left)


def test_jobs_of_one_gpu_go_together_always_the_same_ones(tmp_path):
    """Five jobs, two to do, two to a GPU: a dry run names their packs and copies no data."""
    asked = [
        "--config",
        "plan=small",
        "jobs=a@1 b@1 c@1 d@1 e@1",
        "todo=d@1 e@1",
        "jobs_per_gpu=2",
        "scratch=",
    ]
    said = subprocess.run(
        [
            ROOT / ".venv-cluster" / "bin" / "snakemake",
            "--snakefile",
            ROOT / "Snakefile",
            "--directory",
            tmp_path,
            "--dry-run",
            "--printshellcmds",
            "--cores",
            "4",
            *asked,
        ],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    told = said.stdout + said.stderr
    assert sorted(re.findall(r"make .* (-j\d) study-jobs .*JOBS='(.*)'", told)) == [
        ("-j2", "c@1 d@1"),
        ("-j2", "e@1"),
    ]
    assert told.count("root=$(printenv CIFAR10_ROOT || true) && CIFAR10_ROOT=$root ") == 2
    assert "c@1+1.done" in told and "e@1.done" in told and "data --node" not in told
