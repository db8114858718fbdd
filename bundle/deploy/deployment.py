"""What notebook 08 does, step by step: export, quantise, measure, and say what was found."""

from collections.abc import Callable
from dataclasses import asdict
from functools import wraps
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bundle import words
from bundle.deploy import export, measure, quantise
from bundle.deploy.fold import pairs
from bundle.training.identity import Training
from lib import data, metrics, model, predict
from lib.data import Dataset
from lib.layers import layer_table
from lib.settings import Deploy, Network

GET = "run `make setup-deploy`, then this notebook again"
FORMS = ("fp32", "int8")
REFERENCE = "the reference's network, untrained"
CALIBRATION_OF_UNTRAINED = 50  # images: its ranges decide no speed


def step(does: Callable[["Deployment"], str]) -> Callable[["Deployment"], str]:
    """Let a step of a deployment say why it is not done where packages or weights are missing."""

    @wraps(does)
    def done(deployment: "Deployment") -> str:
        return "*Not done, for the reason above.*" if deployment.why else does(deployment)

    return done


class Deployment:
    """A trained network on its way out of the notebook, into `folder`/deploy.

    `why` says what is missing, "" where nothing is: then `rows` are filled by `measure`, one for
    each file: its network and form, size, accuracy, speed and memory.
    """

    def __init__(self, training: Training, dataset: Dataset, settings: Deploy, folder: Path):
        self.training, self.dataset, self.settings = training, dataset, settings
        self.statistics = dataset.normalisation(training.normalisation)
        self.folder, self.missing = folder / "deploy", export.missing()
        self.logits: dict[str, Tensor] = {}
        self.rows: list[dict[str, Any]] = []
        self.difference: float | None = None
        self.weight_bits = quantise.bits_of(settings.weight_bits)
        verb = "is" if len(self.missing) == 1 else "are"
        self.why = f"{words.listed(self.missing)} {verb} not installed; {GET}"
        if not self.missing:
            self.why = "" if training.model else "this training's weights are not here, only logits"

    @property
    def told(self) -> str:
        """What exports and measures here, or what is missing and how to get it, as Markdown."""
        if self.why:
            return f"**Nothing is exported here**: {self.why}."
        return f"With {words.listed(f'{name} {v}' for name, v in export.versions().items())}."

    def file(self, form: str) -> Path:
        """Return where a form of the network lies."""
        return self.folder / f"network-{form}.onnx"

    @step
    def export(self) -> str:
        """Export the network and hold its logits against PyTorch's, on all test images used."""
        self.folder.mkdir(exist_ok=True)
        pixels, network = self.dataset.test.pixels, self.training.network.cpu().float()
        ours = predict.logits(network, pixels, self.statistics)
        export.export(network, self.statistics, self.file("fp32"))
        self.logits["fp32"] = export.logits(self.file("fp32"), pixels)
        self.difference = export.largest_difference(ours, self.logits["fp32"])
        norms = sum(isinstance(layer, nn.BatchNorm2d) for layer in network.modules())
        return (
            f"{len(list(pairs(network.eval())))} of {norms} batch norms are folded. On "
            f"{len(pixels):,} test images the file gives the same class as PyTorch, and no logit "
            f"differs by more than {self.difference:.1g} (allowed: {export.LARGEST_DIFFERENCE:g})."
        )

    @step
    def quantise(self) -> str:
        """Quantise the exported file with training images, and predict the test images by it."""
        images = data.subset(self.dataset.train, self.settings.calibration_images)
        source, target = map(self.file, FORMS)
        quantise.quantise(source, target, images.pixels, self.weight_bits)
        self.logits["int8"] = export.logits(target, self.dataset.test.pixels)
        sizes = [path.stat().st_size for path in (source, target)]
        return (
            f"Calibrated on {len(images):,} training images; a weight has {self.weight_bits} bits. "
            f"The file is {sizes[0] / sizes[1]:.1f} times smaller."
        )

    @step
    def measure(self) -> str:
        """Measure both files, and the reference's untrained network where it is another."""
        paths = {form: self.file(form) for form in FORMS}
        self.rows = [self._row(self.settings.run, form, path) for form, path in paths.items()]
        if self.settings.reference_network and not _is_reference(self.training.network):
            self.rows += self._reference_rows()
        return (
            f"{self.settings.latency_runs} times a single image, on one thread of this machine's "
            f"processor, each file in a process of its own."
        )

    def _row(self, network: str, form: str, path: Path) -> dict[str, Any]:
        row = {"network": network, "form": form, "bytes": path.stat().st_size}
        if network == self.settings.run:
            labels = self.dataset.test.labels
            classes = {name: logits.argmax(1) for name, logits in self.logits.items()}
            row |= metrics.accuracy(classes[form], labels)._asdict()
            if form != "fp32":
                row["mcnemar"] = metrics.mcnemar(classes["fp32"], classes[form], labels)._asdict()
        return row | measure.measured(path, self.settings.latency_runs)

    def _reference_rows(self) -> list[dict[str, Any]]:
        """Return size and speed of the reference's network; its files are not kept."""
        files = {form: self.folder / f"reference-{form}.onnx" for form in FORMS}
        export.export(model.build(Network(), seed=0), self.statistics, files["fp32"])
        images = data.subset(self.dataset.train, CALIBRATION_OF_UNTRAINED)
        quantise.quantise(files["fp32"], files["int8"], images.pixels, self.weight_bits)
        rows = [self._row(REFERENCE, form, path) for form, path in files.items()]
        for path in files.values():
            path.unlink()
        return rows

    def record(self) -> dict[str, Any]:
        """Return what the metrics hold of it: the rows, or what is missing."""
        if self.why:
            return {"missing": self.missing or ["weights"]}
        return {
            "forms": self.rows,
            "largest_difference": self.difference,
            "calibration_images": self.settings.calibration_images,
            "weight_bits": self.weight_bits,
            "latency_runs": self.settings.latency_runs,
            "packages": export.versions(),
            "mmac": mmac(self.training.network),
            "reference_mmac": mmac(model.build(Network())),
            "processor": torch.backends.cpu.get_cpu_capability(),
        }


def mmac(network: model.ResNet) -> float:
    """Return the million multiply-accumulates of an image."""
    return float(layer_table(network)["mmac"].sum())


def _is_reference(network: model.ResNet) -> bool:
    reference = model.build(Network())
    return str(network) == str(reference) and asdict(network.style) == asdict(reference.style)
