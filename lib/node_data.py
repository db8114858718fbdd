"""CIFAR-10 on the node a job runs on, copied once from the shared file system for all its jobs.

``python -m lib.node_data FOLDER`` copies it below FOLDER and prints what CIFAR10_ROOT is to be
there.
"""

import argparse
import math
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from lib import fetch, paths
from lib.archive import CIFAR10, Archive, verified_folder
from lib.errors import UserError, exit_on_user_error


def on_node(folder: Path, archive: Archive = CIFAR10) -> Path | None:
    """Return the root of a verified copy below `folder`, made where missing; None without CIFAR-10.

    One process copies, the others wait for it; only a whole, verified folder gets its final name,
    and one that was damaged since is replaced. Never downloads. Raises UserError where the original
    is damaged or the disk is full.
    """
    source = fetch.locate(verify=False, archive=archive)
    if source is None:
        return None
    root = folder / f"cifar10-{os.getuid()}"
    try:
        root.mkdir(parents=True, exist_ok=True)
        with fetch.only_one(root, math.inf, say=lambda text: None):
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
    scratch = root / fetch.UNPACKING
    shutil.rmtree(scratch, ignore_errors=True)
    shutil.rmtree(root / archive.folder, ignore_errors=True)
    scratch.mkdir()
    for name in archive.members:
        shutil.copyfile(source / name, scratch / name)
    verified_folder(scratch, archive, f"mend {paths.shown(source)}, which it was copied from")
    scratch.replace(root / archive.folder)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the root of this node's copy, an empty line without CIFAR-10; raises UserError."""
    parser = argparse.ArgumentParser(
        prog="python -m lib.node_data", description=__doc__.splitlines()[0]
    )
    parser.add_argument("folder", type=Path, help="on a disk of this node")
    print(on_node(parser.parse_args(arguments).folder) or "")
    return 0


if __name__ == "__main__":
    exit_on_user_error(main)
