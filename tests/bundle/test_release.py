"""Releases: what is rounded and written, and a bundle that uses one instead of training."""

import json
import os
import re
import shutil
import subprocess
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import safetensors
import torch
import yaml

from bundle import files, paths
from bundle.pages import publish
from bundle.release import pages, release, render
from bundle.report import seeds, sentences
from bundle.runs.params import RunParameters
from bundle.training import alike, identity, logits, outcome, session, store, weights
from bundle.training import released as training_released
from lib import data, plots, predict
from lib.errors import UserError
from lib.settings import PredictTta, Train
from tests.conftest import Bundle

TINY = Train(
    run="tiny",
    dataset="digits",
    blocks=(1, 1),
    widths=(8, 16),
    strides=(1, 2),
    train_images=200,
    epochs=3,
    batch_size=20,
    learning_rate=0.05,
    cutmix=0.0,
    device="cpu",
    threads=1,
)
PREDICT = PredictTta(
    run="tiny", device="cpu", threads=1, precision="fp32", combination="flip", beside="image"
)
PARAMETERS = RunParameters(
    "tiny", "tiny", {"03_train": asdict(TINY), "04_predict_tta": asdict(PREDICT)}
)


@pytest.fixture(scope="module")
def digits() -> data.Dataset:
    return data.load("digits", None, TINY.train_images, TINY.holdout)


@pytest.fixture(scope="module")
def trained(digits, tmp_path_factory) -> Path:
    """A results folder with a finished training, made once."""
    results = tmp_path_factory.mktemp("trained") / "results"
    session.train(TINY, digits, results / "tiny")
    return results


@pytest.fixture
def results(trained, tmp_path, monkeypatch) -> Path:
    """A results folder of its own with that training, where lib then looks."""
    folder = tmp_path / "results"
    shutil.copytree(trained, folder)
    monkeypatch.setattr("bundle.paths.RESULTS", folder)
    return folder


@pytest.fixture
def rounded(results, digits) -> Path:
    """The rounded training, released; the run that it was made of is gone, as in a fresh clone."""
    stage = results / "released" / "tiny" / "training"
    stage.mkdir(parents=True)
    release.round_weights(PARAMETERS, training_released.load(results / "tiny"), digits, stage)
    shutil.rmtree(results / "tiny")
    return stage


def refuse_to_train(row):
    pytest.fail("an epoch was trained")


# The file


def test_weights_are_those_of_half_bit_for_bit_and_counters_stay(results, rounded, trained):
    saved = torch.load(trained / "tiny/training/weights.pt", weights_only=True)
    with safetensors.safe_open(rounded / weights.FILE, "pt") as file:
        found = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    assert found.keys() == saved["model"].keys()
    for name, tensor in saved["model"].items():
        wanted = tensor.half() if tensor.is_floating_point() else tensor
        assert found[name].dtype == wanted.dtype and torch.equal(found[name], wanted), name
    assert (
        found["bn.running_var"].dtype == torch.float16
        and found["bn.num_batches_tracked"].dtype == torch.int64
    )
    assert any(
        not torch.equal(found[name].float(), tensor) for name, tensor in saved["model"].items()
    )


def test_the_file_alone_gives_the_network_back(rounded, trained, digits):
    saved = torch.load(trained / "tiny/training/weights.pt", weights_only=True)
    unpacked = weights.unpack(rounded / weights.FILE)
    assert {key: unpacked[key] for key in saved if key not in ("model", "statistics")} == {
        key: json.loads(json.dumps(saved[key]))
        for key in saved
        if key not in ("model", "statistics")
    }
    network, statistics, classes = weights.read_network(rounded / weights.FILE)
    assert statistics == digits.statistics and classes == list(digits.classes)
    by_hand = identity.architecture(files.read_json(rounded / "state.json"))
    by_hand.load_state_dict(
        {
            name: one.half().float() if one.is_floating_point() else one
            for name, one in saved["model"].items()
        }
    )
    images = digits.test.pixels[:20]
    assert torch.equal(
        predict.logits(network, images, statistics), predict.logits(by_hand, images, statistics)
    )
    assert (
        store.weights_digest(network) == files.read_json(rounded / "state.json")["weights_sha256"]
    )


def test_the_same_weights_give_the_same_file(rounded):
    content = weights.unpack(rounded / weights.FILE)
    content["model"] = weights.rounded(content["model"])
    assert weights.pack(content) == weights.pack(content) == (rounded / weights.FILE).read_bytes()


def test_what_float16_cannot_hold_is_refused():
    with pytest.raises(UserError, match=r"weights: bn.bias does not fit float16 \(largest 70000\)"):
        weights.rounded({"bn.bias": torch.tensor([1.0, -70000.0])})
    kept = weights.rounded({"count": torch.tensor(70000), "small": torch.tensor([1e-9])})
    assert int(kept["count"]) == 70000 and kept["small"].item() == 0


def test_too_large_a_file_is_refused():
    saved = {"model": {"weight": torch.zeros(weights.LIMIT_BYTES // 2, dtype=torch.float16)}}
    with pytest.raises(
        UserError, match=r"10\.0 MiB, at most 10 may be committed; release it with LOGITS=1"
    ) as caught:
        weights.pack(saved)
    assert "\n" not in str(caught.value)
    saved["model"]["weight"] = saved["model"]["weight"][:-1000]
    assert len(weights.pack(saved)) <= weights.LIMIT_BYTES


def test_the_largest_network_allowed_fits():
    """Five million parameters in float16 are 9.54 MiB; statistics and metadata must fit beside."""
    assert weights.LIMIT_BYTES > 5_000_000 * 2 + 200_000


@pytest.mark.parametrize("content", [b"", b"no weights at all, but long enough"])
def test_damaged_weights_are_one_line(tmp_path, content):
    path = tmp_path / weights.FILE
    path.write_bytes(content)
    with pytest.raises(UserError, match="not the weights of a release") as caught:
        weights.unpack(path)
    assert "\n" not in str(caught.value)


def test_rounding_is_counted_by_hand():
    before, after, labels = (
        torch.tensor([1, 2, 3, 4]),
        torch.tensor([1, 2, 0, 9]),
        torch.tensor([1, 2, 3, 9]),
    )
    found = release.rounding(before, after, labels)
    assert found == {"images": 4, "before": 0.75, "after": 0.75, "changed": 2}


# Taking a release


def test_a_release_is_taken_and_nothing_is_trained(results, rounded, digits):
    training = training_released.train_or_take(TINY, digits, results / "tiny", refuse_to_train)
    released = files.read_json(rounded / "state.json")
    assert training.summary == released == files.read_json(results / "tiny/training/state.json")
    assert store.weights_digest(training.model) == released["weights_sha256"]
    assert training.summary["released"]["weights_sha256"] != released["weights_sha256"]
    assert [row["epoch"] for row in training.history] == [1, 2, 3]
    again = training_released.train_or_take(TINY, digits, results / "tiny", refuse_to_train)
    assert again.summary == released
    told = sentences.origin(outcome.of_training(training), training.summary["compute"])
    assert (
        "trained elsewhere: on a CPU" in told
        and "rounded to float16" in told
        and "predictions changed" in told
    )


@pytest.mark.parametrize("change", [{"learning_rate": 0.06}, {"seed": 7}])
def test_other_parameters_train(results, rounded, digits, change):
    training = training_released.train_or_take(
        replace(TINY, epochs=3, **change), digits, results / "tiny"
    )
    assert "released" not in training.summary and (results / "tiny/training/weights.pt").is_file()
    assert {key: training.summary["parameters"][key] for key in change} == change


def test_other_data_trains(results, rounded, digits):
    other = replace(digits, checksum="0" * 64)
    assert "released" not in training_released.train_or_take(TINY, other, results / "tiny").summary


def test_retrain_trains_and_what_was_trained_here_stays(results, rounded, digits):
    training_released.train_or_take(TINY, digits, results / "tiny", refuse_to_train)
    rows = []
    own = training_released.train_or_take(TINY, digits, results / "tiny", rows.append, retrain=True)
    assert len(rows) == 3 and "released" not in own.summary
    assert (
        own.summary["weights_sha256"]
        == files.read_json(rounded / "state.json")["released"]["weights_sha256"]
    )
    kept = training_released.train_or_take(TINY, digits, results / "tiny", refuse_to_train)
    assert "released" not in kept.summary and alike.newer(results / "tiny", TINY) == []


def test_a_training_under_way_goes_on_beside_a_release(results, rounded, digits):
    def stop(row):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        training_released.train_or_take(TINY, digits, results / "tiny", stop, retrain=True)
    rows = []
    assert (
        "released"
        not in training_released.train_or_take(TINY, digits, results / "tiny", rows.append).summary
    )
    assert [row["epoch"] for row in rows] == [2, 3]


def test_a_new_release_is_taken(results, rounded, digits):
    training_released.train_or_take(TINY, digits, results / "tiny", refuse_to_train)
    assert alike.newer(results / "tiny", TINY) == []
    summary = files.read_json(rounded / "state.json")
    files.write_json(rounded / "state.json", {**summary, "seconds": 1234.5})
    (reason,) = alike.newer(results / "tiny", TINY)
    assert reason.endswith("released/tiny/training was released anew")
    assert alike.newer(results / "tiny", replace(TINY, epochs=9)) == []  # it would not be taken
    assert (
        training_released.train_or_take(TINY, digits, results / "tiny", refuse_to_train).summary[
            "seconds"
        ]
        == 1234.5
    )
    assert alike.newer(results / "tiny", TINY) == []


def test_weights_of_another_release_are_refused(results, rounded, digits):
    summary = files.read_json(rounded / "state.json")
    files.write_json(rounded / "state.json", {**summary, "weights_sha256": "0" * 64})
    with pytest.raises(UserError, match=r"weights and state\.json are not of one release"):
        training_released.train_or_take(TINY, digits, results / "tiny", refuse_to_train)
    assert not (results / "tiny/training").exists()


def test_a_release_without_weights_and_logits_is_only_a_record(results, rounded, digits):
    (rounded / weights.FILE).unlink()
    assert "released" not in training_released.train_or_take(TINY, digits, results / "tiny").summary


# Logits in place of weights


@pytest.fixture
def without_weights(results, digits) -> Path:
    """The run's training with logits and without weights, as it comes from another machine."""
    training = results / "tiny" / "training"
    logits.write(
        training / training_released.LOGITS,
        training_released.load(results / "tiny"),
        digits,
        PREDICT,
    )
    (training / "weights.pt").rename(training / "weights.kept")
    return training


def test_saved_logits_are_those_of_the_network(results, without_weights, digits, trained):
    network = logits.FromNetwork(identity.load_finished(trained / "tiny"), digits, PREDICT)
    saved = logits.source(training_released.load(results / "tiny"), digits, PREDICT)
    assert (network.kind, saved.kind) == ("weights", "logits") and "not here" in saved.told
    for part, images in (("test", digits.test), ("holdout", digits.holdout)):
        ours, theirs = (
            saved.views(part, images, PREDICT.views),
            network.views(part, images, PREDICT.views),
        )
        assert list(ours) == list(theirs) and all(
            torch.equal(ours[view], theirs[view]) for view in ours
        )
        assert not torch.equal(ours["original"], ours["gaussian_blur"])
    some = data.subset(digits.test, 50)
    ours, theirs = (
        one.views("test", some, ["original", "pad_center_crop"]) for one in (saved, network)
    )
    for view in ours:
        torch.testing.assert_close(ours[view], theirs[view], rtol=1e-4, atol=1e-4)
    assert saved.beside(digits.test, "image") == network.beside(digits.test, "image")
    assert saved.beside(some, "") is None


@pytest.mark.slow
@pytest.mark.parametrize(
    ("ask", "said"),
    [
        (
            lambda saved, digits: saved.views("test", digits.test, ["shift_up_left"]),
            "the view shift_up_left",
        ),
        (lambda saved, digits: saved.beside(digits.test, "pixel"), "the normalisation 'pixel'"),
        (lambda saved, digits: saved.submit("set.pkl", "flip", Path("x")), "a shifted set"),
        (
            lambda saved, digits: saved.views("holdout", digits.test, ["original"]),
            "these holdout images",
        ),
    ],
)
def test_what_was_not_saved_is_one_line(results, without_weights, digits, ask, said):
    saved = logits.source(training_released.load(results / "tiny"), digits, PREDICT)
    with pytest.raises(UserError, match=re.escape(said)) as caught:
        ask(saved, digits)
    assert "RETRAIN=1" in str(caught.value) and "\n" not in str(caught.value)


def test_logits_of_other_weights_are_refused(results, without_weights, digits):
    summary = files.read_json(without_weights / "state.json")
    changed = json.dumps({**summary, "weights_sha256": "0" * 64}).encode()
    files.write_sealed(without_weights / "state.json", changed)
    with pytest.raises(UserError, match=r"of other weights than state\.json"):
        logits.source(training_released.load(results / "tiny"), digits, PREDICT)


def test_logits_beside_weights_spare_the_prediction_as_far_as_they_go(results, rounded, digits):
    """A release with both is taken with both; what its logits do not hold, the network computes."""
    network = training_released.train_or_take(TINY, digits, results / "tiny", refuse_to_train)
    logits.write(rounded / training_released.LOGITS, network, digits, PREDICT)
    shutil.rmtree(results / "tiny")
    taken = training_released.train_or_take(TINY, digits, results / "tiny", refuse_to_train)
    saved = logits.source(taken, digits, PREDICT)
    assert (
        taken.model is not None and saved.kind == "logits" and "saved_logits: false" in saved.told
    )
    own = logits.source(taken, digits, replace(PREDICT, saved_logits=False))
    assert own.kind == "weights"
    ours, theirs = (one.views("test", digits.test, PREDICT.views) for one in (saved, own))
    assert all(torch.equal(ours[view], theirs[view]) for view in PREDICT.views)
    for change in (
        {"views": ("original", "shift_up_left")},
        {"combination": "shifts"},
        {"beside": "pixel"},
        {"shifted_set": "set.pkl"},
    ):
        assert logits.source(taken, digits, replace(PREDICT, **change)).kind == "weights", change


def test_a_training_without_weights_is_finished_and_tells_it(results, without_weights, digits):
    training = training_released.train_or_take(TINY, digits, results / "tiny", refuse_to_train)
    assert training.model is None and len(training.history) == 3
    found = outcome.of_training(training)
    (without_weights / "weights.kept").rename(without_weights / "weights.pt")
    assert (
        found["tflop"] == outcome.of_training(training_released.load(results / "tiny"))["tflop"] > 0
    )
    assert not found["weights"] and "the weights are not here" in sentences.origin(
        found, training.summary["compute"]
    )


def test_a_teacher_without_weights_is_refused_in_one_line(results, without_weights, digits):
    with pytest.raises(
        UserError, match=r"results/tiny/training has logits but no weights; make run-all RUN=tiny"
    ):
        training_released.train_or_take(replace(TINY, teacher="tiny"), digits, results / "pupil")


# The release itself


def test_an_interrupted_release_leaves_the_old_one(tmp_path, monkeypatch):
    fresh, target = tmp_path / "fresh", tmp_path / "released" / "run"
    for folder, text in ((fresh, "new"), (target, "old")):
        folder.mkdir(parents=True)
        (folder / "metrics.json").write_text(text)
    real = Path.rename

    def interrupted(self, other):
        if self == fresh:
            raise KeyboardInterrupt
        return real(self, other)

    monkeypatch.setattr(Path, "rename", interrupted)
    with pytest.raises(KeyboardInterrupt):
        files.exchange(fresh, target)
    assert (target / "metrics.json").read_text() == "old"
    monkeypatch.setattr(Path, "rename", real)
    files.exchange(fresh, target)
    assert (target / "metrics.json").read_text() == "new" and list(tmp_path.iterdir()) == [
        target.parent
    ]


def test_an_unfinished_run_is_one_line(results, monkeypatch):
    (results / "tiny.yaml").touch()
    monkeypatch.setattr(paths, "PARAMS", results)
    with pytest.raises(
        UserError,
        match=r"results/tiny: no finished run there to release; make run-all RUN=tiny first",
    ):
        release.finished(PARAMETERS)


def test_a_record_needs_no_report(results):
    digest = files.read_json(results / "tiny/training/state.json")["weights_sha256"]
    metrics = {"train": {"weights_sha256": digest}, "test": {}, "confusion": {}}
    files.write_json(results / "tiny/metrics.json", metrics)
    with pytest.raises(UserError, match="no finished run there"):
        release.finished(PARAMETERS)
    assert release.finished(PARAMETERS, record=True)[0].summary["weights_sha256"] == digest
    files.write_json(results / "tiny/metrics.json", {**metrics, "report": {}})
    assert release.finished(PARAMETERS)
    del metrics["confusion"]
    files.write_json(results / "tiny/metrics.json", metrics)
    with pytest.raises(UserError, match="no finished run there"):
        release.finished(PARAMETERS, record=True)


def test_metrics_of_another_training_are_refused(results):
    metrics = {"train": {"weights_sha256": "0" * 64}, "test": {}, "report": {}}
    files.write_json(results / "tiny/metrics.json", metrics)
    with pytest.raises(UserError, match="its metrics are not those of its training"):
        release.finished(PARAMETERS)


def test_a_taken_training_is_not_released_again(results, rounded, digits):
    training = training_released.train_or_take(TINY, digits, results / "tiny", refuse_to_train)
    metrics = {
        "train": {"weights_sha256": training.summary["weights_sha256"]},
        "test": {},
        "report": {},
    }
    files.write_json(results / "tiny/metrics.json", metrics)
    with pytest.raises(UserError, match="was itself taken from a release"):
        release.finished(PARAMETERS)


def seeded(folder, seed, accuracy, learning_rate=0.05, **more):
    made = {
        "seed": seed,
        "dataset": "digits",
        "settings": {**alike.parameters_of(TINY), "seed": seed, "learning_rate": learning_rate},
        "test": {"accuracy": accuracy},
        **more,
    }
    folder.mkdir(parents=True, exist_ok=True)
    files.write_json(folder / "metrics.json", made)
    return made


def test_seeds_are_those_of_the_same_parameters_and_data(results):
    own = seeded(results / "tiny", 42, 0.5)
    seeded(results / "tiny-seed1", 1, 0.1)
    seeded(results / "tiny-seed2", 2, 0.2, learning_rate=0.06)
    seeded(results / "tiny-seed4", 4, 0.4, dataset="cifar10")
    seeded(results / "tiny-seed3", 3, 0.35)
    seeded(results / "released" / "tiny-seed3", 3, 0.3)  # a release goes first
    found = seeds.seeds_of(own)
    assert {seed: one["test"]["accuracy"] for seed, one in found.items()} == {
        1: 0.1,
        3: 0.3,
        42: 0.5,
    }
    # By hand: the mean of 10, 30 and 50 is 30, their standard deviation 20.
    assert seeds.mean(found) == "30.00%, SD 20.00 points"
    alone = seeded(results / "other", 5, 0.5, learning_rate=0.07)
    assert seeds.seeds_of(alone) == {5: alone}


# Rendered anew from its record

PHOTOGRAPH = f'<svg><g id="{plots.PHOTOGRAPHS}"></g></svg>'


def test_figures_of_the_dataset_and_of_other_notebooks_stay_behind(tmp_path):
    source = tmp_path / "figures"
    source.mkdir()
    plain = "<svg></svg>"
    for name, text in (("report_curves", plain), ("recall", plain), ("report_samples", PHOTOGRAPH)):
        (source / f"{name}.svg").write_text(text)
        (source / f"{name}.pdf").write_bytes(b"%PDF")
    pages.figures(source, tmp_path / "released")
    assert sorted(path.name for path in (tmp_path / "released").iterdir()) == [
        "report_curves.pdf",
        "report_curves.svg",
    ]


def test_a_pdf_has_the_date_of_its_training_and_no_byte_is_moved():
    before = b"<</CreationDate (D:20261126015400+00'00')\n/ModDate (D:20261126015400+00'00')>>"
    after = pages.dated(before, "2026-11-24T07:08:09.123+00:00")
    assert len(after) == len(before) and after.count(b"(D:20261124070809+00'00')") == 2


@pytest.mark.parametrize(
    ("run", "file"),
    [
        ("cpu", "cpu"),
        ("cpu-seed43", "cpu"),
        ("cpu_sgd-epochs2", "cpu_sgd"),
        ("gone-seed1", "gone-seed1"),
    ],
)
def test_a_released_run_is_of_a_parameter_file(run, file):
    assert render.file_of(run) == file


def test_the_report_keeps_the_parameters_of_its_record():
    told = render.parameters("cpu-seed43", {"report": {"author": "A. Name", "figures": 4}})
    assert told.file == "cpu" and told.settings("06_report").author == "A. Name"
    assert told.settings("06_report").run == "cpu-seed43"


def test_a_report_that_fails_leaves_the_release_as_it_was(results, monkeypatch):
    folder = results / "released" / "tiny"
    (folder / "training").mkdir(parents=True)
    (folder / "figures").mkdir()
    seeded(folder, 42, 0.5, train={})
    (folder / "report.html").write_text("old")

    def fail(name, parameters):
        assert paths.results("tiny") == results / ".rendering-tiny-run" / "tiny"
        assert (paths.RESULTS / "released" / "tiny" / "metrics.json").is_file()
        raise files.Failed("cell 3")

    monkeypatch.setattr(render.execute, "run_one", fail)
    with pytest.raises(files.Failed, match="cell 3"):
        render.render("tiny")
    assert (folder / "report.html").read_text() == "old" and results == paths.RESULTS
    assert not (results / ".rendering-tiny").exists() and "BUNDLE_RESULTS" not in os.environ


def test_what_is_not_released_is_one_line(results):
    with pytest.raises(UserError, match=r"released/tiny: no released run there; make release RUN="):
        render.render("tiny")


def test_no_released_file_shows_images_of_the_dataset():
    """A report's only pictures are charts: photographs are PNG or WebP, or marked."""
    folder = paths.ROOT / "results" / "released"
    found = [path for path in folder.rglob("*") if path.is_file()]
    assert len(found) > 20
    for path in found:
        assert path.suffix not in (".png", ".webp", ".jpg", ".pt"), path
        assert path.suffix != ".npz" or path.name == training_released.LOGITS, path
        if path.suffix in (".html", ".svg", ".md"):
            text = path.read_text(encoding="utf-8")
            assert f'{plots.PHOTOGRAPHS}"' not in text and "data-photographs" not in text, path
            assert not re.search(r"data:image/(webp|jpeg)", text), path


@pytest.mark.slow
def test_released_reports_are_those_of_the_present_code():
    """`python -m bundle render` renders them anew from their records, in two minutes."""
    found = [training_released.folder(run) / "report.html" for run in render.released_runs()]
    assert sum(page.is_file() for page in found) >= 4
    for run in filter(Path.is_file, found):
        page = run.read_text(encoding="utf-8")
        assert f'name="rendered-by" content="{pages.rendered_by()}"' in page, run
        assert "data:image" not in page, run  # charts are SVG; photographs are not released


# From end to end, on the smoke run


@pytest.fixture(scope="module")
def released(finished) -> Bundle:
    """The bundle with a finished smoke run, released with its weights and their logits."""
    done = finished.run("bundle", "release", "smoke", "--weights", "--logits")
    assert done.returncode == 0, done.stdout + done.stderr
    return finished


@pytest.fixture(scope="module")
def clone(released, tmp_path_factory) -> Bundle:
    """A repository with that release and without the run, in which it then ran to its mistakes."""
    made = Bundle(tmp_path_factory.mktemp("clone") / "bundle")
    shutil.copytree(released.results() / "../released", made.folder / "results" / "released")
    shutil.copy(paths.ROOT / ".gitignore", made.folder)
    git(made, "init", "--quiet")
    git(made, "add", "--all")
    git(
        made, "-c", "user.name=a", "-c", "user.email=a@b.c", "commit", "--quiet", "--message", "all"
    )
    done = made.run("bundle", "run", "smoke", "--until", "05_confusion")
    assert done.returncode == 0, done.stdout + done.stderr
    (made.folder / "results" / "said.txt").write_text(done.stdout)
    return made


def git(bundle, *arguments: str) -> str:
    return subprocess.run(
        ["git", *arguments], cwd=bundle.folder, check=True, capture_output=True, text=True
    ).stdout


def metrics_in(folder: Path) -> dict:
    return json.loads((folder / "metrics.json").read_text())


def test_a_release_holds_what_it_says_and_no_more(released):
    folder = released.folder / "results/released/smoke"
    printed = ["report.pdf"] if publish.find_chromium() else []
    assert sorted(path.name for path in folder.iterdir()) == [
        "SHA256SUMS",
        "figures",
        "metrics.json",
        "model_card.md",
        "report.html",
        *printed,
        "training",
    ]
    names = sorted(path.name for path in (folder / "training").iterdir())
    assert names == ["history.jsonl", "logits.npz", "state.json", "weights.safetensors"]
    assert {path.suffix for path in (folder / "figures").iterdir()} == {".pdf", ".svg"}
    page = (folder / "report.html").read_text()
    assert not re.search(r'<a [^>]*href="(?!#|https?:)', page)  # the other pages are not there
    assert "Not trained by this run" in page
    assert "trained elsewhere: on a CPU" in page and "rounded to float16" in page
    assert "run smoke, " in page  # by name, not by where it was measured
    assert not list((released.folder / "results").glob(".releasing*"))


def test_what_is_released_was_measured_with_the_rounded_weights(released):
    folder = released.folder / "results/released/smoke"
    metrics, summary = metrics_in(folder), files.read_json(folder / "training/state.json")
    original = metrics_in(released.results())
    assert (
        metrics["train"]["weights_sha256"]
        == summary["weights_sha256"]
        != original["train"]["weights_sha256"]
    )
    assert metrics["train"]["released"] == summary["released"]
    change = summary["released"]["rounding"]
    assert (change["before"], change["after"]) == (
        original["test"]["accuracy"],
        metrics["test"]["accuracy"],
    )
    before, after = (
        np.load(released.folder / "results" / run / "predictions.npz")
        for run in ("smoke", "smoke-released")
    )
    plain = [one["logits"][list(one["views"]).index("original")] for one in (before, after)]
    assert change["changed"] == (plain[0].argmax(1) != plain[1].argmax(1)).sum()
    assert not np.array_equal(*plain) and np.abs(plain[0] - plain[1]).max() < 0.1


def test_the_card_says_what_metrics_say(released):
    folder = released.folder / "results/released/smoke"
    metrics, text = metrics_in(folder), (folder / "model_card.md").read_text()
    test = metrics["test"]
    _, front, body = text.split("---\n", 2)
    found = yaml.safe_load(front)
    assert "safetensors" in found["tags"]
    assert found["license"] == "mit" and found["model-index"][0]["name"] == "smoke"
    assert found["model-index"][0]["results"][0]["metrics"][0]["value"] == test["accuracy"]
    interval = f"{test['accuracy']:.2%} ({test['low']:.2%} to {test['high']:.2%})"
    assert body.count(interval) == 2 + (metrics["tta"]["combination"] != "original") * (
        test["accuracy"] == test["tta_accuracy"]
    )
    change = metrics["train"]["released"]["rounding"]
    for said in (
        f"{metrics['parameters']:,} parameters",
        "Not full CIFAR-10:** handwritten digits",
        "| epochs | 2 |",
        f"{change['changed']} of 200 predictions changed",
        metrics["data_checksum"],
        "MIT",
        "@software",
        metrics["environment"]["precision"],
        "not for deployment",
    ):
        assert said in body, said


def test_the_card_shows_figures_with_words_and_leads_to_the_report(released):
    folder = released.folder / "results/released/smoke"
    text = (folder / "model_card.md").read_text()
    pictures = re.findall(r"!\[([^]]*)\]\(([^)]*)\)", text)
    assert {file for _, file in pictures} >= {"figures/report_curves.svg"}
    assert all(len(alt) > 20 and (folder / file).is_file() for alt, file in pictures)
    links = re.findall(r"\]\((?!https?:|#)([^)]*)\)", text)
    assert "report.html" in links and all((folder / link).is_file() for link in links)


def test_the_cards_lines_run(released):
    text = (released.folder / "results/released/smoke/model_card.md").read_text()
    (lines,) = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    (released.folder / "try_the_card.py").write_text(lines)
    done = released.run("try_the_card")
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(r"\[('\d', ){4}'\d'\]", done.stdout.strip().splitlines()[-1])


def test_a_clone_runs_the_released_training(clone, released):
    assert (
        "(03_train): done" in clone.said
        and "epoch 1" not in clone.said
        and "epoch 2" not in clone.said
    )
    ours, theirs = metrics_in(clone.results()), metrics_in(clone.folder / "results/released/smoke")
    assert ours["train"]["weights_sha256"] == theirs["train"]["weights_sha256"]
    assert (ours["test"], ours["confusion"]) == (theirs["test"], theirs["confusion"])
    assert (ours["predicted_from"], theirs["predicted_from"]) == ("logits", "weights")
    assert (
        "logits that are kept beside the weights"
        in (clone.results() / "04_predict_tta.html").read_text()
    )
    assert re.search(
        r'<div class="alarm">[^<]*trained elsewhere',
        (clone.results() / "03_train.html").read_text(),
    )
    text = (clone.results() / "03_train.html").read_text()
    assert "trained elsewhere: on a CPU" in text and "rounded to float16" in text


def test_running_leaves_the_clone_clean(clone):
    assert git(clone, "status", "--porcelain") == ""
    assert len(git(clone, "ls-files", "results").splitlines()) > 10


def test_status_and_verify_of_a_released_run(clone):
    _first, *lines = clone.run("bundle", "status", "smoke").stdout.splitlines()
    assert len(lines) == 8 and sum(line.endswith(" up to date") for line in lines) == 5
    verified = clone.run("bundle", "verify", "smoke")
    assert verified.returncode == 0 and "smoke: verified, bit for bit" in verified.stdout, (
        verified.stderr
    )


def test_edited_parameters_train_and_undone_take_the_release_again(clone):
    path = clone.folder / "params/smoke.yaml"
    original = path.read_text()
    path.write_text(original.replace("learning_rate: 0.05", "learning_rate: 0.04"))
    done = clone.run("bundle", "run", "smoke", "--until", "03_train")
    assert done.returncode == 0 and "epoch 2/2" in done.stdout, done.stderr
    assert "trained elsewhere" not in (clone.results() / "03_train.html").read_text()
    path.write_text(original)
    done = clone.run("bundle", "run", "smoke", "--until", "03_train")
    assert done.returncode == 0 and "epoch 2" not in done.stdout, done.stderr
    assert "trained elsewhere" in (clone.results() / "03_train.html").read_text()


def test_released_logits_give_the_same_predictions(released, tmp_path):
    """The logits of the original, unrounded run, released in place of its weights."""
    done = released.run("bundle", "release", "smoke", "--logits", "--record")
    assert done.returncode == 0, done.stderr
    folder = released.folder / "results/released/smoke"
    assert {path.name for path in folder.iterdir()} == {
        "SHA256SUMS", "metrics.json", "model_card.md", "training",
    }  # fmt: skip
    assert sorted(path.name for path in (folder / "training").iterdir()) == [
        "history.jsonl",
        "logits.npz",
        "state.json",
    ]
    assert (folder / "metrics.json").read_bytes() == (
        released.results() / "metrics.json"
    ).read_bytes()
    card = (folder / "model_card.md").read_text()
    assert "- safetensors" not in card
    assert "weights are not part of this release" in card and "\nReleased as a record: " in card
    assert "## Figures" not in card and not re.search(r"\]\((?!https?:|#)", card)
    other = released.copy(tmp_path / "bundle")  # only what follows from the training is made anew
    shutil.rmtree(other.results() / "training")
    done = other.run("bundle", "run", "smoke")
    assert done.returncode == 0 and "epoch 2" not in done.stdout, done.stderr
    assert not (other.results() / "training/weights.pt").exists()
    ours, theirs = metrics_in(other.results()), metrics_in(released.results())
    assert all(
        ours[key] == theirs[key] for key in ("test", "tta", "holdout", "confusion", "per_class")
    )
    saved, wanted = (np.load(one.results() / "predictions.npz") for one in (other, released))
    for key in wanted:
        if wanted[key].dtype.kind == "f":
            np.testing.assert_allclose(saved[key], wanted[key], rtol=1e-2, atol=1e-2)
        else:
            np.testing.assert_array_equal(saved[key], wanted[key])
    assert "From saved logits" in (other.results() / "04_predict_tta.html").read_text()
    assert "the weights are not here" in (other.results() / "report.html").read_text()
    _first, *lines = other.run("bundle", "status", "smoke").stdout.splitlines()
    assert all(line.endswith(" up to date") for line in lines), lines
