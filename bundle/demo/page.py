"""results/RUN/demo.html: the trained network of a run in one file that fetches nothing."""

import json
from base64 import b64encode
from pathlib import Path

from bundle import paths, words
from bundle.demo.export import Exported, export
from bundle.files import locked, write_sealed
from bundle.own.network import RELEASED, Network, load_released
from bundle.own.pictures import SIDE
from bundle.pages.index import BUNDLE, DEMO, template
from bundle.runs.results import full_result, notice_of
from lib.model import count_parameters

TEMPLATE = Path(__file__).resolve().parent / "template"
BITS = 10  # of a weight: 8 change the class of one image in 200 of a weak network


def write(run: str) -> Path:
    """Write the page of a run, local or "released/RUN", and return it.

    A run without weights of its own takes those of its release. Raises UserError without either,
    and for a network that the page cannot compute.
    """
    text, page = html(load_released(run)), paths.results(run) / DEMO
    if run.startswith(RELEASED):
        write_sealed(page, text.encode())
    else:
        with locked(page.parent, run):
            write_sealed(page, text.encode())
    return page


def html(network: Network, bits: int = BITS) -> str:
    """Return the page of a network, all in one text, with weights of `bits` bits.

    What it says of the network is from the run's metrics. Raises UserError for a network that the
    page cannot compute.
    """
    exported, notice = export(network.model, bits), notice_of(network.metrics)
    weights, numbers = (b64encode(part).decode() for part in exported.data())
    return template("page.html.j2", folder=TEMPLATE).render(
        bundle=BUNDLE,
        run=network.run.removeprefix(RELEASED),
        classes=network.classes,
        spelled=words.spelled(len(network.classes)),
        side=SIDE,
        alarm=words.alarm(notice),
        told=words.rehearsal(notice),
        full=full_result(),
        test=network.metrics.get("test"),
        accuracy=words.accuracy(network.metrics["test"]) if "test" in network.metrics else "",
        facts=_facts(network, exported),
        forward=_forward(network, exported),
        weights=weights,
        numbers=numbers,
    )


def _forward(network: Network, exported: Exported) -> str:
    """Return what the page computes with, but for weights and numbers, as JSON for a script."""
    forward = {
        "bits": exported.bits,
        "steps": exported.steps,
        "side": SIDE,
        "classes": network.classes,
        "mean": network.statistics.mean,
        "std": network.statistics.std,
        "temperature": network.temperature or 1,
    }
    return json.dumps(forward).replace("<", "\\u003c")


def _facts(network: Network, exported: Exported) -> list[tuple[str, str]]:
    """Return what a reader may want to know of the page: name and sentence."""
    size, bits = sum(map(len, exported.data())) / 1e6, exported.bits
    return [
        ("Parameters", f"{count_parameters(network.model):,}"),
        ("Weights", f"{size:.1f} MB in this page, rounded to {bits} bits; "
                    "batch norm is part of the convolutions."),
        ("Probabilities", network.calibrated),
        ("The picture", f"Each of the {SIDE} × {SIDE} pixels is the mean of an area of the square. "
                        "What is transparent becomes white."),
    ]  # fmt: skip
