"""The confusion matrix whose cells open their images: one piece of HTML, without a library."""

import io
import json
import math
from base64 import b64encode
from collections.abc import Sequence
from html import escape
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bundle import words
from bundle.pages.index import TEMPLATE

MOST = 700  # images of mistakes in a page, so that it stays below some 400 KiB
RIGHT = 12  # images of a class that it recognised, the least sure
QUALITY = 82  # of WebP
COLUMNS = 28  # images of a row of the sprite
# The ground of a cell, from no mistake to the largest number of them. Ink of the style sheet has
# a contrast of at least 4.5 on all of it.
LIGHT, DARK = ((253, 252, 249), (238, 154, 98)), ((28, 27, 27), (138, 61, 18))
HINT = (
    "Choose a cell to see its images (with the keyboard: arrow keys and Enter; Escape closes them)."
)


def html(
    pixels: NDArray[np.uint8],
    labels: NDArray[np.integer],
    probabilities: NDArray[np.floating],
    classes: Sequence[str],
    caption: str = "",
) -> str:
    """Return the matrix of true (rows) and predicted classes as HTML.

    Args:
        pixels: images (N, 3, H, W), uint8.
        labels: their classes (N,).
        probabilities: of each class (N, C), in [0, 1].
        classes: C names.
        caption: what the matrix shows; "" says how many mistakes there are and which most often.

    Without JavaScript, or without images of the dataset, it is a table of numbers.
    """
    said = probabilities.argmax(1)
    matrix = np.zeros((len(classes), len(classes)), dtype=int)
    np.add.at(matrix, (labels, said), 1)
    style = (TEMPLATE / "mistakes.css").read_text(encoding="utf-8")
    table = _table(matrix, classes, caption or _finding(matrix, classes))
    gallery = _gallery(pixels, *choose(labels, probabilities), classes)
    return f'<div class="mistakes"><style>{style}</style>{table}{gallery}</div>'


def _gallery(
    pixels: NDArray[np.uint8], cells: list, shown: Sequence[int], classes: Sequence[str]
) -> str:
    """Return the images and the script that opens them: what a page without images leaves out."""
    rows = math.ceil(len(shown) / COLUMNS)
    data = {"classes": list(classes), "columns": COLUMNS, "rows": rows, "cells": cells}
    about = json.dumps(data, separators=(",", ":")).replace("<", "\\u003c")
    media, file = sprite(pixels[shown])
    image = f"url(data:{media};base64,{b64encode(file).decode()})"
    script = (TEMPLATE / "mistakes.js").read_text(encoding="utf-8")
    return (
        f'<div data-photographs=""><p class="hint" hidden>{HINT}</p>'
        f'<div class="opened" hidden></div><style>.mistakes {{ --sprite: {image} }}</style>'
        f'<script type="application/json">{about}</script><script>{script}</script></div>'
    )


def choose(labels: NDArray, probabilities: NDArray) -> tuple[list[dict[str, Any]], list[int]]:
    """Return the cells that have images, and the numbers of these images in their order.

    A cell has its true and predicted class (`true`, `said`), `count`, `start` (the place of its
    first image) and `images`: number, probability of the predicted and of the true class. Mistakes
    come the surest first, what is right the least sure first.
    """
    said, top = probabilities.argmax(1), probabilities.max(1)
    pairs = [(row, column) for row, column in np.ndindex(*[probabilities.shape[1]] * 2)]
    members = {pair: np.flatnonzero((labels == pair[0]) & (said == pair[1])) for pair in pairs}
    most = _share([len(found) for (row, column), found in members.items() if row != column])
    cells, shown = [], list[int]()
    for (true, predicted), found in members.items():
        right = true == predicted
        order = np.argsort(top[found] if right else -top[found], kind="stable")
        kept = found[order][: RIGHT if right else most].tolist()
        images = [
            [one, round(float(top[one]), 3), round(float(probabilities[one, true]), 3)]
            for one in kept
        ]
        about = {"true": true, "said": predicted, "count": len(found), "start": len(shown)}
        cells += [about | {"images": images}] if kept else []
        shown += kept
    return cells, shown


def _share(counts: Sequence[int]) -> int:
    """Return how many images each cell may show so that all together are at most MOST."""
    most = max(counts, default=0)
    while sum(min(count, most) for count in counts) > MOST:
        most -= 1
    return most


def sprite(pixels: NDArray[np.uint8]) -> tuple[str, bytes]:
    """Return images (N, 3, H, W) side by side in rows of COLUMNS: media type and file."""
    from PIL import Image, features

    count, channels, height, width = pixels.shape
    rows = math.ceil(count / COLUMNS)
    canvas = np.zeros((rows * COLUMNS, channels, height, width), dtype=np.uint8)
    canvas[:count] = pixels
    grid = canvas.reshape(rows, COLUMNS, channels, height, width).transpose(0, 3, 1, 4, 2)
    kind = "webp" if features.check("webp") else "png"
    with io.BytesIO() as buffer:
        image = Image.fromarray(grid.reshape(rows * height, COLUMNS * width, channels))
        image.save(buffer, kind, quality=QUALITY, method=6)
        return f"image/{kind}", buffer.getvalue()


def ground(share: float, ends: tuple[tuple[int, ...], ...]) -> str:
    """Return the colour of a cell with `share` (0 to 1) of the largest number of mistakes."""
    start, end = (np.array(colour) for colour in ends)
    return "#" + "".join(f"{round(value):02x}" for value in start + share * (end - start))


def _table(matrix: NDArray, classes: Sequence[str], caption: str) -> str:
    most = max(1, (matrix - np.diag(matrix.diagonal())).max())
    heads = "".join(f'<th scope="col"><span>{escape(name)}</span></th>' for name in classes)
    rows = "".join(
        f'<tr><th scope="row">{escape(name)}</th>'
        f"{''.join(_cell(n, at == column, n / most) for column, n in enumerate(row))}</tr>"
        for at, (name, row) in enumerate(zip(classes, matrix.tolist(), strict=True))
    )
    return (
        f"<table><caption>{escape(caption)}</caption><thead><tr><th>said &rarr;<br>true &darr;</th>"
        f"{heads}</tr></thead><tbody>{rows}</tbody></table>"
    )


def _cell(count: int, right: bool, share: float) -> str:
    if right:
        return f'<td class="right">{count}</td>'
    if not count:
        return '<td class="zero">·</td>'
    return f'<td style="--light:{ground(share, LIGHT)};--dark:{ground(share, DARK)}">{count}</td>'


def _finding(matrix: NDArray, classes: Sequence[str]) -> str:
    wrong = matrix - np.diag(matrix.diagonal())
    mistaken, images = wrong.sum(), words.count(int(matrix.sum()), "image")
    if not mistaken:
        return f"True and predicted classes: none of {images} is mistaken."
    true, said = map(int, np.unravel_index(wrong.argmax(), wrong.shape))
    return (
        f"True (rows) and predicted (columns) classes: {mistaken:,} of {images} are mistaken, most "
        f"often {classes[true]} as {classes[said]} ({wrong[true, said]})."
    )
