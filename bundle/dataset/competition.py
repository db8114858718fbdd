"""The competition's two files: its pickle of unlabelled images and the CSV of labels handed in.

A pickle is a program. This reader runs only the instructions that make numbers, texts, lists,
tuples, dicts and arrays; it imports nothing, and NumPy sees an array only after it was checked.
"""

import csv
import io
import math
import pickle
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar, cast

import numpy as np
import pandas as pd
import torch
from torch import nn

from bundle import paths
from lib.data import Images, Statistics
from lib.errors import UserError
from lib.predict import COMBINATIONS, combine, view_logits

MAX_BYTES = 1 << 30  # some 350,000 images, 35 times the competition's set
MAX_ID = 200  # characters: one long id would widen every entry of the ids' array
FORMAT = (
    "a dict with b'data' (uint8, (N, 32, 32, 3) or (N, 3072)) and b'ids' (N whole numbers or texts)"
)
ALLOWED = """MARK STOP POP POP_MARK DUP FLOAT INT BININT BININT1 LONG BININT2 NONE REDUCE STRING
    BINSTRING SHORT_BINSTRING UNICODE BINUNICODE APPEND BUILD GLOBAL DICT EMPTY_DICT APPENDS GET
    BINGET LONG_BINGET LIST EMPTY_LIST PUT BINPUT LONG_BINPUT SETITEM TUPLE EMPTY_TUPLE SETITEMS
    BINFLOAT PROTO TUPLE1 TUPLE2 TUPLE3 NEWTRUE NEWFALSE LONG1 LONG4 BINBYTES SHORT_BINBYTES
    SHORT_BINUNICODE BINUNICODE8 BINBYTES8 STACK_GLOBAL MEMOIZE FRAME"""
ALL_CODES = pickle._Unpickler.dispatch
CODES = {code: ALL_CODES[code] for name in ALLOWED.split() for code in getattr(pickle, name)}


OTHERS = {  # what is found in place of a pickle, by how it begins
    "a Git LFS pointer, not the file: git lfs pull fetches it": re.compile(rb"version https://git-lfs"),
    "a gzip archive: unpack it": re.compile(rb"\x1f\x8b"),
    "a zip archive (.zip, .npz, a PyTorch file)": re.compile(rb"PK\x03\x04"),
    "a web page, perhaps a login: fetch the file again": re.compile(rb"(?i)\s*<(!doc|html|\?xml)"),
}  # fmt: skip


class RefusedError(Exception):
    """What in the pickle is not allowed."""


def _text(value: str | bytes) -> str:
    """Return a text that Python 2 or an option of the reader may have left as bytes."""
    return value.decode("ascii") if isinstance(value, bytes) else value


class _Dtype:
    """Stands in for a dtype: numbers and texts alone, no objects and no fields."""

    def __init__(self, code: str | bytes, *_flags: object) -> None:
        if not re.fullmatch(r"b1|[iu][1248]|f[248]|[SU][1-9]\d{0,5}", code := _text(code)):
            raise RefusedError(f"a dtype {code[:20]!r}")
        self.dtype = np.dtype(code)

    def set_state(self, _version: int, order: str | bytes, *parts: object) -> None:
        """Take the byte order; anything beyond it (fields, subarrays, metadata) is refused."""
        order = _text(order)
        if parts[:3] != (None, None, None) or order not in ("<", ">", "|", "="):
            raise RefusedError("a dtype with fields")
        self.dtype = self.dtype.newbyteorder(cast(Any, order))


class _Array:
    """Stands in for an array; `value` is a view of the pickle's bytes."""

    value = np.empty(0)

    def set_state(
        self, _version: int, shape: tuple, dtype: _Dtype, fortran: bool, data: bytes
    ) -> None:
        """Take what `numpy.ndarray.__reduce__` gives as an array's state; raises RefusedError."""
        plain = isinstance(dtype, _Dtype) and isinstance(shape, tuple) and len(shape) <= 8
        if not plain or not all(type(size) is int and 0 < size < 1 << 40 for size in shape):
            raise RefusedError("an array without a plain dtype and shape")
        kind = dtype.dtype
        if not isinstance(data, bytes) or math.prod(shape) * kind.itemsize != len(data):
            raise RefusedError(
                f"an array of shape {str(shape)[:60]} with too few or too many bytes"
            )
        codes = np.dtype(np.uint32).newbyteorder(kind.byteorder)
        if kind.kind == "U" and np.frombuffer(data, codes).max() > sys.maxunicode:
            raise RefusedError("a text with codes of no character")
        self.value = np.ndarray(shape, kind, data, order="F" if fortran else "C")


def _array(data: bytes, dtype: _Dtype, shape: tuple, order: str, _axes: None = None) -> _Array:
    array = _Array()
    array.set_state(0, shape, dtype, order == "F", data)
    return array


class _Dict(dict):
    """Takes plain keys alone: to hash tuples nested a million deep would crash the interpreter."""

    def __setitem__(self, key: Any, value: Any) -> None:
        if not isinstance(key, str | bytes | int):
            raise RefusedError("a dict with keys that are not plain")
        super().__setitem__(key, value)


GLOBALS = {  # what a name in the pickle means; NumPy's own makers are not called
    "numpy.dtype": _Dtype,
    "numpy.ndarray": _Array,
    "numpy.core.multiarray._reconstruct": lambda kind, _shape, _code: kind(),
    "numpy.core.multiarray.scalar": lambda dtype, data: _array(data, dtype, (), "C"),
    "numpy.core.numeric._frombuffer": _array,
}


class _Reader(pickle._Unpickler):  # the one in Python: its instructions can be replaced, C's cannot
    """Runs a pickle's instructions; the globals it finds are stand-ins."""

    stack: list[Any]  # these three are the unpickler's own
    append: Callable[[Any], None]
    pop_mark: Callable[[], list[Any]]

    def __init__(self, content: bytes) -> None:
        super().__init__(io.BytesIO(content), encoding="bytes")
        self.budget = len(content)

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("_codecs", "encode"):
            return self._encode
        known = f"{module}.{name}".replace("numpy._core.", "numpy.core.", 1)  # NumPy 2 and before
        if known not in GLOBALS:
            raise RefusedError(f"the global {module}.{name}"[:80])
        return GLOBALS[known]

    def _encode(self, content: str, codec: str) -> bytes:
        """Old protocols write bytes as Latin-1 text, each once: all fit into the file's size."""
        self.budget -= len(content)
        if codec != "latin1" or self.budget < 0:
            raise RefusedError("_codecs.encode for another purpose than NumPy's")
        return content.encode("latin1")

    def _build(self) -> None:
        state = self.stack.pop()
        if not isinstance(self.stack[-1], _Array | _Dtype):
            raise RefusedError("an object's state")
        self.stack[-1].set_state(*state)

    def _dict(self) -> None:
        items = self.pop_mark()
        self.append(_Dict())
        for key, value in zip(items[::2], items[1::2], strict=True):
            self.stack[-1][key] = value

    def _refuse(self) -> None:
        raise RefusedError("an instruction that plain data does not need")

    dispatch: ClassVar[dict[int, Callable]] = {
        **dict.fromkeys(ALL_CODES, _refuse),
        **CODES,
        pickle.BUILD[0]: _build,
        pickle.DICT[0]: _dict,
        pickle.EMPTY_DICT[0]: lambda self: self.append(_Dict()),
        pickle.BYTEARRAY8[0]: CODES[pickle.BINBYTES8[0]],  # its own makes room before it reads
    }


def read_shifted_set(path: Path | str) -> tuple[np.ndarray, np.ndarray]:
    """Return images (uint8, (N, 3, 32, 32)) and ids (N integers or texts) of the pickle at `path`.

    A relative path counts from the bundle. Takes pickles of protocol 0 to 5, from Python 2 as well.
    Raises UserError for everything that is not the competition's format, before anything that the
    file asks for is done.
    """
    path = paths.named(str(path))
    try:
        content = _load(path)
        if not isinstance(content, dict):
            raise RefusedError(f"not a dict but {_kind(content)}")
        plain = {_text(key): value for key, value in content.items() if not isinstance(key, int)}
        if missing := [key for key in ("data", "ids") if key not in plain]:
            raise RefusedError(f"no key b'{missing[0]}'")
        images = _images(plain["data"])
        return images, _ids(plain["ids"], len(images))
    except (RefusedError, ValueError) as error:
        raise UserError(f"{paths.shown(path)}: holds {error}; expected {FORMAT}") from error


def _load(path: Path) -> Any:
    """Return the pickle's content, with stand-ins for arrays; raises UserError, RefusedError."""
    shown = paths.shown(path)
    if not path.is_file():
        raise UserError(f"{shown}: no such file; give the path of cifar_test_nolabel.pkl")
    try:
        if (size := path.stat().st_size) > MAX_BYTES:
            raise RefusedError(f"{size:,} bytes, more than {MAX_BYTES:,}")
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"{shown}: cannot be read ({error.strerror}); check it") from error
    if kind := next((name for name, start in OTHERS.items() if start.match(content)), ""):
        raise RefusedError(kind)
    try:
        return _Reader(content).load()
    except RefusedError:
        raise
    except Exception as error:  # a damaged pickle may raise nearly anything
        raise RefusedError("no pickle, or only the beginning of one") from error


def _images(data: Any) -> np.ndarray:
    if not isinstance(data, _Array):
        raise RefusedError(f"{_kind(data)} under b'data'")
    data = data.value
    if data.dtype != np.uint8 or data.shape[1:] not in ((32, 32, 3), (3072,)):
        raise RefusedError(f"data of dtype {data.dtype} and shape {data.shape}")
    if data.ndim == 2 and not _interleaved(data):
        return data.reshape(-1, 3, 32, 32).copy(order="C")
    return data.reshape(-1, 32, 32, 3).transpose(0, 3, 1, 2).copy(order="C")


def _interleaved(rows: np.ndarray) -> bool:
    """Whether rows (N, 3072) hold pixel after pixel, not plane after plane as CIFAR-10's files do.

    A pixel's neighbour below is 32 values on in a plane, 96 values on in pixels; in an image it is
    more alike than what lies elsewhere. In planes, 96 values on is three lines below.
    """
    some = rows[:: max(1, len(rows) // 200)].astype(np.int16)
    below = {step: np.abs(some[:, step:] - some[:, :-step]).mean() for step in (32, 96)}
    return bool(below[96] < 0.9 * below[32])


def _kind(value: Any) -> str:
    return "an array" if isinstance(value, _Array) else f"a {type(value).__name__.lstrip('_')}"


def _ids(ids: Any, images: int) -> np.ndarray:
    """Return the ids as one array of integers or of texts; raises RefusedError."""
    ids = ids.value if isinstance(ids, _Array) else ids
    if not (isinstance(ids, list | tuple) or (isinstance(ids, np.ndarray) and ids.ndim == 1)):
        raise RefusedError("ids that are no list")
    if len(ids) != images:  # first, so that nothing below can grow large
        raise RefusedError(f"{images} images and {len(ids)} ids")
    if isinstance(ids, np.ndarray) and ids.dtype.kind in "iu":
        return ids.astype(ids.dtype.newbyteorder("="))
    values = [_plain(value) for value in (ids.tolist() if isinstance(ids, np.ndarray) else ids)]
    if all(type(value) is int and abs(value) < 1 << 63 for value in values):
        return np.array(values, dtype=np.int64)
    if all(type(value) is str and len(value) <= MAX_ID for value in values):
        return np.array(values, dtype=np.str_)
    raise RefusedError("ids that are not all whole numbers, or all short texts")


def _plain(value: Any) -> Any:
    """Return a number or text for a NumPy scalar or bytes; only short: one may recur often."""
    if isinstance(value, _Array) and value.value.shape == () and value.value.nbytes <= 4 * MAX_ID:
        value = value.value.item()
    return value.decode("utf-8") if isinstance(value, bytes) and len(value) <= 4 * MAX_ID else value


def write_submission(
    path: Path | str, ids: Sequence | np.ndarray, labels: Sequence | np.ndarray
) -> None:
    """Write the CSV ``ID,Labels``: a row per image in `ids`' order, labels 0 to 9; whole or not.

    Raises ValueError where labels and ids do not match or a label is no class, OSError as writing
    does.
    """
    path, labels = Path(path), np.asarray(labels)
    whole = labels.shape == (len(ids),) and labels.dtype.kind in "iu"
    if not whole or not np.isin(labels, range(10)).all():
        given = f"{labels.dtype} {labels.shape}"
        raise ValueError(f"expected {len(ids)} integer labels from 0 to 9, got {given}")
    partial = path.with_name(f"{path.name}.partial")
    try:
        with partial.open("w", encoding="utf-8", newline="") as file:
            rows = csv.writer(file, lineterminator="\n")
            rows.writerow(["ID", "Labels"])
            rows.writerows(zip(np.asarray(ids).tolist(), labels.tolist(), strict=True))
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def submit(
    model: nn.Module,
    shifted_set: str,
    combination: str,
    statistics: Statistics,
    precision: str,
    batch_size: int,
    path: Path,
) -> pd.Series | None:
    """Predict the images of a pickle in the competition's format and write the submission file.

    Returns how often each class was predicted, or None where no set is named. Raises UserError
    where the pickle is missing, malformed or holds anything but arrays and plain containers.
    """
    if not shifted_set:
        return None
    array, ids = read_shifted_set(Path(shifted_set))
    pixels = torch.from_numpy(array)
    images = Images(pixels, torch.zeros(len(pixels), dtype=torch.int64), torch.arange(len(pixels)))
    by_view = view_logits(
        model, images, COMBINATIONS[combination], statistics, precision, batch_size
    )
    labels = combine(by_view, combination).argmax(1)
    write_submission(path, ids, labels.numpy())
    return pd.Series(labels.bincount(minlength=10).tolist(), name="images predicted of each class")
