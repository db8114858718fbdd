"""A network's weights as float16 in one safetensors file, which can rebuild the network.

A file of this kind is data alone: reading it executes nothing, unlike a pickle.
"""

import json
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from bundle.paths import shown
from lib.data import Statistics
from lib.errors import UserError
from lib.model import ResNet

FILE = "weights.safetensors"
LIMIT_BYTES = 10 * 2**20  # the file is committed
# Of the file's metadata; one key alone, since the format keeps no order among several.
KEY = "bundle"


def rounded(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return a network's tensors with the floating-point ones as float16 and counters as they are.

    Raises UserError where a value is not finite afterwards: float16 ends at 65,504.
    """
    halves = {name: one.half() if one.is_floating_point() else one for name, one in tensors.items()}
    for name, half in halves.items():
        if half.is_floating_point() and not half.isfinite().all():
            largest = tensors[name].abs().max().item()
            raise UserError(
                f"weights: {name} does not fit float16 (largest {largest:g}); release it with "
                "LOGITS=1"
            )
    return {name: half.contiguous() for name, half in halves.items()}


def pack(saved: dict[str, Any]) -> bytes:
    """Return the safetensors file for the content of a weights.pt, its "model" already rounded.

    Everything but the tensors is JSON in the file's metadata, so that the network can be rebuilt
    from it alone. Raises UserError where it would have more than LIMIT_BYTES.
    """
    told = {key: value for key, value in saved.items() if key != "model"}
    packed = safetensors.torch.save(saved["model"], {KEY: json.dumps(told, sort_keys=True)})
    if len(packed) > LIMIT_BYTES:
        raise UserError(
            f"{FILE}: {len(packed) / 2**20:.1f} MiB, at most {LIMIT_BYTES // 2**20} may be "
            "committed; release it with LOGITS=1 instead of WEIGHTS=1"
        )
    return packed


def unpack(path: Path) -> dict[str, Any]:
    """Return a weights.pt's content from a safetensors file: float32 again, rounded as it is."""
    try:
        with safetensors.safe_open(path, "pt") as file:
            told = json.loads(file.metadata()[KEY])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
    except (OSError, KeyError, TypeError, ValueError, safetensors.SafetensorError) as error:
        raise UserError(
            f"{shown(path)}: not the weights of a release ({error}); restore it with git"
        ) from error
    return {
        **told,
        "model": {
            name: one.float() if one.is_floating_point() else one for name, one in tensors.items()
        },
    }


def read_network(path: Path) -> tuple[ResNet, Statistics, list[str]]:
    """Return the network of a safetensors file, its images' normalisation, and its classes."""
    saved = unpack(Path(path))
    model = ResNet(**saved["network"])
    model.load_state_dict(saved["model"])
    statistics = Statistics(*(tuple(saved["statistics"][part]) for part in ("mean", "std")))
    return model.eval().to(memory_format=torch.channels_last), statistics, saved["classes"]
