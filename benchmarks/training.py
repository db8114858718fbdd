"""Training speed in images/s: the reference's, ours, our loading, our steps without loading."""

from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import torch

from benchmarks import baseline
from benchmarks.ours import Ours
from benchmarks.plan import BATCH, NETWORKS, Plan, settings
from benchmarks.timing import interleaved, ratios, say, seconds, spread, wait
from lib import compute, layers, model
from lib.data import Dataset
from lib.settings import Train


class Baseline:
    """The reference's training of the network that `chosen` describes."""

    def __init__(
        self, dataset: Dataset, root: Path, chosen: Train, device: torch.device, plan: Plan
    ):
        self.plan, self.device, self.rng = plan, device, np.random.default_rng(chosen.seed)
        self.model = model.build(chosen, len(dataset.classes), chosen.seed).to(device)
        self.optimiser = baseline.make_optimiser(self.model)
        self.loader = baseline.loader(root, dataset.statistics, BATCH, pin=device.type == "cuda")

    def rate(self) -> float:
        """Return images/s over the plan's steps, after those in which the workers start."""
        images: list[int] = []
        with baseline.switches():
            counts = baseline.train_steps(
                self.model, self.optimiser, self.loader, self.device, self.rng
            )
            sum(islice(counts, self.plan.baseline_warmup))
            wait(self.device)
            taken = seconds(
                lambda: images.extend(islice(counts, self.plan.baseline_steps)), self.device
            )
            counts.close()  # with it the workers end, which would go on loading while ours is timed
        return sum(images) / taken


def measure(plan: Plan, dataset: Dataset, root: Path, quick: bool) -> dict:
    """Return images/s of both pipelines and what follows, as median, low and high of the rounds.

    ratio: ours / baseline. loading_share: time of loading and augmentation alone, in proportion to
    the epoch's. of_fixed_batch: our speed in proportion to the same steps on one batch that is
    there already.
    """
    chosen = settings(quick=quick)
    ours = Ours(dataset, chosen, plan.steps)
    theirs = Baseline(dataset, root, chosen, ours.device, plan)
    measures = {
        "baseline": theirs.rate,
        "ours": lambda: ours.rate(ours.epoch),
        "loading": lambda: ours.rate(ours.prepare),
        "fixed_batch": lambda: ours.rate(ours.fixed),
    }
    found = interleaved(measures, plan.rounds)
    derived = {
        "ratio": ratios(found["ours"], found["baseline"]),
        "loading_share": ratios(found["ours"], found["loading"]),
        "of_fixed_batch": ratios(found["ours"], found["fixed_batch"]),
    }
    return {"rounds": found} | {name: spread(values) for name, values in (found | derived).items()}


def measure_networks(plan: Plan, dataset: Dataset, quick: bool) -> dict:
    """Return for each of NETWORKS its images/s over the plan's steps, warm, and its MMAC an image.

    On a GPU each is measured a second time without `deterministic`: what that costs there.
    """
    variants = {network: settings(network, quick) for network in NETWORKS}
    if compute.prepare(settings()).type == "cuda":
        others = {
            f"{name}, not deterministic": replace(one, deterministic=False)
            for name, one in variants.items()
        }
        variants |= others
    found = {}
    for name, chosen in variants.items():
        ours = Ours(dataset, chosen, plan.network_steps)
        rates = [ours.rate(ours.epoch) for _repeat in range(plan.network_repeats)]
        mmac = float(layers.layer_table(ours.model)["mmac"].sum())
        found[name] = spread(rates) | {
            "mmac": mmac,
            "parameters": model.count_parameters(ours.model),
        }
        say(f"  {name}: {found[name]['median']:,.0f} images/s")
    return found


def measure_cutmix(plan: Plan, dataset: Dataset, quick: bool) -> dict:
    """Return how much longer our training takes with CutMix than without it, by rounds."""
    chosen = settings(quick=quick)
    variants = {"cutmix": chosen, "plain": replace(chosen, cutmix=0.0)}
    pair = {name: Ours(dataset, variant, plan.steps) for name, variant in variants.items()}
    for ours in pair.values():
        ours.epoch()  # warm again: building the second threw away what the first had compiled
    measures = {name: lambda ours=ours: ours.rate(ours.epoch) for name, ours in pair.items()}
    found = interleaved(measures, plan.rounds)
    return {"rounds": found, "cost": spread(ratios(found["plain"], found["cutmix"]))}
