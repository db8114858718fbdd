"""Peak memory of a training in its own process: ``python -m benchmarks.memory STEPS [--quick]``."""

import argparse
import json
import subprocess
import sys

from bundle import paths
from bundle.dataset import cifar10
from bundle.deploy.measure import peak_bytes


def train_and_look(steps: int, quick: bool) -> dict[str, int]:
    """Train the reference network on all training images for some steps, look at the hold-out once.

    Returns bytes: the peak once everything is imported, with the data loaded, and in all; on a GPU
    also its own.
    """
    from itertools import islice

    import torch

    from benchmarks.ours import Ours
    from benchmarks.plan import settings
    from lib import data, step, train

    found = {"imported": peak_bytes()}
    dataset = cifar10.load("cifar10")
    found["data"] = peak_bytes()
    ours = Ours(dataset, settings(quick=quick), steps if quick else 0)
    for batch in islice(ours.batches(), steps):
        step.train_step(ours.model, ours.loss_of, ours.optimiser, batch, ours.phase.recipe)
    holdout = data.subset(dataset.holdout, 100 if quick else 0).to(ours.device)
    train.evaluate(ours.model, holdout, ours.statistics, ours.precision)
    found["peak"] = peak_bytes()
    if ours.device.type == "cuda":
        found["gpu"] = torch.cuda.max_memory_allocated()
    return found


def measure(steps: int, quick: bool) -> dict[str, int]:
    """Return what `train_and_look` finds in a process that has done nothing else."""
    command = [
        sys.executable,
        "-m",
        "benchmarks.memory",
        str(steps),
        *(["--quick"] if quick else []),
    ]
    done = subprocess.run(command, cwd=paths.ROOT, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    """Print what is found as one line of JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.memory")
    parser.add_argument("steps", type=int)
    parser.add_argument("--quick", action="store_true")
    asked = parser.parse_args()
    print(json.dumps(train_and_look(asked.steps, asked.quick)))


if __name__ == "__main__":
    main()
