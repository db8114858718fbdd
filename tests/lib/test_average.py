"""The moving average, against PyTorch's and by hand."""

import copy

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from lib.average import Average


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4 * 36, 2))


def change(model: nn.Module, seed: int) -> None:
    """Give every weight and statistic another value."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for tensor in (*model.parameters(), *model.buffers()):
            if tensor.is_floating_point():
                tensor.copy_(torch.rand(tensor.shape, generator=generator))
            else:
                tensor.add_(1)


def test_average_is_pytorchs_once_warm():
    model = network()
    theirs = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.9))
    theirs.update_parameters(model)  # its first call copies
    ours = Average(model, 0.9)
    ours.steps = 10**6
    for seed in range(5):
        change(model, seed)
        ours.update(model)
        theirs.update_parameters(model)
    for mine, other in zip(ours.model.parameters(), theirs.module.parameters(), strict=True):
        torch.testing.assert_close(mine, other)


def test_batch_norm_statistics_are_averaged_and_counters_copied():
    model = network()
    ours = Average(model, 0.75)
    ours.steps = 10**6
    before = ours.model[1].running_mean.clone()
    change(model, 1)
    ours.update(model)
    torch.testing.assert_close(
        ours.model[1].running_mean, 0.75 * before + 0.25 * model[1].running_mean
    )
    assert ours.model[1].num_batches_tracked.item() == model[1].num_batches_tracked.item() == 1


@pytest.mark.parametrize(("steps", "decay"), [(0, 0.1), (1, 2 / 11), (10, 11 / 20), (10**6, 0.9)])
def test_decay_rises_from_a_tenth(steps, decay):
    model = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(model.weight)
    ours = Average(model, 0.9)
    ours.steps = steps
    nn.init.ones_(model.weight)
    ours.update(model)
    assert ours.model.weight.item() == pytest.approx(1 - decay, rel=1e-5)


def test_average_leaves_the_network_alone_and_is_restored_exactly():
    model = network()
    ours = Average(model, 0.99)
    change(model, 3)
    before = copy.deepcopy(model.state_dict())
    ours.update(model)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert (
        not any(parameter.requires_grad for parameter in ours.model.parameters())
        and not ours.model.training
    )
    restored = Average(network(), 0.99)
    restored.load_state_dict(copy.deepcopy(ours.state_dict()))
    change(model, 4)
    ours.update(model), restored.update(model)
    for mine, other in zip(
        ours.model.state_dict().values(), restored.model.state_dict().values(), strict=True
    ):
        assert torch.equal(mine, other)


def test_the_first_three_steps_by_hand():
    """The decay is 1/10, 2/11 and 3/12, counted from the first step on."""
    model, expected = nn.Linear(1, 1, bias=False), 0.0
    nn.init.zeros_(model.weight)
    ours = Average(model, 0.9)
    for value, decay in ((1.0, 1 / 10), (2.0, 2 / 11), (3.0, 3 / 12)):
        nn.init.constant_(model.weight, value)
        ours.update(model)
        expected = decay * expected + (1 - decay) * value
        assert ours.model.weight.item() == pytest.approx(expected)
    assert ours.state_dict()["steps"] == 3
