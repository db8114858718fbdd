"""A network's layers: outputs, parameters, arithmetic, memory; and its count by hand."""

from collections.abc import Callable
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn

from lib.blocks import BLOCKS, WHITENING_CHANNELS
from lib.model import ResNet, count_parameters
from lib.settings import Network


def layer_table(model: ResNet, size: int = 32) -> pd.DataFrame:
    """Return one row a layer in the order of computation, found by running an image through it.

    Rows are the leaf modules and, after its parts, each block. Columns: layer (type and number),
    stage, output (C, H, W), parameters (of the layer itself), mmac (multiply-accumulates / 1e6 of
    convolutions and the linear layer; batch norm, ReLU and additions are left out, as is usual).
    """
    rows: list[tuple] = []
    handles, kinds = [], tuple(BLOCKS.values())

    def note(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, _inputs: Any, output: Tensor) -> None:
            own = 0 if isinstance(module, kinds) else count_parameters(module)
            weights = module.weight.numel() if isinstance(module, nn.Conv2d | nn.Linear) else 0
            pixels = output[0, 0].numel() if output.dim() == 4 else 1
            staged = name.startswith("stages")
            stage = f"stage {int(name.split('.')[1]) + 1}" if staged else "stem and head"
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
        formulae, amounts = zip(*parts, strict=True)
        rows.append((f"stage {number}", " + ".join(formulae), sum(amounts)))
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
    first = before if kind == "preactivation" else width  # channels of the first batch norm
    weights = f"18·{width}²" if before == width else f"9·{before}·{width} + 9·{width}²"
    both = f"{2 * norm}·{width}" if first == width else f"{norm}·{before} + {norm}·{width}"
    formula = f"{weights} + {both}"
    number = 9 * before * width + 9 * width**2 + norm * (first + width)
    if not changes or kind == "pooled":
        return formula, number
    if kind == "preactivation":
        return f"({formula}) + {before}·{width}", number + before * width
    return f"({formula}) + ({before}·{width} + {norm}·{width})", number + (before + norm) * width
