"""The training: its bits, its resumption, its refusals."""

import dataclasses
import json
import math
import re
from pathlib import Path

import pytest
import torch

from bundle import files, fingerprint, paths, words
from bundle.training import identity, outcome, session, store
from lib import data, predict, train
from lib.errors import UserError
from lib.model import ResNet, count_parameters
from lib.settings import Train

TINY = Train(
    run="tiny",
    dataset="digits",
    blocks=(1, 1),
    widths=(8, 16),
    strides=(1, 2),
    train_images=60,
    epochs=4,
    batch_size=20,
    learning_rate=0.05,
    erasing=0.5,
    blur=0.5,
    vertical_flip=0.1,
    holdout_images=20,
    phase2_epochs=2,
    device="cpu",
    threads=1,
)


@pytest.fixture(scope="module")
def digits() -> data.Dataset:
    return data.load("digits", None, TINY.train_images, TINY.holdout)


@pytest.fixture(scope="module")
def never_stopped(digits, tmp_path_factory) -> identity.Training:
    return session.train(TINY, digits, tmp_path_factory.mktemp("whole"))


def stop_after(epochs: int):
    """Return a callback that stops the training like Ctrl-C after so many epochs."""

    def callback(row):
        if row["epoch"] == epochs:
            raise KeyboardInterrupt

    return callback


def stopped(digits, folder: Path, epochs: int, settings: Train = TINY, **options) -> Path:
    with pytest.raises(KeyboardInterrupt):
        session.train(settings, digits, folder, stop_after(epochs), **options)
    return store.partial_folder(folder)


def test_history_says_what_was_done(never_stopped):
    history = never_stopped.history
    assert [row["epoch"] for row in history] == [1, 2, 3, 4, 5, 6]
    assert [row["phase"] for row in history] == [1, 1, 1, 1, 2, 2]
    assert history[0]["learning_rate"] == pytest.approx(0.05)
    assert history[4]["learning_rate"] == pytest.approx(0.01)  # phase 2 begins at its own peak
    assert history[5]["learning_rate"] == pytest.approx(0.01 * (1 + math.cos(math.pi / 2)) / 2)
    assert 0 <= history[-1]["holdout_accuracy"] <= 1
    assert never_stopped.summary["epochs"] == 6 and never_stopped.summary["images"] == 60


def test_same_settings_give_the_same_bits_and_another_seed_others(digits, never_stopped, tmp_path):
    again = session.train(TINY, digits, tmp_path / "again")
    other = session.train(dataclasses.replace(TINY, seed=43), digits, tmp_path / "other")
    assert again.summary["weights_sha256"] == never_stopped.summary["weights_sha256"]
    assert other.summary["weights_sha256"] != never_stopped.summary["weights_sha256"]
    assert store.weights_digest(again.model) == again.summary["weights_sha256"]


@pytest.mark.parametrize("epochs", [1, 3, 4, 5])
def test_stopped_training_ends_with_the_same_bits(digits, never_stopped, tmp_path, epochs):
    stopped(digits, tmp_path, epochs)
    rows = []
    whole = session.train(TINY, digits, tmp_path, rows.append)
    assert [row["epoch"] for row in rows] == list(range(epochs + 1, 7))
    assert whole.summary["weights_sha256"] == never_stopped.summary["weights_sha256"]
    keys = ("epoch", "train_loss", "holdout_accuracy", "learning_rate")
    assert [[row[key] for key in keys] for row in whole.history] == [
        [row[key] for key in keys] for row in never_stopped.history
    ]


@pytest.mark.slow
def test_every_ingredient_at_once_is_resumed_to_the_same_bits(digits, tmp_path):
    """TrivialAugment, mixing, flips, average, Muon, SAM, whitening: their state is on disk."""
    rich = dataclasses.replace(
        TINY,
        epochs=3,
        phase2_epochs=1,
        trivial_augment=0.7,
        cutmix=0.4,
        mixup=0.4,
        flip_mode="alternating",
        crop_mode="reflect",
        ema=0.95,
        label_smoothing=0.1,
        nesterov=True,
        decay_all=False,
        schedule="one_cycle",
        warmup_epochs=0.5,
        schedule_by="step",
        optimiser="muon",
        sam=0.05,
        shift_rate=8.0,
        stem="whitening",
        block="pooled",
        activation="gelu",
        initialisation="dirac",
        norm_scale=False,
        norm_momentum=0.4,
    )
    whole = session.train(rich, digits, tmp_path / "whole")
    for epochs in (1, 3):
        stopped(digits, tmp_path / str(epochs), epochs, rich)
        again = session.train(rich, digits, tmp_path / str(epochs))
        assert again.summary["weights_sha256"] == whole.summary["weights_sha256"]


def test_a_parameter_added_since_throws_no_training_away(digits, tmp_path):
    """A finished training that does not know it counts as having its default, no other value."""
    done = session.train(TINY, digits, tmp_path)
    path = store.complete_folder(tmp_path) / "state.json"
    summary = json.loads(path.read_text())
    del summary["parameters"]["shift_rate"]
    files.write_sealed(path, json.dumps(summary).encode())
    rows = []
    loaded = session.train(TINY, digits, tmp_path, rows.append)
    assert not rows and loaded.summary["weights_sha256"] == done.summary["weights_sha256"]
    session.train(dataclasses.replace(TINY, shift_rate=2.0), digits, tmp_path, rows.append)
    assert len(rows) == 6


@pytest.fixture
def taught(digits, tmp_path, monkeypatch):
    """A finished run `master` and the settings of a pupil; both in a results folder apart."""
    monkeypatch.setattr(paths, "RESULTS", tmp_path)
    plain = dataclasses.replace(TINY, epochs=1, phase2_epochs=0)
    master = session.train(plain, digits, tmp_path / "master")
    return master, dataclasses.replace(plain, teacher="master", temperature=2.0)


def test_a_teacher_is_listened_to_and_is_part_of_the_identity(digits, tmp_path, taught):
    master, pupil = taught
    first = session.train(pupil, digits, tmp_path / "pupil")
    assert first.summary["data"]["teacher"] == master.summary["weights_sha256"]
    ignored = session.train(
        dataclasses.replace(pupil, teacher_weight=0.0), digits, tmp_path / "ignored"
    )
    assert ignored.summary["weights_sha256"] == master.summary["weights_sha256"]
    assert first.summary["weights_sha256"] != master.summary["weights_sha256"]
    other = dataclasses.replace(pupil, teacher="", seed=9)
    session.train(other, digits, tmp_path / "master")  # the teacher is another now: train again
    rows = []
    again = session.train(pupil, digits, tmp_path / "pupil", rows.append)
    assert rows and again.summary["data"]["teacher"] != master.summary["weights_sha256"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"teacher": "nobody"}, "no finished training in results/nobody"),
        ({"normalisation": "image"}, "normalisation"),
        ({"holdout": 5001}, "held out"),
    ],
)
def test_a_teacher_that_cannot_teach_is_one_line(digits, tmp_path, taught, changes, said):
    _, pupil = taught
    with pytest.raises(UserError, match=said) as caught:
        session.train(dataclasses.replace(pupil, **changes), digits, tmp_path / "pupil")
    assert "03_train.teacher" in str(caught.value) and "\n" not in str(caught.value)


def test_averaged_weights_are_the_result(digits, tmp_path):
    """With a decay near 1 but few steps the average moves; it is not the last step's network."""
    plain = session.train(
        dataclasses.replace(TINY, epochs=1, phase2_epochs=0), digits, tmp_path / "plain"
    )
    averaged = session.train(
        dataclasses.replace(TINY, epochs=1, phase2_epochs=0, ema=0.9), digits, tmp_path / "ema"
    )
    steps = 3
    assert (
        int(plain.model.bn.num_batches_tracked)
        == int(averaged.model.bn.num_batches_tracked)
        == steps
    )
    # The same steps were done.
    assert plain.history[0]["train_loss"] == averaged.history[0]["train_loss"]
    assert plain.summary["weights_sha256"] != averaged.summary["weights_sha256"]


def test_each_phase_is_normalised_as_it_says_and_the_weights_carry_the_last(
    digits, tmp_path, monkeypatch
):
    used = []
    real = train.train_epoch
    monkeypatch.setattr(train, "train_epoch", lambda *args: used.append(args[5]) or real(*args))
    settings = dataclasses.replace(TINY, epochs=1, phase2_epochs=1, normalisation="image")
    done = session.train(settings, digits, tmp_path)
    by_image = data.per_image_std(digits.all_train.pixels).tolist()
    assert used == [digits.by_image, digits.statistics]
    assert (
        list(digits.by_image.std) == pytest.approx(by_image)
        and digits.by_image.mean == digits.statistics.mean
    )
    assert done.normalisation == "pixel"
    saved = torch.load(store.complete_folder(tmp_path) / "weights.pt", weights_only=True)
    assert saved["statistics"]["std"] == digits.statistics.std
    one = session.train(dataclasses.replace(settings, phase2_epochs=0), digits, tmp_path / "one")
    assert one.normalisation == "image"


def test_audit_follows_the_test_accuracy_and_changes_nothing_else(digits, tmp_path):
    settings = dataclasses.replace(TINY, epochs=2, phase2_epochs=1, normalisation="image")
    plain = session.train(settings, digits, tmp_path / "plain")
    followed = session.train(dataclasses.replace(settings, audit=True), digits, tmp_path / "audit")
    assert followed.summary["weights_sha256"] == plain.summary["weights_sha256"]
    assert "test_accuracy" not in plain.history[0] and outcome.audit(plain.history) is None
    precision = followed.summary["compute"]["precision"]
    logits = predict.logits(
        followed.model, digits.test.pixels, digits.by_image, precision=precision
    )
    accuracy = (logits.argmax(1) == digits.test.labels).double().mean().item()
    assert followed.history[-1]["test_accuracy"] == pytest.approx(accuracy)


def test_audit_by_hand():
    rows = [(1, 0.5), (1, 0.9), (1, 0.7), (2, 0.8), (2, 0.6)]
    history = [
        {"epoch": number, "phase": phase, "test_accuracy": value}
        for number, (phase, value) in enumerate(rows, 1)
    ]
    assert outcome.audit(history) == {
        "test_accuracy": [0.5, 0.9, 0.7, 0.8, 0.6],
        "phases": [
            {"phase": 1, "best": 0.9, "best_epoch": 2, "last": 0.7},
            {"phase": 2, "best": 0.8, "best_epoch": 4, "last": 0.6},
        ],
    }


def test_finished_training_is_loaded_not_repeated(digits, tmp_path):
    first = session.train(TINY, digits, tmp_path)
    again = session.train(TINY, digits, tmp_path, lambda row: pytest.fail("trained again"))
    assert again.summary == first.summary


@pytest.mark.parametrize("damage", ["truncated", "flipped"])
def test_damaged_checkpoint_is_named_and_the_one_before_used(
    digits, never_stopped, tmp_path, damage
):
    path = stopped(digits, tmp_path, 3) / store.CHECKPOINT
    content = bytearray(path.read_bytes())
    if damage == "flipped":
        content[len(content) // 2] ^= 1
    path.write_bytes(content[:-100] if damage == "truncated" else content)
    said, rows = [], []
    whole = session.train(TINY, digits, tmp_path, rows.append, say=said.append)
    assert len(said) == 1 and str(path) in said[0] and "damaged" in said[0]
    assert rows[0]["epoch"] == 3  # epoch 2 is the last whole one
    assert whole.summary["weights_sha256"] == never_stopped.summary["weights_sha256"]


def test_unfinished_training_of_other_parameters_is_refused(digits, tmp_path):
    partial = stopped(digits, tmp_path, 2)
    before = (partial / store.CHECKPOINT).read_bytes()
    with pytest.raises(UserError, match=re.escape("learning_rate 0.05 -> 0.06")) as caught:
        session.train(dataclasses.replace(TINY, learning_rate=0.06), digits, tmp_path)
    assert (
        "epoch 2" in str(caught.value)
        and "RETRAIN=1" in str(caught.value)
        and "\n" not in str(caught.value)
    )
    assert (partial / store.CHECKPOINT).read_bytes() == before
    other = session.train(
        dataclasses.replace(TINY, learning_rate=0.06), digits, tmp_path, retrain=True
    )
    assert other.summary["parameters"]["learning_rate"] == 0.06 and len(other.history) == 6


def test_training_that_another_machine_began_goes_on_only_when_asked(digits, tmp_path, monkeypatch):
    begun = stopped(digits, tmp_path, 3)
    machine_of = identity.machine_of
    monkeypatch.setattr(
        identity, "machine_of", lambda *given: machine_of(*given) | {"cpu_kernels": "another maker"}
    )
    before = (begun / store.CHECKPOINT).read_bytes()
    with pytest.raises(UserError, match="--elsewhere") as caught:
        session.train(TINY, digits, tmp_path)
    assert "begun_on" not in str(caught.value)
    assert (begun / store.CHECKPOINT).read_bytes() == before
    stopped(digits, tmp_path, 5, elsewhere=True)
    whole = session.train(TINY, digits, tmp_path)  # here, where it went on before
    assert [row["epoch"] for row in whole.history] == [1, 2, 3, 4, 5, 6]
    told = whole.summary["compute"]["begun_on"]
    assert told.startswith("to epoch 3 cpu, ") and told in words.machine(whole.summary["compute"])
    assert "begun elsewhere" in words.device(whole.summary["compute"])
    assert identity.machine_differences(whole.summary["compute"], machine_of_now(digits))
    afresh = session.train(TINY, digits, tmp_path, retrain=True)
    assert afresh.summary["compute"]["begun_on"] == ""


def machine_of_now(digits) -> dict:
    return identity.identity_of(TINY, digits, torch.device("cpu"))["compute"]


def test_unfinished_training_of_other_code_is_refused(digits, tmp_path, monkeypatch):
    stopped(digits, tmp_path, 2)
    now = {**fingerprint.of_loop(), "random_crop": "0" * 16}
    monkeypatch.setattr(fingerprint, "of_loop", lambda: now)
    with pytest.raises(UserError, match=r"\(random_crop\)"):
        session.train(TINY, digits, tmp_path)


def test_old_state_stays_until_the_new_one_is_complete(digits, tmp_path):
    session.train(TINY, digits, tmp_path)
    complete = store.complete_folder(tmp_path)
    before = {path.name: path.read_bytes() for path in complete.iterdir()}
    longer = dataclasses.replace(TINY, epochs=5)
    stopped(digits, tmp_path, 3, longer)
    assert {path.name: path.read_bytes() for path in complete.iterdir()} == before
    assert session.train(longer, digits, tmp_path).summary["epochs"] == 7
    assert not store.partial_folder(tmp_path).exists()


def test_weights_carry_their_own_configuration(digits, never_stopped, tmp_path):
    session.train(TINY, digits, tmp_path)
    saved = torch.load(store.complete_folder(tmp_path) / "weights.pt", weights_only=True)
    described = {
        "blocks": [1, 1],
        "widths": [8, 16],
        "strides": [1, 2],
        "classes": 10,
        "block": "basic",
    }
    assert saved["network"].items() >= described.items()
    assert count_parameters(ResNet(**saved["network"])) == count_parameters(
        identity.load_finished(tmp_path).model
    )
    assert saved["classes"] == [str(digit) for digit in range(10)]
    assert saved["parameters"]["learning_rate"] == 0.05
    summary = json.loads((store.complete_folder(tmp_path) / "state.json").read_text())
    assert summary["compute"]["device"] == "cpu" and summary["data"]["checksum"] == digits.checksum
