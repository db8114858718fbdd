"""CIFAR-10 from PNG files or from parquet, as its binary version: the same bytes in the same order.

Such copies have an order of their own, and a training's bits depend on it. So the records are
sorted by their content, and order.npy says where in CIFAR-10's order each then belongs. What comes
out is held against the MD5s of the binary version: an image or a label that differs is seen.
"""

import io
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from bundle import paths
from bundle.dataset.archive import Archive
from lib.errors import UserError

if TYPE_CHECKING:
    from lib.data import Images

ORDER = Path(__file__).with_name("order.npy")  # uint16 (60000,): ranks of training, test images
SIDE = 32
RECORD = 1 + 3 * SIDE * SIDE  # bytes: the label, then the planes
MOST_BYTES = 1 << 30  # of a parquet file's columns, unpacked; CIFAR-10's have some 140 MB
IMAGE, LABEL = ("img", "image"), ("label", "labels")  # columns of parquet
PARTS = ("train", "test")


def of_folders(folder: Path, binary: Archive) -> NDArray[np.uint8]:
    """Return the records (N, 3073) of train/ and test/ with PNG files, in CIFAR-10's order.

    A file's class is its folder's name, or its own after the last "_" (10_frog.png). Raises
    UserError for what is missing or is no such image.
    """
    from lib.data import CIFAR10_CLASSES as CLASSES  # late: it takes torch

    found = [_classified(folder / part, CLASSES) for part in PARTS]
    _check_counts(folder, binary, [len(part) for part in found])
    rows = [(label, path.read_bytes, path) for part in found for path, label in part]
    return ordered(folder, _decoded(rows), binary)


def of_parquet(folder: Path, binary: Archive) -> NDArray[np.uint8]:
    """Return the records (N, 3073) of parquet files (train…, test…), in CIFAR-10's order.

    Raises UserError for what is missing, and where pyarrow is not installed.
    """
    try:
        import pyarrow.parquet  # noqa: F401  not among the locked packages
    except ImportError as error:
        remedy = "install it (pip install pyarrow), or put another form of CIFAR-10 in its place"
        what = "to read parquet takes the package pyarrow, which is not here"
        raise UserError(f"{paths.shown(folder)}: {what}: {remedy}") from error
    files = [sorted(folder.glob(f"*{part}*.parquet")) for part in PARTS]
    tables = [[_columns(path, sum(sizes(binary))) for path in part] for part in files]
    _check_counts(folder, binary, [sum(len(labels) for labels, _ in part) for part in tables])
    rows = [
        (label, lambda content=content: content, folder / "an image")
        for part in tables
        for labels, contents in part
        for label, content in zip(labels, contents, strict=True)
    ]
    return ordered(folder, _decoded(rows), binary)


def sizes(binary: Archive) -> tuple[int, int]:
    """Return how many training and how many test images the binary version has."""
    *train, test = (size // RECORD for size, _ in binary.members.values())
    return sum(train), test


def ordered(source: Path, rows: Iterable[NDArray], binary: Archive) -> NDArray[np.uint8]:
    """Return records, training images first, in CIFAR-10's order, whatever theirs is."""
    train, test = sizes(binary)
    records, ranks = np.empty((train + test, RECORD), np.uint8), np.load(ORDER)
    for place, row in enumerate(rows):
        records[place] = row
    for part in (slice(0, train), slice(train, train + test)):
        keys = [row.tobytes() for row in records[part]]
        by_content = np.array(sorted(range(len(keys)), key=keys.__getitem__))
        records[part] = records[part][by_content[ranks[part]]]
    return records


def write(records: NDArray[np.uint8], folder: Path, binary: Archive) -> None:
    """Write records as the files of the binary version."""
    folder.mkdir(parents=True)
    at = 0
    for name, (size, _) in binary.members.items():
        records[at : at + size // RECORD].tofile(folder / name)
        at += size // RECORD


def read(folder: Path, binary: Archive) -> "tuple[Images, ...]":
    """Return the training and the test images of the binary version's files."""
    from torch import arange, from_numpy  # late: to find and to convert files takes no torch

    from lib.data import Images

    content = b"".join((folder / name).read_bytes() for name in binary.members)
    records = from_numpy(np.frombuffer(bytearray(content), np.uint8).reshape(-1, RECORD))
    parts = records.split(sizes(binary))
    return tuple(
        Images(part[:, 1:].reshape(-1, 3, SIDE, SIDE), part[:, 0].long(), arange(len(part)))
        for part in parts
    )


def _check_counts(source: Path, binary: Archive, found: list[int]) -> None:
    """Raise UserError that says how many images are missing, or are too many."""
    wrong = [
        f"{count:,} of {size:,} {part} images"
        for count, size, part in zip(found, sizes(binary), ("training", "test"), strict=True)
        if count != size
    ]
    if wrong:
        told = " and ".join(wrong)
        raise UserError(f"{paths.shown(source)}: {told}: it must have all of CIFAR-10")


def _classified(folder: Path, classes: tuple[str, ...]) -> list[tuple[Path, int]]:
    """Return the PNG files below a folder whose class is known, each with its label."""
    numbers = {name: number for number, name in enumerate(classes)}
    found = []
    for path in sorted(folder.glob("*.png")) + sorted(folder.glob("*/*.png")):
        name = path.parent.name if path.parent != folder else path.stem.rpartition("_")[2]
        if name in numbers and path.is_file():
            found.append((path, numbers[name]))
    return found


def _decoded(rows: Iterable[tuple]) -> Iterator[NDArray[np.uint8]]:
    """Yield a record for each (label, what reads a PNG's bytes, its path); raises UserError."""
    from PIL import Image

    for label, read_bytes, path in rows:
        try:
            with Image.open(io.BytesIO(read_bytes()), formats=["PNG"]) as image:
                if image.size == (SIDE, SIDE):
                    planes = np.asarray(image.convert("RGB")).transpose(2, 0, 1)
                    yield np.concatenate([[label], planes.ravel()])
                    continue
                what = f"{image.size[0]:,} x {image.size[1]:,} pixels, not 32 x 32"
        except Exception as error:  # a damaged image may raise nearly anything
            what = f"not a PNG image ({error}); fetch it again"
            raise UserError(f"{paths.shown(path)}: {what}") from error
        raise UserError(f"{paths.shown(path)}: {what}; it must be CIFAR-10's own size")


def _columns(path: Path, most: int) -> tuple[list[int], list[bytes]]:
    """Return a parquet file's labels and the bytes of its images; raises UserError."""
    from pyarrow import parquet

    shown = paths.shown(path)
    try:
        with parquet.ParquetFile(path) as file:
            names, about = file.schema_arrow.names, file.metadata
            groups = [about.row_group(number) for number in range(about.num_row_groups)]
            if about.num_rows > most or sum(group.total_byte_size for group in groups) > MOST_BYTES:
                raise UserError(f"{shown}: {about.num_rows:,} rows, too many for CIFAR-10")
            columns = [next(iter({*names} & {*known}), "") for known in (LABEL, IMAGE)]
            if "" in columns:
                raise UserError(f"{shown}: columns {', '.join(names)}; needed: label and img")
            labels, images = (file.read([name])[name].to_pylist() for name in columns)
    except UserError:
        raise
    except Exception as error:  # pyarrow's own errors, and those of a damaged file's metadata
        raise UserError(f"{shown}: not a parquet file ({error}); fetch it again") from error
    contents = [image["bytes"] if isinstance(image, dict) else image for image in images]
    good = all(type(label) is int and 0 <= label < 10 for label in labels)
    if not good or not all(isinstance(content, bytes) for content in contents):
        raise UserError(f"{shown}: labels that are not 0 to 9, or images that are not PNG files")
    return labels, contents
