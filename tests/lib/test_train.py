"""Training in memory, without a folder, a run or a notebook."""

import dataclasses
import re
from pathlib import Path

import pytest
import torch

from lib import data, train
from lib.errors import UserError
from lib.model import count_parameters
from lib.settings import Train

PAGE = Path(__file__).resolve().parents[2] / "docs" / "architecture.md"
TINY = Train(
    dataset="digits", train_images=60, epochs=3, batch_size=20, widths=(8, 16), blocks=(1, 1),
    strides=(1, 2), learning_rate=0.02, ema=0.9, phase2_epochs=1, device="cpu",
)  # fmt: skip


class Kept:
    """A store that keeps every state in memory."""

    def __init__(self, state=None):
        self.states = [state] if state else []

    def load(self):
        return self.states[-1] if self.states else None

    def save(self, state):
        copied = {key: torch.utils._pytree.tree_map(clone, value) for key, value in state.items()}
        self.states.append(copied)


def clone(value):
    return value.clone() if isinstance(value, torch.Tensor) else value


class Noted(train.Watch):
    """Counts what it hears, and adds to each row."""

    def __init__(self):
        self.heard = []

    def begin(self, epoch):
        self.heard.append(("begin", epoch))

    def step(self, step, steps, images):
        self.heard.append((step, steps, images))

    def end(self, row):
        row["joules"] = 7.0


@pytest.fixture(scope="module")
def digits():
    return data.load("digits", train_images=TINY.train_images)


def weights(training) -> list[torch.Tensor]:
    return list(training.model.state_dict().values())


@pytest.mark.slow
def test_five_lines_in_the_docs_train_in_memory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = PAGE.read_text(encoding="utf-8")
    lines = re.search(r"<!-- example: train in memory -->\n+```python\n(.*?)```", text, re.S)[1]
    names = {}
    exec(lines, names)
    assert len([line for line in lines.splitlines() if line.strip()]) == 5
    assert len(names["training"].history) == 2 and not list(tmp_path.iterdir())


def test_a_store_goes_on_to_the_same_bits_from_every_epoch(digits):
    kept = Kept()
    whole = train.train(TINY, digits, kept)
    assert [state["epoch"] for state in kept.states] == [1, 2, 3, 4]
    for state in kept.states[:3]:
        again = train.train(TINY, digits, Kept(state))
        assert [row["epoch"] for row in again.history] == [1, 2, 3, 4]
        assert all(map(torch.equal, weights(again), weights(whole)))


@pytest.mark.slow
@pytest.mark.parametrize("sam", [0.0, 0.1])
def test_a_stem_s_bias_stays_as_it_is_after_its_epochs(digits, sam):
    recipe = dataclasses.replace(TINY, stem="whitening", block="pooled", optimiser="muon", sam=sam)
    kept, free = Kept(), Kept()
    holding = dataclasses.replace(recipe, stem_bias_epochs=2)
    held = train.train(holding, digits, kept)
    learned = train.train(recipe, digits, free)
    once, two, three, last = (state["model"]["conv.bias"] for state in kept.states)
    assert not torch.equal(once, two) and torch.equal(two, three) and torch.equal(two, last)
    first, second, third, _ = (state["model"] for state in free.states)
    assert torch.equal(second["conv.bias"], two) and not torch.equal(third["conv.bias"], two)
    others = [name for name in first if name.endswith("weight") and name != "conv.weight"]
    assert not any(
        torch.equal(kept.states[1]["model"][n], kept.states[3]["model"][n]) for n in others
    )
    assert count_parameters(held.model) == count_parameters(learned.model)
    for state in kept.states[:3]:  # before it is held, while it is, and in the second phase
        again = train.train(holding, digits, Kept(state))
        assert all(map(torch.equal, weights(again), weights(held)))


def test_a_watch_hears_every_step_and_changes_no_bit(digits):
    noted = Noted()
    watched, alone = train.train(TINY, digits, watch=noted), train.train(TINY, digits)
    assert noted.heard[:5] == [("begin", 0), (1, 3, 20), (2, 3, 40), (3, 3, 60), ("begin", 1)]
    assert [row["joules"] for row in watched.history] == [7.0] * 4
    assert "joules" not in alone.history[0]
    assert all(map(torch.equal, weights(watched), weights(alone)))


def test_the_learning_rate_follows_the_schedule_within_an_epoch(digits):
    """A row's rate is that of its last step: two thirds through the epoch, of three steps."""
    linear = dataclasses.replace(
        TINY, phase2_epochs=0, schedule="one_cycle", schedule_by="step", epochs=2
    )
    rates = [row["learning_rate"] for row in train.train(linear, digits).history]
    assert rates == pytest.approx([0.02 * (1 - (2 / 3) / 2), 0.02 * (1 - (5 / 3) / 2)])


def test_data_is_named_or_refused(tmp_path):
    with pytest.raises(UserError, match="dataset = 'cifar10': write 'digits', or 'cifar10' and"):
        data.load("cifar10")
    with pytest.raises(UserError, match="not the files of CIFAR-10"):
        data.load("cifar10", tmp_path)
