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
    counters = {}
    try:
        for zone in sorted(root.glob("intel-rapl:*")):
            is_top = re.fullmatch(r"intel-rapl:\d+", zone.name)
            if is_top and (zone / "name").read_text().startswith("package"):
                files = (zone / "energy_uj", zone / "max_energy_range_uj")
                counters[zone.name] = Counter(*(int(file.read_text()) / 1e6 for file in files))
    except (OSError, ValueError):
        return {}
    return counters


def gpu_counter(
    uuid: str, load: Callable[[str], Any] = ctypes.CDLL
) -> Callable[[], dict[str, Counter]]:
    """Return a function reading the counter of GPU `uuid` ("GPU-..."), {} where it cannot."""
    handle, count = ctypes.c_void_p(), ctypes.c_ulonglong()
    try:
        nvml = load(NVML)
        # GPUs since Volta; millijoules since the driver was loaded.
        total = nvml.nvmlDeviceGetTotalEnergyConsumption
        find = nvml.nvmlDeviceGetHandleByUUID
        failed = nvml.nvmlInit_v2() or find(uuid.encode(), ctypes.byref(handle))
    except (OSError, AttributeError):  # no driver; one without this function
        return dict

    def read() -> dict[str, Counter]:
        if total(handle, ctypes.byref(count)):
            return {}
        return {uuid: Counter(count.value / 1e3, math.inf)}

    return dict if failed else read


class Meter:
    """Adds up what the counters that `read` returns have counted since `start`."""

    def __init__(self, read: Callable[[], dict[str, Counter]]):
        self.read, self.sum = read, math.nan
        self.last: dict[str, Counter] = {}

    def start(self) -> None:
        """Begin at 0."""
        self.last = self.read()
        self.sum = 0.0 if self.last else math.nan

    def look(self) -> None:
        """Add what was used since the last look: so often that no counter wraps twice between."""
        now = self.read()
        if now.keys() != self.last.keys():
            self.sum = math.nan
        else:
            used = (
                (now[name].joules - old.joules) % old.wraps_at for name, old in self.last.items()
            )
            self.sum += sum(used)
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
    joules = [row["joules"] for row in history if row.get("joules") is not None]
    return math.fsum(joules) if len(joules) == len(history) else None
