"""The parameters: a frozen dataclass a notebook owns names, types, ranges and documentation.

A new parameter is one line here, in the class of its group; nothing else has to know it.
``params/RUN.yaml`` gives common values at its top level and one section per notebook. The fields of
Compute, Data and Network are common, all others belong to a section.
"""

from dataclasses import dataclass, field, fields
from typing import Any, ClassVar


def option(
    default: Any, doc: str, low: float | None = None, high: float | None = None, choices: tuple = ()
) -> Any:
    """A dataclass field with its meaning and the inclusive range or the choices it allows."""
    limits = {"doc": doc, "low": low, "high": high, "choices": tuple(choices)}
    return field(default=default, metadata=limits)


DATASETS = ("auto", "cifar10", "digits")
SCHEDULES = ("constant", "cosine", "step", "one_cycle")
BLOCKS = ("basic", "preactivation", "pooled")
STEMS = ("convolution", "whitening")
ACTIVATIONS = ("relu", "gelu")
POOLINGS = ("mean", "max")
INITIALISATIONS = ("default", "dirac")
OPTIMISERS = ("sgd", "muon")
NORMALISATIONS = ("pixel", "image")
FLIP_MODES = ("random", "alternating")
# fmt: off
VIEWS = (
    "original", "horizontal_flip", "vertical_flip", "pad_center_crop", "gaussian_blur",
    "gaussian_blur_mixed")
SHIFTS = ("shift_up_left", "shift_down_right", "shift_up_left_flip", "shift_down_right_flip")
COMBINATIONS = ("auto", "original", "flip", "shifts", "report", "report_spatial")


# One row for each parameter.
@dataclass(frozen=True, kw_only=True)
class Run:
    """What every notebook takes; a class names the group of its parameters where a reader looks."""

    group: ClassVar[str] = "where"

    def __init_subclass__(cls, group: str = "this notebook") -> None:
        cls.group = group

    run: str = option("quick", "directory under results/ that is read and written")


@dataclass(frozen=True, kw_only=True)
class Compute(Run, group="where"):
    """Where and how the arithmetic is done; part of a run's identity."""

    device: str = option(
        "auto", "auto takes a GPU where there is one", choices=("auto", "cpu", "cuda"))
    precision: str = option(
        "auto", "auto is bf16 where native, else fp32", choices=("auto", "fp32", "bf16"))
    threads: int = option(2, "CPU threads (auto: all cores); decides the bits", 1, 256, ("auto",))


@dataclass(frozen=True, kw_only=True)
class Data(Run, group="data"):
    """Which images."""

    seed: int = option(42, "seed of everything but the split, which has its own", 0, 2**31 - 1)
    dataset: str = option(
        "cifar10", "auto (only quick, smoke) falls back to handwritten digits", choices=DATASETS)
    train_images: int = option(0, "training images used, stratified; 0 takes all", 0, 50_000)
    holdout: int = option(5000, "CIFAR-10 images kept out of training; 0 trains on all", 0, 25_000)


@dataclass(frozen=True, kw_only=True)
class Network(Run, group="network"):
    """The residual network: one value a stage."""

    blocks: tuple[int, ...] = option((4, 4, 4, 3), "residual blocks of each stage", 1, 64)
    # From fewer than 8 channels a strided 1x1 convolution's gradient is wrong or fatal on CPUs with
    # AVX2 alone: oneDNN, as PyTorch 2.11 brings it (3.10.2), writes beyond its memory
    # (uxlfoundation/oneDNN, issue 6035).
    widths: tuple[int, ...] = option((32, 64, 128, 256), "channels of each stage", 8, 2048)
    strides: tuple[int, ...] = option((1, 2, 2, 2), "stride of each stage's first block", 1, 2)
    block: str = option("basic", "kind of residual block", choices=BLOCKS)
    stem: str = option(
        "convolution", "a learned 3x3, or a fixed 2x2 that whitens patches", choices=STEMS)
    activation: str = option("relu", "the nonlinearity of the blocks", choices=ACTIVATIONS)
    pooling: str = option("mean", "over the last feature map", choices=POOLINGS)
    initialisation: str = option(
        "default", "dirac lets 3x3 convolutions pass channels on", choices=INITIALISATIONS)
    norm_scale: bool = option(True, "batch norm learns a scale beside its shift")
    norm_momentum: float = option(
        0.1, "weight of the newest batch in batch norm's statistics", 0.001, 1)
    logit_scale: float = option(1.0, "factor on the logits", 0.001, 100)
    comparison: bool = option(
        False, "true lifts the limit of 5,000,000 parameters, for a comparison only")


@dataclass(frozen=True, kw_only=True)
class ExploreData(Data):
    """Notebook 01_explore_data."""

    images_per_class: int = option(10, "columns of the image grid", 1, 20)
    crop_padding: int = option(4, "pixels of zero padding before the random crop", 0, 16)
    blur_sigma: tuple[float, ...] = option(
        (0.1, 1.5), "lowest and highest standard deviation, pixels", 0.01, 10)
    cutmix_alpha: float = option(1.0, "lambda ~ Beta(alpha, alpha)", 0.01, 100)


@dataclass(frozen=True, kw_only=True)
class BuildModel(Network, Data):
    """Notebook 02_build_model."""

    batch_size: int = option(128, "images of the one forward pass", 2, 4096)


@dataclass(frozen=True, kw_only=True)
class OnGpu(Run, group="where"):
    """On a GPU."""

    compile: bool = option(True, "on a GPU: torch.compile with CUDA graphs")
    deterministic: bool = option(
        True, "on a GPU: the same bits every time, slower; a CPU always gives them")


@dataclass(frozen=True, kw_only=True)
class Optimiser(Run, group="optimiser and schedule"):
    """How the weights follow the gradient."""

    epochs: int = option(100, "passes over the training images", 1, 5000)
    batch_size: int = option(128, "images a step", 2, 8192)
    learning_rate: float = option(0.1, "peak learning rate", 1e-6, 10)
    momentum: float = option(0.9, "of SGD", 0, 0.999)
    nesterov: bool = option(False, "Nesterov's form of the momentum")
    optimiser: str = option(
        "sgd", "muon takes orthogonal steps for convolutions, SGD for the rest", choices=OPTIMISERS)
    muon_learning_rate: float = option(0.24, "peak learning rate of Muon", 1e-6, 10)
    muon_momentum: float = option(0.6, "of Muon", 0, 0.999)
    muon_steps: int = option(5, "Newton-Schulz steps, by which Muon makes orthogonal", 1, 20)
    stem_bias_epochs: int = option(0, "in which a whitening stem's bias learns; 0: all", 0, 5000)
    shift_rate: float = option(
        1.0, "factor on the learning rate of the biases of batch norm and stem", 0.01, 1000)
    weight_decay: float = option(5e-4, "L2 penalty", 0, 0.1)
    decay_all: bool = option(True, "false spares batch norm and biases the weight decay")
    schedule: str = option("cosine", "learning rate over the epochs", choices=SCHEDULES)
    schedule_by: str = option("epoch", "when it falls", choices=("step", "epoch"))
    milestones: tuple[int, ...] = option(
        (), "epochs after which the step schedule multiplies by gamma", 1, 5000)
    gamma: float = option(0.1, "factor of the step schedule", 1e-4, 1)
    warmup_epochs: float = option(0.0, "linear warm-up from 0, or the rise of one_cycle", 0, 1000)
    ema: float = option(
        0.0, "decay a step of the averaged weights, which are then the result; 0: none", 0, 0.99999)
    half_resolution: float = option(  # progressive resizing: Tan & Le, EfficientNetV2 (ICML 2021)
        0.0, "share of the steps, the first, that see means of 2x2 pixels, at less cost", 0, 1)
    sam: float = option(
        0.0, "radius of sharpness-aware minimisation, two passes a step; 0: none", 0, 10)
    sam_adaptive: bool = option(False, "the radius is measured in proportion to each weight")


@dataclass(frozen=True, kw_only=True)
class Augmentation(Run, group="augmentation"):
    """What is done to the training images; the last two mix a pair of them."""

    normalisation: str = option(
        "pixel", "divides by the std of all pixels, or by the mean of the images' own",
        choices=NORMALISATIONS)
    crop_padding: int = option(4, "pixels of padding before the random crop", 0, 16)
    crop_mode: str = option("zero", "what the padding holds", choices=("zero", "reflect"))
    horizontal_flip: float = option(0.5, "probability", 0, 1)
    flip_mode: str = option(
        "random", "alternating mirrors each image every other epoch", choices=FLIP_MODES)
    vertical_flip: float = option(0.0, "probability", 0, 1)
    trivial_augment: float = option(0.0, "probability of TrivialAugment", 0, 1)
    augmix: float = option(0.0, "probability of AugMix", 0, 1)
    blur: float = option(0.0, "probability of the Gaussian blur", 0, 1)
    blur_kernel: int = option(3, "width of the blur kernel, pixels (odd)", 3, 31)
    blur_sigma: tuple[float, ...] = option(
        (0.1, 1.5), "lowest and highest standard deviation, pixels", 0.01, 10)
    erasing: float = option(0.0, "probability of random erasing", 0, 1)
    erasing_scale: tuple[float, ...] = option(
        (0.02, 0.2), "erased share of the image, lowest and highest", 0.001, 1)
    cutmix: float = option(0.5, "probability that an image is mixed by CutMix", 0, 1)
    cutmix_alpha: float = option(1.0, "lambda ~ Beta(alpha, alpha)", 0.01, 100)
    mixup: float = option(
        0.0, "probability that an image is mixed by mixup instead, in both phases", 0, 1)
    mixup_alpha: float = option(1.0, "lambda ~ Beta(alpha, alpha)", 0.01, 100)


@dataclass(frozen=True, kw_only=True)
class Loss(Run, group="loss"):
    """What the network is to say of an image."""

    label_smoothing: float = option(0.0, "share of the label spread over all classes", 0, 0.9)
    teacher: str = option("", "finished run whose predictions are learned too; empty: none")
    teacher_weight: float = option(0.9, "share of the teacher's predictions in the loss", 0, 1)
    temperature: float = option(4.0, "both predictions are softened by it when compared", 0.1, 100)


@dataclass(frozen=True, kw_only=True)
class SecondPhase(Run, group="second phase"):
    """It starts from the first one's weights with a fresh optimiser."""

    phase2_epochs: int = option(0, "0: no second phase", 0, 5000)
    phase2_learning_rate: float = option(0.01, "peak rate of phase 2; Muon keeps its", 1e-6, 10)
    phase2_schedule: str = option("cosine", "schedule of phase 2", choices=SCHEDULES)
    phase2_vertical_flip: float = option(0.0, "probability in phase 2", 0, 1)
    phase2_blur: float = option(0.0, "probability in phase 2", 0, 1)
    phase2_erasing: float = option(0.0, "probability in phase 2", 0, 1)
    phase2_cutmix: float = option(0.0, "probability in phase 2", 0, 1)
    phase2_normalisation: str = option("pixel", "normalisation of phase 2", choices=NORMALISATIONS)


@dataclass(frozen=True, kw_only=True)
class Looks(Run, group="looking"):
    """What is measured while it trains."""

    holdout_images: int = option(
        0, "hold-out images looked at after each epoch; 0 takes all", 0, 25_000)
    audit: bool = option(
        False, "true follows the test accuracy, to show what choosing by it does; never a headline")


@dataclass(frozen=True, kw_only=True)
class Train(Looks, SecondPhase, Loss, Augmentation, Optimiser, Network, Data, OnGpu, Compute):
    """Notebook 03_train."""


@dataclass(frozen=True, kw_only=True)
class PredictTta(Compute):
    """Notebook 04_predict_tta."""

    views: tuple[str, ...] = option(
        VIEWS, "views whose accuracy on the hold-out is shown", choices=(*VIEWS, *SHIFTS))
    combination: str = option("auto",
        "views averaged on the test set; auto: the best on the hold-out", choices=COMBINATIONS)
    holdout_images: int = option(0, "hold-out images used; 0 takes all", 0, 25_000)
    test_images: int = option(0, "test images used, stratified; 0 takes all", 0, 10_000)
    batch_size: int = option(0, "images a forward pass; 0: 500 on a CPU, 5,000 on a GPU", 0, 20_000)
    beside: str = option(
        "", "another normalisation of the test images, shown beside the training's", choices=("",
        *NORMALISATIONS))
    saved_logits: bool = option(
        True, "a release's saved logits stand for its network, as far as they go")
    shifted_set: str = option("", "path of a pickle in the competition's format; empty: none")
    own_images: str = option("", "folder with pictures of your own to predict; empty: none")


@dataclass(frozen=True, kw_only=True)
class Confusion(Run):
    """Notebook 05_confusion."""

    pairs: int = option(5, "most confused pairs shown with images", 1, 20)
    mistakes: int = option(12, "most confident mistakes shown", 1, 60)
    explained: int = option(6, "of these, mistakes whose deciding parts are shown; 0: none", 0, 60)


@dataclass(frozen=True, kw_only=True)
class Report(Run):
    """Notebook 06_report."""

    author: str = option("", "name under the title; empty: none")
    course: str = option("", "course, named after the author; empty: none")


@dataclass(frozen=True, kw_only=True)
class Robustness(Compute):
    """Notebook 07_robustness."""

    test_images: int = option(
        2000, "test images of each corruption and severity, stratified; 0 takes all", 0, 10_000)
    corruption_seed: int = option(
        0, "of the corruptions; the same for every run, so that runs can be compared", 0, 2**31 - 1)
    batch_size: int = option(0, "images a forward pass; 0: 500 on a CPU, 5,000 on a GPU", 0, 20_000)


@dataclass(frozen=True, kw_only=True)
class Deploy(Run):
    """Notebook 08_deploy."""

    test_images: int = option(0, "test images used, stratified; 0 takes all", 0, 10_000)
    calibration_images: int = option(
        1000, "training images that set the ranges of the eight bits", 10, 10_000)
    latency_runs: int = option(200, "single images that are timed", 10, 100_000)
    weight_bits: str = option(
        "auto", "auto is 8, or 7 on an x86 processor without VNNI, where sums of 8 may overflow",
        choices=("auto", "7", "8"))
    reference_network: bool = option(True, "the reference's network too: size, speed; untrained")
# fmt: on


SECTIONS: dict[str, type[Run]] = {
    "01_explore_data": ExploreData,
    "02_build_model": BuildModel,
    "03_train": Train,
    "04_predict_tta": PredictTta,
    "05_confusion": Confusion,
    "06_report": Report,
    "07_robustness": Robustness,
    "08_deploy": Deploy,
}
# The first field of each is run.
COMMON = {item.name: item for part in (Data, Network, Compute) for item in fields(part)[1:]}
