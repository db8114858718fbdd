"""Pictures of one's own on a page: each beside what the network sees, with its probabilities."""

import io
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from PIL import Image

from bundle import diagrams, paths, words
from bundle.files import write_atomically
from bundle.own import pictures
from bundle.own.network import RELEASED, Network, stacked
from bundle.own.pictures import Picture
from bundle.pages.index import BUNDLE, TEMPLATE, template
from bundle.runs.results import notice_of

MOST = 200  # pictures of a page; the table has all
TABLE, PAGE = "predictions.csv", "predictions.html"


def fragment(network: Network, found: Sequence[Picture], occlusion: bool = False) -> str:
    """Return the pictures as a piece of HTML, MOST of them at most."""
    style = (TEMPLATE / "own.css").read_text(encoding="utf-8")
    rows = _rows(network, list(found[:MOST]), occlusion)
    return template("own.html.j2").render(
        style=style, rows=rows, network=network, left=len(found) - len(rows)
    )


def _rows(network: Network, found: list[Picture], occlusion: bool) -> list[dict[str, Any]]:
    """Return what is shown of each picture, its probabilities the largest first."""
    pixels = stacked(found)
    given = network.probabilities(pixels)
    best, seen = given.argmax(1), {"seen": pixels.numpy()}
    if occlusion:
        falls = network.occlusion(pixels, best).numpy()
        seen["parts"] = diagrams.overlay(pixels.numpy(), falls)
    rows: list[dict[str, Any]] = []
    for number, (picture, shares) in enumerate(zip(found, given, strict=True)):
        order = torch.argsort(shares, descending=True, stable=True)
        rows.append(
            {
                "file": picture.file,
                "size": "{:,} × {:,}".format(*picture.size),
                "preview": pictures.address("jpeg", picture.preview),
                "bars": [(network.classes[place], float(shares[place])) for place in order],
                **{name: _png(images[number]) for name, images in seen.items()},
            }
        )
        if occlusion:
            rows[-1]["fall"] = float(falls[number].max())
    return rows


def _png(image: np.ndarray) -> str:
    with io.BytesIO() as buffer:
        Image.fromarray(image.transpose(1, 2, 0)).save(buffer, "PNG", optimize=True)
        return pictures.address("png", buffer.getvalue())


def folder_of(network: Network, images: Sequence[str | os.PathLike]) -> Path:
    """Return where the predictions for `images` belong: results/RUN/own/NAME of the images."""
    first = Path(os.path.realpath(images[0])).name if len(images) == 1 else ""
    name = re.sub(r"[^A-Za-z0-9_.-]+", "-", first)[:60].strip(".-") or "pictures"
    return paths.results(network.run.removeprefix(RELEASED)) / "own" / name


def write(
    network: Network, images: Sequence[str | os.PathLike], occlusion: bool = False
) -> tuple[Path, pd.DataFrame]:
    """Write table and page of `images`; return their folder, and the table; UserError for none."""
    found, problems = pictures.read(images)
    pictures.tell(problems)
    folder, table = folder_of(network, images), network.table(found)
    html = _page(network, found, problems, occlusion, _links(folder))
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / TABLE, table.to_csv(index=False, float_format="%.6f").encode())
    write_atomically(folder / PAGE, html.encode())
    return folder, table


def _page(
    network: Network,
    found: list[Picture],
    problems: list[str],
    occlusion: bool,
    links: Sequence[tuple[str, str]],
) -> str:
    return template("own_page.html.j2").render(
        bundle=BUNDLE,
        network=network,
        notice=notice_of(network.metrics),
        words=words,
        accuracy=_accuracy(network),
        shown=fragment(network, found, occlusion),
        pictures=words.count(len(found), "picture"),
        problems=problems[: pictures.MOST_LINES],
        unshown=len(problems) - pictures.MOST_LINES,
        occlusion=occlusion,
        known=words.listed(network.classes),
        links=links,
        table=TABLE,
    )


def _accuracy(network: Network) -> str:
    """Return the run's test accuracy with its interval, "" where its record has none."""
    known = words.number(network.metrics, "test", "accuracy") is not None
    return words.accuracy(network.metrics["test"]) if known else ""


def _links(folder: Path) -> list[tuple[str, str]]:
    """Return (label, address) of the index and of the run's report, where they are."""
    known = (
        ("All runs", paths.RESULTS / "index.html"),
        ("Report", folder.parents[1] / "report.html"),
    )
    return [(label, os.path.relpath(path, folder)) for label, path in known if path.is_file()]
