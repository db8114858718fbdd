"""Device, precision, threads and determinism: where a run computes, as part of its identity."""

import os
import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import torch

from lib.errors import UserError
from lib.settings import Compute, Train


def prepare(settings: Compute) -> torch.device:
    """Set threads and determinism and return the device that `settings` ask for.

    Without a parameter `deterministic`, or with it true, equal inputs give equal bits; false lets a
    GPU take faster ways. On the CPU everything is deterministic. Raises UserError where a GPU is
    asked for and none is there.
    """
    torch.set_num_threads(settings.threads)
    # Read by cuBLAS at its first call; without it deterministic algorithms raise an error there.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    exact = getattr(settings, "deterministic", True)
    torch.use_deterministic_algorithms(exact)
    # Filling fresh memory with NaN would only bring to light what is read before it is written; it
    # costs some 4%. (PyTorch makes this switch when it is imported, out of a type checker's sight.)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cudnn.benchmark = not exact
    available = torch.cuda.is_available()
    if settings.device == "cuda" and not available:
        raise UserError("device = 'cuda': PyTorch finds no GPU here; write device: auto")
    return torch.device("cuda" if available and settings.device != "cpu" else "cpu")


def bf16_is_native(device: torch.device) -> bool:
    """Whether it multiplies bf16 in hardware (AVX512-BF16, AMX; CUDA from compute capability 8)."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    # The public query answers for emulated bf16 as well, which is slower than fp32.
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def precision_of(settings: Compute, device: torch.device) -> str:
    """Return "bf16" or "fp32": what `auto` means on this device."""
    if settings.precision != "auto":
        return settings.precision
    return "bf16" if bf16_is_native(device) else "fp32"


def autocast(device: torch.device, precision: str) -> AbstractContextManager:
    """Return the context in which matrix products and convolutions run in `precision`."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16")


def compiles(settings: Train, device: torch.device) -> bool:
    """Whether training takes torch.compile: asked for, on a GPU, with the C compiler it needs."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    return settings.compile and device.type == "cuda" and compiler is not None


def compiled(function: Callable) -> Callable:
    """Return `function` compiled for its calls' shapes, its kernels launched as one CUDA graph."""
    fast = torch.compile(function, mode="reduce-overhead", dynamic=False, fullgraph=True)

    def call(*arguments: Any) -> Any:
        torch.compiler.cudagraph_mark_step_begin()  # what the last call returned may be overwritten
        return fast(*arguments)

    return call
