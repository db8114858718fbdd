"""A study of tiny runs: its plan, its jobs under make -j, killed and gone on with, and what it records."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from lib import metrics, params, study
from lib.errors import UserError

PLAN = "title: Tiny\nruns: [smoke, plain]\nseeds: [1, 2]\nepochs: 0.5\ntrain_images: 200\n"
PLAIN = "# plain: smoke without CutMix\nbase: smoke\n03_train:\n  cutmix: 0.0\n"


def prepare(bundle):
    (bundle.folder / "params" / "plain.yaml").write_text(PLAIN)
    (bundle.folder / "params" / "studies" / "tiny.yaml").write_text(PLAN)
    return bundle


def make(bundle, *arguments: str) -> list[str]:
    """The command a user gives, with this test's Python in place of .venv's."""
    return ["make", *arguments, "study", "PLAN=tiny", f"BIN={Path(sys.executable).parent}", "READY=Makefile"]


def run(bundle, *arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        make(bundle, *arguments), cwd=bundle.folder, env=bundle.environment, text=True, capture_output=True,
        timeout=600, check=False,
    )  # fmt: skip


def hashes(bundle) -> dict[str, str]:
    found = [json.loads(path.read_text()) for path in bundle.folder.glob("results/*/study.json")]
    return {one["run"]: one["weights_sha256"] for one in found if "run" in one}


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    from conftest import Bundle

    made = prepare(Bundle(tmp_path_factory.mktemp("study") / "bundle"))
    ended = subprocess.run(
        make(made, "-j2"),
        cwd=made.folder,
        env=made.environment,
        text=True,
        capture_output=True,
        timeout=600,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    made.said = ended.stdout
    return made


def test_every_job_is_done_and_recorded(done):
    names = {f"{run}-epochs1-train_images200-seed{seed}" for run in ("smoke", "plain") for seed in (1, 2)}
    assert set(hashes(done)) == names and len(set(hashes(done).values())) == 4
    assert "results/studies/tiny/study.html" in done.said
    collected = json.loads((done.results("studies") / "tiny" / "study.json").read_text())
    assert collected["missing"] == [] and [job["file"] for job in collected["jobs"]] == ["smoke", "plain"] * 2
    assert [job["base"] for job in collected["jobs"]] == ["quick", "smoke"] * 2
    assert not collected["plan"]["full"] and collected["jobs"][0]["notice"]


def test_figures_agree_with_the_predictions(done):
    folder = done.results("plain-epochs1-train_images200-seed2")
    found, arrays = json.loads((folder / "study.json").read_text()), np.load(folder / "study.npz")
    score = metrics.accuracy(arrays["predictions"], arrays["labels"])
    assert (found["test"]["accuracy"], found["test"]["images"]) == (score.accuracy, score.images)
    assert np.array_equal(arrays["logits_original"].argmax(1), arrays["predictions"])
    assert np.array_equal(arrays["logits_pad_center_crop"], arrays["logits_original"])
    flip = metrics.mcnemar(arrays["predictions"], arrays["logits_horizontal_flip"].argmax(1), arrays["labels"])
    told = found["views"]["horizontal_flip"]
    assert (told["gained"], told["lost"]) == (flip.only_second, flip.only_first) and told["p"] == pytest.approx(flip.p)
    assert np.trace(found["confusion"]) == score.correct and np.sum(found["confusion"]) == score.images
    assert found["settings"]["cutmix"] == 0 and found["settings"]["epochs"] == found["train"]["epochs"] == 1


def test_second_call_trains_nothing(done):
    before = {path: path.stat().st_mtime_ns for path in done.folder.glob("results/*/training/*")}
    ended = subprocess.run(
        make(done), cwd=done.folder, env=done.environment, text=True, capture_output=True, check=False
    )
    assert ended.returncode == 0 and ended.stdout.count("done already") == 4
    assert {path: path.stat().st_mtime_ns for path in done.folder.glob("results/*/training/*")} == before


def test_killed_study_goes_on_to_the_same_weights(bundle, done):
    prepare(bundle)
    process = subprocess.Popen(
        make(bundle, "-j2"), cwd=bundle.folder, env=bundle.environment, start_new_session=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    until = time.monotonic() + 300
    while len(hashes(bundle)) < 1 and process.poll() is None and time.monotonic() < until:
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert 1 <= len(hashes(bundle)) < 4
    ended = subprocess.run(
        make(bundle, "-j2"), cwd=bundle.folder, env=bundle.environment, capture_output=True, check=False
    )
    assert ended.returncode == 0 and hashes(bundle) == hashes(done)


def test_one_failing_job_does_not_stop_the_others(done):
    """A lock that somebody holds; the page then names the job that is missing."""
    import fcntl
    import shutil

    name = "smoke-epochs1-train_images200-seed1"
    kept = done.results(name).with_name("kept")
    done.results(name).rename(kept)
    done.results(name).mkdir()
    with (done.results(name) / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        ended = subprocess.run(
            make(done), cwd=done.folder, env=done.environment, text=True, capture_output=True, check=False
        )
    shutil.rmtree(done.results(name))
    kept.rename(done.results(name))
    assert (
        ended.returncode != 0 and ended.stdout.count("done already") == 3 and "is working on this run" in ended.stderr
    )
    assert "smoke@1" in (done.results("studies") / "tiny" / "study.html").read_text()


# The plan


def test_job_is_what_run_all_would_do():
    plan = study.Plan("p", "P", ("as_run",), (7,), epochs=0.05, train_images=8000)
    told = study.parameters_of(plan, "as_run", 7)
    text = "train_images=8000 03_train.epochs=5 03_train.phase2_epochs=5 03_train.milestones=[2,4]"
    assert told == params.load("as_run", text, 7)


def test_shipped_plans_are_the_report_s_claims():
    full, small = study.read_plan("full"), study.read_plan("small")
    assert full.full and not small.full and full.runs == small.runs and len(full.seeds) == 3
    assert len(small.jobs()) <= 6
    for job in full.jobs():
        settings = study.find_job(full, job).settings("03_train")
        assert settings.train_images == 0 and settings.holdout == 0 and settings.epochs == 100
    assert study.find_job(full, "as_run@43").settings("03_train").phase2_epochs == 100


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("runs: [smoke]\n", "must hold at least"),
        ("runs: smoke\nseeds: [1]\n", "runs = 'smoke': write a list of names"),
        ("runs: [smoke]\nseeds: [one]\n", "seeds = ['one']: write a list of numbers"),
        ("runs: [smoke]\nseeds: [true]\n", "seeds = [True]"),
        ("runs: [smoke, smoke]\nseeds: [1]\n", "twice"),
        ("runs: [smoke]\nseeds: [1]\nepoch: 0.5\n", "unknown key 'epoch' (did you mean 'epochs'?)"),
        ("runs: [smoke]\nseeds: [1]\nepochs: 2\n", "epochs = 2: must be a share"),
        ("runs: [smoke]\nseeds: [1]\ntrain_images: -1\n", "train_images = -1"),
        ("runs: [smoke\n", "not valid YAML"),
        ("- smoke\n", "must hold at least"),
    ],
)
def test_mistake_in_a_plan_is_one_line(tmp_path, monkeypatch, text, said):
    monkeypatch.setattr("lib.paths.PARAMS", tmp_path)
    (tmp_path / "studies").mkdir()
    (tmp_path / "studies" / "mine.yaml").write_text(text)
    with pytest.raises(UserError) as caught:
        study.read_plan("mine")
    message = str(caught.value)
    assert "params/studies/mine.yaml" in message and said in message and "\n" not in message


def test_unknown_plan_run_and_job_are_one_line():
    with pytest.raises(UserError, match=r"PLAN=smal: no file .*did you mean 'small'"):
        study.read_plan("smal")
    with pytest.raises(UserError, match=r"small\.yaml \(did you mean 'as_run@42'\?\)"):
        study.find_job(study.read_plan("small"), "as_run@4")
    with pytest.raises(UserError, match=r"no file params/none\.yaml"):
        study.find_job(study.Plan("p", "P", ("none",), (1,)), "none@1")
