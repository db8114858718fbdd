"""The residual network, and what can be counted of it: parameters, layers, arithmetic, memory.

The network is the CIFAR form of He et al., Deep Residual Learning for Image Recognition (CVPR 2016), section
4.2, with basic blocks and a 1x1 convolution where the shape changes (their option B). Its state and its layer
table follow the order of computation.
"""

from collections.abc import Sequence
from typing import Any

import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lib.errors import UserError

PARAMETER_LIMIT = 5_000_000


class GlobalAveragePool(nn.Module):
    """Mean over height and width: (N, C, H, W) to (N, C).

    A module, so that it has a row in the layer table; a plain mean, since AdaptiveAvgPool2d's backward pass is
    not deterministic on CUDA.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Average the last two dimensions."""
        return x.mean((2, 3))


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with batch norm, added to the shortcut, then ReLU."""

    def __init__(self, channels_in: int, channels: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.shortcut = None
        if stride != 1 or channels_in != channels:
            convolution = nn.Conv2d(channels_in, channels, 1, stride, bias=False)
            self.shortcut = nn.Sequential(convolution, nn.BatchNorm2d(channels))

    def forward(self, x: Tensor) -> Tensor:
        """(N, C_in, H, W) to (N, C, H / stride, W / stride)."""
        out = F.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        return F.relu(out + (x if self.shortcut is None else self.shortcut(x)))


BLOCKS = {"basic": BasicBlock}


class ResNet(nn.Module):
    """Stem, stages of residual blocks, global average pool, linear classifier.

    Args:
        blocks, widths, strides: one value a stage: number of blocks, channels, stride of its first block.
        classes: number of logits.
        block: kind of the blocks, a key of BLOCKS.

    Input: float images (N, 3, H, W), normalised. Output: logits (N, classes).
    """

    def __init__(
        self, blocks: Sequence[int], widths: Sequence[int], strides: Sequence[int], classes: int = 10,
        block: str = "basic",
    ):  # fmt: skip
        super().__init__()
        make = BLOCKS[block]
        self.conv = nn.Conv2d(3, widths[0], 3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(widths[0])
        stages, channels_in = [], widths[0]
        for count, channels, stride in zip(blocks, widths, strides, strict=True):
            block_strides = [stride] + [1] * (count - 1)
            inputs = [channels_in] + [channels] * (count - 1)
            pairs = zip(inputs, block_strides, strict=True)
            stages.append(nn.Sequential(*(make(before, channels, step) for before, step in pairs)))
            channels_in = channels
        self.stages = nn.Sequential(*stages)
        self.pool = GlobalAveragePool()
        self.linear = nn.Linear(channels_in, classes)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) to logits (N, classes)."""
        return self.linear(self.pool(self.stages(F.relu(self.bn(self.conv(x))))))


def build(network, classes: int = 10, seed: int | None = None) -> ResNet:
    """Make the network that `network` (any settings with blocks, widths, strides) describes, weights from `seed`.

    Raises UserError where it has more than PARAMETER_LIMIT parameters and is not marked as a comparison.
    """
    with torch.random.fork_rng(devices=[], enabled=seed is not None):
        if seed is not None:
            torch.default_generator.manual_seed(seed)  # made on the CPU; torch.manual_seed would touch GPUs too
        model = ResNet(**configuration(network, classes))
    count = count_parameters(model)
    if count > PARAMETER_LIMIT and not network.comparison:
        raise UserError(
            f"the network (blocks, widths) has {count:,} parameters, more than {PARAMETER_LIMIT:,}: "
            "make it narrower, or mark the run comparison: true"
        )
    return model


def configuration(network, classes: int) -> dict[str, Any]:
    """Return the arguments of ResNet that `network` describes, as plain values."""
    return {"blocks": list(network.blocks), "widths": list(network.widths), "strides": list(network.strides),
            "classes": classes, "block": network.block}  # fmt: skip


def count_parameters(model: nn.Module) -> int:
    """Return the number of trainable parameters."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


def layer_table(model: ResNet, size: int = 32) -> pd.DataFrame:
    """Return one row a layer in the order of computation, found by running one image through the network.

    Rows are the leaf modules and, after its parts, each block. Columns: layer (type and number), stage,
    output (C, H, W), parameters (of the layer itself), mmac (multiply-accumulates / 1e6 of convolutions and
    the linear layer; batch norm, ReLU and additions are left out, as is usual).
    """
    rows, handles, kinds = [], [], tuple(BLOCKS.values())

    def note(name: str):
        def hook(module: nn.Module, _inputs, output: Tensor) -> None:
            own = 0 if isinstance(module, kinds) else count_parameters(module)
            weights = module.weight.numel() if isinstance(module, nn.Conv2d | nn.Linear) else 0
            pixels = output[0, 0].numel() if output.dim() == 4 else 1
            stage = f"stage {int(name.split('.')[1]) + 1}" if name.startswith("stages") else "stem and head"
            layer = f"{type(module).__name__}-{len(rows) + 1}"
            rows.append((layer, stage, tuple(output.shape[1:]), own, weights * pixels / 1e6))

        return hook

    for name, module in model.named_modules():
        if isinstance(module, kinds) or not list(module.children()):
            handles.append(module.register_forward_hook(note(name)))
    parameter, training = next(model.parameters()), model.training
    with torch.no_grad():
        model.eval()(torch.zeros(1, 3, size, size, device=parameter.device, dtype=parameter.dtype))
    model.train(training)
    for handle in handles:
        handle.remove()
    return pd.DataFrame(rows, columns=["layer", "stage", "output", "parameters", "mmac"])


def memory_estimate(table: pd.DataFrame, size: int = 32) -> dict[str, float]:
    """Return the usual estimate for one fp32 image in MiB: input, forward_backward, parameters, total.

    As common summary tools count it: every row's output once for the forward and once for the backward pass.
    It is an estimate of the values kept, not a measurement.
    """
    mib = 4 / 2**20
    outputs = sum(torch.Size(shape).numel() for shape in table["output"])
    parts = {
        "input": 3 * size * size * mib,
        "forward_backward": 2 * outputs * mib,
        "parameters": int(table["parameters"].sum()) * mib,
    }
    return {**parts, "total": sum(parts.values())}


def count_by_hand(network, classes: int = 10) -> pd.DataFrame:
    """Derive the parameter count of basic blocks stage by stage from the formulae alone, without a network.

    A 3x3 convolution from a to b channels has 9ab parameters, a 1x1 one ab, batch norm 2b, the classifier
    classes * (c + 1). Columns: part, formula, parameters; the last row is the total.
    """
    rows = [("stem", f"9·3·{network.widths[0]} + 2·{network.widths[0]}", 29 * network.widths[0])]
    before = network.widths[0]
    stages = zip(network.blocks, network.widths, network.strides, strict=True)
    for number, (count, width, stride) in enumerate(stages, 1):
        first = 9 * before * width + 9 * width**2 + 4 * width
        formula = f"(9·{before}·{width} + 9·{width}² + 4·{width})"
        if stride != 1 or before != width:
            first += before * width + 2 * width
            formula += f" + ({before}·{width} + 2·{width})"
        formula += f" + {count - 1}·(18·{width}² + 4·{width})"
        rows.append((f"stage {number}", formula, first + (count - 1) * (18 * width**2 + 4 * width)))
        before = width
    rows.append(("classifier", f"{classes}·({before} + 1)", classes * (before + 1)))
    rows.append(("total", "", sum(row[2] for row in rows)))
    return pd.DataFrame(rows, columns=["part", "formula", "parameters"])
