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

from bundle.files import read_sealed
from bundle.paths import shown
from bundle.training import identity
from lib.data import Statistics
from lib.errors import UserError
from lib.model import ResNet, channels_last

FILE = "weights.safetensors"
LIMIT_BYTES = 10 * 2**20  # the file is committed
# Of the file's metadata; one key alone, since the format keeps no order among several.
KEY = "bundle"


def rounded(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return a network's tensors with the floating-point ones as float16 and counters as they are.

    Raises UserError where a value is not finite afterwards: float16 ends at 65,504.
    """
    halves = _cast(tensors, torch.float16)
    for name, half in halves.items():
        if not half.isfinite().all():
            what = f"does not fit float16 (largest {tensors[name].abs().max().item():g})"
            raise UserError(f"weights: {name} {what}; release it with LOGITS=1")
    return halves


def _cast(tensors: dict[str, Tensor], kind: torch.dtype) -> dict[str, Tensor]:
    return {
        name: (tensor.to(kind) if tensor.is_floating_point() else tensor).contiguous()
        for name, tensor in tensors.items()
    }


def pack(saved: dict[str, Any]) -> bytes:
    """Return the safetensors file for the content of a weights.pt, its "model" already rounded.

    Everything but the tensors is JSON in the file's metadata, so that the network can be rebuilt
    from it alone. Raises UserError where it would have more than LIMIT_BYTES.
    """
    rest = {key: value for key, value in saved.items() if key != "model"}
    packed = safetensors.torch.save(saved["model"], {KEY: json.dumps(rest, sort_keys=True)})
    if len(packed) > LIMIT_BYTES:
        what = f"{len(packed) / 2**20:.1f} MiB, at most {LIMIT_BYTES // 2**20} may be committed"
        raise UserError(f"{FILE}: {what}; release it with LOGITS=1 instead of WEIGHTS=1")
    return packed


def unpack(path: Path) -> dict[str, Any]:
    """Return a weights.pt's content from a safetensors file: float32 again, rounded as it is."""
    read_sealed(path)
    try:
        with safetensors.safe_open(path, "pt") as file:
            rest = json.loads(file.metadata()[KEY])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
    except (OSError, KeyError, TypeError, ValueError, safetensors.SafetensorError) as error:
        what = f"not the weights of a release ({error}); restore it with git"
        raise UserError(f"{shown(path)}: {what}") from error
    return {**rest, "model": _cast(tensors, torch.float32)}


def read_network(path: Path) -> tuple[ResNet, Statistics, list[str]]:
    """Return the network of a safetensors file, its images' normalisation, and its classes."""
    saved = unpack(Path(path))
    model = identity.network_of(saved)
    statistics = Statistics(*(tuple(saved["statistics"][part]) for part in ("mean", "std")))
    return channels_last(model.eval()), statistics, saved["classes"]
