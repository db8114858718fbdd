"""Every file that is read back: damaged in each way, it is named, never shown, and made again."""

import io
import json
import shutil
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from bundle import files, paths, readme
from bundle.__main__ import main
from bundle.claims import judge
from bundle.pages import index, publish
from bundle.release import release
from bundle.runs import execute, params, results, status
from bundle.runs.graph import Node
from bundle.runs.params import RunParameters
from bundle.study import jobs
from bundle.study import page as study_page
from bundle.training import identity, logits, released, session, store, weights
from lib import data
from lib.errors import UserError
from lib.settings import PredictTta, Train

TINY = Train(
    run="tiny",
    dataset="digits",
    blocks=(1,),
    widths=(8,),
    strides=(1,),
    train_images=60,
    epochs=3,
    batch_size=20,
    learning_rate=0.05,
    holdout_images=20,
    device="cpu",
    precision="fp32",
    threads=1,
)
PREDICT = PredictTta(run="tiny", device="cpu", threads=1, precision="fp32", combination="flip")
SEEDS = (42, 43)  # of the run and of another, whose files are put in place of its own
TRAINING = (store.WEIGHTS, store.STATE, store.HISTORY)


def parameters(seed: int = 42) -> RunParameters:
    name = "tiny" if seed == 42 else f"tiny-seed{seed}"
    training = {**asdict(replace(TINY, seed=seed)), "run": name}
    return RunParameters(
        "smoke", name, {"03_train": training, "04_predict_tta": {**asdict(PREDICT), "run": name}}
    )


# The damages: (content, the same file of another run, name) -> content


def flipped(content: bytes, other: bytes, name: str) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


def cut(content: bytes, other: bytes, name: str) -> bytes:
    """After half, or after its first line: what still is valid is worse."""
    first = content.find(b"\n") + 1
    return content[:first] if name.endswith(".jsonl") else content[: len(content) // 2]


def emptied(content: bytes, other: bytes, name: str) -> bytes:
    return b""


def swapped(content: bytes, other: bytes, name: str) -> bytes:
    assert other != content, name
    return other


def reshaped(content: bytes, other: bytes, name: str) -> bytes:
    """A valid file of its kind that holds something else."""
    buffer = io.BytesIO()
    if name.endswith(".pt"):
        torch.save({"model": {"weight": torch.ones(3)}}, buffer)
    elif name.endswith(".npz"):
        np.savez(buffer, predictions=np.ones(2))
    elif name.endswith(".safetensors"):
        return safetensors.torch.save({"weight": torch.ones(3)}, {weights.KEY: "{}"})
    else:
        return b"<p>99.10%</p>" if name.endswith(".html") else b'{"test": {"accuracy": 0.991}}\n'
    return buffer.getvalue()


DAMAGES = (flipped, cut, emptied, swapped, reshaped)


def spoil(path: Path, damage: Callable, other: Path | None = None) -> None:
    swap = other.read_bytes() if other else b"another\n"
    path.write_bytes(damage(path.read_bytes(), swap, path.name))


def one_line(error: pytest.ExceptionInfo, path: Path) -> None:
    """Assert that an error is a line that names the file and says what to do."""
    text = str(error.value)
    assert "\n" not in text and len(text) < 500
    assert paths.shown(path) in text and ("mends it" in text or "again" in text), text


# Results made once: two runs trained, with logits and a study's job, and the study's page


@pytest.fixture(scope="module")
def digits() -> data.Dataset:
    return data.load("digits", None, TINY.train_images, TINY.holdout)


@pytest.fixture(scope="module")
def made(digits, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("made") / "results"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(paths, "RESULTS", folder)
        for seed in SEEDS:
            jobs.do_job(parameters(seed), say=lambda text, **_: None)
            logits.save(parameters(seed).name, PREDICT)
            as_run(folder / parameters(seed).name, seed)
        as_studies(folder)
    return folder


def as_studies(folder: Path) -> None:
    """Write the page of a full study of the two runs, and that of another beside it."""
    plan = {"runs": ["smoke"], "seeds": [42, 43], "epochs": 1.0, "train_images": 0, "set": ""}
    done = [
        {**files.read_json(folder / parameters(seed).name / jobs.RESULT), "base": None}
        for seed in SEEDS
    ]
    for name, part in (("full", done), ("chosen", done[:1])):
        told = {**plan, "name": name, "title": name, "full": name == "full", "judged_on": "test"}
        study_page.write_page({"plan": told, "jobs": part, "missing": []})


def as_run(folder: Path, seed: int) -> None:
    """Leave what a notebook leaves, by way of the runner."""
    node, stage = notebook(), folder / ".stage" / "04_predict_tta"
    (stage / "metrics").mkdir(parents=True)
    test = {"images": 200, "accuracy": seed / 100, "low": 0.1, "high": 0.9}
    cell = {"cell_type": "markdown", "metadata": {}, "source": [f"# {seed}"], "id": "one"}
    page = {"cells": [cell], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
    files.write_json(stage / "04_predict_tta.ipynb", page)
    np.savez(stage / "predictions.npz", predictions=np.full(20, seed))
    train = {"weights_sha256": files.read_json(folder / "training/state.json")["weights_sha256"]}
    values = {"test": test, "train": train, "report": {}, "dataset": "digits", "parameters": seed}
    files.write_json(stage / node.metrics, values)
    execute._move_into_place(node, stage, folder, before(folder), 1.0)
    publish.render_run(folder.name)


def notebook() -> Node:
    return Node("04_predict_tta", ("training/weights.pt",), ("predictions.npz",))


def before(folder: Path) -> dict:
    return status.fingerprint_of(notebook(), params.load("smoke"), folder)


@pytest.fixture
def here(made, tmp_path, monkeypatch) -> Path:
    """A results folder of the test's own, where the bundle then looks."""
    folder = tmp_path / "results"
    shutil.copytree(made, folder)
    monkeypatch.setattr(paths, "RESULTS", folder)
    return folder


def train(digits, folder: Path, **changes):
    """Train or load; return the training, the epochs trained, and what was said."""
    rows, said = [], []
    done = session.train(replace(TINY, **changes), digits, folder, rows.append, say=said.append)
    return done, len(rows), said


# Trainings


@pytest.mark.slow
@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", TRAINING)
def test_a_damaged_training_is_named_and_trained_again_to_the_same_bits(here, digits, name, damage):
    whole = released.load(here / "tiny")
    path = here / "tiny/training" / name
    spoil(path, damage, here / "tiny-seed43/training" / name)
    with pytest.raises(files.Damaged) as error:
        released.load(here / "tiny")
    one_line(error, path)
    again, epochs, said = train(digits, here / "tiny")
    assert epochs == 3 and len(said) == 1 and name in said[0] and "trained again" in said[0]
    assert again.summary["weights_sha256"] == whole.summary["weights_sha256"]
    assert len(again.history) == 3 and not files.damaged(path.parent)
    assert train(digits, here / "tiny")[1] == 0


def test_a_sound_training_is_loaded(here, digits):
    assert train(digits, here / "tiny")[1:] == (0, [])


def unsealed(folder: Path) -> Path:
    """Take the digests away: a training of an older version."""
    (folder / files.SUMS).unlink()
    return folder


def flip_signs(folder: Path, name: str = "fc.weight") -> None:
    saved = torch.load(folder / store.WEIGHTS, weights_only=True)
    name = name if name in saved["model"] else next(iter(saved["model"]))
    saved["model"][name] = -saved["model"][name]
    torch.save(saved, folder / store.WEIGHTS)


@pytest.mark.parametrize("damage", [cut, emptied, swapped, reshaped, flip_signs])
def test_weights_of_an_older_version_are_held_against_their_state(here, digits, damage):
    folder = unsealed(here / "tiny/training")
    assert train(digits, here / "tiny")[1] == 0
    if damage is flip_signs:
        flip_signs(folder)
    else:
        spoil(folder / store.WEIGHTS, damage, here / "tiny-seed43/training" / store.WEIGHTS)
    with pytest.raises(files.Damaged, match=r"weights\.pt"):
        released.load(here / "tiny")
    assert train(digits, here / "tiny")[1] == 3


@pytest.mark.parametrize("damage", [cut, emptied, reshaped])
def test_a_history_of_an_older_version_has_a_row_an_epoch(here, digits, damage):
    folder = unsealed(here / "tiny/training")
    spoil(folder / store.HISTORY, damage)
    with pytest.raises(files.Damaged, match=r"history\.jsonl: not the 3 epochs"):
        released.load(here / "tiny")


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_logits_are_not_used_where_the_network_is(here, digits, damage, capsys):
    path = here / "tiny/training" / store.LOGITS
    training = released.load(here / "tiny")
    assert logits.source(training, digits, PREDICT).kind == "logits"
    spoil(path, damage, here / "tiny-seed43/training" / store.LOGITS)
    assert logits.source(training, digits, PREDICT).kind == "weights"
    assert "logits.npz" in capsys.readouterr().out
    (path.parent / store.WEIGHTS).unlink()
    with pytest.raises(files.Damaged) as error:
        released.load(here / "tiny")
    one_line(error, path)


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_manifest_costs_no_training(here, digits, damage):
    """Its files are then held against one another, as those of an older version."""
    manifest = here / "tiny/training" / files.SUMS
    spoil(manifest, damage, here / "tiny-seed43/training" / files.SUMS)
    if damage is not swapped:  # the digests of other files: every one of these differs
        assert train(digits, here / "tiny")[1] == 0
        flip_signs(manifest.parent)
    assert train(digits, here / "tiny")[1] == 3 and not files.damaged(manifest.parent)


@pytest.mark.parametrize("damage", [*DAMAGES, "resealed"])
def test_a_damaged_checkpoint_is_never_gone_on_with(tmp_path, digits, damage):
    """One of another run is refused; of any other the training begins anew, to the same bits."""

    def stop(row):
        raise KeyboardInterrupt

    for seed in SEEDS:
        with pytest.raises(KeyboardInterrupt):
            session.train(replace(TINY, seed=seed), digits, tmp_path / str(seed), stop)
    path, other = (tmp_path / f"{seed}/training.partial/checkpoint.bin" for seed in SEEDS)
    if damage == "resealed":  # whole, by its digest, but no state
        torch.save({"epoch": 1}, path)
        content = path.read_bytes()
        path.write_bytes(files.hashlib.sha256(content).digest() + content)
    else:
        spoil(path, damage, other)
    if damage is swapped:
        with pytest.raises(UserError, match="seed 43 -> 42"):
            train(digits, tmp_path / "42")
        return
    done, epochs, said = train(digits, tmp_path / "42")
    assert epochs == 3 and "begins anew" in said[0] and done.summary["parameters"]["seed"] == 42


# What notebooks leave


RUN_FILES = (
    "metrics.json",
    "metrics/04_predict_tta.json",
    "fingerprints/04_predict_tta.json",
    "04_predict_tta.ipynb",
    "predictions.npz",
    "04_predict_tta.html",
    "study.json",
    "study.npz",
)


@pytest.mark.slow
@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", RUN_FILES)
def test_a_damaged_file_of_a_run_is_named_wherever_it_is_read(here, name, damage):
    path = here / "tiny" / name
    assert files.digest_of(path) and files.intact(path) and not status.changed(here / "tiny")
    spoil(path, damage, here / "tiny-seed43" / name)
    with pytest.raises(files.Damaged) as error:
        files.read_sealed(path)
    one_line(error, path)
    assert path in status.changed(here / "tiny")
    with pytest.raises(UserError, match="not as it was written"):
        release.finished(parameters())


@pytest.mark.slow
@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_metrics_are_shown_nowhere_and_merged_again(here, damage, capsys):
    path = here / "tiny/metrics.json"
    wanted = path.read_bytes()
    spoil(path, damage, here / "tiny-seed43/metrics.json")
    with pytest.raises(files.Damaged):
        results.read_metrics("tiny")
    with pytest.raises(files.Damaged):
        readme.row("tiny")
    page = index.write_index().read_text()
    assert "tiny/metrics.json" in capsys.readouterr().err
    assert "42.00%" not in page and "99.10%" not in page and "43.00%" in page
    assert results.mend(here / "tiny") == [path] and path.read_bytes() == wanted
    assert "42.00%" in index.write_index().read_text()


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", [name for name in RUN_FILES if name.count("04_pr")])
def test_a_notebook_whose_files_are_damaged_runs_again(here, name, damage, monkeypatch):
    folder, node = here / "tiny", notebook()
    monkeypatch.setattr(Node, "code", lambda self: {})
    status.remember(node, folder, before(folder), ["04_predict_tta.ipynb", node.metrics], 1.0)
    assert status.reasons(node, params.load("smoke"), folder) == []
    spoil(folder / name, damage, here / "tiny-seed43" / name)
    found = status.reasons(node, params.load("smoke"), folder)
    assert (name in found[0]) if not name.endswith(".html") else found == []


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_page_is_rendered_again_and_a_damaged_notebook_gives_none(here, damage, capsys):
    folder = here / "tiny"
    page, executed = folder / "04_predict_tta.html", folder / "04_predict_tta.ipynb"
    wanted = page.read_bytes()
    spoil(page, damage, here / "tiny-seed43/04_predict_tta.html")
    assert "tiny/04_predict_tta.html" not in index.write_index().read_text()
    publish.render_run("tiny")
    assert page.read_bytes() == wanted and files.is_sealed(page)
    spoil(executed, damage, here / "tiny-seed43/04_predict_tta.ipynb")
    publish.render_run("tiny")
    assert page.read_bytes() == wanted and "04_predict_tta.ipynb" in capsys.readouterr().err


@pytest.mark.parametrize("damage", DAMAGES)
def test_predictions_are_not_read_damaged(here, damage):
    path = here / "tiny/predictions.npz"
    assert results.needed("tiny", "predictions.npz") == path
    spoil(path, damage, here / "tiny-seed43/predictions.npz")
    with pytest.raises(files.Damaged, match=r"predictions\.npz: not as it was written"):
        results.needed("tiny", "predictions.npz")


def test_a_damaged_part_is_not_merged(here):
    part = here / "tiny/metrics/04_predict_tta.json"
    spoil(part, reshaped)
    assert "test" not in results.merge(here / "tiny")


# Studies


@pytest.mark.slow
@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", [jobs.RESULT, jobs.ARRAYS])
def test_a_damaged_job_is_done_again(here, name, damage):
    folder, said, settings = here / "tiny", [], parameters().settings("03_train")
    wanted = (folder / jobs.RESULT).read_bytes()
    spoil(folder / name, damage, here / "tiny-seed43" / name)
    assert not jobs.is_done(folder, settings, "test")
    assert name in jobs.outdated(folder, settings)
    jobs.do_job(parameters(), say=lambda text, **_: said.append(text))
    assert name in said[0] and (folder / jobs.RESULT).read_bytes() == wanted
    assert jobs.is_done(folder, settings, "test") and files.intact(folder / jobs.ARRAYS)


@pytest.mark.slow
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_study_is_neither_judged_nor_listed_nor_released(here, damage):
    study = here / "studies"
    assert judge.read_study()["jobs"] and main(["seal", "--check", str(study / "full")]) == 0
    for name in ("study.json", "study.html"):
        spoil(study / "full" / name, damage, study / "chosen" / name)
        with pytest.raises(files.Damaged) as error:
            main(["seal", "--check", str(study / "full")])
        assert "make study PLAN=full writes it again" in str(error.value)
    with pytest.raises(files.Damaged):
        judge.read_study()
    page = index.write_index().read_text()
    assert "studies/full/study.html" not in page and "studies/chosen/study.html" in page


# Releases


@pytest.fixture
def release_of(here, digits) -> Path:
    """A release of both kinds, of the run and of another; the runs that they were made of gone."""
    for seed in SEEDS:
        run = parameters(seed).name
        stage = here / "released" / run
        (stage / "training").mkdir(parents=True)
        training = released.load(here / run)
        release.round_weights(parameters(seed), training, digits, stage / "training")
        shutil.copy(here / run / "metrics.json", stage)
        (stage / "report.html").write_text(f"<p>{seed}")
        shutil.copy(here / run / "training" / store.LOGITS, stage / "training")
        files.seal_folder(stage)
        shutil.rmtree(here / run)
    return here / "released" / "tiny"


RELEASED = ("training/state.json", "training/history.jsonl", f"training/{weights.FILE}")
RELEASED += ("training/logits.npz",)


@pytest.mark.slow
@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", RELEASED)
def test_a_damaged_release_is_not_taken(here, release_of, digits, name, damage):
    spoil(release_of / name, damage, here / "released/tiny-seed43" / name)
    with pytest.raises(files.Damaged) as error:
        released.train_or_take(TINY, digits, here / "tiny")
    one_line(error, release_of / name)
    assert not (here / "tiny/training").exists()


@pytest.mark.slow
@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", ["metrics.json", "report.html"])
def test_damaged_figures_of_a_release_are_not_shown(here, release_of, name, damage, capsys):
    assert "released/tiny/report.html" in index.write_index().read_text()
    spoil(release_of / name, damage, here / "released/tiny-seed43" / name)
    with pytest.raises(files.Damaged, match="restore it with git"):
        files.check_folder(release_of)
    page = index.write_index().read_text()
    assert "released/tiny/report.html" not in page and "99.10%" not in page
    assert ("released/tiny/metrics.json" in capsys.readouterr().err) == (name == "metrics.json")
    assert ("42.00%" in page) == (name == "report.html")


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_training_that_was_taken_is_taken_again_where_it_is_damaged(
    here, release_of, digits, damage, capsys
):
    def refuse(row):
        pytest.fail("an epoch was trained")

    taken = released.train_or_take(TINY, digits, here / "tiny", refuse)
    spoil(here / "tiny/training/weights.pt", damage)
    again = released.train_or_take(TINY, digits, here / "tiny", refuse)
    assert again.summary == taken.summary and again.model is not None
    assert "weights.pt: not as it was written" in capsys.readouterr().out


def test_released_files_are_as_they_were_committed():
    """After a change of one: python -m bundle seal results/released/NAME."""
    manifests = sorted((paths.ROOT / "results/released").rglob(files.SUMS))
    assert len(manifests) >= 6
    for manifest in manifests:
        names = {
            path.relative_to(manifest.parent).as_posix()
            for path in manifest.parent.rglob("*")
            if path.is_file() and path != manifest
        }
        assert files.damaged(manifest.parent) == [] and set(files.sums(manifest.parent)) == names


def test_a_folder_without_digests_is_not_called_sound(here):
    for folder in (here / "nope", here / "tiny" / "metrics"):
        with pytest.raises(UserError, match=r"no SHA256SUMS in it; name a folder that was sealed"):
            main(["seal", "--check", str(folder)])


def test_only_a_release_is_sealed_by_hand(here):
    with pytest.raises(UserError, match="name a released one"):
        main(["seal", str(here / "tiny")])


def test_a_manifest_is_read_by_sha256sum(here):
    if not (tool := shutil.which("sha256sum")):
        pytest.skip("no sha256sum here")
    command = [tool, "--check", "--strict", "--quiet", files.SUMS]
    for folder in (here / "tiny", here / "tiny/training"):
        assert publish.subprocess.run(command, cwd=folder, check=False).returncode == 0


# JSON


@pytest.mark.parametrize("value", [float("nan"), float("inf"), [{"a": -float("inf")}]])
def test_json_holds_finite_numbers(tmp_path, value):
    path = tmp_path / "metrics.json"
    files.write_json(path, {"a": 1})
    with pytest.raises(UserError, match=r"metrics\.json: a number in it is not finite"):
        files.write_json(path, {"a": value})
    assert files.read_json(path) == {"a": 1} and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("text", ["[1]", "3", '"a"', "null", "{", "", "[" * 100_000, "\xff"])
def test_json_of_another_shape_is_damaged(tmp_path, text):
    path = tmp_path / "state.json"
    path.write_text(text, encoding="latin-1")
    with pytest.raises(files.Damaged) as error:
        files.read_json(path)
    one_line(error, path)


# A training that diverges


def test_a_training_that_diverges_stops_at_its_epoch_and_leaves_the_earlier_one(here, digits):
    state = here / "tiny/training/state.json"
    kept, rows = state.read_bytes(), []
    wild = replace(TINY, learning_rate=1e30, momentum=0.999, schedule="constant")
    with pytest.raises(files.Failed) as error:
        session.train(wild, digits, here / "tiny", rows.append, retrain=True)
    assert str(error.value) == "epoch 1: the loss is not finite; lower 03_train.learning_rate"
    assert not rows and state.read_bytes() == kept and train(digits, here / "tiny")[1] == 0


@pytest.mark.parametrize(("part", "what"), [("model", "a weight"), ("average", "a weight")])
def test_weights_that_are_not_finite_stop_it_too(tmp_path, digits, monkeypatch, part, what):
    state = session.loop.Loop.state

    def broken(self):
        made = state(self)
        if self.epoch == 2:
            tensors = made[part] if part == "model" else made[part]["model"]
            next(iter(tensors.values())).fill_(float("nan"))
        return made

    monkeypatch.setattr(session.loop.Loop, "state", broken)
    rows = []
    with pytest.raises(files.Failed) as error:
        session.train(replace(TINY, ema=0.9), digits, tmp_path, rows.append)
    wanted = f"epoch 2: {what} is not finite; lower 03_train.learning_rate, with RETRAIN=1"
    assert str(error.value) == wanted and len(rows) == 1
    assert len(store.read_history(tmp_path / "training.partial")) == 1


# Files of an earlier state


def move(folder: Path, *names: str, node: Node | None = None) -> None:
    """Have a notebook leave files, by way of the runner."""
    node = node or notebook()
    stage = folder / ".stage" / node.name
    for name in names:
        (stage / name).parent.mkdir(parents=True, exist_ok=True)
        (stage / name).write_text("{}")
    execute._move_into_place(node, stage, folder, {"notebook": ""}, 1.0)


def left(folder: Path) -> set[str]:
    found = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    return {name for name in found if not name.startswith((".", "fingerprints/", "SHA"))}


def test_what_a_notebook_left_in_an_earlier_state_goes(tmp_path):
    for name in ("notes.txt", "figures/mine.svg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("a user's own")
    other = Node("05_confusion", (), ())
    move(tmp_path, "metrics/05_confusion.json", "figures/shared.svg", node=other)
    move(tmp_path, "predictions.npz", "submission.csv", "figures/tta.svg", "figures/shared.svg")
    move(tmp_path, "predictions.npz", "figures/views.svg")
    kept = {"notes.txt", "figures/mine.svg", "metrics.json"}
    assert left(tmp_path) == kept | {"predictions.npz", "figures/views.svg", "figures/shared.svg"}


def test_it_goes_as_well_where_the_notebook_was_killed_in_between(tmp_path, monkeypatch):
    move(tmp_path, "predictions.npz", "submission.csv")
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(results, "merge", lambda folder: exec("raise KeyboardInterrupt"))
        move(tmp_path, "predictions.npz", "figures/views.svg")
    assert status.reasons(notebook(), params.load("smoke"), tmp_path) == ["not run yet"]
    move(tmp_path, "predictions.npz")
    assert left(tmp_path) == {"predictions.npz", "metrics.json"}


def test_what_a_notebook_left_that_is_no_more_goes(tmp_path):
    move(tmp_path, "predictions.npz")
    move(tmp_path, "figures/extra.svg", "metrics/07_extra.json", node=Node("07_extra"))
    (tmp_path / "07_extra.html").write_text("")
    status.sweep_absent(tmp_path)
    assert left(tmp_path) == {"predictions.npz", "metrics.json"}
    assert not (tmp_path / "fingerprints/07_extra.json").exists()


def test_nothing_outside_the_run_goes(tmp_path):
    """A record that was tampered with names a file elsewhere."""
    kept = tmp_path / "kept.txt"
    kept.write_text("")
    record = {"before": {}, "outputs": {"../kept.txt": "", str(kept): ""}}
    (tmp_path / "run/fingerprints").mkdir(parents=True)
    files.write_json(tmp_path / "run/fingerprints/04_predict_tta.json", record)
    move(tmp_path / "run", "predictions.npz")
    assert kept.exists()


# Locks


COMMANDS = {
    "run": ["run", "smoke", "--until", "01_explore_data"],
    "train": ["train", "smoke"],
    "verify": ["verify", "smoke"],
    "release": ["release", "smoke"],
    "logits": ["logits", "smoke"],
    "pages": ["pages", "smoke"],
    "clean": ["clean"],
}


@pytest.mark.parametrize("command", COMMANDS)
def test_a_run_that_is_worked_on_is_busy(tmp_path, monkeypatch, command):
    monkeypatch.setattr(paths, "RESULTS", tmp_path)
    monkeypatch.setenv("BUNDLE_OFFLINE", "1")
    monkeypatch.setenv("CIFAR10_ROOT", "")
    (tmp_path / "smoke").mkdir()
    (tmp_path / "smoke/01_explore_data.ipynb").write_text("{}")
    kept = sorted(tmp_path.rglob("*"))
    with files.locked(tmp_path / "smoke", "smoke"), pytest.raises(files.Busy) as error:
        main(COMMANDS[command])
    assert str(error.value).startswith("another command is working on results/smoke; ")
    assert sorted(path for path in tmp_path.rglob("*") if path.name != ".lock") == kept


def test_two_studies_that_share_a_run_do_not_collide(here):
    with files.locked(here / "tiny", "tiny"), pytest.raises(files.Busy, match="results/tiny;"):
        jobs.do_job(parameters())


def test_clean_leaves_releases_alone(here, release_of, capsys):
    assert main(["clean"]) == 0
    assert [path.name for path in here.iterdir()] == ["released"]
    assert files.damaged(release_of) == [] and "removed" not in capsys.readouterr().err
    shutil.rmtree(here)
    assert main(["clean"]) == 0


def test_identity_needs_what_a_summary_has(tmp_path):
    files.write_json(tmp_path / "state.json", {"parameters": {}})
    with pytest.raises(files.Damaged, match="not the summary of a training"):
        identity.read_summary(tmp_path)
    assert json.loads((tmp_path / "state.json").read_text()) == {"parameters": {}}


# By command: the whole table in `make test-hostile`, a sample at once in `make test`


ARTEFACTS = (
    "training/weights.pt",
    "training/state.json",
    "training/history.jsonl",
    "training/SHA256SUMS",
    "predictions.npz",
    "metrics.json",
    "metrics/03_train.json",
    "metrics/05_confusion.json",
    "fingerprints/03_train.json",
    "fingerprints/06_report.json",
    "04_predict_tta.ipynb",
    "06_report.ipynb",
    "03_train.html",
    "report.html",
    "SHA256SUMS",
)
OF_REPORT = ("fingerprints/06_report.json", "06_report.ipynb", "report.html")
BEFORE = [name for name in ARTEFACTS[4:-1] if name not in OF_REPORT]
SAMPLES = {  # damages, and the last notebook that is to mend them
    "report": (dict.fromkeys(OF_REPORT, reshaped), "06_report"),
    "training": ({ARTEFACTS[0]: flipped, **dict.fromkeys(BEFORE, reshaped)}, "05_confusion"),
}
WHOLE_TABLE = [
    pytest.param(
        {name: damage}, "06_report", marks=pytest.mark.hostile, id=f"{damage.__name__}-{name}"
    )
    for name in ARTEFACTS
    for damage in (flipped, cut, emptied, reshaped)
]
TO_MEND = [pytest.param(*sample, id=name) for name, sample in SAMPLES.items()] + WHOLE_TABLE


@pytest.mark.parametrize(("damages", "last"), TO_MEND)
def test_the_next_run_mends_what_is_damaged(finished, damages, last):
    folder = finished.results()
    was = files.read_json(folder / "metrics.json")
    for name, damage in damages.items():
        spoil(folder / name, damage)
    done = finished.run("bundle", "run", "smoke", "--until", last)
    assert done.returncode == 0, done.stderr
    assert all(f"results/smoke/{name}: " in done.stdout + done.stderr for name in damages)
    now = files.read_json(folder / "metrics.json")
    assert now["test"] == was["test"]
    assert now["train"]["weights_sha256"] == was["train"]["weights_sha256"]
    # What the notebooks after it said of the old training is gone.
    later = set() if last == "06_report" else {"06_report", "07_robustness", "08_deploy"}
    assert {path.stem for path in status.changed(folder)} == later
    assert (now.keys() == was.keys()) == (not later)
    told = finished.run("bundle", "status", "smoke").stdout.splitlines()
    assert sum(line.endswith("up to date") for line in told) == 8 - len(later)
