"""The exponential moving average of a network during training."""

import copy

import torch
from torch import Tensor, nn


class Average:
    """A copy of a network that follows it: average = d average + (1 - d) value.

    So for weights and batch-norm statistics. The decay d rises as min(decay, (1 + t) / (10 + t))
    over the steps t, so that the random initialisation is soon forgotten (as TensorFlow's
    ExponentialMovingAverage with num_updates). Counters are copied.

    Args:
        model: the network that is trained; it stays as it is.
        decay: in [0, 1), for each step; 0.999 remembers some 1,000 steps, fewer at first.
    """

    def __init__(self, model: nn.Module, decay: float):
        self.model = copy.deepcopy(model).requires_grad_(False).eval()
        self.decay, self.steps = decay, 0

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Take one step towards `model`."""
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        self.steps += 1
        mine, theirs = _tensors(self.model), _tensors(model)
        torch._foreach_lerp_(mine[0], theirs[0], 1 - decay)
        for counter, value in zip(mine[1], theirs[1], strict=True):
            counter.copy_(value)

    def state_dict(self) -> dict:
        """Return what a checkpoint needs."""
        return {"model": self.model.state_dict(), "steps": self.steps}

    def load_state_dict(self, saved: dict) -> None:
        """Take up what `state_dict` gave."""
        self.model.load_state_dict(saved["model"])
        self.steps = saved["steps"]


def _tensors(model: nn.Module) -> tuple[list[Tensor], list[Tensor]]:
    """Return a network's floating-point tensors and its others (batch norm's counters)."""
    both = [*model.parameters(), *model.buffers()]
    counters = [one for one in both if not one.is_floating_point()]
    return [one for one in both if one.is_floating_point()], counters
