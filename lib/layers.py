"""A network's layers: outputs, parameters, arithmetic, memory."""

from collections.abc import Callable
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn

from lib.blocks import BLOCKS
from lib.model import ResNet, count_parameters


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
