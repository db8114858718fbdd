"""The machine in words that name its kind and nobody's own."""

import re

import torch

from benchmarks.plan import settings
from bundle.training.identity import machine_of
from lib import compute


def description() -> dict[str, str | int | bool]:
    """Return what decides the speed and may be told: device, precision, threads, versions."""
    chosen = settings()
    device = compute.prepare(chosen)
    return machine_of(device, compute.precision_of(chosen, device), chosen)


def slug(told: dict[str, str | int | bool]) -> str:
    """Return the name of a machine's files, such as cpu-2-threads-avx512_bf16 or nvidia-h200."""
    if told["device"] == "cuda":
        return re.sub(r"[^a-z0-9]+", "-", str(told["device_name"]).lower()).strip("-")
    units = "_bf16" if torch.cpu._is_avx512_bf16_supported() else ""
    if torch.cpu._is_amx_tile_supported():
        units = "_amx"
    capability = str(told["cpu_capability"]).lower().replace(" ", "_")
    return f"cpu-{told['threads']}-threads-{capability}{units}"


def words(told: dict[str, str | int | bool]) -> str:
    """Return a machine as a table's heading names it."""
    if told["device"] == "cuda":
        return f"{told['device_name']}, {told['precision']}"
    native = "-BF16" if told["precision"] == "bf16" else ""
    units = ", AMX" if "AMX" in str(told.get("cpu_kernels")) else native
    return f"CPU, {told['threads']} threads ({told['cpu_capability']}{units}), {told['precision']}"
