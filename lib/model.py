"""The residual network, and what can be counted of it: parameters, layers, arithmetic, memory.

The network is the CIFAR form of He et al., Deep Residual Learning for Image Recognition (CVPR
2016), section 4.2, with basic blocks and a 1x1 convolution where the shape changes (their option
B), or another kind of block from lib.blocks. Its state and its layer table follow the order of
computation.
"""

from collections.abc import Sequence
from dataclasses import fields
from typing import Any

import pandas as pd
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
        self,
        blocks: Sequence[int],
        widths: Sequence[int],
        strides: Sequence[int],
        classes: int = 10,
        block: str = "basic",
        stem: str = "convolution",
        pooling: str = "mean",
        initialisation: str = "default",
        logit_scale: float = 1.0,
        **style,
    ):
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
            stages.append(
                nn.Sequential(*(make(before, channels, step, self.style) for before, step in pairs))
            )
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
        for module in self.modules():
            spatial = isinstance(module, nn.Conv2d) and module.kernel_size == (3, 3)
            if spatial and module.out_channels >= module.in_channels:
                nn.init.dirac_(module.weight.data[: module.in_channels])


def build(network, classes: int = 10, seed: int | None = None) -> ResNet:
    """Make the network of `network` (settings with blocks, widths, strides), weights from `seed`.

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


def configuration(network, classes: int) -> dict[str, Any]:
    """Return the arguments of ResNet that `network` describes, as plain values."""
    names = [one.name for one in fields(Network) if one.name not in ("run", "comparison")]
    values = {name: getattr(network, name) for name in names}
    return {
        name: list(value) if isinstance(value, tuple) else value for name, value in values.items()
    } | {"classes": classes}


STEM_WORDS = {
    "convolution": "a 3×3 convolution",
    "whitening": "a fixed 2×2 convolution that whitens patches",
}
BLOCK_WORDS = {
    "basic": "basic residual blocks (He et al., 2016): two 3×3 convolutions with batch norm, "
    "their result added to the block's input, by way of a 1×1 convolution where stride or "
    "width change",
    "preactivation": "residual blocks with batch norm and activation before each of two 3×3 "
    "convolutions (He et al., Identity Mappings, 2016)",
    "pooled": "blocks of a 3×3 convolution, a maximum over its stride, and another 3×3 "
    "convolution with a shortcut around it (after Jordan, 2024)",
}


def in_words(network: Network) -> str:
    """Return the network from the stem to the classifier, as a part of a sentence."""
    count, pooled = len(network.blocks), {"mean": "the mean", "max": "the maximum"}[network.pooling]
    return (
        f"{STEM_WORDS[network.stem]}, {count} stage{'s' * (count != 1)} of "
        f"{BLOCK_WORDS.get(network.block, f'{network.block} blocks')}; after each batch norm "
        f"{'GELU' if network.activation == 'gelu' else 'ReLU'}; {pooled} of the last feature map; "
        "a linear classifier"
    )


def count_parameters(model: nn.Module) -> int:
    """Return the number of trainable parameters."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


def layer_table(model: ResNet, size: int = 32) -> pd.DataFrame:
    """Return one row a layer in the order of computation, found by running an image through it.

    Rows are the leaf modules and, after its parts, each block. Columns: layer (type and number),
    stage, output (C, H, W), parameters (of the layer itself), mmac (multiply-accumulates / 1e6 of
    convolutions and the linear layer; batch norm, ReLU and additions are left out, as is usual).
    """
    rows, handles, kinds = [], [], tuple(BLOCKS.values())

    def note(name: str):
        def hook(module: nn.Module, _inputs, output: Tensor) -> None:
            own = 0 if isinstance(module, kinds) else count_parameters(module)
            weights = module.weight.numel() if isinstance(module, nn.Conv2d | nn.Linear) else 0
            pixels = output[0, 0].numel() if output.dim() == 4 else 1
            stage = (
                f"stage {int(name.split('.')[1]) + 1}"
                if name.startswith("stages")
                else "stem and head"
            )
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
    """Return the usual estimate for a fp32 image, MiB: input, forward_backward, parameters, total.

    As common summary tools count it: every row's output once for the forward and once for the
    backward pass. It is an estimate of the values kept, not a measurement.
    """
    mib = 4 / 2**20
    outputs = sum(torch.Size(shape).numel() for shape in table["output"])
    parts = {
        "input": 3 * size * size * mib,
        "forward_backward": 2 * outputs * mib,
        "parameters": int(table["parameters"].sum()) * mib,
    }
    return {**parts, "total": sum(parts.values())}


def count_by_hand(network: Network, classes: int = 10) -> pd.DataFrame:
    """Derive the parameter count stage by stage from the formulae alone, without a network.

    A 3x3 convolution from a to b channels has 9ab parameters, a 1x1 one ab, batch norm 2b (b
    without a scale), the classifier classes * (c + 1). Columns: part, formula, parameters; the last
    row is the total.
    """
    norm, first = 2 if network.norm_scale else 1, network.widths[0]
    before = WHITENING_CHANNELS if network.stem == "whitening" else first
    rows = [("stem", *_stem_by_hand(network, before, norm))]
    stages = zip(network.blocks, network.widths, network.strides, strict=True)
    for number, (count, width, stride) in enumerate(stages, 1):
        changes = stride != 1 or before != width
        parts = [_block_by_hand(network.block, before, width, changes, norm)]
        if count > 1:
            formula, amount = _block_by_hand(network.block, width, width, False, norm)
            parts.append((f"{count - 1}·({formula})", (count - 1) * amount))
        rows.append(
            (
                f"stage {number}",
                " + ".join(part[0] for part in parts),
                sum(part[1] for part in parts),
            )
        )
        before = width
    if network.block == "preactivation":
        rows.append(("last batch norm", f"{norm}·{before}", norm * before))
    rows.append(("classifier", f"{classes}·({before} + 1)", classes * (before + 1)))
    rows.append(("total", "", sum(row[2] for row in rows)))
    return pd.DataFrame(rows, columns=["part", "formula", "parameters"])


def _stem_by_hand(network: Network, channels: int, norm: int) -> tuple[str, int]:
    if network.stem == "whitening":
        return f"{channels} (the filters are fixed)", channels
    if network.block == "preactivation":
        return f"9·3·{channels}", 27 * channels
    return f"9·3·{channels} + {norm}·{channels}", (27 + norm) * channels


def _block_by_hand(kind: str, before: int, width: int, changes: bool, norm: int) -> tuple[str, int]:
    """Return formula and number of a block's parameters; `changes`: with a shortcut convolution."""
    same = before == width
    weights = f"18·{width}²" if same else f"9·{before}·{width} + 9·{width}²"
    scales = (
        f"{norm}·{before} + {norm}·{width}"
        if kind == "preactivation" and not same
        else f"{2 * norm}·{width}"
    )
    formula = f"{weights} + {scales}"
    number = (
        9 * before * width
        + 9 * width**2
        + norm * (width + (before if kind == "preactivation" else width))
    )
    if not changes or kind == "pooled":
        return formula, number
    if kind == "preactivation":
        return f"({formula}) + {before}·{width}", number + before * width
    return f"({formula}) + ({before}·{width} + {norm}·{width})", number + (before + norm) * width
