"""What it gives that a process keeps its memory between steps: ``python -m benchmarks.kept``.

Each reading is of a process of its own, in turns: with the bundle's settings (bundle.surroundings)
and with the system's.
"""

import json
import subprocess
import sys
from dataclasses import asdict, replace
from typing import Any

from benchmarks.ours import Ours
from benchmarks.plan import BATCH, Plan
from benchmarks.timing import interleaved, ratios, spread
from lib import data
from lib.settings import Train

RUNS = ("as_written", "cpu")  # a network of small feature maps, and one of large ones
WAYS = ("kept", "returned")


def rate(root: str, steps: int, way: str, chosen: dict[str, Any]) -> float:
    """Return images/s of a training in this process, warm; `chosen` are fields of Train."""
    if way == "kept":
        import bundle  # noqa: F401  for what its import sets
    settings = Train(**{name: _frozen(value) for name, value in chosen.items()})
    dataset = data.load("cifar10", root, holdout=0)
    ours = Ours(dataset, settings, max(steps, 2 * settings.batch_size // BATCH))
    return ours.rate(ours.epoch)


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _in_a_process(root: str, steps: int, way: str, settings: Train) -> float:
    given = json.dumps([root, steps, way, asdict(settings)])
    command = [sys.executable, "-m", "benchmarks.kept", given]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return float(done.stdout.splitlines()[-1])


def measure(plan: Plan, root: str, quick: bool) -> dict[str, dict[str, Any]]:
    """Return for each of RUNS images/s both ways, and how many times as fast `kept` is."""
    from bundle.runs import params  # late: the measured process must not load it

    found = {}
    for run in RUNS[:1] if quick else RUNS:
        settings = params.load(run).settings("03_train")
        if quick:
            settings = replace(settings, blocks=(1,), widths=(8,), strides=(2,))
        measures = {
            way: lambda way=way, settings=settings: _in_a_process(root, plan.steps, way, settings)
            for way in WAYS
        }
        rounds = interleaved(measures, 1 if quick else plan.rounds)  # each loads PyTorch
        found[run] = {"rounds": rounds, "gain": spread(ratios(rounds["kept"], rounds["returned"]))}
    return found


def main() -> None:
    """Print the images/s of one process, or measure all and print the gains."""
    if len(sys.argv) > 1:
        print(rate(*json.loads(sys.argv[1])))
        return
    from benchmarks.plan import PLANS
    from benchmarks.table import between
    from bundle.dataset import cifar10

    for run, one in measure(PLANS["cpu"], str(cifar10.locate()), False).items():
        print(f"{run}: {between(one['gain'])} times as fast with memory kept")


if __name__ == "__main__":
    main()
