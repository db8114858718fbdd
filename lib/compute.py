"""Device, precision, threads and determinism: where a run computes, as part of its identity."""

import os
import platform
from contextlib import AbstractContextManager

import torch

from lib.errors import UserError


def prepare(settings) -> torch.device:
    """Set threads and determinism for this process and return the device that `settings` (Compute) ask for.

    Raises UserError where a GPU is asked for and none is there.
    """
    torch.set_num_threads(settings.threads)
    # Read by cuBLAS at its first call; without it deterministic algorithms raise an error there.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.benchmark = False
    available = torch.cuda.is_available()
    if settings.device == "cuda" and not available:
        raise UserError("device = 'cuda': PyTorch finds no GPU here; write device: auto")
    return torch.device("cuda" if available and settings.device != "cpu" else "cpu")


def bf16_is_native(device: torch.device) -> bool:
    """Whether the processor multiplies bf16 in hardware (AVX512-BF16 or AMX; CUDA from compute capability 8)."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    # The public query answers for emulated bf16 as well, which is slower than fp32.
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def precision_of(settings, device: torch.device) -> str:
    """Return "bf16" or "fp32": what `auto` means on this device."""
    if settings.precision != "auto":
        return settings.precision
    return "bf16" if bf16_is_native(device) else "fp32"


def autocast(device: torch.device, precision: str) -> AbstractContextManager:
    """Return the context in which matrix products and convolutions run in `precision`."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16")


def identity(device: torch.device, precision: str, threads: int) -> dict[str, str | int]:
    """Return what, beside code, values and data, decides the bits of a result."""
    import torchvision

    kind = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    return {
        "device": device.type,
        "device_name": kind,
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "precision": precision,
        "threads": threads,
        "torch": str(torch.__version__),  # a class of its own, which a checkpoint could not hold
        "torchvision": str(torchvision.__version__),
        "cuda": torch.version.cuda if device.type == "cuda" else "",
    }
