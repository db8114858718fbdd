"""What a run left under results/RUN: its metrics, its artefacts, what a reader must know."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bundle import paths, words
from bundle.files import Damaged, damaged, read_intact, read_json, read_sealed, seal, write_json
from bundle.runs import graph
from bundle.training import code
from lib.errors import UserError

FULL = "cpu"  # the run whose full result costs minutes
STALE = "trained by other code than is here now"


def needed(run: str, file: str) -> Path:
    """Return an earlier notebook's artefact or stand-in; UserError names the notebook if none.

    Raises Damaged where it is not as it was written.
    """
    path = paths.artefact(paths.results(run), file)
    if not path.exists():
        writer = graph.writer_of(file) or "03_train"
        remedy = f"run notebook {writer} first (or: make run-all RUN={run})"
        raise UserError(f"results/{run}/{file} is missing: {remedy}")
    read_sealed(path)
    return path


def read_metrics(run: str) -> dict[str, Any]:
    """Return the merged metrics of a run, {} where there are none, marked as of now."""
    folder = paths.results(run)
    return marked(read_json(folder / "metrics.json"), folder)


def marked(metrics: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Return metrics whose train.stale says what changed since the training beside them.

    A record made earlier says what had changed then. It stays where the training is not here.
    """
    train, state = metrics.get("train"), read_json(folder / "training" / "state.json")
    if not isinstance(train, dict) or state.get("weights_sha256") != train.get("weights_sha256"):
        return metrics
    return {**metrics, "train": {**train, "stale": code.of_folder(folder / "training")}}


def averages_views(metrics: dict[str, Any]) -> bool:
    """Whether the run averages views; where none was better on the hold-out it keeps one."""
    tta = metrics.get("tta")
    return not (isinstance(tta, dict) and tta.get("combination") == "original")


def as_the_reference(metrics: dict[str, Any]) -> dict[str, Any]:
    """Return the single view's score, of images normalised as in the reference's test if here."""
    aside = metrics.get("beside")
    return aside if aside and aside["normalisation"] == "image" else metrics["test"]


def merge(folder: Path) -> dict[str, Any]:
    """Merge metrics/NN.json in notebook order into metrics.json, atomically; return the result.

    A damaged part is left out: its notebook has to run again.
    """
    merged: dict[str, Any] = {}
    for path in sorted((folder / "metrics").glob("*.json")):
        try:
            part = read_json(path)
        except Damaged:
            continue
        part["provenance"] = {**merged.get("provenance", {}), **part.get("provenance", {})}
        merged.update(part)
    write_json(folder / "metrics.json", merged)
    seal(folder, "metrics.json")
    return merged


def mend(folder: Path) -> list[Path]:
    """Merge the metrics of a run again where their file is damaged or gone; return what is damaged.

    It is said. Notebooks and training of the other files run again by what status.reasons finds.
    """
    found = [path for part in (folder, folder / "training") for path in damaged(part)]
    for path in found:
        print(f"{paths.shown(path)}: not as it was written; it is made again", flush=True)
    parts, merged = (folder / "metrics").is_dir(), folder / "metrics.json"
    if parts and (merged in found or not merged.is_file()):
        merge(folder)
    return found


def drop_dependents(name: str, folder: Path) -> None:
    """Delete the metrics of notebooks that depend on `name`, which ran again: they are outdated."""
    for node in graph.dependents(name):
        (folder / node.metrics).unlink(missing_ok=True)


def keep_by_hand(name: str, folder: Path) -> None:
    """Take in what notebook `name` left in results/RUN by hand: its metrics, merged, its files."""
    drop_dependents(name, folder)
    node = next((node for node in graph.nodes() if node.name == name), graph.Node(name))
    seal(folder, node.metrics, *(file for file in node.writes if not file.startswith("training/")))
    merge(folder)


def reference() -> dict[str, Any]:
    """Return the reference's reported figures (docs/reference.json), what it printed as "log"."""
    docs = paths.ROOT / "docs"
    figures, log = (
        json.loads((docs / name).read_text(encoding="utf-8"))
        for name in ("reference.json", "reference_log.json")
    )
    return {**figures, "log": log}


DATASETS = {
    "cifar10": "CIFAR-10",
    "cifar10-subset": "A subset of CIFAR-10",
    "digits": "Handwritten digits",
}


def readable_metrics(run: str, say: Callable[[str], None] = lambda problem: None) -> dict[str, Any]:
    """Return the run's metrics; empty where, said, none can be read: the index shows the others."""
    try:
        metrics = read_metrics(run)
    except (OSError, UserError) as problem:
        say(str(problem))
        return {}
    return metrics if isinstance(metrics, dict) else {}


def notice_of(metrics: dict[str, Any]) -> str:
    """Return what any page's reader must know: what the data is not, and whether it is stale."""
    train = metrics.get("train")
    stale = isinstance(train, dict) and train.get("stale")
    audit = "audit: the test set was followed during training" if metrics.get("audit") else ""
    parts = [str(metrics.get("notice") or ""), audit, f"stale: {STALE}" if stale else ""]
    return "; ".join(part for part in parts if part)


def full_result() -> tuple[str, str]:
    """Return the command of the full result, and what the released run of it reached and took.

    ("make run-all RUN=cpu", "93.6%, 21 minutes"); the second is "" where no such run is here.
    """
    released = read_intact(paths.RESULTS / "released" / FULL / "metrics.json")
    keys = (("test", "accuracy"), ("train", "seconds"))
    accuracy, seconds = (words.number(released, *key) for key in keys)
    reached = ""
    if accuracy is not None and seconds is not None:
        reached = f"{accuracy:.1%}, {words.count(round(seconds / 60), 'minute')}"
    return f"make run-all RUN={FULL}", reached
