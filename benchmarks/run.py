"""Measure speed and memory here: ``make bench``, or ``python -m benchmarks.run [PART ...]``.

Writes results/bench/MACHINE.json and .svg; ``python -m benchmarks.readme`` puts them into
docs/speed.md.
"""

import argparse
import time
from collections.abc import Callable, Collection
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks import kept, limits, machine, memory, picture, prediction, startup, table, training
from benchmarks.plan import PLANS, Plan, settings
from benchmarks.timing import say, spread
from bundle import paths
from bundle.dataset import cifar10
from bundle.files import write_json
from bundle.training.provenance import provenance
from lib import compute
from lib.data import Dataset
from lib.errors import UserError, exit_on_user_error

FOLDER = paths.RESULTS / "bench"
SPEEDS = {
    "networks": training.measure_networks,
    "prediction": prediction.measure,
    "views": prediction.measure_views,
    "cutmix": training.measure_cutmix,
    "profile": limits.measure_profile,
}
PARTS = ("training", *SPEEDS, "kept", "memory", "startup")


def dataset_here() -> tuple[Dataset, Path]:
    """Return CIFAR-10 and its root; UserError where it is not here."""
    root = cifar10.locate()
    if root is None:
        raise UserError("make bench needs the real CIFAR-10: make data")
    return cifar10.load("cifar10"), root


def measure(quick: bool, chosen: Collection[str] = ()) -> dict[str, Any]:
    """Measure all parts, or the chosen ones, on this machine, one after the other.

    The share of the bound is of training, profile and bound of the same call.
    """
    if unknown := sorted({*chosen} - {*PARTS}):
        raise UserError(f"no part {unknown[0]} of a benchmark; there are {', '.join(PARTS)}")
    began = time.perf_counter()
    dataset, root = dataset_here()
    told = machine.description()
    plan = PLANS["quick" if quick else told["device"]]
    found: dict[str, Any] = {
        "machine": told,
        "rehearsal": quick,
        "plan": asdict(plan),
        "recipe": asdict(settings()),
    }
    parts = _parts(plan, dataset, root, quick)
    for name, part in parts.items():
        if not chosen or name in chosen:
            say(f"{name}, {time.perf_counter() - began:.0f} s after the start:")
            found[name] = part()
    if {"training", "profile"} <= found.keys():
        found["limits"] = against_the_bound(found, plan.matrix)
    return found | {"seconds": time.perf_counter() - began, "environment": provenance()}


def _parts(plan: Plan, dataset: Dataset, root: Path, quick: bool) -> dict[str, Callable[[], Any]]:
    """Return what measures each part, in their order."""
    return {
        "training": lambda: training.measure(plan, dataset, root, quick),
        **{name: lambda part=part: part(plan, dataset, quick) for name, part in SPEEDS.items()},
        "kept": lambda: kept.measure(plan, str(root), quick),
        "memory": lambda: memory.measure(plan.memory_steps, quick),
        "startup": lambda: startup.measure(plan.starts, plan.notebooks),
    }


def against_the_bound(found: dict[str, Any], matrix: int) -> dict[str, Any]:
    """Return the machine's rate of matrix products, its bound, and training's share of it."""
    flops = limits.matrix_rate(matrix, found["machine"]["precision"], compute.prepare(settings()))
    bound = limits.bound(flops, found["profile"]["mmac"])
    reached = spread([rate / bound for rate in found["training"]["rounds"]["ours"]])
    return {"matrix": matrix, "flops": flops, "bound": bound, "reached": reached}


def main(arguments: list[str] | None = None) -> int:
    """Measure, write the files, print the table."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.run", description=__doc__.splitlines()[0]
    )
    parser.add_argument(
        "--quick", action="store_true", help="a rehearsal in seconds, with a tiny network"
    )
    parser.add_argument(
        "parts", nargs="*", metavar="PART", help="measure these alone: training, views, cutmix, ..."
    )
    args = parser.parse_args(arguments)
    found = measure(args.quick, args.parts)
    name = "-".join([machine.slug(found["machine"]), *args.parts, *["quick"] * args.quick])
    FOLDER.mkdir(parents=True, exist_ok=True)
    write_json(FOLDER / f"{name}.json", found)
    pictured = picture.save(found, FOLDER / name)
    print(f"\n{table.text(found)}\n\n{paths.shown(FOLDER / name)}.json{', .svg' * pictured}")
    return 0


if __name__ == "__main__":
    exit_on_user_error(main)
