"""Energy of the device that computes, in joules, by its counter; None where none can be read.

A CPU's counters are those of its packages (RAPL; Linux, Documentation/power/powercap), a GPU's is
that of the board (NVML). Both count whatever runs there. Many machines, kernels and containers show
neither, which is no error.
"""

import ctypes
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch

RAPL = Path("/sys/class/powercap")
NVML = "libnvidia-ml.so.1"


class Counter(NamedTuple):
    """A counter's reading, joules from an unknown start, and where it wraps to 0 (inf: never)."""

    joules: float
    wraps_at: float


def cpu_counters(root: Path = RAPL) -> dict[str, Counter]:
    """Return the counter of each CPU package, {} where not every one can be read.

    Cores and memory have counters of their own beside, parts of the package's or of the whole
    board: left out.
    """
    found = {}
    try:
        for zone in sorted(root.glob("intel-rapl:*")):
            is_top = re.fullmatch(r"intel-rapl:\d+", zone.name)
            if is_top and (zone / "name").read_text().startswith("package"):
                files = (zone / "energy_uj", zone / "max_energy_range_uj")
                found[zone.name] = Counter(*(int(file.read_text()) / 1e6 for file in files))
    except (OSError, ValueError):
        return {}
    return found


def gpu_counter(
    uuid: str, load: Callable[[str], Any] = ctypes.CDLL
) -> Callable[[], dict[str, Counter]]:
    """Return a function reading the counter of GPU `uuid` ("GPU-..."), {} where it cannot."""
    handle = ctypes.c_void_p()
    try:
        nvml = load(NVML)
        # GPUs since Volta; millijoules since the driver was loaded.
        total = nvml.nvmlDeviceGetTotalEnergyConsumption
        failed = nvml.nvmlInit_v2() or nvml.nvmlDeviceGetHandleByUUID(
            uuid.encode(), ctypes.byref(handle)
        )
    except (OSError, AttributeError):  # no driver; one without this function
        return dict
    if failed:
        return dict

    def read() -> dict[str, Counter]:
        count = ctypes.c_ulonglong()
        return (
            {}
            if total(handle, ctypes.byref(count))
            else {uuid: Counter(count.value / 1e3, math.inf)}
        )

    return read


class Meter:
    """Adds up what the counters that `read` returns have counted since `start`."""

    def __init__(self, read: Callable[[], dict[str, Counter]]):
        self.read, self.last, self.sum = read, {}, math.nan

    def start(self) -> None:
        """Begin at 0."""
        self.last = self.read()
        self.sum = 0.0 if self.last else math.nan

    def look(self) -> None:
        """Add what was used since the last look: so often that no counter wraps twice between."""
        now = self.read()
        if now.keys() == self.last.keys():
            self.sum += sum(
                (now[name].joules - before.joules) % before.wraps_at
                for name, before in self.last.items()
            )
        else:
            self.sum = math.nan
        self.last = now

    def joules(self) -> float | None:
        """Return what was used since `start`, None where not read or the counters stood still."""
        self.look()
        return self.sum if math.isfinite(self.sum) and self.sum > 0 else None


def meter(device: torch.device) -> Meter:
    """Return the meter of the device that computes; CUDA may number GPUs otherwise than NVML."""
    if device.type != "cuda":
        return Meter(cpu_counters)
    uuid = str(torch.cuda.get_device_properties(device).uuid)
    return Meter(gpu_counter(uuid if uuid.startswith("GPU-") else f"GPU-{uuid}"))


def total(history: list[dict[str, Any]]) -> float | None:
    """Return the joules of all epochs of a training, None where any lacks them."""
    found = [row.get("joules") for row in history]
    return None if None in found else math.fsum(found)
