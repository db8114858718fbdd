"""Claims on what something costs in time, judged by the benchmark's committed measurements."""

import re
from typing import Any

from bundle import paths
from bundle.claims.claim import PENDING, Finding, Reference, decided, named
from bundle.files import read_json
from bundle.words import listed

Benchmarks = dict[str, Any]  # machine -> what `make bench` measured there


def benchmarks() -> Benchmarks:
    """Return the committed measurements by machine: cpu-2-threads-avx512_amx is in words."""
    files, cpu = sorted((paths.ROOT / "benchmarks/results").glob("*.json")), r"^CPU-(\d+)-THREADS-"
    names = [
        re.sub(cpu, r"\1 CPU threads, ", path.stem.upper().replace("_", "+")) for path in files
    ]
    return dict(zip(names, map(read_json, files), strict=True))


def _cost(found: Benchmarks, part: str, tolerance: float, what: str) -> Finding:
    """Judge `what` takes more time by the ratio `cost` of a benchmark's `part`, on all machines."""
    costs = {name: cost for name, one in found.items() if (cost := one.get(part, {}).get("cost"))}
    rule = f"Little is at most {tolerance:.0%} more time, in every round of the benchmark."
    if not costs:
        return Finding(PENDING, "Not yet judged: waits for a measurement by the benchmark.", rule)
    shown = [
        f"{cost['median'] - 1:+.0%} on {name} ({cost['low'] - 1:+.0%} to {cost['high'] - 1:+.0%})"
        for name, cost in costs.items()
    ]
    ends = [[cost[end] - 1 for cost in costs.values()] for end in ("low", "high")]
    verdict = decided(max(ends[1]) <= tolerance, min(ends[0]) > tolerance)
    return Finding(verdict, f"{what} changes the time by {listed(shown)}.", rule)


def tta_cost(reference: Reference, tolerance: float, benchmarks: Benchmarks) -> Finding:
    """The time of a prediction with five views against that of a single view."""
    return _cost(benchmarks, "views", tolerance, "Averaging five views")


def cutmix_cost(reference: Reference, tolerance: float, benchmarks: Benchmarks) -> Finding:
    """The time of training with CutMix against that of the same training without."""
    return _cost(benchmarks, "cutmix", tolerance, "CutMix")


TESTS = named(tta_cost, cutmix_cost)
