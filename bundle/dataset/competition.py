"""The competition's two files: its pickle of unlabelled images and the CSV of labels handed in."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from bundle import paths
from bundle.dataset.inert import Array, RefusedError, load, text, to_numpy
from lib.data import Images, Statistics
from lib.errors import UserError
from lib.predict import COMBINATIONS, combine, view_logits

MAX_BYTES = 1 << 30  # some 350,000 images, 35 times the competition's set
MAX_ID = 200  # characters: one long id would widen every entry of the ids' array
FORMAT = (
    "a dict with b'data' (uint8, (N, 32, 32, 3) or (N, 3072)) and b'ids' (N whole numbers or texts)"
)


def read_shifted_set(path: Path | str) -> tuple[np.ndarray, np.ndarray]:
    """Return images (uint8, (N, 3, 32, 32)) and ids (N integers or texts) of the pickle at `path`.

    Takes pickles of protocol 0 to 5, from Python 2 as well. Raises UserError for everything that is
    not the competition's format, before anything that the file asks for is done.
    """
    path = Path(path)
    try:
        content = _load(path)
        if not isinstance(content, dict):
            raise RefusedError(f"a {type(content).__name__.lstrip('_')}")
        entries = {
            text(key): value for key, value in content.items() if isinstance(key, str | bytes)
        }
        if missing := [key for key in ("data", "ids") if key not in entries]:
            raise RefusedError(f"no key b'{missing[0]}'")
        images = _images(entries["data"])
        ids = _ids(entries["ids"], len(images))
    except (RefusedError, ValueError) as error:
        raise UserError(f"{paths.shown(path)}: holds {error}; expected {FORMAT}") from error
    return images, ids


def _load(path: Path) -> Any:
    """Return the pickle's content, with notes in place of arrays."""
    if not path.is_file():
        raise UserError(
            f"{paths.shown(path)}: no such file; give the path of cifar_test_nolabel.pkl"
        )
    try:
        if (size := path.stat().st_size) > MAX_BYTES:
            raise RefusedError(f"{size:,} bytes, more than {MAX_BYTES:,}")
        content = path.read_bytes()
    except OSError as error:
        raise UserError(
            f"{paths.shown(path)}: cannot be read ({error.strerror}); check it"
        ) from error
    return load(content)


def _images(data: Any) -> np.ndarray:
    if not isinstance(data, Array):
        raise RefusedError(f"a {type(data).__name__} under b'data'")
    data = to_numpy(data)
    if data.dtype != np.uint8 or not (data.shape[1:] in ((32, 32, 3), (3072,)) and len(data)):
        raise RefusedError(f"data of dtype {data.dtype} and shape {data.shape}")
    planes = data.reshape(-1, 3, 32, 32) if data.ndim == 2 else data.transpose(0, 3, 1, 2)
    return planes.copy(order="C")


def _ids(ids: Any, images: int) -> np.ndarray:
    """Return the ids as one array of integers or of texts; raises RefusedError."""
    if isinstance(ids, Array):
        ids = to_numpy(ids)
    if not (isinstance(ids, list | tuple) or (isinstance(ids, np.ndarray) and ids.ndim == 1)):
        raise RefusedError("ids that are no list")
    if len(ids) != images:  # first, so that nothing below can grow large
        raise RefusedError(f"{images} images and {len(ids)} ids")
    if isinstance(ids, np.ndarray) and ids.dtype.kind in "iu":
        return ids.astype(ids.dtype.newbyteorder("="))
    values = [_plain(one) for one in (ids.tolist() if isinstance(ids, np.ndarray) else ids)]
    if all(type(one) is int and abs(one) < 1 << 63 for one in values):
        return np.array(values, dtype=np.int64)
    if all(type(one) is str and len(one) <= MAX_ID for one in values):
        return np.array(values, dtype=np.str_)
    raise RefusedError("ids that are not all whole numbers, or all short texts")


def _plain(value: Any) -> Any:
    """Return a number or text for a NumPy scalar or bytes; only short: one may recur often."""
    if (
        isinstance(value, Array)
        and value.shape == ()
        and (scalar := to_numpy(value)).nbytes <= 4 * MAX_ID
    ):
        value = scalar.item()
    return value.decode("utf-8") if isinstance(value, bytes) and len(value) <= 4 * MAX_ID else value


def write_submission(
    path: Path | str, ids: Sequence | np.ndarray, labels: Sequence | np.ndarray
) -> None:
    """Write the CSV ``ID,Labels``: a row per image in `ids`' order, labels 0 to 9; whole or not.

    Raises ValueError where labels and ids do not match or a label is no class, OSError as writing
    does.
    """
    path, labels = Path(path), np.asarray(labels)
    if (
        labels.shape != (len(ids),)
        or labels.dtype.kind not in "iu"
        or not np.isin(labels, range(10)).all()
    ):
        raise ValueError(
            f"expected {len(ids)} integer labels from 0 to 9, got {labels.dtype} {labels.shape}"
        )
    partial = path.with_name(f"{path.name}.partial")
    try:
        with partial.open("w", encoding="utf-8", newline="") as file:
            rows = csv.writer(file, lineterminator="\n")
            rows.writerow(["ID", "Labels"])
            rows.writerows(zip(np.asarray(ids).tolist(), labels.tolist(), strict=True))
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def submit(
    model,
    shifted_set: str,
    combination: str,
    statistics: Statistics,
    precision: str,
    batch_size: int,
    path: Path,
) -> pd.Series | None:
    """Predict the images of a pickle in the competition's format and write the submission file.

    Returns how often each class was predicted, or None where no set is named.

    Raises:
        UserError: the pickle is missing, malformed or holds anything but arrays and plain
            containers.
    """
    if not shifted_set:
        return None
    pixels, ids = read_shifted_set(Path(shifted_set))
    pixels = torch.from_numpy(pixels)
    images = Images(pixels, torch.zeros(len(pixels), dtype=torch.int64), torch.arange(len(pixels)))
    by_view = view_logits(
        model, images, COMBINATIONS[combination], statistics, precision, batch_size
    )
    labels = combine(by_view, combination).argmax(1)
    write_submission(path, ids, labels.numpy())
    return pd.Series(labels.bincount(minlength=10).tolist(), name="images predicted of each class")
