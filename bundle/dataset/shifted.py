"""CIFAR-10-C and CIFAR-10.1 where the user has them: .npy files in the folder `CIFAR10C_ROOT`.

CIFAR-10-C (Hendrycks & Dietterich, ICLR 2019) is a file a corruption, uint8 (50000, 32, 32, 3): the
test images in their order at severity 1, then 2 to 5, with labels.npy. CIFAR-10.1 (Recht et al.,
2018) has new images of the same kind. Nothing is downloaded.
"""

import os
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from bundle import paths
from lib.corrupt import CORRUPTIONS
from lib.data import Images
from lib.errors import UserError

VARIABLE = "CIFAR10C_ROOT"
NAMES = (*CORRUPTIONS, "snow", "frost")  # the last two are here as files alone
PAIRS = {  # CIFAR-10.1: version -> its images, their classes
    "v6": ("cifar10.1_v6_data.npy", "cifar10.1_v6_labels.npy"),
    "v4": ("cifar10.1_v4_data.npy", "cifar10.1_v4_labels.npy"),
}
SIZE = 10_000  # test images, and so rows a severity


def folder() -> Path | None:
    """Return the folder that `CIFAR10C_ROOT` names, None where it is not set.

    Raises UserError where it is no folder or holds none of the files.
    """
    if not (told := os.environ.get(VARIABLE, "")):
        return None
    path = paths.named(told)
    wanted = [f"{name}.npy" for name in NAMES] + [data for data, _ in PAIRS.values()]
    if not any((path / name).is_file() for name in wanted):
        what = "no folder with .npy files of CIFAR-10-C or CIFAR-10.1"
        raise UserError(f"{VARIABLE}={told}: {what}; unset it, or name their folder")
    return path


def corruptions(root: Path | None, images: Images) -> list[str]:
    """Return the corruptions that `root` has a file of, in the order of NAMES.

    images: of the test set; UserError where the files have others in their places.
    """
    if root is None:
        return []
    found = [name for name in NAMES if (root / f"{name}.npy").is_file()]
    if found:
        given = _read(root / "labels.npy", (5 * SIZE,)).reshape(5, SIZE)
        if (given[:, images.index.numpy()] != images.labels.numpy()).any():
            remedy = "not the classes of CIFAR-10's test images; fetch it again, or unset"
            raise UserError(f"{root / 'labels.npy'}: {remedy} {VARIABLE}")
    return found


def corrupted(root: Path, name: str, severity: int, index: Tensor) -> Tensor:
    """Return images of one corruption and severity (1 to 5), uint8 (N, 3, 32, 32).

    index: their places among the test images, int64 (N,). UserError for a damaged file.
    """
    images = _read(root / f"{name}.npy", (5 * SIZE, 32, 32, 3))
    chosen = images[(severity - 1) * SIZE + index.numpy()]
    return torch.from_numpy(np.ascontiguousarray(chosen.transpose(0, 3, 1, 2)))


def newer_images(root: Path | None) -> tuple[str, Images] | None:
    """Return the version of CIFAR-10.1 in `root` and its images, None without; UserError."""
    for version, (data, classes) in PAIRS.items():
        if root and (root / data).is_file():
            labels = torch.from_numpy(np.array(_read(root / classes, (-1,)), dtype=np.int64))
            if not len(labels) or labels.min() < 0 or labels.max() > 9:
                raise UserError(f"{root / classes}: not classes from 0 to 9; fetch it again")
            pixels = np.array(_read(root / data, (len(labels), 32, 32, 3)))
            images = torch.from_numpy(pixels.transpose(0, 3, 1, 2).copy())
            return version, Images(images, labels, torch.arange(len(labels)))
    return None


def _read(path: Path, shape: tuple[int, ...]) -> np.ndarray:
    """Return a .npy file's array, not yet in memory, of this shape (-1: any length), whole numbers.

    An array of objects, which would run code, is refused.
    """
    remedy = "fetch it again, or move it away"
    if not path.is_file():
        raise UserError(f"{path}: there is no such file; {remedy.partition(',')[0]}")
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError, TypeError, SyntaxError, MemoryError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise UserError(f"{path}: no sound .npy file ({reason}); {remedy}") from error
    fits = isinstance(array, np.ndarray) and len(array.shape) == len(shape)
    fits = fits and all(want in (-1, has) for has, want in zip(array.shape, shape, strict=True))
    kinds = "u" if len(shape) > 1 else "ui"
    if not fits or array.dtype.kind not in kinds or (len(shape) > 1 and array.dtype != np.uint8):
        told = f"{getattr(array, 'dtype', type(array).__name__)} {getattr(array, 'shape', '')}"
        raise UserError(f"{path}: holds {told}, not {shape} of whole numbers; {remedy}")
    return array
