"""The training: its loss and optimiser by hand, its bits, its resumption, its refusals."""

import dataclasses
import json
import math
import re
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from lib import data, fingerprint, paths, state, train
from lib.errors import UserError
from lib.settings import Train

TINY = Train(
    run="tiny", dataset="digits", blocks=(1, 1), widths=(4, 8), strides=(1, 2), train_images=60, epochs=4,
    batch_size=20, learning_rate=0.05, erasing=0.5, blur=0.5, vertical_flip=0.1, holdout_images=20, phase2_epochs=2,
    device="cpu",
)  # fmt: skip


@pytest.fixture(scope="module")
def digits() -> data.Dataset:
    return data.load("digits", TINY.train_images, TINY.holdout)


@pytest.fixture(scope="module")
def never_stopped(digits, tmp_path_factory) -> train.Training:
    return train.train(TINY, digits, tmp_path_factory.mktemp("whole"))


def stop_after(epochs: int):
    """Return a callback that stops the training like Ctrl-C after so many epochs."""

    def callback(row):
        if row["epoch"] == epochs:
            raise KeyboardInterrupt

    return callback


def stopped(digits, folder: Path, epochs: int, settings: Train = TINY) -> Path:
    with pytest.raises(KeyboardInterrupt):
        train.train(settings, digits, folder, stop_after(epochs))
    return state.partial_folder(folder)


def test_mixed_loss_by_hand():
    logits = torch.tensor([[2.0, 0.0, -1.0], [0.5, 0.5, 3.0]])
    labels, partners, lam = torch.tensor([0, 2]), torch.tensor([1, 0]), torch.tensor([0.75, 1.0])
    sums = [math.log(sum(math.exp(value) for value in row)) for row in logits.tolist()]
    first = 0.75 * (sums[0] - 2.0) + 0.25 * (sums[0] - 0.0)
    second = sums[1] - 3.0
    loss = train.mixed_cross_entropy(logits, labels, partners, lam, 0.0)
    assert loss.item() == pytest.approx((first + second) / 2, rel=1e-6)
    soft = lam[:, None] * F.one_hot(labels, 3) + (1 - lam[:, None]) * F.one_hot(partners, 3)
    smoothed = train.mixed_cross_entropy(logits, labels, partners, lam, 0.1)
    assert smoothed.item() == pytest.approx(F.cross_entropy(logits, soft, label_smoothing=0.1).item(), rel=1e-6)


def test_decay_spares_vectors_only_where_asked():
    model = train.build(TINY, 10, 0)
    vectors = sum(parameter.numel() for parameter in model.parameters() if parameter.dim() == 1)
    groups = train.make_optimiser(model, dataclasses.replace(TINY, decay_all=False)).param_groups
    assert [group["weight_decay"] for group in groups] == [TINY.weight_decay, 0.0]
    assert sum(parameter.numel() for parameter in groups[1]["params"]) == vectors == 2 * (4 * 3 + 8 * 3) + 10
    assert len(train.make_optimiser(model, TINY).param_groups) == 1


def test_one_step_is_sgd_by_hand(digits):
    """Without momentum and decay: weight - rate * gradient, the gradient from plain PyTorch."""
    plain = dataclasses.replace(
        TINY, momentum=0.0, weight_decay=0.0, crop_padding=0, horizontal_flip=0.0, vertical_flip=0.0, blur=0.0,
        erasing=0.0, cutmix=0.0,
    )  # fmt: skip
    model, twin = train.build(plain, 10, 0), train.build(plain, 10, 0)
    batch = digits.train.take(torch.arange(20))
    optimiser = train.make_optimiser(model, plain)
    generator = torch.Generator().manual_seed(0)
    loss, _ = train.train_step(model, optimiser, batch, plain, digits.statistics, "fp32", generator)
    expected = F.cross_entropy(twin(data.normalise(batch.pixels.float() / 255, digits.statistics)), batch.labels)
    expected.backward()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    for ours, theirs in zip(model.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs - plain.learning_rate * theirs.grad, rtol=1e-4, atol=1e-6)


def test_every_image_once_an_epoch_in_another_order(digits):
    orders = []
    for epoch in (0, 1, 0):
        generator = train.epoch_generator(7, epoch, torch.device("cpu"))
        orders.append(torch.cat([batch.index for batch in train.batches(digits.train, 16, generator)]))
    assert all(sorted(order.tolist()) == digits.train.index.tolist() for order in orders)
    assert torch.equal(orders[0], orders[2]) and not torch.equal(orders[0], orders[1])


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
    again = train.train(TINY, digits, tmp_path / "again")
    other = train.train(dataclasses.replace(TINY, seed=43), digits, tmp_path / "other")
    assert again.summary["weights_sha256"] == never_stopped.summary["weights_sha256"]
    assert other.summary["weights_sha256"] != never_stopped.summary["weights_sha256"]
    assert state.weights_digest(again.model) == again.summary["weights_sha256"]


@pytest.mark.parametrize("epochs", [1, 3, 4, 5])
def test_stopped_training_ends_with_the_same_bits(digits, never_stopped, tmp_path, epochs):
    stopped(digits, tmp_path, epochs)
    rows = []
    whole = train.train(TINY, digits, tmp_path, rows.append)
    assert [row["epoch"] for row in rows] == list(range(epochs + 1, 7))
    assert whole.summary["weights_sha256"] == never_stopped.summary["weights_sha256"]
    keys = ("epoch", "train_loss", "holdout_accuracy", "learning_rate")
    assert [[row[key] for key in keys] for row in whole.history] == [
        [row[key] for key in keys] for row in never_stopped.history
    ]


def test_finished_training_is_loaded_not_repeated(digits, tmp_path):
    first = train.train(TINY, digits, tmp_path)
    again = train.train(TINY, digits, tmp_path, lambda row: pytest.fail("trained again"))
    assert again.summary == first.summary


@pytest.mark.parametrize("damage", ["truncated", "flipped"])
def test_damaged_checkpoint_is_named_and_the_one_before_used(digits, never_stopped, tmp_path, damage):
    path = stopped(digits, tmp_path, 3) / state.CHECKPOINT
    content = bytearray(path.read_bytes())
    if damage == "flipped":
        content[len(content) // 2] ^= 1
    path.write_bytes(content[:-100] if damage == "truncated" else content)
    said, rows = [], []
    whole = train.train(TINY, digits, tmp_path, rows.append, say=said.append)
    assert len(said) == 1 and str(path) in said[0] and "damaged" in said[0]
    assert rows[0]["epoch"] == 3  # epoch 2 is the last whole one
    assert whole.summary["weights_sha256"] == never_stopped.summary["weights_sha256"]


def test_unfinished_training_of_other_parameters_is_refused(digits, tmp_path):
    partial = stopped(digits, tmp_path, 2)
    before = (partial / state.CHECKPOINT).read_bytes()
    with pytest.raises(UserError, match=re.escape("learning_rate 0.05 -> 0.06")) as caught:
        train.train(dataclasses.replace(TINY, learning_rate=0.06), digits, tmp_path)
    assert "epoch 2" in str(caught.value) and "RETRAIN=1" in str(caught.value) and "\n" not in str(caught.value)
    assert (partial / state.CHECKPOINT).read_bytes() == before
    other = train.train(dataclasses.replace(TINY, learning_rate=0.06), digits, tmp_path, retrain=True)
    assert other.summary["parameters"]["learning_rate"] == 0.06 and len(other.history) == 6


def test_unfinished_training_of_other_code_is_refused(digits, tmp_path, monkeypatch):
    stopped(digits, tmp_path, 2)
    real = fingerprint.of_files
    monkeypatch.setattr(fingerprint, "of_files", lambda names: {**real(names), "lib/augment.py": "0" * 64})
    with pytest.raises(UserError, match=r"lib/augment\.py"):
        train.train(TINY, digits, tmp_path)


def test_old_state_stays_until_the_new_one_is_complete(digits, tmp_path):
    train.train(TINY, digits, tmp_path)
    complete = state.complete_folder(tmp_path)
    before = {path.name: path.read_bytes() for path in complete.iterdir()}
    longer = dataclasses.replace(TINY, epochs=5)
    stopped(digits, tmp_path, 3, longer)
    assert {path.name: path.read_bytes() for path in complete.iterdir()} == before
    assert train.train(longer, digits, tmp_path).summary["epochs"] == 7
    assert not state.partial_folder(tmp_path).exists()


def test_weights_carry_their_own_configuration(digits, never_stopped, tmp_path):
    train.train(TINY, digits, tmp_path)
    saved = torch.load(state.complete_folder(tmp_path) / "weights.pt", weights_only=True)
    assert saved["network"] == {"blocks": [1, 1], "widths": [4, 8], "strides": [1, 2], "classes": 10}
    assert saved["classes"] == [str(digit) for digit in range(10)]
    assert saved["parameters"]["learning_rate"] == 0.05
    summary = json.loads((state.complete_folder(tmp_path) / "state.json").read_text())
    assert summary["compute"]["device"] == "cpu" and summary["data"]["checksum"] == digits.checksum


def test_code_that_decides_the_weights_is_all_named():
    """What lib.train imports, also indirectly, is either part of its identity or known not to touch the weights."""
    elsewhere = {
        "archive", "errors", "fetch", "fingerprint", "graph", "inert", "metrics", "mirrors", "params", "paths",
        "predict", "progress", "provenance", "request", "unpickle",
    }  # fmt: skip
    imported = {Path(name).stem for name in fingerprint.of_modules(["train"])}
    assert imported - elsewhere == set(train.CODE)
    assert set(train.CODE) == {Path(name).stem for name in fingerprint.of_files(train.CODE)}
    assert all((paths.ROOT / "lib" / f"{name}.py").is_file() for name in train.CODE)
