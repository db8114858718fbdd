"""A trained network as plain steps and weights of few bits, for a program that is not PyTorch.

The steps are those of its forward pass, as torch.fx traces it, with batch norm folded into the
convolution before it. So every network of lib.model that consists of the modules and functions
named here can be exported; another one is refused in one line.
"""

import operator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from bundle.deploy.fold import folded
from lib.errors import UserError

ACTIVATIONS = {F.relu: "relu", F.gelu: "gelu"}
REMEDY = "add it to bundle/demo/export.py and template/network.js"


@dataclass
class Exported:
    """A network's forward pass.

    steps: one dictionary a step, in order of computation; "op" says what it does, "from" lists the
        steps it takes values of, counted from 1; 0 is the normalised image.
    bits: of a weight, 2 to 16.
    weights: whole numbers, those of all convolutions; each step knows where its own begin.
    numbers: scales and biases.
    """

    bits: int
    steps: list[dict[str, Any]] = field(default_factory=list)
    weights: list[np.ndarray] = field(default_factory=list)
    numbers: list[np.ndarray] = field(default_factory=list)

    @property
    def levels(self) -> int:
        """The largest weight: the smallest is its negative."""
        return 2 ** (self.bits - 1) - 1

    def data(self) -> tuple[bytes, bytes]:
        """Return weights and numbers: `bits` bits each from the lowest on, and float32.

        A weight is stored plus `levels`, so that it is not negative. Both are little-endian.
        """
        whole = np.concatenate(self.weights).astype(np.int64) + self.levels
        single = (whole[:, None] >> np.arange(self.bits) & 1).astype(np.uint8)
        packed = np.packbits(single, bitorder="little").tobytes()
        return packed, np.concatenate(self.numbers).astype("<f4").tobytes()

    def keep(self, values: Tensor, parts: list[np.ndarray] | None = None) -> int:
        """Append values to `numbers` or another list of parts; return where they begin."""
        parts = self.numbers if parts is None else parts
        start = sum(map(len, parts))
        parts.append(values.detach().double().flatten().numpy())
        return start


def export(model: nn.Module, bits: int) -> Exported:
    """Return a network's steps; its weights rounded to `bits`, one scale for each output channel.

    Raises:
        UserError: the network has a part that the page cannot compute.
    """
    made, place = Exported(bits), dict[fx.Node, int]()
    try:
        network = fx.symbolic_trace(folded(model))
    except fx.proxy.TraceError as error:
        raise UserError(f"the page cannot follow this network's forward pass: {error}") from error
    modules = dict(network.named_modules())
    for node in network.graph.nodes:
        if node.op == "placeholder":
            place[node] = 0
        elif isinstance(modules.get(node.target), nn.Identity):
            place[node] = place[node.args[0]]
        elif node.op != "output":
            inputs = [argument for argument in node.args if isinstance(argument, fx.Node)]
            step = _step(node, modules, made)
            made.steps.append({"from": [place[one] for one in inputs], **step})
            place[node] = len(made.steps)
    return made


def _step(node: fx.Node, modules: dict[str, nn.Module], made: Exported) -> dict[str, Any]:
    """Return what a node of the traced graph does; UserError where the page cannot do it."""
    if node.op == "call_module" and (step := _of_module(modules[str(node.target)], made)):
        return step
    if node.target in ACTIVATIONS and node.kwargs.get("approximate", "none") == "none":
        return {"op": ACTIVATIONS[node.target]}
    if node.target is operator.add and all(isinstance(each, fx.Node) for each in node.args):
        return {"op": "add"}
    if node.target is operator.mul and isinstance(node.args[1], int | float):
        return {"op": "scale", "factor": node.args[1]}
    if node.target in ("mean", "amax") and node.args[1:] == ((2, 3),):
        return {"op": "pool", "largest": node.target == "amax"}
    part = modules[str(node.target)] if node.op == "call_module" else node.target
    raise UserError(f"the page cannot compute {part} ({node.name}) of this network; {REMEDY}")


def _of_module(module: nn.Module, made: Exported) -> dict[str, Any] | None:
    """Return the step of a PyTorch module, None for one that is not known here."""
    if isinstance(module, nn.Conv2d):
        plain = module.groups == 1 and module.dilation == (1, 1) and module.padding_mode == "zeros"
        sides = (module.kernel_size, module.stride, module.padding)
        square = all(len(set(each)) == 1 for each in sides)
        return _convolution(module, made) if plain and square else None
    if isinstance(module, nn.Linear):
        as_convolution = nn.Conv2d(module.in_features, module.out_features, 1)
        as_convolution.weight = nn.Parameter(module.weight[:, :, None, None])
        as_convolution.bias = module.bias
        return _convolution(as_convolution, made)
    if isinstance(module, nn.BatchNorm2d):  # one that follows no convolution
        mean, variance = module.running_mean, module.running_var
        assert mean is not None and variance is not None
        scale = module.weight / (variance + module.eps).sqrt()
        shift = module.bias - mean * scale
        return {"op": "norm", "scale": made.keep(scale), "shift": made.keep(shift)}
    if isinstance(module, nn.MaxPool2d) and module.kernel_size == module.stride:
        return {"op": "maximum", "size": module.kernel_size}
    return None


def _convolution(module: nn.Conv2d, made: Exported) -> dict[str, Any]:
    """Keep a convolution's weights, rounded, and its biases; return its step."""
    weight = module.weight.detach()
    scale = weight.abs().amax((1, 2, 3)).clamp(min=1e-30) / made.levels
    whole = (weight / scale[:, None, None, None]).round()
    bias = torch.zeros(len(weight)) if module.bias is None else module.bias
    return {
        "op": "convolution",
        "channels": [module.in_channels, module.out_channels],
        "size": module.kernel_size[0],
        "stride": module.stride[0],
        "padding": module.padding[0],
        "weights": made.keep(whole, made.weights),
        "scale": made.keep(scale),
        "bias": made.keep(bias),
    }
