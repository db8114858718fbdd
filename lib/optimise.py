"""The optimisers: SGD, Muon for convolutions, and the step of sharpness-aware minimisation."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from lib import compute
from lib.settings import Train

NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)  # of the quintic, by Jordan for speed near zero


def orthogonal(matrices: Tensor, steps: int = 5) -> Tensor:
    """Return U V^T approximately for each matrix U S V^T: most singular values near 1 (0.7 to 1.2).

    Newton-Schulz iteration in bfloat16 (Jordan et al., Muon, 2024), or in float32 where the
    processor only emulates bfloat16, which takes many times as long; (..., rows, columns), same
    dtype back.
    """
    a, b, c = NEWTON_SCHULZ
    wide = matrices.shape[-2] <= matrices.shape[-1]
    native = compute.bf16_is_native(matrices.device)
    x = (matrices if wide else matrices.mT).to(torch.bfloat16 if native else torch.float32)
    x = x / x.norm(dim=(-2, -1), keepdim=True).clamp(min=1e-7)
    for _ in range(steps):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return (x if wide else x.mT).to(matrices.dtype)


class Muon(torch.optim.Optimizer):
    """Momentum with orthogonal steps: each convolution as a matrix (C_out, C_in * height * width).

    Each filter bank is kept at the norm sqrt(C_out), so that the learning rate is an angle and
    weight decay has nothing to do (Jordan, airbench94_muon, 2024). Nesterov's form.

    Args:
        params: weights of two and more dimensions.
        lr: length of a step by each singular direction; momentum: in [0, 1).
        keep_norm: false leaves the norms alone; steps: of the Newton-Schulz iteration.
    """

    def __init__(
        self, params: Iterable, lr: float, momentum: float, keep_norm: bool = True, steps: int = 5
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "keep_norm": keep_norm})
        self.steps = steps  # not of a group: checkpoints hold what groups have

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]  # no loss: no closure
        """Move every weight that has a gradient."""
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is not None:
                    self._move(weight, weight.grad, group)

    def _move(self, weight: Tensor, gradient: Tensor, group: dict) -> None:
        state = self.state[weight]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(weight)
        buffer = state["momentum_buffer"].mul_(group["momentum"]).add_(gradient)
        direction = gradient.add(buffer, alpha=group["momentum"])
        update = orthogonal(direction.reshape(len(weight), -1), self.steps).view_as(weight)
        if group["keep_norm"]:
            weight.mul_(len(weight) ** 0.5 / weight.norm())
        weight.sub_(update * group["lr"])  # the rate may be a tensor under a compiled step


class Together:
    """Several optimisers as one."""

    def __init__(self, *optimisers: torch.optim.Optimizer):
        self.optimisers = optimisers

    @property
    def param_groups(self) -> list[dict]:
        """All groups, in order."""
        return [group for each in self.optimisers for group in each.param_groups]

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Drop all gradients."""
        for each in self.optimisers:
            each.zero_grad(set_to_none=set_to_none)

    def step(self) -> None:
        """Step each."""
        for each in self.optimisers:
            each.step()

    def state_dict(self) -> dict:
        """Return what a checkpoint needs."""
        return {"optimisers": [each.state_dict() for each in self.optimisers]}

    def load_state_dict(self, saved: dict) -> None:
        """Take up what `state_dict` gave."""
        for each, state in zip(self.optimisers, saved["optimisers"], strict=True):
            each.load_state_dict(state)


Optimiser = torch.optim.Optimizer | Together


def make_optimiser(model: nn.Module, recipe: Train) -> Optimiser:
    """Return the optimiser the recipe names; only what is trained is in it.

    Each group carries `factor`, by which its learning rate differs from the schedule's. Vectors
    (batch norm, biases) are spared the weight decay unless decay_all. The biases of batch norm and
    convolutions are trained `shift_rate` times as fast, and decay by as much less, so that the
    decay of a step stays what it was. Muon takes the convolutions, SGD all else.
    """
    biases, filters, vectors, matrices = sorted_parameters(model)
    decay = recipe.weight_decay
    vector_decay = decay if recipe.decay_all else 0.0
    if recipe.optimiser == "sgd":
        matrices, filters = filters + matrices, []
    factor = recipe.shift_rate
    groups = [
        {"params": matrices, "weight_decay": decay, "factor": 1.0},
        {"params": vectors, "weight_decay": vector_decay, "factor": 1.0},
        {"params": biases, "weight_decay": vector_decay / factor, "factor": factor},
    ]
    fused = next(model.parameters()).device.type == "cuda"
    nesterov = recipe.nesterov and recipe.momentum > 0
    rate, momentum = recipe.learning_rate, recipe.momentum
    sgd = torch.optim.SGD(_merged(groups), rate, momentum, nesterov=nesterov, fused=fused)
    if not filters:
        return sgd
    muon_rate = recipe.muon_learning_rate
    groups = [{"params": filters, "factor": muon_rate / rate}]
    return Together(sgd, Muon(groups, muon_rate, recipe.muon_momentum, steps=recipe.muon_steps))


def _merged(groups: list[dict]) -> list[dict]:
    """Return the groups that hold anything, those with equal values as one."""
    merged: dict[tuple, dict] = {}
    for group in groups:
        key = (group["weight_decay"], group["factor"])
        if group["params"]:
            merged.setdefault(key, {**group, "params": []})["params"] += group["params"]
    return list(merged.values())


def sorted_parameters(model: nn.Module) -> tuple[list, list, list, list]:
    """The trained parameters: biases (of norms, convolutions), filters, other vectors, matrices."""
    lists: tuple[list, list, list, list] = [], [], [], []
    biases, filters, vectors, matrices = lists
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            if not parameter.requires_grad:
                continue
            if name == "bias" and isinstance(module, nn.BatchNorm2d | nn.Conv2d):
                biases.append(parameter)
            else:
                {4: filters, 1: vectors}.get(parameter.dim(), matrices).append(parameter)
    return lists


@contextmanager
def at_sharpest(model: nn.Module, radius: float, adaptive: bool) -> Iterator[None]:
    """Inside, weights are at the highest loss within `radius`, to first order; gradients cleared.

    Foret et al., Sharpness-Aware Minimization (ICLR 2021), equation 2; `adaptive` measures the
    distance in proportion to each weight (Kwon et al., ASAM, ICML 2021). Afterwards weights and
    batch-norm statistics are what they were, to the bit; the gradients are those of the inside.
    """
    weights = [weight for weight in model.parameters() if weight.grad is not None]
    statistics = [buffer for buffer in model.buffers() if buffer.is_floating_point()]
    kept, kept_statistics = _copies(weights), _copies(statistics)
    with torch.no_grad():
        scales = [weight.abs() if adaptive else torch.ones(()) for weight in weights]
        gradients = [weight.grad for weight in weights if weight.grad is not None]
        slopes = [scale * part for scale, part in zip(scales, gradients, strict=True)]
        norm = torch.stack(torch._foreach_norm(slopes)).norm().clamp(min=1e-12)
        for weight, scale, slope in zip(weights, scales, slopes, strict=True):
            weight.add_(scale * slope * (radius / norm))
            weight.grad = None
    yield
    with torch.no_grad():
        for tensor, value in zip([*weights, *statistics], [*kept, *kept_statistics], strict=True):
            tensor.copy_(value)


def _copies(tensors: Iterable[Tensor]) -> list[Tensor]:
    return [tensor.detach().clone() for tensor in tensors]
