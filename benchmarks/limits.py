"""What limits the training: where a step's time goes, and what the machine could do at best."""

import os
import re
from collections import Counter

import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from benchmarks.ours import Ours
from benchmarks.plan import BATCH, Plan, settings
from benchmarks.timing import seconds
from lib.data import Dataset
from lib.layers import layer_table

OPTIMISER, LOADING = "optimiser", "loading and augmentation"
# The first that fits an operator's (CPU) or a kernel's (GPU) name. Compiled kernels carry the names
# of all they do.
GROUPS = (
    (OPTIMISER, r"^optimizer|multi_tensor_apply|fused_?sgd"),
    ("batch norm", r"batch_?norm|bn_[fb]w"),
    ("element-wise", r"^triton"),
    ("convolution, backward", r"convolution_?backward|dgrad|wgrad|bprop"),
    ("convolution, forward", r"conv|fprop|implicit_gemm"),
    ("filling fresh memory", r"fill|memset"),
    ("element-wise", r"relu|threshold|clamp|::add|::mul|copy|elementwise|vectorized"),
)
PRODUCTS = 20  # matrix products a reading, READINGS readings, the fastest counts
READINGS = 5
TOP = 12


def group_of(name: str) -> str:
    """Return the word for an operator or kernel."""
    return next((word for word, pattern in GROUPS if re.search(pattern, name.lower())), "other")


def times(work, device: torch.device) -> Counter:
    """Return (group, name) -> microseconds that each operator (GPU: kernel) took in `work`."""
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # it reports a missing GPU as an error
    gpu = device.type == "cuda"
    kinds = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if gpu else [])]
    with profile(activities=kinds, acc_events=True) as seen:
        seconds(work, device)
    found: Counter = Counter()
    for event in seen.events():
        if gpu and event.device_type == DeviceType.CUDA and not event.is_user_annotation:
            found[group_of(event.name), event.name] += event.self_device_time_total
        elif not gpu:
            group = OPTIMISER if _inside_optimiser(event) else group_of(event.name)
            found[group, event.name] += event.self_cpu_time_total
    return found


def _inside_optimiser(event) -> bool:
    while event is not None and not event.name.startswith("Optimizer."):
        event = event.cpu_parent
    return event is not None


def measure_profile(plan: Plan, dataset: Dataset, quick: bool) -> dict:
    """Return shares of our training's time.

    `groups` in words, `top` the operators that take most, [name, share]. Loading and steps are
    profiled one after the other over the same images, so that each operator's side is known.
    """
    ours = Ours(dataset, settings(quick=quick), plan.steps)
    loading = sum(times(ours.prepare, ours.device).values())
    steps = times(ours.fixed, ours.device)
    whole, groups = loading + sum(steps.values()), Counter({LOADING: loading})
    for (group, _name), taken in steps.items():
        groups[group] += taken
    top = [[name[:80], taken / whole] for (_group, name), taken in steps.most_common(TOP)]
    return {
        "groups": {group: taken / whole for group, taken in groups.most_common()},
        "top": top,
        "mmac": float(layer_table(ours.model)["mmac"].sum()),
        "images": plan.steps * BATCH,
    }


def matrix_rate(size: int, precision: str, device: torch.device) -> float:
    """Return the floating-point operations/s of multiplying square matrices, the fastest.

    In the training's precision. A product of n x n matrices is n^3 multiplications and as many
    additions.
    """
    kind = torch.bfloat16 if precision == "bf16" else torch.float32
    left, right = (torch.randn(size, size, device=device).to(kind) for _side in range(2))

    def products() -> None:
        for _product in range(PRODUCTS):
            left @ right

    products()
    return 2 * size**3 * PRODUCTS / min(seconds(products, device) for _reading in range(READINGS))


def bound(flops: float, mmac: float) -> float:
    """Return the images/s that a machine of `flops` operations/s can train at most.

    `mmac`: 1e6 MAC an image forward. Two operations a multiply-accumulate; the backward pass is two
    such products for each of the forward pass's.
    """
    return flops / (2 * 3 * mmac * 1e6)
