"""What is measured: the recipe both pipelines train, the networks, and how much of everything."""

from dataclasses import dataclass

from lib.settings import Train

BATCH = 128  # images a step, the reference's
# The five views as the reference's code made them, a key of lib.predict.COMBINATIONS.
VIEWS = "report"


@dataclass(frozen=True)
class Plan:
    """How much is measured; `steps` of BATCH images, `images` of the test set."""

    rounds: int
    baseline_warmup: int  # steps, until the loader's workers run at their pace
    baseline_steps: int
    steps: int  # of ours a round; 16 are a group of lib.step
    network_steps: int  # for each network's throughput
    network_repeats: int
    baseline_images: int  # of the test set that the baseline predicts, over all rounds
    images: int  # that ours predicts, likewise
    memory_steps: int
    starts: int  # of each notebook's kernel
    notebooks: int
    matrix: int  # rows and columns of the matrices whose product gives the machine's rate


PLANS = {
    "cpu": Plan(4, 1, 8, 16, 50, 1, 300, 10_000, 32, 3, 99, 2048),
    "cuda": Plan(5, 10, 60, 352, 50, 5, 300, 10_000, 352, 3, 99, 8192),
    "quick": Plan(2, 1, 2, 2, 2, 1, 6, 40, 2, 1, 1, 256),
}
NETWORKS = {
    "reference": {"blocks": (4, 4, 4, 3), "widths": (32, 64, 128, 256), "strides": (1, 2, 2, 2)},
    "wide": {"blocks": (4, 4, 3), "widths": (64, 128, 256), "strides": (1, 2, 2)},
}
TINY = {"blocks": (1, 1), "widths": (8, 16), "strides": (2, 2)}


def settings(network: str = "reference", quick: bool = False) -> Train:
    """Return the report's recipe for one of NETWORKS (in a rehearsal a tiny network instead)."""
    return Train(
        run="bench",
        batch_size=BATCH,
        learning_rate=0.1,
        crop_padding=2,
        vertical_flip=0.05,
        blur=0.3,
        cutmix=0.5,
        **(TINY if quick else NETWORKS[network]),
    )
