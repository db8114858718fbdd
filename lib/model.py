"""The residual network, and what can be counted of it: parameters, layers, arithmetic, memory.

The network is the CIFAR form of He et al., Deep Residual Learning for Image Recognition (CVPR
2016), section 4.2, with basic blocks and a 1x1 convolution where the shape changes (their option
B), or another kind of block from lib.blocks. Its state and its layer table follow the order of
computation.
"""

from collections.abc import Sequence
from dataclasses import fields
from typing import Any

import torch
from torch import Tensor, nn

from lib.blocks import (
    BLOCKS,
    WHITENING_CHANNELS,
    GlobalAveragePool,
    GlobalMaxPool,
    Style,
    whitening_filters,
)
from lib.errors import UserError
from lib.settings import Network

PARAMETER_LIMIT = 5_000_000


class ResNet(nn.Module):
    """Stem, stages of residual blocks, global pool, linear classifier.

    Args:
        blocks, widths, strides: one value a stage: number of blocks, channels, stride of its first
            block.
        classes: number of logits.
        block: kind of the blocks, a key of BLOCKS.
        stem: "convolution" (3x3, learned, batch norm) or "whitening" (2x2, fixed by `whiten`; only
            its shift learns).
        pooling: "mean" or "max" over the last feature map.
        initialisation: "default" (PyTorch's) or "dirac": 3x3 convolutions begin by passing channels
            on.
        logit_scale: factor on the logits.
        style: arguments of Style.

    Input: float images (N, 3, H, W), normalised. Output: logits (N, classes).
    """

    def __init__(
        self, blocks: Sequence[int], widths: Sequence[int], strides: Sequence[int],
        classes: int = 10, block: str = "basic", stem: str = "convolution", pooling: str = "mean",
        initialisation: str = "default", logit_scale: float = 1.0, **style: Any,
    ) -> None:  # fmt: skip
        super().__init__()
        self.style, self.logit_scale, make = Style(**style), logit_scale, BLOCKS[block]
        self.whitens = stem == "whitening"
        channels_in = WHITENING_CHANNELS if self.whitens else widths[0]
        if self.whitens:
            self.conv = nn.Conv2d(3, channels_in, 2)
            self.conv.weight.requires_grad_(False)
            self.bn = None
        else:
            self.conv = nn.Conv2d(3, channels_in, 3, padding=1, bias=False)
            # A block that begins with its own batch norm and activation leaves nothing for the stem
            # to do.
            self.bn = None if block == "preactivation" else self.style.norm(channels_in)
        stages = []
        for count, channels, stride in zip(blocks, widths, strides, strict=True):
            block_strides = [stride] + [1] * (count - 1)
            inputs = [channels_in] + [channels] * (count - 1)
            pairs = zip(inputs, block_strides, strict=True)
            parts = [make(before, channels, step, self.style) for before, step in pairs]
            stages.append(nn.Sequential(*parts))
            channels_in = channels
        self.stages = nn.Sequential(*stages)
        self.last_bn = self.style.norm(channels_in) if block == "preactivation" else None
        self.pool = GlobalAveragePool() if pooling == "mean" else GlobalMaxPool()
        self.linear = nn.Linear(channels_in, classes)
        if initialisation == "dirac":
            self._begin_with_identities()

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) to logits (N, classes)."""
        x = self.conv(x)
        if self.bn is not None:
            x = self.bn(x)
        if self.whitens or self.bn is not None:
            x = self.style.act(x)
        x = self.stages(x)
        if self.last_bn is not None:
            x = self.style.act(self.last_bn(x))
        logits = self.linear(self.pool(x))
        return logits if self.logit_scale == 1 else logits * self.logit_scale

    def whiten(self, images: Tensor) -> None:
        """Fix stem filters so that patches of these normalised images (N, 3, H, W) decorrelate."""
        if self.whitens:
            self.conv.weight.data.copy_(whitening_filters(images, self.conv.kernel_size[0]))

    def _begin_with_identities(self) -> None:
        convolutions = [module for module in self.modules() if isinstance(module, nn.Conv2d)]
        for module in convolutions:
            if module.kernel_size == (3, 3) and module.out_channels >= module.in_channels:
                nn.init.dirac_(module.weight.data[: module.in_channels])


def build(network: Network, classes: int = 10, seed: int | None = None) -> ResNet:
    """Make the network that the settings describe, its weights from `seed`.

    Raises UserError where it has more than PARAMETER_LIMIT parameters and is not marked as a
    comparison.
    """
    with torch.random.fork_rng(devices=[], enabled=seed is not None):
        if seed is not None:
            # Made on the CPU; torch.manual_seed would touch GPUs too.
            torch.default_generator.manual_seed(seed)
        model = ResNet(**configuration(network, classes))
    count = count_parameters(model)
    if count > PARAMETER_LIMIT and not network.comparison:
        raise UserError(
            f"the network (blocks, widths) has {count:,} parameters, more than "
            f"{PARAMETER_LIMIT:,}: make it narrower, or mark the run comparison: true"
        )
    return model


def channels_last(model: ResNet) -> ResNet:
    """Return the network with its filters in the order in which convolutions are fastest."""
    # PyTorch documents this form of `to`, and declares it nowhere.
    return model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def configuration(network: Network, classes: int) -> dict[str, Any]:
    """Return the arguments of ResNet that `network` describes, as plain values."""
    names = [one.name for one in fields(Network) if one.name not in ("run", "comparison")]
    values = {name: getattr(network, name) for name in names}
    return {
        name: list(value) if isinstance(value, tuple) else value for name, value in values.items()
    } | {"classes": classes}


def count_parameters(model: nn.Module) -> int:
    """Return the number of trainable parameters."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
