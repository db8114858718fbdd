"""results/RUN/demo.html: the trained network of a run in one file that fetches nothing."""

import json
from base64 import b64encode
from pathlib import Path
from typing import Any

from bundle import paths, words
from bundle.demo.export import Exported, export
from bundle.files import locked, write_sealed
from bundle.pages.index import BUNDLE, DEMO, template
from bundle.runs.results import full_result, notice_of, read_metrics
from bundle.training import identity, store, weights
from bundle.words import number
from lib.data import Statistics
from lib.errors import UserError
from lib.model import ResNet, count_parameters

TEMPLATE = Path(__file__).resolve().parent / "template"
SIDE = 32  # pixels of either dataset's images
BITS = 10  # of a weight: 8 change the class of one image in 200 of a weak network
TEMPERATURE = ("temperature", "value")  # where a record has it


def write(run: str) -> Path:
    """Write the page of a run, local or "released/RUN", and return it.

    A run without weights of its own takes those of its release. Raises UserError without either,
    and for a network that the page cannot compute.
    """
    source = next(filter(_has_weights, (run, f"released/{run}")), None)
    if source is None:
        remedy = f"make run-all RUN={run} makes them"
        raise UserError(f"{paths.shown(paths.results(run))}: no weights of a training; {remedy}")
    text = html(source.removeprefix("released/"), *trained(source), read_metrics(source))
    page = paths.results(run) / DEMO
    if run.startswith("released/"):
        write_sealed(page, text.encode())
    else:
        with locked(page.parent, run):
            write_sealed(page, text.encode())
    return page


def _has_weights(run: str) -> bool:
    folder = paths.results(run) / "training"
    return any((folder / name).is_file() for name in (weights.FILE, store.WEIGHTS))


def trained(run: str) -> tuple[ResNet, Statistics, list[str]]:
    """Return a run's network, what its images are normalised by, and its classes.

    Raises Damaged where a file is not as it was written.
    """
    folder = paths.results(run) / "training"
    if (folder / weights.FILE).is_file():
        return weights.read_network(folder / weights.FILE)
    training = identity.load_finished(paths.results(run))
    if training is None:
        raise UserError(f"{paths.shown(folder)}: no finished training; make run-all RUN={run}")
    saved = store.load_weights(folder)
    statistics = Statistics(*(tuple(saved["statistics"][part]) for part in ("mean", "std")))
    return training.model.eval(), statistics, saved["classes"]


def html(
    run: str,
    model: ResNet,
    statistics: Statistics,
    classes: list[str],
    metrics: dict[str, Any],
    bits: int = BITS,
) -> str:
    """Return the page of a network, all in one text: what it shows is from the run's metrics.

    Raises UserError for a network that the page cannot compute.
    """
    exported, notice = export(model, bits), notice_of(metrics)
    test, temperature = metrics.get("test") or {}, number(metrics, *TEMPERATURE)
    network = {
        "bits": bits,
        "steps": exported.steps,
        "side": SIDE,
        "classes": list(classes),
        "mean": statistics.mean,
        "std": statistics.std,
        "temperature": temperature or 1,
    }
    whole, numbers = (b64encode(part).decode() for part in exported.data())
    return template("page.html.j2", folder=TEMPLATE).render(
        bundle=BUNDLE,
        run=run,
        classes=classes,
        spelled=words.spelled(len(classes)),
        side=SIDE,
        alarm=words.alarm(notice),
        told=words.rehearsal(notice),
        full=full_result(),
        accuracy=words.accuracy(test) if {"accuracy", "low", "high"} <= test.keys() else "",
        images=f"{test.get('images', 0):,}",
        facts=_facts(model, exported, temperature),
        network=json.dumps(network).replace("<", "\\u003c"),
        weights=whole,
        numbers=numbers,
    )


def _facts(model: ResNet, exported: Exported, temperature: float | None) -> list[tuple[str, str]]:
    """Return what a reader may want to know of the page: name and sentence."""
    size, bits = sum(map(len, exported.data())) / 1e6, exported.bits
    told = ", as they are: this run has no record of a temperature that would calibrate them"
    if temperature:
        told = f" divided by the run's temperature, {temperature:.2f}, which calibrates them"
    return [
        ("Parameters", f"{count_parameters(model):,}"),
        ("Weights", f"{size:.1f} MB in this page, rounded to {bits} bits; "
                    "batch norm is part of the convolutions."),
        ("Probabilities", f"The softmax of the logits{told}."),
        ("The picture", f"Each of the {SIDE} × {SIDE} pixels is the mean of an area of the square. "
                        "What is transparent becomes white."),
    ]  # fmt: skip
