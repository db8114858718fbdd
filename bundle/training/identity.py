"""What a training is a function of, and the finished training of a run."""

import json
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import torch

from bundle import files, fingerprint
from bundle.dataset import cifar10
from bundle.training import code, store
from lib import compute
from lib.data import Dataset
from lib.errors import UserError
from lib.model import ResNet, configuration
from lib.settings import Train, build

CLASSES = 10  # of either dataset


def architecture(summary: dict[str, Any]) -> ResNet:
    """Return the network that a training's state.json describes, untrained: to count, measure."""
    return ResNet(**configuration(build(Train, summary["parameters"], "state.json"), CLASSES))


# Parameters of where the training computes; they stand in the identity under "compute".
COMPUTE = ("device", "precision", "threads", "compile", "deterministic")


@dataclass
class Training:
    """A finished training: the network with its last epoch's weights, and its state.json."""

    model: ResNet
    history: list[dict[str, Any]]
    summary: dict[str, Any]
    verified: dict[str, Any] = field(default_factory=dict)

    @property
    def normalisation(self) -> str:
        """What the images of the last phase were normalised by, and so must be the test's."""
        parameters = self.summary["parameters"]
        return parameters[
            "phase2_normalisation" if parameters["phase2_epochs"] else "normalisation"
        ]

    def stale(self) -> list[str]:
        """Return the definitions that changed since and may change the bits, [] where none did."""
        return code.changed(self.summary, self.verified)


def parameters_of(settings: Train) -> dict[str, Any]:
    """Return the parameters that decide what is trained, not where, as plain values."""
    return {
        key: value
        for key, value in json.loads(json.dumps(asdict(settings))).items()
        if key not in ("run", "dataset", *COMPUTE)
    }


def with_defaults(parameters: dict[str, Any]) -> dict[str, Any]:
    """Return a training's parameters with those added since, at defaults, which change nothing."""
    return json.loads(json.dumps({one.name: one.default for one in fields(Train)})) | parameters


def same_parameters(saved: dict[str, Any], wanted: dict[str, Any]) -> bool:
    """Whether two trainings have equal parameters."""
    return with_defaults(saved) == with_defaults(wanted)


def identity_of(
    settings: Train,
    dataset: Dataset,
    device: torch.device,
    precision: str,
    teacher: Training | None = None,
) -> dict[str, dict[str, Any]]:
    """Return what a training is a function of: parameters, data (and teacher), code, machine."""
    taught = {"teacher": teacher.summary["weights_sha256"]} if teacher else {}
    return {
        "parameters": parameters_of(settings),
        "data": {"name": dataset.name, "checksum": dataset.checksum, **taught},
        "code": fingerprint.of_loop(),
        "compute": compute.identity(device, precision, settings),
    }


def same_identity(saved: dict[str, Any], wanted: dict[str, Any]) -> bool:
    """Whether an unfinished training goes on to the bits that a new one would end with."""
    same = all(saved.get(key) == wanted[key] for key in wanted if key != "code")
    return same and not code.changed(saved)


def load_finished(run_folder: Path, identity: dict[str, dict] | None = None) -> Training | None:
    """Return the finished training of a run, None without one (of these parameters, this data)."""
    folder = store.complete_folder(run_folder)
    summary = files.read_json(folder / "state.json")
    if not summary:
        return None
    if identity and not (
        same_parameters(summary["parameters"], identity["parameters"])
        and summary["data"] == identity["data"]
    ):
        return None
    saved = torch.load(folder / "weights.pt", map_location="cpu", weights_only=True)
    model = ResNet(**saved["network"])
    model.load_state_dict(saved["model"])
    model = model.to(memory_format=torch.channels_last)
    verified = files.read_json(folder / code.VERIFIED)
    return Training(model, store.read_history(folder), summary, verified)


def dataset_of(summary: dict[str, Any]) -> Dataset:
    """Load the dataset that a training (its state.json) used; UserError if other data lies here."""
    parameters, wanted = summary["parameters"], summary["data"]
    dataset = cifar10.load(wanted["name"], parameters["train_images"], parameters["holdout"])
    if dataset.checksum != wanted["checksum"]:
        raise UserError(
            f"the {wanted['name']} files here are not those the training used: run 03_train again"
        )
    return dataset
