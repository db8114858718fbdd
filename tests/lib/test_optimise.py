"""The optimisers against PyTorch's own, sharpness-aware minimisation against values by hand."""

import dataclasses

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from lib import compute, model, optimise, step
from lib.settings import Train

TINY = Train(
    blocks=(1, 1),
    widths=(8, 16),
    strides=(1, 2),
    batch_size=8,
    learning_rate=0.05,
    weight_decay=1e-3,
)


def weights(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


def grouped(built, **changes):
    return optimise.make_optimiser(built, dataclasses.replace(TINY, **changes))


@pytest.mark.parametrize("native", [True, False])
@pytest.mark.parametrize("shape", [(16, 16), (8, 72), (72, 8), (3, 16, 40)])
def test_orthogonal_brings_all_singular_values_near_one(shape, native, monkeypatch):
    monkeypatch.setattr(compute, "bf16_is_native", lambda device: native)
    matrices = weights(*shape) * 7
    found = torch.linalg.svdvals(optimise.orthogonal(matrices))
    assert found.min() > 0.3 and found.max() < 1.3
    assert torch.linalg.svdvals(matrices).max() > 10
    left, _, right = torch.linalg.svd(matrices, full_matrices=False)  # the directions stay
    assert (
        torch.nn.functional.cosine_similarity(
            optimise.orthogonal(matrices).flatten(), (left @ right).flatten(), dim=0
        )
        > 0.97
    )


@pytest.mark.parametrize("steps", [3, 5])
def test_where_bfloat16_is_only_emulated_orthogonal_computes_in_float32(steps, monkeypatch):
    monkeypatch.setattr(compute, "bf16_is_native", lambda device: False)
    matrix = weights(8, 72)
    exact = matrix.double() / matrix.double().norm()
    for _ in range(steps):  # the iteration as Jordan gives it, in float64
        gram = exact @ exact.T
        exact = 3.4445 * exact + (-4.7750 * gram + 2.0315 * gram @ gram) @ exact
    found = optimise.orthogonal(matrix, steps)
    torch.testing.assert_close(found, exact.float(), rtol=1e-4, atol=1e-5)
    convolution = nn.Parameter(torch.zeros(8, 72))
    convolution.grad = matrix
    optimise.Muon([convolution], 1.0, 0.0, keep_norm=False, steps=steps).step()
    torch.testing.assert_close(convolution.detach(), -found)


@pytest.mark.parametrize("shape", [(8, 24), (24, 8)])
def test_muon_without_kept_norms_is_torchs_own(shape):
    ours, theirs = (nn.Parameter(weights(*shape)) for _ in range(2))
    rate = 0.1 / max(1, shape[0] / shape[1]) ** 0.5  # by which torch's default scales tall matrices
    mine = optimise.Muon([ours], 0.1, 0.9, keep_norm=False)
    torchs = torch.optim.Muon([theirs], lr=rate, momentum=0.9, nesterov=True, weight_decay=0.0)
    for number in range(4):
        for parameter in (ours, theirs):
            parameter.grad = weights(*shape) * (number + 1) + number
        mine.step()
        torchs.step()
    mine, torchs = ((one.detach() - weights(*shape)).flatten() for one in (ours, theirs))
    assert F.cosine_similarity(mine, torchs, dim=0) > 0.998  # bfloat16 inside
    assert mine.norm().item() == pytest.approx(torchs.norm().item(), rel=0.01) and mine.norm() > 0.5


def test_muon_keeps_each_filter_bank_at_the_norm_of_its_outputs():
    convolution = nn.Parameter(weights(8, 4, 3, 3) * 5)
    convolution.grad = weights(8, 4, 3, 3)
    muon = optimise.Muon([convolution], 0.0, 0.6)
    muon.step()
    assert convolution.norm().item() == pytest.approx(8**0.5)
    torch.testing.assert_close(
        F.normalize(convolution.detach().flatten(), dim=0),
        F.normalize(weights(8, 4, 3, 3).flatten(), dim=0),
    )
    muon.param_groups[0]["lr"] = 0.2
    before = convolution.detach().clone()
    muon.step()
    moved = (before - convolution.detach()).reshape(8, -1)
    assert torch.linalg.svdvals(moved).mean().item() == pytest.approx(0.2, rel=0.25)


def test_muon_takes_the_convolutions_and_sgd_the_rest():
    built = model.build(TINY, seed=1)
    both = grouped(built, optimiser="muon", muon_learning_rate=0.2)
    sgd, muon = both.optimisers
    assert [parameter.dim() for parameter in muon.param_groups[0]["params"]] == [4] * 6
    assert (
        muon.steps == 5 and grouped(built, optimiser="muon", muon_steps=3).optimisers[1].steps == 3
    )
    assert {parameter.dim() for group in sgd.param_groups for parameter in group["params"]} == {
        1,
        2,
    }
    everything = [parameter for group in both.param_groups for parameter in group["params"]]
    assert {id(one) for one in everything} == {id(one) for one in built.parameters()}
    assert len(everything) == len(list(built.parameters()))
    assert muon.param_groups[0]["factor"] * TINY.learning_rate == pytest.approx(0.2)


def test_what_is_fixed_is_not_trained():
    built = model.build(dataclasses.replace(TINY, stem="whitening", norm_scale=False), seed=1)
    trained = {
        id(one)
        for group in grouped(built, optimiser="muon").param_groups
        for one in group["params"]
    }
    fixed = [name for name, one in built.named_parameters() if id(one) not in trained]
    assert set(fixed) == {"conv.weight"} | {
        f"{name}.weight"
        for name, module in built.named_modules()
        if isinstance(module, nn.BatchNorm2d)
    }


def test_shifts_learn_faster_and_decay_by_the_same_step():
    groups = grouped(model.build(TINY, seed=1), shift_rate=64.0).param_groups
    fast = [group for group in groups if group["factor"] == 64.0]
    assert len(fast) == 1 and all(parameter.dim() == 1 for parameter in fast[0]["params"])
    # A shift for each batch norm, and the classifier's is not among them.
    assert len(fast[0]["params"]) == 6
    assert fast[0]["weight_decay"] * 64 == pytest.approx(TINY.weight_decay)
    assert len(groups) == 2


def test_several_optimisers_come_back_from_a_checkpoint_as_they_were():
    def moved(steps, saved=None):
        built = model.build(TINY, seed=1)
        both = grouped(built, optimiser="muon")
        if saved:
            built.load_state_dict(saved[0])
            both.load_state_dict(saved[1])
        for number in range(*steps):
            generator = torch.Generator().manual_seed(number)
            for parameter in built.parameters():
                parameter.grad = torch.randn(parameter.shape, generator=generator)
            both.step()
        return built.state_dict(), both.state_dict()

    whole, halfway = moved((0, 4)), moved((0, 2))
    resumed = moved((2, 4), halfway)
    assert all(
        torch.equal(one, other)
        for one, other in zip(whole[0].values(), resumed[0].values(), strict=True)
    )


# Sharpness-aware minimisation


class Bowl(nn.Module):
    """The loss w^T A w / 2, whose gradient is A w."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([3.0, -1.0]))
        self.slopes = torch.tensor([1.0, 10.0])

    def forward(self):
        return (self.slopes * self.weight**2).sum() / 2


@pytest.mark.parametrize(
    ("adaptive", "expected"),
    # g = (3, -10); plain: w + 0.5 g / |g|. adaptive: w + 0.5 |w| (|w| g) / ||w| g| with |w| = (3,
    # 1): (9, -10).
    [
        (False, [3 + 0.5 * 3 / 109**0.5, -1 - 0.5 * 10 / 109**0.5]),
        (True, [3 + 0.5 * 3 * 9 / 181**0.5, -1 - 0.5 * 1 * 10 / 181**0.5]),
    ],
)
def test_the_sharpest_neighbour(adaptive, expected):
    bowl = Bowl()
    bowl().backward()
    with optimise.at_sharpest(bowl, 0.5, adaptive):
        there = bowl.weight.detach().clone()
        bowl().backward()
    torch.testing.assert_close(there, torch.tensor(expected))
    torch.testing.assert_close(bowl.weight.grad, bowl.slopes * torch.tensor(expected))
    assert bowl.weight.tolist() == [3.0, -1.0]


def test_a_step_of_sam_is_sgd_with_the_gradient_found_there():
    generator = torch.Generator().manual_seed(3)
    images, labels = torch.randn(8, 3, 32, 32, generator=generator), torch.arange(8)
    batch = step.Batch(images, labels, labels, torch.ones(8))
    recipe = dataclasses.replace(TINY, sam=0.1, cutmix=0.0)
    ours, twin = model.build(recipe, seed=1).train(), model.build(recipe, seed=1).train()
    optimiser = optimise.make_optimiser(ours, recipe)
    step.train_step(ours, step.loss_function(ours, "fp32"), optimiser, batch, recipe)

    F.cross_entropy(twin(images), labels).backward()
    statistics = {name: one.clone() for name, one in twin.named_buffers()}
    start = [one.detach().clone() for one in twin.parameters()]
    norm = torch.cat([one.grad.flatten() for one in twin.parameters()]).norm()
    for one in twin.parameters():
        one.data += 0.1 * one.grad / norm
        one.grad = None
    F.cross_entropy(twin(images), labels).backward()
    for one, before, mine in zip(twin.parameters(), start, ours.parameters(), strict=True):
        expected = before - recipe.learning_rate * (one.grad + recipe.weight_decay * before)
        torch.testing.assert_close(mine.detach(), expected, rtol=1e-4, atol=1e-6)
    for name, one in ours.named_buffers():  # the second look leaves batch norm's statistics alone
        if one.is_floating_point():
            assert torch.equal(one, statistics[name])


# A teacher


def test_distillation_is_the_divergence_of_softened_predictions():
    logits, taught = weights(6, 10) * 3, weights(6, 10).flip(0) * 2
    softened = (torch.distributions.Categorical(logits=one / 4) for one in (taught, logits))
    expected = torch.distributions.kl_divergence(*softened).mean() * 16
    torch.testing.assert_close(step.distillation(logits, taught, 4.0), expected)


@pytest.mark.parametrize(("weight", "expected"), [(0.0, "labels"), (1.0, "nothing")])
def test_the_teachers_share_of_the_loss(weight, expected):
    pupil = model.build(TINY, seed=1).eval()
    recipe = dataclasses.replace(TINY, teacher="another", teacher_weight=weight, cutmix=0.0)
    images, labels = weights(8, 3, 32, 32), torch.arange(8)
    batch = step.Batch(images, labels, labels, torch.ones(8))
    loss, _ = step.loss_function(pupil, "fp32", teacher=pupil)(batch, recipe)
    plain = F.cross_entropy(pupil(images), labels)
    assert loss.item() == pytest.approx(plain.item() if expected == "labels" else 0.0, abs=1e-6)
