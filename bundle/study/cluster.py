"""A study on a cluster: what can be checked is, Snakemake gets the jobs left, the page comes last.

``python -m bundle cluster PLAN --profile NAME`` is what `make study-cluster` runs; --check stops
before the first job.
"""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bundle import paths
from bundle.by_hand import count_by_hand
from bundle.dataset import cifar10
from bundle.dataset.download import Say
from bundle.files import Failed, locked
from bundle.inputs import check_keys, check_name, read_file
from bundle.study import jobs as study_jobs
from bundle.study.plan import Plan, every_job, find_job
from lib.errors import UserError, nearest

PROFILES = paths.ROOT / "cluster"
ENGINE = paths.ROOT / ".venv-cluster" / "bin" / "snakemake"
EXECUTORS = ("local", "slurm", "kubernetes")  # those that requirements-cluster.txt brings
# Of a profile's `config`, with their defaults.
OWN_KEYS = {"jobs_per_gpu": 1, "scratch": "", "home": ""}
# Of the make above, of no use to those on the nodes.
MAKES_OWN = ("MAKEFLAGS", "MFLAGS", "MAKELEVEL")
# At most, while it trains: weights, momentum, average, in the checkpoint being written and the two
# before it.
BYTES_TRAINING, BYTES_DONE = 3 * 3 * 4, 4  # a parameter
BYTES_BESIDE = 10_000_000  # logits, history, logs


def read_profile(name: str) -> dict[str, Any]:
    """Return cluster/NAME/config.yaml, `config` a dict of OWN_KEYS; UserError for what is wrong."""
    known = sorted(path.parent.name for path in PROFILES.glob("*/config.yaml"))
    where = f"cluster/{name}/config.yaml"
    check_name("PROFILE", name, known, where)
    tree = read_file(PROFILES / name / "config.yaml", where)
    if not isinstance(tree, dict) or "executor" not in tree:
        raise UserError(
            f"{where}: must say at least 'executor: local', slurm or kubernetes; see cluster/slurm"
        )
    _check_values(tree, where)
    own = dict(pair.split("=", 1) for pair in tree.get("config") or [])
    check_keys(own, OWN_KEYS, f"{where}: config")
    together = own.get("jobs_per_gpu", "1")
    if not together.isdecimal() or not 1 <= int(together) <= 32:
        remedy = "must be a whole number from 1 to 32"
        raise UserError(f"{where}: config: jobs_per_gpu={together}: {remedy}")
    return {**tree, "config": {**OWN_KEYS, **own}}


def _check_values(tree: dict[str, Any], where: str) -> None:
    executor, pairs = tree["executor"], tree.get("config") or []
    if executor not in EXECUTORS:
        names = f"{', '.join(EXECUTORS)}{nearest(str(executor), list(EXECUTORS))}"
        raise UserError(f"{where}: executor: {executor}: must be one of {names}")
    for key in ("jobs", "cores", "retries"):
        if key in tree and (type(tree[key]) is not int or tree[key] < (key != "retries")):
            raise UserError(f"{where}: {key}: {tree[key]}: must be a whole number")
    right = isinstance(pairs, list) and all(isinstance(pair, str) for pair in pairs)
    if not right or not all("=" in pair for pair in pairs):
        raise UserError(f"{where}: config: must be a list of lines such as '- jobs_per_gpu=1'")
    if tree.get("container-image") == "NAME":
        remedy = "write the name of your image; its comment says what it needs"
        raise UserError(f"{where}: container-image: NAME: {remedy}")


def check_engine(executor: str, profile: str) -> None:
    """Raise UserError where what the profile submits to is not here."""
    remedy = "call it where that is (a login node), or try PROFILE=local"
    if executor == "slurm":
        if not shutil.which("sbatch"):
            raise UserError(f"PROFILE={profile}: no Slurm here (sbatch is not found); {remedy}")
        asked = subprocess.run(["sinfo", "--noheader"], capture_output=True, text=True, check=False)
        if asked.returncode:
            said = " ".join(asked.stderr.split()) or "sinfo failed"
            raise UserError(f"PROFILE={profile}: Slurm does not answer ({said}); {remedy}")
    if executor == "kubernetes":
        named = os.environ.get("KUBECONFIG", "").split(":")[0]
        given = Path(named or Path("~/.kube/config").expanduser())
        if not given.is_file() and "KUBERNETES_SERVICE_HOST" not in os.environ:
            raise UserError(
                f"PROFILE={profile}: no Kubernetes here ({given} is not a file); {remedy}"
            )


def to_do(plan: Plan) -> list[str]:
    """Return the plan's jobs that are not done yet, every job's parameters checked."""
    return [
        job
        for job, one in every_job(plan).items()
        if not study_jobs.is_done(paths.results(one.name), one.settings("03_train"), plan.judged_on)
    ]


def check_room(plan: Plan, jobs: Sequence[str], at_once: int) -> None:
    """Raise UserError where results/'s file system has not the room that these jobs may need."""
    sizes = []
    for job in jobs:
        network = find_job(plan, job).settings("02_build_model")
        sizes.append(int(count_by_hand(network)["parameters"].iloc[-1]))
    largest = sorted(sizes, reverse=True)[:at_once]
    needed = len(jobs) * BYTES_BESIDE + sum(BYTES_DONE * size for size in sizes)
    needed += sum(BYTES_TRAINING * size for size in largest)
    free = shutil.disk_usage(paths.RESULTS if paths.RESULTS.exists() else paths.ROOT).free
    if free < needed:
        raise UserError(
            f"{paths.shown(paths.RESULTS)}: {needed / 1e9:.1f} GB may be needed for {len(jobs)} "
            f"jobs, {free / 1e9:.1f} GB are free; make room, or a smaller plan"
        )


def check_queue(plan: Plan) -> None:
    """Raise Failed where Slurm still has jobs of this plan, from a call that was cut off."""
    asked = ["squeue", "--me", "--noheader", "--format=%i %j"]
    found = subprocess.run(asked, capture_output=True, text=True, check=False).stdout.splitlines()
    left = [line.split()[0] for line in found if line.split()[-1].startswith(f"{prefix(plan)}_")]
    if left:
        raise Failed(
            f"Slurm still has jobs of an earlier call for this plan: {', '.join(left)}; "
            f"wait for them (squeue --me), or: scancel {' '.join(left)}"
        )


def prefix(plan: Plan) -> str:
    """Return what the names of this plan's Slurm jobs begin with."""
    name = f"study-{plan.name}"[:50]
    return "".join(one if one.isalnum() or one in "_-" else "-" for one in name)


def fetch_data(plan: Plan, jobs: Sequence[str], say: Say = print) -> None:
    """Have the data here, once, before many jobs want it; UserError where it cannot be had."""
    for dataset in sorted({find_job(plan, job).settings("03_train").dataset for job in jobs}):
        cifar10.resolve(dataset, say=say)


def environment() -> str:
    """Return the folder of this Python: as jobs find it, below the bundle where it lies there."""
    folder = Path(sys.executable).parent
    inside = folder.is_relative_to(paths.ROOT)
    return folder.relative_to(paths.ROOT).as_posix() if inside else str(folder)


def command(plan: Plan, profile: str, told: dict[str, Any], jobs: Sequence[str]) -> list[str]:
    """Return the call of Snakemake that trains `jobs`; `told`: the profile, of read_profile."""
    own = {
        "plan": plan.name.removesuffix("-tiny") if plan.tiny else plan.name,
        "tiny": "1" if plan.tiny else "",
        "jobs": " ".join(plan.jobs()),
        "todo": " ".join(jobs),
        "bin": environment(),
        **told["config"],
    }
    asked = [str(ENGINE), "--profile", str(PROFILES / profile), "--nolock", "--rerun-incomplete"]
    asked += ["--forcerun", "train", "--quiet", "host", "rules", "reason"]
    asked += ["--config", *(f"{key}={value}" for key, value in own.items())]
    if told["executor"] == "slurm":
        logs = study_jobs.folder_of(plan.name) / "cluster" / "slurm"
        asked += ["--slurm-jobname-prefix", prefix(plan), "--slurm-logdir", str(logs)]
    return asked


def check_profile(plan: Plan, profile: str, told: dict[str, Any], jobs: Sequence[str]) -> None:
    """Have the engine read profile and jobs, submitting none; UserError with what it objects."""
    asked = [*command(plan, profile, told, jobs), "--dry-run"]
    tried = subprocess.run(asked, cwd=paths.ROOT, capture_output=True, text=True, check=False)
    if tried.returncode:
        said = [line for line in (tried.stderr or tried.stdout).splitlines() if line.strip()]
        raise UserError(
            f"cluster/{profile}/config.yaml: Snakemake refuses it ({' '.join(said[-1].split())}); "
            "mend it"
        )


def submit(plan: Plan, profile: str, told: dict[str, Any], jobs: Sequence[str]) -> int:
    """Run Snakemake until every job is done or has failed for good; return its code.

    Interrupted (^C) it cancels its jobs; terminated it submits no more and waits for those that
    run.
    """
    logs = paths.shown(study_jobs.folder_of(plan.name) / "cluster")
    counts = f"{len(jobs)} of {len(plan.jobs())} jobs to do"
    print(f"{counts}, profile {profile}; their logs: {logs}", flush=True)
    without_make = {key: value for key, value in os.environ.items() if key not in MAKES_OWN}
    process = subprocess.Popen(command(plan, profile, told, jobs), cwd=paths.ROOT, env=without_make)
    # A terminal's ^C reaches the engine by itself.
    signal.signal(signal.SIGINT, lambda number, frame: None)
    signal.signal(signal.SIGTERM, lambda number, frame: process.terminate())
    return process.wait()


def study_on_cluster(plan: Plan, profile: str, check: bool = False) -> int:
    """Check, submit, collect; return 0 where all is done. Raises UserError, Failed: one line."""
    told, jobs = read_profile(profile), to_do(plan)
    check_engine(told["executor"], profile)
    packs = int(told.get("jobs") or told.get("cores") or 1)
    check_room(plan, jobs, packs * int(told["config"]["jobs_per_gpu"]))
    if told["executor"] == "slurm":
        check_queue(plan)
    if jobs:
        fetch_data(plan, jobs, print if check else lambda text, **_: None)
    if check:
        return 0
    folder, code = study_jobs.folder_of(plan.name) / "cluster", 0
    with locked(folder, f"studies/{plan.name}/cluster"):
        if jobs:
            check_profile(plan, profile, told, jobs)
            code = submit(plan, profile, told, jobs)
    name = plan.name.removesuffix("-tiny")
    collect = [sys.executable, "-m", "bundle", "study", "collect", name]
    collect += ["--tiny"] if plan.tiny else []
    collected = subprocess.run(collect, cwd=paths.ROOT, check=False).returncode
    left = to_do(plan)
    if left:
        names = f"{', '.join(left[:5])}{' ...' if len(left) > 5 else ''}"
        remedy = f"see {paths.shown(folder)}, then call it again: what is done stays done"
        print(f"error: {len(left)} jobs are not done: {names}; {remedy}", file=sys.stderr)
    return 1 if left else collected or code
