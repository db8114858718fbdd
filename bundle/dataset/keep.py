"""Copies that are made, in data/ or on a node's disk: verified, in their place whole or not at all.

An archive is unpacked, a version under another name copied, and every other form turned into the
binary version. One process writes at a time.
"""

import math
import shutil
import tarfile
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from bundle import paths
from bundle.dataset.archive import Archive, verified, verified_members
from bundle.dataset.download import Say
from bundle.dataset.places import COMPETITION, PACKED, PARQUET, PNG, VERSION, Copy
from bundle.files import held
from lib.errors import UserError

UNPACKING = ".unpacking"  # under the lock there is only one, so the name need not be unique


class Unavailable(UserError):
    """CIFAR-10 cannot be had now for want of a network or of time: `auto` may go on without it."""


def take(copy: Copy, archive: Archive) -> None:
    """Put into data/ what a copy holds; raises UserError where it is not the whole dataset."""
    if copy.kind == COMPETITION:
        what = "its test images are altered, and their labels are not public"
        raise UserError(f"{copy}: {what}; put the whole dataset in its place")
    with writing(paths.DATA, math.inf, lambda line: None, "name another folder"):
        if not archive.version_in(paths.DATA):  # else another process was first
            _FORMS[copy.kind](copy, copy.version or archive)


def _copy_version(copy: Copy, version: Archive) -> None:
    def fill(scratch: Path) -> None:
        (scratch / version.folder).mkdir(parents=True)
        for name in version.members:
            shutil.copyfile(copy.path / name, scratch / version.folder / name)

    remedy = "fetch it again"
    verified_members(copy.path, version, remedy)
    install(paths.DATA, version, fill, remedy)


def _copy_archive(copy: Copy, version: Archive) -> None:
    verified(copy.path, version.size, version.md5, "fetch it again")
    unpack(copy.path, paths.DATA, version)


def _convert(copy: Copy, archive: Archive) -> None:
    from bundle.dataset import images  # late: it takes NumPy

    read = images.of_parquet if copy.kind == PARQUET else images.of_folders
    binary = archive.binary or archive
    records = read(copy.path, binary)

    def fill(scratch: Path) -> None:
        images.write(records, scratch / binary.folder, binary)

    try:
        install(paths.DATA, binary, fill, "")
    except UserError as error:
        what = "as many images as CIFAR-10, but not the same pixels and labels"
        raise UserError(f"{paths.shown(copy.path)}: {what}; fetch it again") from error


_FORMS = {VERSION: _copy_version, PACKED: _copy_archive, PARQUET: _convert, PNG: _convert}


@contextmanager
def writing(target: Path, end: float, say: Say, remedy: str) -> Iterator[None]:
    """Make `target` and hold its lock, waiting until `end`; an OSError becomes a UserError."""
    shown = paths.shown(target)
    busy = f"{shown}: another process is still fetching CIFAR-10; wait for it, then try again"
    wait = f"{shown}: another process is fetching CIFAR-10; waiting for it"
    try:
        target.mkdir(parents=True, exist_ok=True)
        left_s, lock = end - time.monotonic(), target / ".fetch.lock"
        with held(lock, left_s, Unavailable(busy), lambda: say(wait)):
            yield
    except OSError as error:
        why = f"{error.strerror or error}; it must be writable, with 400 MB free; {remedy}"
        raise UserError(f"{shown}: {why}") from error


def unpack(packed: Path, target: Path, archive: Archive) -> None:
    """Extract the expected members of the archive `packed` into `target`; raises UserError."""
    wanted = {f"{archive.folder}/{name}" for name in archive.members}
    remedy = f"delete {paths.shown(packed)}, then `make data`"

    def extract(scratch: Path) -> None:
        with tarfile.open(packed, "r:gz") as tar:
            members = (entry for entry in tar if entry.name in wanted and entry.isfile())
            tar.extractall(scratch, members, filter="data")

    try:
        install(target, archive, extract, remedy)
    except (tarfile.TarError, EOFError, zlib.error) as error:
        raise UserError(
            f"{paths.shown(packed)}: not the archive of CIFAR-10 ({error}); {remedy}"
        ) from error


def install(root: Path, archive: Archive, fill: Callable[[Path], None], remedy: str) -> None:
    """Fill a scratch folder beside the dataset's place, verify it, move the dataset there."""
    scratch, place = root / UNPACKING, root / archive.folder
    shutil.rmtree(scratch, ignore_errors=True)
    try:
        fill(scratch)
        verified_members(scratch / archive.folder, archive, remedy)
        shutil.rmtree(place, ignore_errors=True)
        (scratch / archive.folder).replace(place)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
