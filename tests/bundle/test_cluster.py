"""A study on a cluster, as far as without one: profiles, checks, submissions, data on a node."""

import hashlib
import os
import re
import shutil
import stat
import subprocess
import sys
import threading
from collections import namedtuple
from pathlib import Path

import pytest
import yaml

from bundle.dataset import cifar10
from bundle.files import Busy, Failed, locked
from bundle.paths import ROOT
from bundle.study import cluster, jobs
from bundle.study import plan as study_plan
from lib.errors import UserError

CONTENT = b"some images"
PROFILES = ("local", "slurm", "kubernetes")


@pytest.fixture
def toy(tmp_path, monkeypatch):
    """A dataset of one small file where CIFAR10_ROOT says."""
    digest = hashlib.md5(CONTENT, usedforsecurity=False).hexdigest()
    archive = cifar10.Archive(folder="toy", members={"one": (len(CONTENT), digest)})
    (tmp_path / "shared" / "toy").mkdir(parents=True)
    (tmp_path / "shared" / "toy" / "one").write_bytes(CONTENT)
    monkeypatch.setenv("CIFAR10_ROOT", str(tmp_path / "shared"))
    return archive


def command_on_path(folder: Path, monkeypatch, name: str, script: str) -> None:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)


@pytest.mark.parametrize("name", PROFILES)
def test_shipped_profiles_say_why_in_every_line(name):
    if name != "kubernetes":
        told = cluster.read_profile(name)
        assert told["executor"] == name and told["config"]["jobs_per_gpu"] == "1"
    for line in (ROOT / "cluster" / name / "config.yaml").read_text().splitlines():
        # The head of a list is explained by its entries.
        assert "#" in line or line.endswith(":"), line


def test_slurm_profile_has_time_memory_gpu_and_goes_on_after_a_loss():
    told = cluster.read_profile("slurm")
    assert {"runtime", "mem_mb"} <= {one.partition("=")[0] for one in told["default-resources"]}
    assert (
        "train:gpu=1" in told["set-resources"]
        and told["retries"] >= 1
        and told["slurm-requeue"] is True
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("executor: [slurm\n", "not valid YAML"),
        ("jobs: 3\n", "must say at least 'executor"),
        (
            "executor: slurm\nconfig: [jobs_per_gpus=2]\n",
            "unknown key 'jobs_per_gpus' (did you mean 'jobs_per_gpu'?)",
        ),
        (
            "executor: slrum\n",
            "executor: slrum: must be one of local, slurm, kubernetes (did you mean 'slurm'?)",
        ),
        ("executor:\n", "executor: None: must be one of"),
        ("executor: local\njobs: many\n", "jobs: many: must be a whole number"),
        ("executor: local\ncores: 0\n", "cores: 0: must be a whole number"),
        ("executor: local\nretries: x\n", "retries: x: must be a whole number"),
        (
            "executor: local\nconfig: 5\n",
            "config: must be a list of lines such as '- jobs_per_gpu=1'",
        ),
        ("executor: local\nconfig: jobs_per_gpu=2\n", "config: must be a list"),
        ("executor: local\nconfig: {jobs_per_gpu: 2}\n", "config: must be a list"),
        ("executor: local\nconfig:\n  - jobs_per_gpu\n", "config: must be a list"),
        ("executor: local\nexecutor: slurm\n", "key 'executor' is given twice"),
        (
            "executor: slurm\nconfig: [jobs_per_gpu=0]\n",
            "jobs_per_gpu=0: must be a whole number from 1 to 32",
        ),
        ("executor: slurm\nconfig: [jobs_per_gpu=many]\n", "jobs_per_gpu=many: must be"),
    ],
)
def test_mistake_in_a_profile_is_one_line(tmp_path, monkeypatch, text, said):
    monkeypatch.setattr(cluster, "PROFILES", tmp_path)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "config.yaml").write_text(text)
    with pytest.raises(UserError) as caught:
        cluster.read_profile("mine")
    assert "cluster/mine/config.yaml" in str(caught.value) and said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_the_engine_refuses_is_one_line(tmp_path, monkeypatch):
    """With a stand-in that refuses as Snakemake does, after its usage."""
    path = tmp_path / "engine"
    path.write_text(
        "#!/bin/sh\n"
        "echo 'usage: snakemake [-h]\n"
        "' >&2; echo 'error: unrecognized arguments: --coress=2' >&2; exit 2\n"
    )
    path.chmod(0o755)
    monkeypatch.setattr(cluster, "ENGINE", path)
    told = {"executor": "local", "config": {}}
    with pytest.raises(UserError) as caught:
        cluster.check_profile(study_plan.read_plan("small"), "mine", told, ["as_written@42"])
    assert str(caught.value) == (
        "cluster/mine/config.yaml: Snakemake refuses it (error: unrecognized arguments: "
        "--coress=2); mend it"
    )


def test_jobs_are_given_the_python_that_submits_them(monkeypatch):
    monkeypatch.setattr(cluster.sys, "executable", str(ROOT / ".venv" / "bin" / "python"))
    assert cluster.environment() == ".venv/bin"
    monkeypatch.setattr(cluster.sys, "executable", "/opt/torch/bin/python")
    assert cluster.environment() == "/opt/torch/bin"


def test_kubernetes_wants_an_image():
    with pytest.raises(
        UserError, match=r"cluster/kubernetes/config.yaml: container-image: NAME: write the name"
    ):
        cluster.read_profile("kubernetes")


def test_unknown_profile_is_named_with_the_nearest():
    with pytest.raises(
        UserError, match=r"PROFILE=slrum: no file .*local, slurm \(did you mean 'slurm'\?\)"
    ):
        cluster.read_profile("slrum")


def test_no_slurm_here_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(
        UserError, match=r"PROFILE=slurm: no Slurm here \(sbatch is not found\); .*PROFILE=local"
    ):
        cluster.check_engine("slurm", "slurm")


def test_slurm_that_does_not_answer_is_one_line(tmp_path, monkeypatch):
    command_on_path(tmp_path, monkeypatch, "sbatch", "exit 0")
    command_on_path(
        tmp_path,
        monkeypatch,
        "sinfo",
        "echo 'error: Unable to contact\nslurm controller' >&2; exit 1",
    )
    with pytest.raises(
        UserError, match=r"Slurm does not answer \(error: Unable to contact slurm controller\)"
    ):
        cluster.check_engine("slurm", "slurm")


def test_no_kubernetes_here_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with pytest.raises(UserError, match="no Kubernetes here"):
        cluster.check_engine("kubernetes", "kubernetes")


def test_no_room_is_one_line_with_both_sizes(monkeypatch):
    """as_written has 4,754,218 parameters: 40 bytes of each and 10 MB beside make 0.20 GB a job."""
    free = namedtuple("free", "free")
    plan = study_plan.read_plan("full")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: free(199_000_000))
    with pytest.raises(UserError, match=r"0\.2 GB may be needed for 1 jobs, 0\.2 GB are free"):
        cluster.check_room(plan, ["as_written@42"], 1)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: free(201_000_000))
    cluster.check_room(plan, ["as_written@42"], 1)
    with pytest.raises(UserError, match="for 2 jobs"):
        cluster.check_room(plan, ["as_written@42", "as_run@42"], 1)


def test_jobs_of_an_earlier_call_are_named(tmp_path, monkeypatch):
    plan = study_plan.read_plan("small")
    command_on_path(
        tmp_path,
        monkeypatch,
        "squeue",
        "echo '12 study-small_4f'; echo '13 study-smaller_1'; echo '14 other'",
    )
    with pytest.raises(Failed, match=r"earlier call for this plan: 12; .*scancel 12$"):
        cluster.check_queue(plan)
    command_on_path(tmp_path, monkeypatch, "squeue", "echo '14 other'")
    cluster.check_queue(plan)


def test_engine_is_given_all_jobs_and_those_to_do():
    plan = study_plan.read_plan("small")
    told = cluster.read_profile("slurm")
    asked = cluster.command(plan, "slurm", told, ["wide@42"])
    given = asked[asked.index("--config") + 1 : asked.index("--slurm-jobname-prefix")]
    assert (
        f"jobs={' '.join(plan.jobs())}" in given
        and "todo=wide@42" in given
        and "plan=small" in given
    )
    assert {"tiny=", "jobs_per_gpu=1", "scratch=/tmp", "home="} <= set(given)
    tiny = cluster.command(study_plan.read_plan("small", tiny=True), "slurm", told, ["wide@42"])
    assert "plan=small" in tiny and "tiny=1" in tiny


def test_a_job_that_is_done_is_not_to_do(monkeypatch):
    plan = study_plan.read_plan("small")
    monkeypatch.setattr(
        jobs, "is_done", lambda folder, settings, judged_on: folder.name.startswith("wide")
    )
    assert cluster.to_do(plan) == [job for job in plan.jobs() if job != "wide@42"]


def test_bad_input_is_told_before_anything_is_installed(bundle):
    """Exit code 2 and one line, by Make too, which then installs no engine; no results."""
    (bundle.folder / "params" / "studies" / "broken.yaml").write_text(
        "runs: [as_writen]\nseeds: [1]\n"
    )
    words = ["PLAN=broken", "PROFILE=local", f"BIN={Path(sys.executable).parent}"]
    by_make = subprocess.run(
        ["make", "study-cluster", *words], cwd=bundle.folder, env=bundle.environment, text=True,
        capture_output=True, timeout=120, check=False,
    )  # fmt: skip
    said = {
        "PLAN=smal: no file params/studies/smal.yaml": ["--profile=local", "--", "smal"],
        "PROFILE=lokal: no file cluster/lokal/config.yaml": ["--profile=lokal", "--", "small"],
    }
    ended = {
        line: bundle.run("bundle", "cluster", "--check", *given) for line, given in said.items()
    }
    ended["RUN=as_writen: no file params/as_writen.yaml"] = by_make
    for line, one in ended.items():
        lines = [each for each in one.stderr.splitlines() if not each.startswith("make")]
        assert one.returncode == 2 and len(lines) == 1 and line in lines[0], one.stderr
    assert (
        not (bundle.folder / ".venv-cluster").exists() and not (bundle.folder / "results").exists()
    )


def test_data_is_copied_once_and_whole(tmp_path, toy, monkeypatch):
    copies = []
    copy = shutil.copyfile
    monkeypatch.setattr(
        shutil, "copyfile", lambda source, target: (copies.append(target), copy(source, target))
    )
    roots = []
    threads = [
        threading.Thread(target=lambda: roots.append(cifar10.on_node(tmp_path / "node", toy)))
        for _ in range(8)
    ]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert len(copies) == 1 and len(roots) == 8 and len(set(roots)) == 1
    assert (roots[0] / "toy" / "one").read_bytes() == CONTENT


def test_damaged_copy_on_a_node_is_replaced(tmp_path, toy):
    root = cifar10.on_node(tmp_path / "node", toy)
    (root / "toy" / "one").write_bytes(b"nothing")
    assert (
        cifar10.on_node(tmp_path / "node", toy) == root
        and (root / "toy" / "one").read_bytes() == CONTENT
    )


def test_damaged_original_is_one_line_and_leaves_no_copy(tmp_path, toy):
    (tmp_path / "shared" / "toy" / "one").write_bytes(b"nothing here")
    with pytest.raises(UserError, match=r"mend .*shared/toy, which it was copied from"):
        cifar10.on_node(tmp_path / "node", toy)
    assert not list((tmp_path / "node").glob("*/toy"))


def test_without_cifar10_a_node_has_none(tmp_path, monkeypatch):
    monkeypatch.setattr(cifar10, "locate", lambda verify, archive: None)
    assert cifar10.on_node(tmp_path) is None and not list(tmp_path.iterdir())


def test_lock_is_waited_for(tmp_path):
    with (
        locked(tmp_path, "run"),
        pytest.raises(Busy, match="another command is working on results/run"),
        locked(tmp_path, "run", 0.5),
    ):
        pass
    held, free = threading.Event(), threading.Event()

    def hold():
        with locked(tmp_path, "run"):
            held.set()
            free.wait(30)

    holder = threading.Thread(target=hold)
    holder.start()
    held.wait(30)
    threading.Timer(0.3, free.set).start()
    with locked(tmp_path, "run", 30):
        assert free.is_set()
    holder.join()


def test_snakefile_names_only_what_the_profiles_may_set():
    """Every key of `config` that the Snakefile reads is one that bundle.study.cluster gives."""
    read = set(re.findall(r'config(?:\.get\(|\[)"(\w+)"', (ROOT / "Snakefile").read_text()))
    assert read == {"plan", "tiny", "jobs", "todo", "bin", *cluster.OWN_KEYS}


def test_profiles_are_yaml_the_engine_reads():
    for name in PROFILES:
        tree = yaml.safe_load((ROOT / "cluster" / name / "config.yaml").read_text())
        assert all("=" in one for key in ("config", "set-resources") for one in tree[key])
