"""Reading the clock, and what is said of several readings."""

import statistics
import time
from collections.abc import Callable, Sequence

import torch

Rates = dict[str, list[float]]


def say(line: str) -> None:
    """Print a line at once, also into a pipe."""
    print(line, flush=True)


def seconds(work: Callable[[], object], device: torch.device) -> float:
    """Return how long `work` takes; on a GPU until all that it started is done."""
    wait(device)
    started = time.perf_counter()
    work()
    wait(device)
    return time.perf_counter() - started


def wait(device: torch.device) -> None:
    """Wait for the GPU; nothing to do on a CPU."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def interleaved(measures: dict[str, Callable[[], float]], rounds: int) -> Rates:
    """Take each measure (images/s) once a round, in turn (A B A B): noise then hits all alike."""
    found: Rates = {name: [] for name in measures}
    for number in range(1, rounds + 1):
        for name, measure in measures.items():
            found[name].append(measure())
        shown = ", ".join(
            f"{name.replace('_', ' ')} {values[-1]:,.4g}" for name, values in found.items()
        )
        say(f"  round {number}/{rounds}: {shown} images/s")
    return found


def ratios(above: Sequence[float], below: Sequence[float]) -> list[float]:
    """Return above / below, round by round."""
    return [one / other for one, other in zip(above, below, strict=True)]


def spread(values: Sequence[float]) -> dict[str, float]:
    """Return median, lowest and highest of some readings."""
    return {"median": statistics.median(values), "low": min(values), "high": max(values)}


def seconds_for(images: int, rates: Sequence[float]) -> float:
    """Return the seconds that `images` take when equal rounds ran at these rates (images/s)."""
    return images * statistics.fmean(1 / rate for rate in rates)
