"""Reading the competition's pickle without trusting it, and writing the file that is handed in.

A pickle is a program. This reader runs only the instructions that make numbers, texts, lists, tuples, dicts
and NumPy arrays; arrays come to be as inert notes first, and NumPy sees them only after they were checked.
"""

import contextlib
import csv
import io
import math
import pickle
import re
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from lib import paths
from lib.errors import UserError

MAX_BYTES = 1 << 30  # some 350,000 images, 35 times the competition's set
MAX_ID = 200  # characters: one long id would widen every entry of the ids' array
FORMAT = "a dict with b'data' (uint8, (N, 32, 32, 3) or (N, 3072)) and b'ids' (N whole numbers or texts)"

ALLOWED = """MARK STOP POP POP_MARK DUP FLOAT INT BININT BININT1 LONG BININT2 NONE REDUCE STRING BINSTRING
    SHORT_BINSTRING UNICODE BINUNICODE APPEND BUILD GLOBAL DICT EMPTY_DICT APPENDS GET BINGET LONG_BINGET LIST
    EMPTY_LIST PUT BINPUT LONG_BINPUT SETITEM TUPLE EMPTY_TUPLE SETITEMS BINFLOAT PROTO TUPLE1 TUPLE2 TUPLE3
    NEWTRUE NEWFALSE LONG1 LONG4 BINBYTES SHORT_BINBYTES SHORT_BINUNICODE BINUNICODE8 BINBYTES8 STACK_GLOBAL
    MEMOIZE FRAME BYTEARRAY8"""

ALLOWED_CODES = [getattr(pickle, name)[0] for name in ALLOWED.split()]


class _RefusedError(Exception):
    """What in the pickle is not allowed."""


@dataclass(frozen=True)
class _Global:
    """A name that the pickle asked for; only `_Reader._reduce` gives it a meaning."""

    name: str


@dataclass
class _Dtype:
    """A note of a dtype: kind and item size, and the byte order once it is known."""

    code: str
    order: str = "|"

    def set_state(self, state: tuple) -> None:
        """Take the byte order; anything beyond it (fields, subarrays, metadata) is refused."""
        if len(state) < 5 or state[2:5] != (None, None, None) or _text(state[1]) not in ("<", ">", "|", "="):
            raise _RefusedError("a dtype with fields")
        self.order = _text(state[1])


@dataclass
class _Array:
    """A note of an array: its dtype, shape, memory order and bytes."""

    dtype: _Dtype | None = None
    shape: tuple = ()
    data: bytes | bytearray = b""
    order: str = "C"

    def set_state(self, state: tuple) -> None:
        """Take what `numpy.ndarray.__reduce__` gave: (version, shape, dtype, Fortran order, bytes)."""
        _, self.shape, self.dtype, fortran, self.data = state
        self.order = "F" if fortran else "C"


def _text(value: str | bytes) -> str:
    return value.decode("ascii") if isinstance(value, bytes) else value


def _dtype(code: str | bytes, *_flags: object) -> _Dtype:
    code = _text(code)
    if not re.fullmatch(r"[biuf][1248]|[SU][1-9]\d{0,5}", code):
        raise _RefusedError(f"a dtype {code[:20]!r}")
    return _Dtype(code)


def _reconstruct(kind: _Global, _shape: tuple, _code: bytes) -> _Array:
    if not isinstance(kind, _Global) or kind.name != "ndarray":
        raise _RefusedError("an array of another class")
    return _Array()


def _from_buffer(data: bytearray, dtype: _Dtype, shape: tuple, order: str, _axes: None = None) -> _Array:
    return _Array(dtype, shape, data, order)


def _scalar(dtype: _Dtype, data: bytes) -> _Array:
    return _Array(dtype, (), data)


_NUMPY = {"_reconstruct": "multiarray", "scalar": "multiarray", "_frombuffer": "numeric"}
GLOBALS = {(f"numpy.{core}.{module}", name) for name, module in _NUMPY.items() for core in ("core", "_core")}
GLOBALS |= {("numpy", "ndarray"), ("numpy", "dtype"), ("_codecs", "encode")}
MAKERS = {"dtype": _dtype, "_reconstruct": _reconstruct, "_frombuffer": _from_buffer, "scalar": _scalar}


class _Reader(pickle._Unpickler):  # the one in Python: its instructions can be replaced, C's cannot
    """Runs a pickle's instructions: no import, no call and no attribute that the pickle names takes place."""

    def __init__(self, content: bytes) -> None:
        super().__init__(io.BytesIO(content), encoding="bytes")
        self.limit = self.budget = len(content)

    def find_class(self, module: str, name: str) -> _Global:
        if (module, name) not in GLOBALS:
            raise _RefusedError(f"the global {module}.{name}"[:80])
        return _Global(name)

    def _reduce(self) -> None:
        arguments, called = self.stack.pop(), self.stack.pop()
        name = called.name if isinstance(called, _Global) else None
        if name == "encode":
            self.append(self._encode(*arguments))
        elif name in MAKERS:
            self.append(MAKERS[name](*arguments))
        else:
            raise _RefusedError("a call of something else than NumPy's makers of arrays")

    def _encode(self, text: str, codec: str) -> bytes:
        """Old protocols write bytes as Latin-1 text, each once: so all of them fit into the file's size."""
        self.budget -= len(text)
        if codec != "latin1" or self.budget < 0:
            raise _RefusedError("_codecs.encode for another purpose than NumPy's")
        return text.encode("latin1")

    def _build(self) -> None:
        state = self.stack.pop()
        if not isinstance(self.stack[-1], _Array | _Dtype) or not isinstance(state, tuple):
            raise _RefusedError("an object's state")
        self.stack[-1].set_state(state)

    def _set_items(self) -> None:
        items = self.pop_mark()
        self._fill(self.stack[-1], items)

    def _set_item(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self._fill(self.stack[-1], [key, value])

    def _make_dict(self) -> None:
        items = self.pop_mark()
        self.append({})
        self._fill(self.stack[-1], items)

    def _fill(self, target: dict, items: list) -> None:
        # Hashing a tuple of tuples, nested a million deep, would crash the interpreter.
        if not all(isinstance(key, str | bytes | int) for key in items[::2]):
            raise _RefusedError("a dict with keys that are not plain")
        dict.update(target, zip(items[::2], items[1::2], strict=True))

    def _byte_array(self) -> None:
        (length,) = struct.unpack("<Q", self.read(8))
        if length > self.limit:  # the original makes room for any length before it reads
            raise EOFError
        self.append(bytearray(self.read(length)))

    def _refuse(self) -> None:
        raise _RefusedError("an instruction that plain data does not need")

    dispatch: ClassVar[dict[int, Callable]] = {
        **dict.fromkeys(pickle._Unpickler.dispatch, _refuse),
        **{code: pickle._Unpickler.dispatch[code] for code in ALLOWED_CODES},
        pickle.REDUCE[0]: _reduce,
        pickle.BUILD[0]: _build,
        pickle.DICT[0]: _make_dict,
        pickle.SETITEM[0]: _set_item,
        pickle.SETITEMS[0]: _set_items,
        pickle.BYTEARRAY8[0]: _byte_array,
    }


def _numpy(note: _Array) -> np.ndarray:
    """Return the array that the note describes, a view of the note's bytes; raises _RefusedError."""
    shape, sound = note.shape, isinstance(note.dtype, _Dtype) and isinstance(note.shape, tuple)
    if not sound or len(shape) > 8 or not all(type(size) is int and 0 < size < 1 << 40 for size in shape):
        raise _RefusedError("an array without a plain dtype and shape")
    dtype = np.dtype(note.dtype.order + note.dtype.code)
    if not isinstance(note.data, bytes | bytearray) or math.prod(shape) * dtype.itemsize != len(note.data):
        raise _RefusedError(f"an array of shape {str(shape)[:60]} with too few or too many bytes")
    return np.frombuffer(note.data, dtype).reshape(shape, order="F" if note.order == "F" else "C")


def read_shifted_set(path: Path | str) -> tuple[np.ndarray, np.ndarray]:
    """Return images (uint8, (N, 3, 32, 32), 0 to 255) and ids (N integers or texts) of the pickle at `path`.

    Takes pickles of protocol 0 to 5, from Python 2 as well. Raises UserError for everything that is not the
    competition's format, before anything that the file asks for is done.
    """
    path = Path(path)
    try:
        content = _load(path)
        if not isinstance(content, dict):
            raise _RefusedError(f"a {type(content).__name__.lstrip('_')}")
        entries = {_text(key): value for key, value in content.items() if isinstance(key, str | bytes)}
        if missing := [key for key in ("data", "ids") if key not in entries]:
            raise _RefusedError(f"no key b'{missing[0]}'")
        images = _images(entries["data"])
        ids = _ids(entries["ids"], len(images))
    except (_RefusedError, ValueError) as error:
        raise UserError(f"{paths.shown(path)}: holds {error}; expected {FORMAT}") from error
    return images, ids


def _load(path: Path) -> Any:
    """Return the pickle's content, with notes in place of arrays."""
    if not path.is_file():
        raise UserError(f"{paths.shown(path)}: no such file; give the path of cifar_test_nolabel.pkl")
    try:
        if (size := path.stat().st_size) > MAX_BYTES:
            raise _RefusedError(f"{size:,} bytes, more than {MAX_BYTES:,}")
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"{paths.shown(path)}: cannot be read ({error.strerror}); check it") from error
    try:
        return _Reader(content).load()
    except _RefusedError:
        raise
    except Exception as error:  # a damaged pickle may raise nearly anything
        reason = f"{type(error).__name__} {error}".strip().splitlines()[0][:80]
        raise _RefusedError(f"no pickle, or only the beginning of one ({reason})") from error


def _images(data: Any) -> np.ndarray:
    if not isinstance(data, _Array):
        raise _RefusedError(f"a {type(data).__name__} under b'data'")
    data = _numpy(data)
    if data.dtype != np.uint8 or not (data.shape[1:] in ((32, 32, 3), (3072,)) and len(data)):
        raise _RefusedError(f"data of dtype {data.dtype} and shape {data.shape}")
    planes = data.reshape(-1, 3, 32, 32) if data.ndim == 2 else data.transpose(0, 3, 1, 2)
    return planes.copy(order="C")


def _ids(ids: Any, images: int) -> np.ndarray:
    """Return the ids as one array of integers or of texts; raises _RefusedError."""
    if not (isinstance(ids, list | tuple) or (isinstance(ids, _Array) and (ids := _numpy(ids)).ndim == 1)):
        raise _RefusedError("ids that are no list")
    if len(ids) != images:  # first, so that nothing below can grow large
        raise _RefusedError(f"{images} images and {len(ids)} ids")
    if isinstance(ids, np.ndarray) and ids.dtype.kind in "iu":
        return ids.astype(ids.dtype.newbyteorder("="))
    values = [_plain(one) for one in (ids.tolist() if isinstance(ids, np.ndarray) else ids)]
    if all(type(one) is int and abs(one) < 1 << 63 for one in values):
        return np.array(values, dtype=np.int64)
    if all(type(one) is str and len(one) <= MAX_ID for one in values):
        return np.array(values, dtype=np.str_)
    raise _RefusedError("ids that are not all whole numbers, or all short texts")


def _plain(value: Any) -> Any:
    """Return a number or text for a NumPy scalar or bytes; only short ones, since one may recur often."""
    if isinstance(value, _Array) and value.shape == () and len(value.data) <= 4 * MAX_ID:
        value = _numpy(value).item()
    return value.decode("utf-8") if isinstance(value, bytes) and len(value) <= 4 * MAX_ID else value


def write_submission(path: Path | str, ids: Sequence | np.ndarray, labels: Sequence | np.ndarray) -> None:
    """Write the CSV ``ID,Labels``: a row per image in the order of `ids`, labels 0 to 9; whole or not at all.

    Raises ValueError where labels and ids do not match or a label is no class, OSError as writing does.
    """
    path, labels = Path(path), np.asarray(labels)
    if labels.shape != (len(ids),) or labels.dtype.kind not in "iu" or not np.isin(labels, range(10)).all():
        raise ValueError(f"expected {len(ids)} integer labels from 0 to 9, got {labels.dtype} {labels.shape}")
    partial = path.with_name(f"{path.name}.partial")
    with contextlib.ExitStack() as on_failure:
        on_failure.callback(partial.unlink, missing_ok=True)
        with partial.open("w", encoding="utf-8", newline="") as file:
            rows = csv.writer(file, lineterminator="\n")
            rows.writerow(["ID", "Labels"])
            rows.writerows(zip(np.asarray(ids).tolist(), labels.tolist(), strict=True))
        partial.replace(path)
