"""Whether trainings are of equal parameters, by their state.json alone: PyTorch is not loaded."""

import json
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from bundle import files, paths
from bundle.training import store
from lib.settings import Train

# Parameters of where the training computes; they stand in the identity under "compute".
COMPUTE = ("device", "precision", "threads", "compile", "deterministic")


def parameters_of(settings: Train) -> dict[str, Any]:
    """Return the parameters that decide what is trained, not where, as plain values."""
    plain = json.loads(json.dumps(asdict(settings)))
    return {key: plain[key] for key in plain if key not in ("run", "dataset", *COMPUTE)}


def with_defaults(parameters: dict[str, Any]) -> dict[str, Any]:
    """Return a training's parameters with those added since, at defaults, which change nothing."""
    defaults = {parameter.name: parameter.default for parameter in fields(Train)}
    return json.loads(json.dumps(defaults)) | parameters


def same_parameters(saved: dict[str, Any], wanted: dict[str, Any]) -> bool:
    """Whether two trainings have equal parameters."""
    return with_defaults(saved) == with_defaults(wanted)


def is_of(summary: dict[str, Any], settings: Train) -> bool:
    """Whether a training (its state.json) has the parameters of these settings."""
    return same_parameters(summary["parameters"], parameters_of(settings))


def newer(run_folder: Path, settings: Train) -> list[str]:
    """Return why 03_train must run again: its training is of a release that was replaced since."""
    path, here = paths.RESULTS / "released" / run_folder.name / "training" / store.STATE, {}
    state = store.complete_folder(run_folder) / store.STATE
    if files.intact(state):  # else 03_train runs again anyway
        here = files.read_json(state)
    released = files.read_json(path) if here.get("released") else {}
    if not released or here == released:
        return []
    same = here["data"] == released["data"] and is_of(released, settings)
    return [f"{paths.shown(path.parent)} was released anew"] if same else []
