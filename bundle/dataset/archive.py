"""The files of CIFAR-10 in its python and its binary version, each known by its size and MD5."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from bundle import paths
from bundle.dataset.download import md5_of
from lib.errors import UserError

ROOT_VARIABLE = "CIFAR10_ROOT"  # torchvision's root: the folder that contains cifar-10-batches-py
MEMBERS = {  # name -> (bytes, MD5)
    "data_batch_1": (31_035_704, "c99cafc152244af753f735de768cd75f"),
    "data_batch_2": (31_035_320, "d4bba439e000b95fd0a9bffe97cbabec"),
    "data_batch_3": (31_035_999, "54ebc095f3ab1f0389bbae665268c751"),
    "data_batch_4": (31_035_696, "634d18415352ddfa80567beed471001a"),
    "data_batch_5": (31_035_623, "482c414d41f54cd18b22e5b47cb7c3cb"),
    "test_batch": (31_035_526, "40351d587109b95175f43aff81a1287e"),
    "batches.meta": (158, "5ff9c542aee3614f3951f8cda6e48888"),
}
# Of each image in CIFAR-10's own order its label, a byte, and its red, green and blue plane: so
# these six are what any copy's pixels and labels are held against. The last is of the test images.
BINARY_MEMBERS = {
    "data_batch_1.bin": (30_730_000, "5dd7e06a14cb22eb9f671a540d1b7c25"),
    "data_batch_2.bin": (30_730_000, "5ea93a67294ea407fff1d09f752e9692"),
    "data_batch_3.bin": (30_730_000, "942cd6a4bcdd0dd3c604fbe906cb4421"),
    "data_batch_4.bin": (30_730_000, "ae636b3ba5c66a11e91e8cb52e771fcb"),
    "data_batch_5.bin": (30_730_000, "53f37980c15c3d472c316c40844f3f0d"),
    "test_batch.bin": (30_730_000, "803d5f7f4d78ea53de84dbe85f74fb6d"),
}


@dataclass(frozen=True)
class Archive:
    """What is to be fetched, and by what it is recognised; `binary`: the same in that version."""

    name: str = "cifar-10-python.tar.gz"
    size: int = 170_498_071  # bytes
    md5: str = "c58f30108f718f92721af3b95e74349a"
    folder: str = "cifar-10-batches-py"
    members: Mapping[str, tuple[int, str]] = field(default_factory=lambda: MEMBERS)
    binary: "Archive | None" = None

    @property
    def versions(self) -> tuple["Archive", ...]:
        """Both versions, the one that is preferred first."""
        return (self, self.binary) if self.binary else (self,)

    def version_in(self, root: Path) -> "Archive | None":
        """Return the version whose folder lies in `root`, None without one."""
        return next((each for each in self.versions if (root / each.folder).is_dir()), None)


BINARY = Archive(  # as on https://www.cs.toronto.edu/~kriz/cifar.html
    "cifar-10-binary.tar.gz",
    170_052_171,
    "c32a1d4ab5d03f1284b67883e8d87530",
    "cifar-10-batches-bin",
    BINARY_MEMBERS,
)
CIFAR10 = Archive(binary=BINARY)


def verified_root(root: Path, archive: Archive) -> Archive:
    """Return the version that lies in `root`; raise UserError naming the first wrong file of it."""
    version = archive.version_in(root) or archive
    folder = root / version.folder
    remedy = f"delete {paths.shown(folder)} and run `make data`"
    if root.resolve() != paths.DATA.resolve():
        remedy = f"put the right file there, or correct {ROOT_VARIABLE}"
    verified_members(folder, version, remedy)
    return version


def verified_members(folder: Path, archive: Archive, remedy: str) -> None:
    """Raise UserError for the first file of a version's `folder` that is not as it should be."""
    for name, (size, md5) in archive.members.items():
        verified(folder / name, size, md5, remedy)


def verified(path: Path, size: int, md5: str, remedy: str) -> None:
    """Raise UserError where a file has not the size (bytes) and the MD5 that are expected."""
    shown = paths.shown(path)
    try:
        if not path.is_file():
            raise UserError(f"{shown}: missing; {remedy}")
        if (length := path.stat().st_size) != size:
            raise UserError(f"{shown}: {length:,} bytes, expected {size:,}; {remedy}")
        if (digest := md5_of(path)) != md5:
            raise UserError(f"{shown}: damaged, MD5 {digest}, expected {md5}; {remedy}")
    except OSError as error:
        raise UserError(f"{shown}: cannot be read ({error.strerror}); {remedy}") from error
