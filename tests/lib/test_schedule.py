"""Learning rates against torch's schedulers, the reference's printed figures, points by hand."""

import json
import math
from dataclasses import fields
from pathlib import Path

import pytest
import torch
from torch.optim.lr_scheduler import ConstantLR, CosineAnnealingLR, MultiStepLR

from lib.schedule import learning_rate, phases, total_epochs
from lib.settings import SCHEDULES, Train

REFERENCE = json.loads(
    (Path(__file__).resolve().parents[2] / "docs" / "reference.json").read_text(encoding="utf-8")
)

# The reference as its notebook ran it: two phases of one hundred epochs (docs/reference.md).
AS_RUN = Train(
    epochs=100,
    learning_rate=0.1,
    schedule="step",
    schedule_by="epoch",
    milestones=(50, 75),
    cutmix=0.0,
    phase2_epochs=100,
    phase2_learning_rate=0.01,
    phase2_schedule="cosine",
    phase2_vertical_flip=0.05,
    phase2_blur=0.3,
    phase2_erasing=0.5,
    normalisation="image",
    phase2_normalisation="pixel",
)


def torchs_rates(scheduler, peak, epochs, **arguments):
    """The learning rate that torch's scheduler gives before each epoch, and after the last."""
    optimiser = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=peak)
    schedule, rates = scheduler(optimiser, **arguments), []
    for _ in range(epochs + 1):
        rates.append(optimiser.param_groups[0]["lr"])
        optimiser.step()
        schedule.step()
    return rates


@pytest.mark.parametrize(("epochs", "peak"), [(100, 0.1), (100, 0.01), (7, 0.3)])
def test_cosine_equals_torchs(epochs, peak):
    expected = torchs_rates(CosineAnnealingLR, peak, epochs, T_max=epochs)
    found = [learning_rate("cosine", epoch, epochs, peak) for epoch in range(epochs + 1)]
    assert found == pytest.approx(expected, rel=1e-9, abs=1e-12)
    assert found[0] == peak and found[-1] == pytest.approx(0, abs=1e-15)


@pytest.mark.parametrize(
    ("milestones", "gamma"), [((50, 75), 0.1), ((1,), 0.5), ((3, 3, 90), 0.2), ((), 0.1)]
)
def test_step_equals_torchs(milestones, gamma):
    expected = torchs_rates(MultiStepLR, 0.1, 100, milestones=list(milestones), gamma=gamma)
    found = [learning_rate("step", epoch, 100, 0.1, 0.0, milestones, gamma) for epoch in range(101)]
    assert found == pytest.approx(expected, rel=1e-9)


def test_step_by_hand():
    rates = [
        learning_rate("step", time, 100, 0.1, milestones=(50, 75))
        for time in (0, 49.99, 50, 74.99, 75, 100)
    ]
    assert rates == pytest.approx([0.1, 0.1, 0.01, 0.01, 0.001, 0.001])


def test_constant_equals_torchs():
    expected = torchs_rates(ConstantLR, 0.05, 10, factor=1.0)
    assert [learning_rate("constant", epoch, 10, 0.05) for epoch in range(11)] == pytest.approx(
        expected
    )


def test_the_reference_s_printed_rates_to_six_decimals():
    printed = {int(epoch): rate for epoch, rate in REFERENCE["learning_rates_phase2"].items()}
    assert len(printed) == 13 and printed[46] == 0.005627
    assert {
        epoch: round(learning_rate("cosine", epoch, 100, 0.01), 6) for epoch in printed
    } == printed
    second = phases(AS_RUN)[1]
    assert {epoch: round(second.rate(100 + epoch), 6) for epoch in printed} == printed


@pytest.mark.parametrize(
    ("schedule", "time", "expected"),
    [
        ("one_cycle", 0, 0.0),
        ("one_cycle", 1, 0.1),
        ("one_cycle", 2, 0.2),
        ("one_cycle", 4, 0.4),  # rise: 4 epochs to 0.4
        ("one_cycle", 7, 0.3),
        ("one_cycle", 10, 0.2),
        ("one_cycle", 15, 0.4 / 12),
        ("one_cycle", 16, 0.0),
        ("cosine", 2, 0.2),
        ("cosine", 4, 0.4),
        ("cosine", 10, 0.2),
        ("cosine", 16, 0.0),
        ("cosine", 8, 0.2 * (1 + math.cos(math.pi / 3))),
        ("cosine", 12, 0.2 * (1 - 0.5)),
        ("constant", 1, 0.1),
        ("constant", 3.999, 0.3999),
        ("constant", 4, 0.4),
        ("constant", 16, 0.4),
        ("step", 2, 0.2),
        ("step", 4, 0.4),
        ("step", 9.5, 0.4),
        ("step", 10, 0.04),  # milestones count from the start
    ],
)
def test_warm_up_by_hand(schedule, time, expected):
    """16 epochs with a peak of 0.4, the first 4 of them warm-up; a milestone at 10."""
    assert learning_rate(schedule, time, 16, 0.4, 4.0, (10,), 0.1) == pytest.approx(
        expected, abs=1e-12
    )


def test_one_cycle_without_a_rise_falls_linearly():
    rates = [learning_rate("one_cycle", time, 4, 0.8) for time in (0, 1, 2, 3, 4)]
    assert rates == pytest.approx([0.8, 0.6, 0.4, 0.2, 0.0])


def test_warm_up_over_the_whole_training():
    assert learning_rate("cosine", 1, 2, 0.1, warmup=2.0) == pytest.approx(0.05)
    assert learning_rate("cosine", 2, 2, 0.1, warmup=2.0) == pytest.approx(0.0)
    assert learning_rate("cosine", 2, 2, 0.1, warmup=3.0) == pytest.approx(0.1 * 2 / 3)


def test_unknown_schedule():
    with pytest.raises(ValueError, match=r"'poly'.*constant, step, cosine or one_cycle"):
        learning_rate("poly", 0, 1, 0.1)
    for schedule in SCHEDULES:  # every one that parameters may name
        assert 0 <= learning_rate(schedule, 0.5, 1, 0.1) <= 0.1


def test_two_phases_as_the_reference_ran():
    first, second = phases(AS_RUN)
    assert (first.number, first.first_epoch, first.end) == (1, 0, 100)
    assert (second.number, second.first_epoch, second.end) == (2, 100, 200)
    assert total_epochs(AS_RUN) == 200
    before = torchs_rates(MultiStepLR, 0.1, 100, milestones=[50, 75], gamma=0.1)
    after = torchs_rates(CosineAnnealingLR, 0.01, 100, T_max=100)
    assert [first.rate(epoch) for epoch in range(100)] == pytest.approx(before[:100], rel=1e-9)
    assert [second.rate(100 + epoch) for epoch in range(101)] == pytest.approx(
        after, rel=1e-9, abs=1e-12
    )
    assert second.rate(100) == 0.01  # its own peak, not where phase 1 ended


def test_second_phase_has_its_own_values():
    first, second = (phase.recipe for phase in phases(AS_RUN))
    own = (
        "epochs",
        "learning_rate",
        "schedule",
        "vertical_flip",
        "blur",
        "erasing",
        "cutmix",
        "normalisation",
    )
    assert [getattr(first, name) for name in own] == [100, 0.1, "step", 0.0, 0.0, 0.0, 0.0, "image"]
    assert [getattr(second, name) for name in own] == [
        100,
        0.01,
        "cosine",
        0.05,
        0.3,
        0.5,
        0.0,
        "pixel",
    ]
    same = {item.name for item in fields(Train)} - set(own) - {"warmup_epochs"}
    assert all(getattr(first, name) == getattr(second, name) for name in same)
    prefixed = {item.name for item in fields(Train) if item.name.startswith("phase2_")}
    assert prefixed == {f"phase2_{name}" for name in own}


def test_only_the_first_phase_warms_up():
    first, second = phases(
        Train(
            epochs=4,
            warmup_epochs=2.0,
            learning_rate=0.1,
            phase2_epochs=3,
            phase2_learning_rate=0.02,
            schedule_by="step",
        )
    )
    assert [first.rate(time) for time in (0, 1, 2, 3, 4)] == pytest.approx([0, 0.05, 0.1, 0.05, 0])
    assert [second.rate(4 + time) for time in (0, 1.5, 3)] == pytest.approx(
        [0.02, 0.01, 0], abs=1e-12
    )


@pytest.mark.parametrize(
    ("warmup", "rates"),
    [(1.0, [0, 0.05, 0.1, 0.1, 0.05, 0.05]), (0.5, [0, 0.1, 0.08, 0.08, 0.04, 0.04])],
)
def test_by_epoch_a_warm_up_still_rises_with_each_step(warmup, rates):
    """Else its first epoch had the rate 0. At 0, 0.5, 1, ... epochs; then it falls by the epoch."""
    settings = Train(epochs=3, warmup_epochs=warmup, schedule="one_cycle", learning_rate=0.1)
    (only,) = phases(settings)
    assert only.recipe.schedule_by == "epoch"
    assert [only.rate(half / 2) for half in range(6)] == pytest.approx(rates)


def test_second_phase_with_steps_counts_milestones_from_its_own_start():
    second = phases(Train(epochs=10, milestones=(3,), phase2_epochs=5, phase2_schedule="step"))[1]
    assert [second.rate(10 + epoch) for epoch in range(5)] == pytest.approx(
        [0.01] * 3 + [0.001] * 2
    )


def test_one_phase():
    (only,) = phases(Train(epochs=3))
    assert (only.number, only.first_epoch, only.end) == (1, 0, 3) and total_epochs(
        Train(epochs=3)
    ) == 3


@pytest.mark.parametrize("steps", [7, 49, 352, 391])
def test_by_epoch_the_rate_is_constant_within_an_epoch(steps):
    expected = torchs_rates(CosineAnnealingLR, 0.01, 100, T_max=100)
    second = phases(AS_RUN)[1]
    for epoch in (0, 1, 57, 99):
        rates = {second.rate(100 + epoch + step / steps) for step in range(steps)}
        assert len(rates) == 1 and rates.pop() == pytest.approx(expected[epoch], rel=1e-9)


def test_by_step_the_rate_changes_with_each_step():
    (phase,) = phases(Train(epochs=4, learning_rate=0.1, schedule="cosine", schedule_by="step"))
    expected = torchs_rates(CosineAnnealingLR, 0.1, 40, T_max=40)  # ten steps an epoch
    found = [phase.rate(epoch + step / 10) for epoch in range(4) for step in range(10)]
    assert found == pytest.approx(expected[:40], rel=1e-6)
    assert len(set(found)) == 40
