"""A study of tiny runs: its plan, its jobs under make -j, killed, gone on with, its records."""

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from bundle import files
from bundle.paths import ROOT
from bundle.runs import params
from bundle.study import plan as plans
from bundle.study.sentences import notice_of
from lib import data, metrics, schedule
from lib.errors import UserError
from tests.conftest import Bundle

PLAN = "title: Tiny\nruns: [quick, smoke]\nseeds: [7]\nepochs: 0.5\ntrain_images: 200\n"
PLAIN = (
    "# smoke: quick without CutMix; only these two run on embedded data.\n"
    "base: quick\n"
    "03_train:\n"
    "  cutmix: 0.0\n"
)


def prepare(bundle):
    """Make quick what smoke is, and smoke an ablation of it."""
    folder = bundle.folder / "params"
    tiny, few = (folder / "smoke.yaml").read_text(), "holdout_images: 100\n  test_images: 200"
    assert few in tiny
    all_of_them = "holdout_images: 500\n  test_images: 1000"
    (folder / "quick.yaml").write_text(tiny.replace(few, all_of_them))
    (folder / "smoke.yaml").write_text(PLAIN)
    (folder / "studies" / "tiny.yaml").write_text(PLAN)
    return bundle


def make(bundle, *arguments: str) -> list[str]:
    """The command a user gives, with this test's Python in place of .venv's."""
    return ["make", *arguments, "study", "PLAN=tiny", f"BIN={Path(sys.executable).parent}"]


def run(bundle, *arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        make(bundle, *arguments),
        cwd=bundle.folder,
        env=bundle.environment,
        text=True,
        capture_output=True,
        timeout=600,
        check=False,
    )


def hashes(bundle) -> dict[str, str]:
    found = [json.loads(path.read_text()) for path in bundle.folder.glob("results/*/study.json")]
    return {one["run"]: one["weights_sha256"] for one in found if "run" in one}


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    made = prepare(Bundle(tmp_path_factory.mktemp("study") / "bundle"))
    ended = run(made, "-j2")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    (made.folder / "results" / "said.txt").write_text(ended.stdout)
    return made


@pytest.mark.slow
def test_trainings_need_no_jupyter():
    """PyTorch alone suffices to study, predict and measure speed; `None` makes an import fail."""
    absent = (
        "papermill",
        "nbconvert",
        "nbformat",
        "nbclient",
        "jupyter_client",
        "ipykernel",
        "IPython",
        "latex2mathml",
    )
    code = (
        f"import sys; sys.modules.update(dict.fromkeys({absent})); import bundle.study.jobs, "
        "bundle.study.page, bundle.training.session; import bundle.training.logits, "
        "bundle.release.verify, bundle.dataset.cifar10, benchmarks.run"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, timeout=120)


def test_an_environment_of_ones_own_finds_this_bundle_wherever_it_is(bundle):
    """Python's own folder of packages may hold another bundle's lib, as here, or none."""
    code = (
        "import bundle, os; print(bundle.__file__); os.chdir('/'); print(os.environ['PYTHONPATH'])"
    )
    (bundle.folder / "asks.mk").write_text(
        f'include Makefile\nasks:\n\t@$(BIN)/python -c "{code}"\n'
    )
    ended = subprocess.run(
        [
            "make",
            "--no-print-directory",
            "--file",
            "asks.mk",
            "asks",
            f"BIN={Path(sys.executable).parent}",
        ],
        cwd=bundle.folder,
        text=True,
        capture_output=True,
        timeout=60,
        check=True,
        env={**os.environ, "PYTHONPATH": "/elsewhere"},
    )
    assert ended.stdout.split() == [
        f"{bundle.folder}/bundle/__init__.py",
        f"{bundle.folder}:/elsewhere",
    ]


def test_an_environment_of_ones_own_without_python_is_one_line(bundle):
    ended = subprocess.run(
        ["make", "setup", "BIN=/nowhere"],
        cwd=bundle.folder,
        text=True,
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 2 and not (bundle.folder / ".venv").exists()
    assert len(ended.stderr.splitlines()) == 1 and "BIN=/nowhere: no python there" in ended.stderr


def folder(bundle, file: str) -> Path:
    """The results of a run file's only job."""
    (found,) = (
        path
        for path in bundle.folder.glob("results/*/study.json")
        if json.loads(path.read_text()).get("file") == file
    )
    return found.parent


def test_every_job_is_done_and_recorded(done):
    assert len(hashes(done)) == len(set(hashes(done).values())) == 2
    assert folder(done, "smoke").name == "smoke-epochs1-warmup_epochs0.25-seed7-train_images200"
    assert "results/studies/tiny/study.html" in done.said
    collected = json.loads((done.results("studies") / "tiny" / "study.json").read_text())
    assert collected["missing"] == [] and [job["file"] for job in collected["jobs"]] == [
        "quick",
        "smoke",
    ]
    assert [job["base"] for job in collected["jobs"]] == [None, "quick"]
    assert (
        not collected["plan"]["full"]
        and collected["jobs"][0]["notice"]
        and collected["jobs"][0]["seed"] == 7
    )


def test_figures_agree_with_the_predictions(done):
    place = folder(done, "smoke")
    found, arrays = json.loads((place / "study.json").read_text()), np.load(place / "study.npz")
    score = metrics.accuracy(arrays["predictions"], arrays["labels"])
    assert (found["test"]["accuracy"], found["test"]["images"]) == (score.accuracy, score.images)
    assert np.array_equal(arrays["logits_original"].argmax(1), arrays["predictions"])
    assert np.array_equal(arrays["logits_pad_center_crop"], arrays["logits_original"])
    flip = metrics.mcnemar(
        arrays["predictions"], arrays["logits_horizontal_flip"].argmax(1), arrays["labels"]
    )
    told = found["views"]["horizontal_flip"]
    assert (told["gained"], told["lost"]) == (flip.only_second, flip.only_first) and told[
        "p"
    ] == pytest.approx(flip.p)
    assert (
        np.trace(found["confusion"]) == score.correct and np.sum(found["confusion"]) == score.images
    )
    assert (
        found["settings"]["cutmix"] == 0
        and found["settings"]["epochs"] == found["train"]["epochs"] == 1
    )


def test_killed_study_goes_on_to_the_same_weights(bundle, done):
    """Killed once a job's first epoch is on disk; jobs and make at once, as a machine goes down."""
    prepare(bundle)
    process = subprocess.Popen(
        make(bundle, "-j2"),
        cwd=bundle.folder,
        env=bundle.environment,
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    until = time.monotonic() + 300
    while (
        not list(bundle.folder.glob("results/*/training*/history.jsonl"))
        and time.monotonic() < until
    ):
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert len(hashes(bundle)) < 2
    for job in ("quick@7", "smoke@7"):
        assert bundle.run("bundle", "study", "job", "tiny", job).returncode == 0
    assert hashes(bundle) == hashes(done)


def test_second_call_trains_nothing_and_one_failing_job_does_not_stop_the_other(done):
    """A lock that somebody holds; the page then names the job that is missing."""
    before = {path: path.stat().st_mtime_ns for path in folder(done, "quick").glob("training/*")}
    place = folder(done, "smoke")
    kept = place.with_name("kept")
    place.rename(kept)
    place.mkdir()
    with (place / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        ended = run(done)
    shutil.rmtree(place)
    kept.rename(place)
    assert ended.returncode != 0 and ended.stdout.count("done already") == 1
    assert {
        path: path.stat().st_mtime_ns for path in folder(done, "quick").glob("training/*")
    } == before
    assert "another command is working on results/" in ended.stderr
    assert "smoke@7" in (done.results("studies") / "tiny" / "study.html").read_text()


def test_choices_are_judged_on_the_holdout_and_nothing_is_trained_again(done, call):
    """The same trainings, scored on other images: those no training saw."""
    study_plan = done.folder / "params" / "studies"
    (study_plan / "chosen.yaml").write_text(
        PLAN.replace("[quick, smoke]", "[quick]") + "judged_on: holdout\n"
    )
    before = hashes(done)
    ended = call(done, "study", "job", "chosen", "quick@7")
    assert ended.returncode == 0 and "holdout accuracy" in ended.stdout, ended.stderr
    assert hashes(done) == before and "epoch 1" not in ended.stdout
    found, arrays = (
        json.loads((folder(done, "quick") / "study.json").read_text()),
        np.load(folder(done, "quick") / "study.npz"),
    )
    held = data.load("digits", None, 200, 5000).holdout
    assert np.array_equal(arrays["labels"], held.labels) and np.array_equal(
        arrays["index"], held.index
    )
    assert found["judged_on"] == "holdout" and found["test"]["images"] == len(held)
    assert call(done, "study", "collect", "chosen").returncode == 0
    page = (done.results("studies") / "chosen" / "study.html").read_text()
    assert (
        "Hold-out accuracy" in page
        and "the test set was not used" in page
        and "Test accuracy" not in page
    )
    # Judged on the test set: to be done again.
    assert call(done, "study", "collect", "tiny").returncode == 0
    assert (
        "quick@7"
        in json.loads((done.results("studies") / "tiny" / "study.json").read_text())["missing"]
    )


def test_a_job_done_elsewhere_is_taken_as_done(done, bundle, call):
    """Its study.json came back, its weights did not; another training's findings are not taken."""
    prepare(bundle)
    there = folder(done, "smoke")
    here = bundle.folder / "results" / there.name
    here.mkdir(parents=True)
    shutil.copy(there / "study.json", here)
    ended = call(bundle, "study", "job", "tiny", "smoke@7")
    assert ended.returncode == 0 and "done already" in ended.stdout, ended.stderr
    assert not (here / "training").exists()
    shutil.copytree(there / "training", here / "training")
    state = json.loads((here / "training" / "state.json").read_text())
    changed = json.dumps(state | {"weights_sha256": "0" * 64}).encode()
    files.write_sealed(here / "training" / "state.json", changed)
    ended = call(bundle, "study", "job", "tiny", "smoke@7")
    assert ended.returncode == 0 and "test accuracy" in ended.stdout, ended.stderr


def test_parameters_changed_since_are_named_and_left_out(done, call):
    """The run's file was edited since: its findings are not shown as those of what is there now."""
    path = done.folder / "params" / "smoke.yaml"
    before = path.read_text()
    path.write_text(before + "  label_smoothing: 0.1\n")
    try:
        ended = call(done, "study", "collect", "tiny")
    finally:
        path.write_text(before)
    assert ended.returncode == 0
    (line,) = [line for line in ended.stderr.splitlines() if "label_smoothing" in line]
    assert "done with other parameters" in line and "make study PLAN=tiny" in line
    assert (
        "smoke@7"
        in json.loads((done.results("studies") / "tiny" / "study.json").read_text())["missing"]
    )


def test_an_unfinished_training_that_follows_the_test_set_is_told(done, call):
    """With its epochs, below what is missing; one that does not follow it has nothing to tell."""
    plan = done.folder / "params" / "studies" / "tiny.yaml"
    plan.write_text(PLAN.replace("seeds: [7]", "seeds: [8]"))
    smoke = done.folder / "params" / "smoke.yaml"
    smoke.write_text(PLAIN + "  audit: true\n  epochs: 2\n")
    code = (
        "from bundle.study import jobs, plan\n"
        "from bundle.dataset import cifar10\n"
        "from bundle import paths\n"
        "from bundle.training import session\n"
        "for name in ('quick@8', 'smoke@8'):\n"
        "    parameters = plan.find_job(plan.read_plan('tiny'), name)\n"
        "    s = parameters.settings('03_train')\n"
        "    images = cifar10.load(s.dataset, s.train_images, s.holdout)\n"
        "    def stop(row): raise KeyboardInterrupt\n"
        "    try: session.train(s, images, paths.results(parameters.name), stop)\n"
        "    except KeyboardInterrupt: pass\n"
    )
    try:
        subprocess.run(
            [sys.executable, "-c", code], cwd=done.folder, env=done.environment, check=True
        )
        assert call(done, "study", "collect", "tiny").returncode == 0
        collected = json.loads((done.results("studies") / "tiny" / "study.json").read_text())
        page = (done.results("studies") / "tiny" / "study.html").read_text()
    finally:
        plan.write_text(PLAN)
        smoke.write_text(PLAIN)
    (told,) = collected["unfinished"]
    assert (told["file"], told["seed"], told["epochs"]) == ("smoke", 8, 1)
    (accuracy,) = told["audit"]["test_accuracy"]
    assert 0 <= accuracy <= 1 and f"{accuracy:.2%} so far" in page


# The plan


def test_job_is_what_run_all_would_do():
    plan = plans.Plan("p", "P", ("as_run",), (7,), epochs=0.05, train_images=8000)
    told = plans.parameters_of(plan, "as_run", 7)
    text = "train_images=8000 03_train.epochs=5 03_train.phase2_epochs=5 03_train.milestones=[2,4]"
    assert told == params.load("as_run", text, 7)


def test_what_a_plan_sets_goes_to_every_run():
    plan = plans.Plan(
        "p", "P", ("as_run", "no_cutmix"), (42,), set="widths=[8,8,8,8] 03_train.batch_size=64"
    )
    assert not plan.full
    for run in plan.runs:
        told = plans.parameters_of(plan, run, 42)
        assert told == params.load(run, "widths=[8,8,8,8] 03_train.batch_size=64", 42)
        assert told.settings("03_train").epochs == params.load(run).settings("03_train").epochs
    told = notice_of(vars(plan) | {"full": plan.full}, [])
    assert "every run with widths=[8,8,8,8] 03_train.batch_size=64" in told


def test_choices_keep_the_holdout_out_of_training():
    plan = plans.read_plan("screen_cpu")
    assert {plans.find_job(plan, job).settings("03_train").holdout for job in plan.jobs()} == {5000}
    assert not plan.full and params.load("cpu").settings("03_train").holdout == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    ["full", "best", "screen_networks", "screen_best", "screen_mark", "screen_cpu", "screen_small"],
)
def test_every_plan_has_a_tiny_form(name):
    plan, whole = plans.read_plan(name, tiny=True), plans.read_plan(name)
    assert (
        plan.name == f"{name}-tiny"
        and plan.runs == whole.runs
        and len(plan.seeds) == 1
        and not plan.full
    )
    for job in plan.jobs():
        small, usual = (plans.find_job(one, job).settings("03_train") for one in (plan, whole))
        assert schedule.total_epochs(small) <= 2 and small.train_images == 512
        assert (small.blocks, small.widths, small.batch_size) == (
            usual.blocks,
            usual.widths,
            usual.batch_size,
        )
        asked = plans.find_job(plan, job).settings("04_predict_tta")
        assert small.holdout_images == asked.holdout_images == asked.test_images == 128


def test_a_teacher_is_of_the_same_study():
    plan = plans.read_plan("screen_mark")
    teacher, pupil = (plans.find_job(plan, f"{run}@42") for run in ("best", "best_distilled"))
    assert pupil.settings("03_train").teacher == teacher.name != "best"
    assert (
        plans.find_job(plans.Plan("p", "P", ("best_distilled",), (42,)), "best_distilled@42")
        .settings("03_train")
        .teacher
        == "best"
    )
    seeds = plans.Plan("p", "P", ("best_distilled",), (43,))
    assert plans.find_job(seeds, "best_distilled@43").settings("03_train").teacher == "best-seed43"


def test_shipped_plans_are_the_report_s_claims():
    full, small = plans.read_plan("full"), plans.read_plan("small")
    assert full.full and not small.full and full.runs == small.runs and len(full.seeds) == 3
    assert len(small.jobs()) <= 6
    for job in full.jobs():
        settings = plans.find_job(full, job).settings("03_train")
        assert settings.train_images == 0 and settings.holdout == 0 and settings.epochs == 100
    assert plans.find_job(full, "as_run@43").settings("03_train").phase2_epochs == 100


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
        (
            "runs: [smoke]\nseeds: [1]\njudged_on: train\n",
            "judged_on = 'train': must be one of test, holdout",
        ),
        ("runs: [smoke]\nseeds: [1]\ntiny: true\n", "unknown key 'tiny'"),
        ("runs: [smoke]\nseeds: [1]\nset: [widths]\n", "set = ['widths']: write text as for SET="),
        (
            "runs: [smoke]\nseeds: [1]\nset: 03_train.batch_sise=2\n",
            "set: SET: 03_train.batch_sise = 2: unknown key",
        ),
        (
            "runs: [smoke]\nseeds: [1]\nset: 03_train.epochs=2\n",
            "set: 03_train.epochs: a plan says that",
        ),
        ("runs: [smoke]\nseeds: [1]\nset: seed=2\n", "set: seed: a plan says that"),
        ("runs: [smoke\n", "not valid YAML"),
        ("runs: [smoke]\nseeds: [1]\nruns: [quick]\n", "key 'runs' is given twice"),
        ("runs: [smoke]\nseeds: [1]\njudged_on: [test]\n", "judged_on = ['test']: must be one of"),
        ("- smoke\n", "must hold at least"),
    ],
)
def test_mistake_in_a_plan_is_one_line(tmp_path, monkeypatch, text, said):
    monkeypatch.setattr("bundle.paths.PARAMS", tmp_path)
    (tmp_path / "studies").mkdir()
    (tmp_path / "studies" / "mine.yaml").write_text(text)
    with pytest.raises(UserError) as caught:
        plans.read_plan("mine")
    message = str(caught.value)
    assert "params/studies/mine.yaml" in message and said in message and "\n" not in message


def test_unknown_plan_run_and_job_are_one_line():
    with pytest.raises(UserError, match=r"PLAN=smal: no file .*did you mean 'small'"):
        plans.read_plan("smal")
    with pytest.raises(UserError, match=r"small\.yaml \(did you mean 'as_run@42'\?\)"):
        plans.find_job(plans.read_plan("small"), "as_run@4")
    with pytest.raises(UserError, match=r"no file params/none\.yaml"):
        plans.find_job(plans.Plan("p", "P", ("none",), (1,)), "none@1")
