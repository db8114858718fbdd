"""Batch norm folded into the convolution before it: the same network with fewer layers.

In evaluation mode batch norm is a factor and a shift for each channel, and a convolution can hold
both: w' = w * g / sqrt(v + e), b' = (b - m) * g / sqrt(v + e) + s, with mean m, variance v, scale g
and shift s (Jacob et al., CVPR 2018, section 3.2).
"""

import copy
from collections.abc import Iterator
from typing import Any

import torch
from torch import fx, nn
from torch.nn.utils import fuse_conv_bn_eval


def folded(model: nn.Module) -> nn.Module:
    """Return a copy in evaluation mode whose batch norms are folded, float32, on the CPU.

    Module names stay: a folded batch norm becomes nn.Identity, and its convolution has a bias. One
    that follows no convolution stays, such as those of a pre-activation block.
    """
    copied = copy.deepcopy(model).cpu().float().eval()
    for norm, convolution in list(pairs(copied)):
        both: tuple[Any, Any] = copied.get_submodule(convolution), copied.get_submodule(norm)
        copied.set_submodule(convolution, fuse_conv_bn_eval(*both))
        copied.set_submodule(norm, nn.Identity())
    return copied


def pairs(model: nn.Module) -> Iterator[tuple[str, str]]:
    """Yield the names of each batch norm that can be folded, and of the convolution before it.

    A maximum may lie between the two: where no scale is negative, max(g * x + s) is
    g * max(x) + s. A negative scale would turn it into a minimum, so that batch norm stays.
    """
    for node in fx.symbolic_trace(model).graph.nodes:
        norm, source = _module(model, node), _source(node)
        if not isinstance(norm, nn.BatchNorm2d):
            continue
        if isinstance(_module(model, source), nn.MaxPool2d) and len(source.users) == 1:
            source = _source(source) if torch.all(norm.weight >= 0) else source
        if isinstance(_module(model, source), nn.Conv2d) and len(source.users) == 1:
            yield str(node.target), str(source.target)


def _module(model: nn.Module, node: fx.Node) -> nn.Module | None:
    """Return the module that a node of a traced network calls, None for any other node."""
    return model.get_submodule(str(node.target)) if node.op == "call_module" else None


def _source(node: fx.Node) -> fx.Node:
    """Return the node whose result a node takes first; itself where it takes none."""
    first = node.args[0] if node.args else None
    return first if isinstance(first, fx.Node) else node
