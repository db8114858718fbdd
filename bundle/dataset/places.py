"""Where copies of CIFAR-10 lie on people's machines, and in which form."""

import os
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from bundle import paths
from bundle.dataset.archive import Archive

MOST_ENTRIES = 2000  # of a folder: one with more holds images, not copies
MOST_FOLDERS = 2000  # of a place
KAGGLE = Path("/kaggle/input")
VERSION, PACKED, PARQUET, PNG = "version", "archive", "parquet files", "PNG images"
COMPETITION = "the Kaggle competition's files"
KINDS = (VERSION, PACKED, PARQUET, PNG, COMPETITION)  # the one that costs least first


class Copy(NamedTuple):
    """A copy, or what looks like one: a kind of KINDS, its folder or file, of which version."""

    kind: str
    path: Path
    version: Archive | None = None

    @property
    def usable_there(self) -> bool:
        """Whether it is read where it lies, without a copy in data/."""
        return self.version is not None and self.path.name == self.version.folder

    def __str__(self) -> str:
        kind = self.version.folder if self.version and self.kind == VERSION else self.kind
        shown = paths.shown(self.path)
        return shown if self.path.name == kind else f"{shown} ({kind})"


def known() -> list[tuple[Path, int]]:
    """Return the folders where other programs keep the dataset, and how deep it may lie in each.

    torchvision's ./data as seen from a notebook and from the folder above the bundle; Keras';
    Hugging Face's; Kaggle's.
    """
    home = os.environ.get
    keras = home("KERAS_HOME") or os.path.expanduser("~/.keras")  # noqa: PTH111  never raises
    hub = home("HF_HOME") or os.path.expanduser("~/.cache/huggingface")  # noqa: PTH111
    return [
        (paths.NOTEBOOKS / "data", 1),
        (paths.ROOT.parent / "data", 1),
        (Path(keras) / "datasets", 2),
        (Path(hub) / "hub" / "datasets--uoft-cs--cifar10", 3),
        (KAGGLE, 5),
    ]


def elsewhere(archive: Archive) -> list[Copy]:
    """Return the copies in `known` places, in their order."""
    return [copy for place, depth in known() for copy in search(place, archive, depth)]


def search(place: Path, archive: Archive, depth: int = 3) -> list[Copy]:
    """Return the copies in a folder and at most `depth` folders below, what costs least first."""
    folders = islice(_walk(place, archive, depth), MOST_FOLDERS)
    copies = (copy for found in folders for copy in found)
    return sorted(copies, key=lambda copy: KINDS.index(copy.kind))


def _walk(folder: Path, archive: Archive, depth: int) -> Iterator[list[Copy]]:
    """Yield the copies of each folder; what is a copy as a whole is not looked into."""
    try:
        with os.scandir(folder) as entries:
            inside = sorted(islice(entries, MOST_ENTRIES), key=lambda entry: entry.name)
        below = [Path(entry) for entry in inside if entry.is_dir() and entry.name[0] != "."]
    except OSError:
        return
    found = _copies(folder, {entry.name for entry in inside}, archive)
    yield found + _packed(inside, archive)
    if depth and not found and len(inside) < MOST_ENTRIES:
        for path in below:
            yield from _walk(path, archive, depth - 1)


def _copies(folder: Path, names: set[str], archive: Archive) -> list[Copy]:
    """Return what a folder with files of these names is."""
    for version in archive.versions:
        members = set(version.members)
        if members <= names or (folder.name == version.folder and members & names):
            return [Copy(VERSION, folder, version)]
    if "trainLabels.csv" in names:
        return [Copy(COMPETITION, folder)]
    tables = [name for name in names if name.endswith(".parquet")]
    if any("train" in name or "test" in name for name in tables) and "cifar" in str(folder).lower():
        return [Copy(PARQUET, folder)]
    patterns = ("train/frog/*.png", "train/*_frog.png")
    if "train" in names and any(any(folder.glob(pattern)) for pattern in patterns):
        return [Copy(PNG, folder)]  # a folder a class, or the class in the names
    return []


def _packed(inside: list[os.DirEntry], archive: Archive) -> list[Copy]:
    """Return the files that may be an archive: of its name, or of its size whatever their name."""
    found = []
    for entry in inside:
        for version in archive.versions if entry.is_file() else ():
            if entry.name == version.name or entry.stat().st_size == version.size:
                found.append(Copy(PACKED, Path(entry), version))
                break
    return found
