"""Where CIFAR-10 is: `CIFAR10_ROOT`, then `data/`, then a download, resumable and verified.

Every file counts only with its own MD5. ``python -m bundle data`` is what ``make data`` runs.
"""

import hashlib
import math
import os
import shutil
import tarfile
import time
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from bundle import paths
from bundle.dataset.archive import (
    CIFAR10,
    MIRRORS,
    ROOT_VARIABLE,
    Archive,
    verified,
    verified_folder,
    verified_root,
)
from bundle.dataset.mirrors import LIMITS, Limits, Say, TransferError, complete
from bundle.files import taken
from lib.errors import UserError

OFFLINE_VARIABLE = "BUNDLE_OFFLINE"  # "1": nothing is ever downloaded
AUTO_WAIT_S = 300.0  # the longest that a run with `dataset: auto` waits for a download, seconds
UNPACKING = ".unpacking"  # under the lock there is only one, so the name need not be unique


class Unavailable(UserError):
    """CIFAR-10 cannot be had now for want of a network or of time: `auto` may go on without it."""


def locate(verify: bool = True, archive: Archive = CIFAR10) -> Path | None:
    """Return the root (the folder with `cifar-10-batches-py`) or None where there is no copy.

    A relative CIFAR10_ROOT counts from the bundle, since notebooks run in a folder of their own.
    Raises UserError for a CIFAR10_ROOT without the folder and, with `verify`, for any damaged file.
    """
    given = os.environ.get(ROOT_VARIABLE, "")
    root = paths.ROOT / Path(given).expanduser() if given else paths.DATA
    if not (root / archive.folder).is_dir():
        if not given:
            return None
        right = (
            root.parent
            if root.name == archive.folder
            else f"the folder that contains {archive.folder}"
        )
        raise UserError(
            f"{ROOT_VARIABLE}={given}: no folder {archive.folder} in it; "
            f"set {ROOT_VARIABLE} to {right}, or unset it"
        )
    if verify:
        verified_root(root, archive)
    return root


def checksum(root: Path, archive: Archive = CIFAR10) -> str:
    """Return the dataset's identity: SHA-256 (hex) over its files' names and verified MD5s."""
    found = verified_root(root, archive)
    return hashlib.sha256(
        "".join(f"{name} {found[name]}\n" for name in sorted(found)).encode()
    ).hexdigest()


def load(name: str, train_images: int = 0, holdout: int = 5000):
    """Load the images that `dataset: name` means here, every file verified; downloads nothing.

    Args and result as of `lib.data.load`; "auto" takes CIFAR-10 where its files are at hand, else
    the digits. Raises UserError where files are missing or damaged.
    """
    from lib import data  # late: to find and fetch files takes no torch

    name, root = resolve(name, network=False)
    return data.load(name, root, train_images, holdout)


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
    try:
        if not network and not (paths.DATA / archive.name).exists():
            remedy = _remedy(paths.DATA, archive)
            raise Unavailable(f"CIFAR-10 is not here and downloads are switched off; {remedy}")
        sources = mirrors if network else ()
        return "cifar10", download(
            paths.DATA, sources, wait_s, archive=archive, limits=limits, say=say
        )
    except Unavailable as error:
        if dataset == "cifar10":
            raise
        say(f"{'*' * 72}\nTHIS RUN USES handwritten digits, not CIFAR-10.\n{error}\n{'*' * 72}")
        return "digits", None


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
    partial = target / f"{archive.name}.partial"
    try:
        target.mkdir(parents=True, exist_ok=True)
        with only_one(target, end, say):
            if (target / archive.folder).exists():
                verified_root(target, archive)
                return target
            packed = target / archive.name
            if packed.exists():
                verified(packed, archive.size, archive.md5, f"delete {paths.shown(packed)}")
            else:
                packed = partial
                complete(partial, archive, mirrors, limits, end, say)
            _unpack(packed, target, archive)
            partial.unlink(missing_ok=True)  # an archive that the user put here is the user's
    except TransferError as error:
        raise Unavailable(f"CIFAR-10: {error}; {_remedy(target, archive)}") from error
    except OSError as error:
        raise UserError(
            f"{paths.shown(target)}: {error.strerror or error}; it must be writable, with "
            "400 MB free; then `make data` goes on from what is there"
        ) from error
    return target


@contextmanager
def only_one(target: Path, end: float, say: Say) -> Iterator[None]:
    """Hold the target's lock; wait for its present holder until `end` (monotonic seconds)."""
    with (target / ".fetch.lock").open("w") as file:
        if not taken(file):
            say(f"{paths.shown(target)}: another process is fetching CIFAR-10; waiting for it")
            while not taken(file):
                if time.monotonic() > end:
                    raise Unavailable(
                        f"{paths.shown(target)}: another process is still fetching CIFAR-10; "
                        "wait for it, then try again"
                    )
                time.sleep(0.1)
        yield


def _unpack(packed: Path, target: Path, archive: Archive) -> None:
    """Extract the expected members beside their place, verify them, move the folder there."""
    scratch = target / UNPACKING
    shutil.rmtree(scratch, ignore_errors=True)
    wanted = {f"{archive.folder}/{name}" for name in archive.members}
    remedy = f"delete {paths.shown(packed)}, then `make data`"
    try:
        with tarfile.open(packed, "r:gz") as tar:
            for member in tar:
                if member.name in wanted and member.isfile():
                    tar.extract(member, scratch, filter="data")
        verified_folder(scratch / archive.folder, archive, remedy)
        (scratch / archive.folder).replace(target / archive.folder)
    except (tarfile.TarError, EOFError, zlib.error) as error:
        raise UserError(
            f"{paths.shown(packed)}: not the archive of CIFAR-10 ({error}); {remedy}"
        ) from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
