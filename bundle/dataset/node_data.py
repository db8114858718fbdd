"""CIFAR-10 on the node a job runs on, copied once from the shared file system for all its jobs.

``python -m bundle data --node FOLDER`` copies it below FOLDER and prints what CIFAR10_ROOT is to be
there.
"""

import math
import os
import shutil
from pathlib import Path

from bundle import paths
from bundle.dataset import cifar10
from bundle.dataset.archive import CIFAR10, Archive, verified_folder
from lib.errors import UserError


def on_node(folder: Path, archive: Archive = CIFAR10) -> Path | None:
    """Return the root of a verified copy below `folder`, made where missing; None without CIFAR-10.

    One process copies, the others wait for it; only a whole, verified folder gets its final name,
    and one that was damaged since is replaced. Never downloads. Raises UserError where the original
    is damaged or the disk is full.
    """
    source = cifar10.locate(verify=False, archive=archive)
    if source is None:
        return None
    root = folder / f"cifar10-{os.getuid()}"
    try:
        root.mkdir(parents=True, exist_ok=True)
        with cifar10.only_one(root, math.inf, say=lambda text: None):
            if not _whole(root / archive.folder, archive):
                _copy(source / archive.folder, root, archive)
    except OSError as error:
        raise UserError(
            f"{root}: {error.strerror or error}; it must be writable, with 400 MB free; "
            "name another folder with scratch=... in the profile"
        ) from error
    return root


def _whole(folder: Path, archive: Archive) -> bool:
    try:
        verified_folder(folder, archive, "")
    except UserError:
        return False
    return True


def _copy(source: Path, root: Path, archive: Archive) -> None:
    scratch = root / cifar10.UNPACKING
    shutil.rmtree(scratch, ignore_errors=True)
    shutil.rmtree(root / archive.folder, ignore_errors=True)
    scratch.mkdir()
    for name in archive.members:
        shutil.copyfile(source / name, scratch / name)
    verified_folder(scratch, archive, f"mend {paths.shown(source)}, which it was copied from")
    scratch.replace(root / archive.folder)
