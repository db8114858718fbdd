"""Pictures of any kind as a network sees them: 32x32 pixels, three channels, uint8.

Each one goes the same way: its first frame; turned as its EXIF orientation says; 8 bits and RGB,
with what is transparent on white; the largest square in its centre; the mean over each of 32x32
areas of that square.
"""

import io
import os
import stat
import sys
import warnings
from base64 import b64encode
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from bundle import paths
from lib.errors import UserError

SIDE = 32  # pixels, of what the network sees
PREVIEW = 192  # pixels, of the longer side of what a page shows beside it
# None of these starts a program, as Pillow would for PostScript.
FORMATS = ("PNG", "JPEG", "GIF", "WEBP", "AVIF", "BMP", "TIFF", "JPEG2000", "PPM")
MOST_BYTES = 2**27  # of a file
MOST_LINES = 20  # about files that are no pictures
Paths = str | os.PathLike | Iterable[str | os.PathLike]
TOPS = (1, 255, 65535)  # what white may be in a picture of one channel and more than 8 bits


@dataclass(frozen=True)
class Picture:
    """One picture: its file, what the network sees of it, and a small copy of the whole.

    file: its name, printable. pixels: uint8 (3, 32, 32). size: width and height as one looks at it.
    preview: a JPEG.
    """

    file: str
    pixels: NDArray[np.uint8]
    size: tuple[int, int]
    preview: bytes


def read(images: Paths) -> tuple[list[Picture], list[str]]:
    """Return the pictures of files and folders, and a line for each file that is none.

    A relative path counts from the working folder, or else from the bundle. Of a folder every file
    is taken but the hidden ones, by name; what lies in its folders is not.

    Raises:
        UserError: none of them is a picture.
    """
    named = [images] if isinstance(images, str | os.PathLike) else list(images)
    problems: list[str] = []
    files = _each(lambda name: _files(_found(name)), named, problems)
    pictures = _each(lambda file: [picture(file)], files, problems)
    if not pictures:
        where = _shown(_found(named[0])) if named else "images"
        first = problems[0] if problems else f"{where}: no file there; name another folder"
        raise UserError(f"{first}{f' (and {len(problems) - 1} more)' * (len(problems) > 1)}")
    return pictures, problems


def _each(work: Callable[[Any], list], items: Iterable, problems: list[str]) -> list:
    """Return what `work` gives of all items; a UserError becomes a line of `problems`."""
    done = []
    for item in items:
        try:
            done += work(item)
        except UserError as problem:
            problems.append(str(problem))
    return done


def tell(problems: list[str]) -> None:
    """Print a line for each file that is no picture, MOST_LINES at most."""
    left = len(problems) - MOST_LINES
    more = [f"and {left} more files that are no pictures"] if left > 0 else []
    for line in (*problems[:MOST_LINES], *more):
        print(line, file=sys.stderr, flush=True)


def _found(name: str | os.PathLike) -> Path:
    text = os.fsdecode(name)
    here = "\0" not in text and os.path.lexists(text)
    return Path(text) if here else paths.named(text)


def _files(path: Path) -> list[Path]:
    """Return a file itself, or the files of a folder by name without the hidden ones."""
    try:
        inside = sorted(path.iterdir()) if os.path.isdir(path) else [path]  # noqa: PTH112
    except OSError as error:
        raise UserError(f"{_shown(path)}: {error.strerror}; name another folder") from error
    return [file for file in inside if file == path or not file.name.startswith(".")]


def _shown(path: Path) -> str:
    return printable(paths.shown(path))


def printable(name: str) -> str:
    """Return a file's name as text that can be written: bytes that are no UTF-8 stand escaped."""
    return os.fsencode(name).decode("utf-8", errors="backslashreplace")


def picture(path: Path) -> Picture:
    """Read one picture; UserError, one line that names the file, where it is none."""
    content, known = _content(path), ", ".join(FORMATS)
    problem = f"{_shown(path)}: "
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what Pillow finds odd and reads all the same
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            with Image.open(io.BytesIO(content), formats=FORMATS) as image:
                return _prepared(path, image)
        except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
            most = f"more than {(Image.MAX_IMAGE_PIXELS or 0) / 1e6:.0f} million pixels"
            raise UserError(f"{problem}{most}; make it smaller first") from error
        except UnidentifiedImageError as error:
            raise UserError(f"{problem}no picture; these are read: {known}") from error
        except Exception as error:  # what Pillow raises for a damaged file is not told
            what = f"damaged or cut off ({type(error).__name__}: {error})"
            raise UserError(f"{problem}{what}; save it anew") from error


def _content(path: Path) -> bytes:
    """Return what is in a plain file: to open a pipe would wait for ever."""
    try:
        about = path.stat()
        if not stat.S_ISREG(about.st_mode):
            folder = "a folder; name it to have what is in it"
            what = folder if stat.S_ISDIR(about.st_mode) else "a pipe or a device; name a file"
            raise UserError(f"{_shown(path)}: is {what}")
        if about.st_size > MOST_BYTES:
            what = f"{about.st_size / 2**20:,.0f} MiB, at most {MOST_BYTES // 2**20} are read"
            raise UserError(f"{_shown(path)}: {what}; make it smaller first")
        return path.read_bytes()
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise UserError(f"{_shown(path)}: {why}; name another file") from error


def _prepared(path: Path, image: Image.Image) -> Picture:
    whole = rgb(_turned(image))
    size = whole.size
    side, (left, top) = min(size), ((extent - min(size)) // 2 for extent in size)
    square = np.asarray(whole.crop((left, top, left + side, top + side)))
    whole.thumbnail((PREVIEW, PREVIEW))
    whole.info.clear()  # comments of its author do not belong on a page
    with io.BytesIO() as buffer:
        whole.save(buffer, "JPEG", quality=85)
        return Picture(printable(path.name), by_area(square), size, buffer.getvalue())


def _turned(image: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # EXIF that cannot be read turns nothing; pixels that cannot be are told of
        return image


def rgb(image: Image.Image) -> Image.Image:
    """Return a picture of any mode as RGB, 8 bits a channel, what is transparent on white."""
    if image.mode.startswith(("I", "F")):
        values = np.nan_to_num(np.asarray(image).astype(np.float64))
        fits = [top for top in TOPS if values.max() <= top] or TOPS[-1:]
        top = TOPS[-1] if image.mode.startswith("I;16") else fits[0]
        image = Image.fromarray((255 * values.clip(0, top) / top).round().astype(np.uint8))
    if image.has_transparency_data:
        above = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", above.size, "white"), above)
    return image.convert("RGB")


def by_area(square: NDArray[np.uint8], side: int = SIDE) -> NDArray[np.uint8]:
    """Return a square (S, S, 3) as (3, side, side), uint8: the mean over each pixel's area.

    An area of S / side pixels counts those at its edge by the share that lies in it. That is exact
    for every S, also for a smaller one.
    """
    size = len(square)
    edges, pixels = np.arange(side + 1) * size / side, np.arange(size)
    ends = np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels)
    shares = (ends.clip(0) * side / size).astype(np.float32)  # (side, S), rows of sum 1
    planes = (square[..., channel].astype(np.float32) for channel in range(3))
    return np.stack([shares @ plane @ shares.T for plane in planes]).round().astype(np.uint8)


def address(media: str, content: bytes) -> str:
    """Return a file as an address that a page holds itself."""
    return f"data:image/{media};base64,{b64encode(content).decode()}"
