"""What a training is a function of, and the finished training of a run."""

import os
import platform
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import torch

from bundle import files, fingerprint, paths, words
from bundle.checks import build
from bundle.dataset import cifar10
from bundle.training import code, store
from bundle.training.alike import parameters_of, same_parameters
from lib import compute
from lib.data import Dataset
from lib.errors import UserError
from lib.model import ResNet, channels_last, configuration
from lib.settings import Train

CLASSES = 10  # of either dataset


def architecture(summary: dict[str, Any]) -> ResNet:
    """Return the network that a training's state.json describes, untrained: to count, measure."""
    return ResNet(**configuration(build(Train, summary["parameters"], "state.json"), CLASSES))


# What state.json says of every finished training.
SUMMARY = {"parameters", "data", "code", "compute", "epochs", "weights_sha256"}
ADDED = {"cpu_kernels", "begun_on"}  # keys of "compute" that older records do not have
SWITCHES = (  # by which a user or a site has oneDNN or MKL take other kernels than the CPU's best
    "ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA", "ONEDNN_DEFAULT_FPMATH_MODE",
    "DNNL_DEFAULT_FPMATH_MODE", "MKL_ENABLE_INSTRUCTIONS", "MKL_CBWR", "MKL_DEBUG_CPU_TYPE",
)  # fmt: skip


@dataclass
class Training:
    """A finished training: the network with its last epoch's weights, and its state.json."""

    model: ResNet | None  # None where only its logits are here
    history: list[dict[str, Any]]
    summary: dict[str, Any]
    verified: dict[str, Any] = field(default_factory=dict)

    @property
    def network(self) -> ResNet:
        """The model of a training that has one."""
        assert self.model is not None, "this training has logits alone"
        return self.model

    @property
    def normalisation(self) -> str:
        """What the images of the last phase were normalised by, and so must be the test's."""
        parameters = self.summary["parameters"]
        return parameters["phase2_" * bool(parameters["phase2_epochs"]) + "normalisation"]

    def stale(self) -> list[str]:
        """Return the definitions that changed since and may change the bits, [] where none did."""
        return code.changed(self.summary, self.verified)


def identity_of(
    settings: Train, dataset: Dataset, device: torch.device, teacher: Training | None = None
) -> dict[str, dict[str, Any]]:
    """Return what a training is a function of: parameters, data (and teacher), code, machine."""
    precision = compute.precision_of(settings, device)
    taught = {"teacher": teacher.summary["weights_sha256"]} if teacher else {}
    return {
        "parameters": parameters_of(settings),
        "data": {"name": dataset.name, "checksum": dataset.checksum, **taught},
        "code": fingerprint.of_loop(),
        "compute": machine_of(device, precision, settings),
    }


def gone_on(
    saved: dict[str, Any], wanted: dict[str, Any], epoch: int, elsewhere: bool = False
) -> dict[str, dict[str, Any]] | None:
    """Return the identity of an unfinished training that goes on here, None where it must not.

    Here it ends with the bits that a new one would end with. With `elsewhere` another machine may
    have done the first epochs, to `epoch`: then compute.begun_on names it, and nobody gets the bits
    again.
    """
    same = same_parameters(saved.get("parameters") or {}, wanted["parameters"])
    if not same or saved.get("data") != wanted["data"] or code.changed(saved):
        return None
    then, now = saved.get("compute") or {}, wanted["compute"]
    begun_on = then.get("begun_on", "")
    if machine_differences(then, {**now, "begun_on": begun_on}):
        if not elsewhere:
            return None
        begun_on += f"{'; ' * bool(begun_on)}to epoch {epoch} {words.machine(then)}"
    return {**wanted, "compute": {**now, "begun_on": begun_on}}


def refuse_other(
    saved: dict[str, Any], wanted: dict[str, Any], folder: Path, epoch: int
) -> NoReturn:
    """Raise UserError that spells out how an unfinished training differs from the one wanted."""
    parts = []
    for key, now in wanted.items():
        compared = machine_differences if key == "compute" else fingerprint.differences
        parts += compared(saved.get(key) or {}, now)
    shown = ", ".join(parts[:4]) + (f" and {len(parts) - 4} more" if len(parts) > 4 else "")
    what = f"epoch {epoch} of an unfinished training that differs ({shown})"
    remedy = "undo the change to go on with it, or RETRAIN=1 to start afresh"
    if gone_on(saved, wanted, epoch, elsewhere=True):
        remedy = "go on there, or here: python -m bundle train RUN --elsewhere; or RETRAIN=1 afresh"
    raise UserError(f"{paths.shown(folder)}: {what}; {remedy}")


def machine_differences(saved: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """Return what of a machine differs from the recorded one; what is no part of the record is not.

    Both are of `machine_of`; an older record does not know the kernels of its CPU.
    """
    then = {key: saved.get(key, now[key] if key in ADDED else None) for key in now}
    return fingerprint.differences(then, now)


def _same(summary: dict[str, Any], identity: dict[str, dict]) -> bool:
    """Whether a finished training has an identity's parameters and data."""
    same = same_parameters(summary["parameters"], identity["parameters"])
    return same and summary["data"] == identity["data"]


def network_of(saved: dict[str, Any]) -> ResNet:
    """Return the network of a weights.pt's content."""
    model = ResNet(**saved["network"])
    model.load_state_dict(saved["model"])
    return model


def load_finished(run_folder: Path, identity: dict[str, dict] | None = None) -> Training | None:
    """Return the finished training of a run, None without one (of these parameters, this data).

    Raises Damaged where its files are not as they were written, or not of one training.
    """
    folder = store.complete_folder(run_folder)
    summary = read_summary(folder)
    if not summary or (identity and not _same(summary, identity)):
        return None
    if not (folder / store.WEIGHTS).is_file():
        return None
    model = _network(folder, summary)
    history = store.finished_history(folder, summary["epochs"])
    return Training(model, history, summary, code.verified(folder))


def read_summary(folder: Path) -> dict[str, Any]:
    """Return the state.json of a training's folder, {} without one; Damaged if it is not such."""
    summary = files.read_json(folder / store.STATE)
    if summary and not summary.keys() >= SUMMARY:
        raise store.damaged(folder / store.STATE, "not the summary of a training")
    return summary


def _network(folder: Path, summary: dict[str, Any]) -> ResNet:
    """Return the network of weights.pt; Damaged where state.json tells of others."""
    saved, path = store.load_weights(folder), folder / store.WEIGHTS
    try:
        model = network_of(saved)
    except (RuntimeError, LookupError, TypeError, ValueError, AttributeError) as error:
        raise store.damaged(path, "not the weights of a network here") from error
    if store.weights_digest(model) != summary["weights_sha256"]:
        raise store.damaged(path, f"not the weights that {store.STATE} tells of")
    return channels_last(model)


def dataset_of(summary: dict[str, Any]) -> Dataset:
    """Load the dataset that a training (its state.json) used; UserError if other data lies here."""
    parameters, wanted = summary["parameters"], summary["data"]
    dataset = cifar10.load(wanted["name"], parameters["train_images"], parameters["holdout"])
    if dataset.checksum != wanted["checksum"]:
        what = f"the {wanted['name']} files here are not those the training used"
        raise UserError(f"{what}: run 03_train again")
    return dataset


def machine_of(device: torch.device, precision: str, settings: Train) -> dict[str, Any]:
    """Return what, beside code, values and data, decides the bits (of Train settings)."""
    kind = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    return {
        "device": device.type,
        "device_name": kind,
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "precision": precision,
        "threads": settings.threads,
        "compiled": compute.compiles(settings, device),
        "deterministic": settings.deterministic or device.type == "cpu",
        "torch": str(torch.__version__),  # a class of its own, which a checkpoint could not hold
        "cuda": torch.version.cuda if device.type == "cuda" else "",
        "cpu_kernels": cpu_kernels() if device.type == "cpu" else "",
        "begun_on": "",  # the machine of its first epochs, where it was another: see gone_on
    }


def cpu_kernels() -> str:
    """Return by what oneDNN and MKL choose among their kernels: maker, extensions, switches set.

    Two CPUs of one capability (AVX512) may differ in these, and then in the bits.
    """
    has = {
        "VNNI": torch.cpu._is_vnni_supported(),
        "AVX512-BF16": torch.cpu._is_avx512_bf16_supported(),
        "AMX": torch.cpu._is_amx_tile_supported(),
    }
    about = Path("/proc/cpuinfo")
    text = about.read_text(errors="replace") if about.is_file() else platform.processor()
    maker = re.search(r"^vendor_id\s*:\s*(\S+)", text, re.MULTILINE)
    switches = [f"{name}={os.environ[name]}" for name in SWITCHES if os.environ.get(name)]
    names = [name for name, there in has.items() if there]
    return ", ".join([maker[1] if maker else "unknown maker", *names, *switches])
