"""Reading a pickle without trusting it.

A pickle is a program. This reader runs only the instructions that make numbers, texts, lists,
tuples, dicts and NumPy arrays; arrays come to be as inert notes first, and NumPy sees them only
after they were checked.
"""

import io
import math
import pickle
import re
import struct
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

ALLOWED = """MARK STOP POP POP_MARK DUP FLOAT INT BININT BININT1 LONG BININT2 NONE REDUCE STRING
    BINSTRING SHORT_BINSTRING UNICODE BINUNICODE APPEND BUILD GLOBAL DICT EMPTY_DICT APPENDS GET
    BINGET LONG_BINGET LIST EMPTY_LIST PUT BINPUT LONG_BINPUT SETITEM TUPLE EMPTY_TUPLE SETITEMS
    BINFLOAT PROTO TUPLE1 TUPLE2 TUPLE3 NEWTRUE NEWFALSE LONG1 LONG4 BINBYTES SHORT_BINBYTES
    SHORT_BINUNICODE BINUNICODE8 BINBYTES8 STACK_GLOBAL MEMOIZE FRAME BYTEARRAY8"""

ALLOWED_CODES = [getattr(pickle, name)[0] for name in ALLOWED.split()]


class RefusedError(Exception):
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
        if (
            len(state) < 5
            or state[2:5] != (None, None, None)
            or text(state[1]) not in ("<", ">", "|", "=")
        ):
            raise RefusedError("a dtype with fields")
        self.order = text(state[1])


@dataclass
class Array:
    """A note of an array: its dtype, shape, memory order and bytes."""

    dtype: _Dtype | None = None
    shape: tuple = ()
    data: bytes | bytearray = b""
    order: str = "C"

    def set_state(self, state: tuple) -> None:
        """Take `numpy.ndarray.__reduce__`'s: (version, shape, dtype, Fortran order, bytes)."""
        _, self.shape, self.dtype, fortran, self.data = state
        self.order = "F" if fortran else "C"


def text(value: str | bytes) -> str:
    """Return a text that Python 2 or an option of the reader may have left as bytes."""
    return value.decode("ascii") if isinstance(value, bytes) else value


def _dtype(code: str | bytes, *_flags: object) -> _Dtype:
    code = text(code)
    if not re.fullmatch(r"b1|[iu][1248]|f[248]|[SU][1-9]\d{0,5}", code):
        raise RefusedError(f"a dtype {code[:20]!r}")
    return _Dtype(code)


def _reconstruct(kind: _Global, _shape: tuple, _code: bytes) -> Array:
    if not isinstance(kind, _Global) or kind.name != "numpy.ndarray":
        raise RefusedError("an array of another class")
    return Array()


def _from_buffer(
    data: bytearray, dtype: _Dtype, shape: tuple, order: str, _axes: None = None
) -> Array:
    return Array(dtype, shape, data, order)


def _scalar(dtype: _Dtype, data: bytes) -> Array:
    return Array(dtype, (), data)


MAKERS = {
    "numpy.dtype": _dtype,
    "numpy.core.multiarray._reconstruct": _reconstruct,
    "numpy.core.multiarray.scalar": _scalar,
    "numpy.core.numeric._frombuffer": _from_buffer,
}
GLOBALS = {*MAKERS, "numpy.ndarray", "_codecs.encode"}


class _Reader(pickle._Unpickler):  # the one in Python: its instructions can be replaced, C's cannot
    """Runs a pickle's instructions, but no import, call or attribute that the pickle names."""

    def __init__(self, content: bytes) -> None:
        super().__init__(io.BytesIO(content), encoding="bytes")
        self.limit = self.budget = len(content)

    def find_class(self, module: str, name: str) -> _Global:
        found = f"{module}.{name}".replace("numpy._core.", "numpy.core.", 1)  # NumPy 2 and before
        if found not in GLOBALS:
            raise RefusedError(f"the global {module}.{name}"[:80])
        return _Global(found)

    def _reduce(self) -> None:
        arguments, called = self.stack.pop(), self.stack.pop()
        name = called.name if isinstance(called, _Global) else None
        if name == "_codecs.encode":
            self.append(self._encode(*arguments))
        elif name in MAKERS:
            self.append(MAKERS[name](*arguments))
        else:
            raise RefusedError("a call of something else than NumPy's makers of arrays")

    def _encode(self, content: str, codec: str) -> bytes:
        """Old protocols write bytes as Latin-1 text, each once: all fit into the file's size."""
        self.budget -= len(content)
        if codec != "latin1" or self.budget < 0:
            raise RefusedError("_codecs.encode for another purpose than NumPy's")
        return content.encode("latin1")

    def _build(self) -> None:
        state = self.stack.pop()
        if not isinstance(self.stack[-1], Array | _Dtype) or not isinstance(state, tuple):
            raise RefusedError("an object's state")
        self.stack[-1].set_state(state)

    def _make_dict(self) -> None:
        items = self.pop_mark()
        self.append({})
        self._fill(items)

    def _set_items(self) -> None:
        self._fill(self.pop_mark())

    def _set_item(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self._fill([key, value])

    def _fill(self, items: list) -> None:
        """Add keys and values, by turns, to the dict on top of the stack."""
        # Hashing a tuple of tuples, nested a million deep, would crash the interpreter.
        if not all(isinstance(key, str | bytes | int) for key in items[::2]):
            raise RefusedError("a dict with keys that are not plain")
        dict.update(self.stack[-1], zip(items[::2], items[1::2], strict=True))

    def _byte_array(self) -> None:
        (length,) = struct.unpack("<Q", self.read(8))
        if length > self.limit:  # the original makes room for any length before it reads
            raise EOFError
        self.append(bytearray(self.read(length)))

    def _refuse(self) -> None:
        raise RefusedError("an instruction that plain data does not need")

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


def load(content: bytes) -> Any:
    """Return what the pickle describes, with notes for arrays; raises RefusedError alone."""
    try:
        return _Reader(content).load()
    except RefusedError:
        raise
    except Exception as error:  # a damaged pickle may raise nearly anything
        reason = f"{type(error).__name__} {error}".strip().splitlines()[0][:80]
        raise RefusedError(f"no pickle, or only the beginning of one ({reason})") from error


def to_numpy(note: Array) -> np.ndarray:
    """Return the array that the note describes, a view of the note's bytes; raises RefusedError."""
    shape = note.shape
    plain = isinstance(note.dtype, _Dtype) and isinstance(shape, tuple) and len(shape) <= 8
    if not plain or not all(type(size) is int and 0 < size < 1 << 40 for size in shape):
        raise RefusedError("an array without a plain dtype and shape")
    dtype = np.dtype(note.dtype.order + note.dtype.code)
    if not isinstance(note.data, bytes | bytearray) or math.prod(shape) * dtype.itemsize != len(
        note.data
    ):
        raise RefusedError(f"an array of shape {str(shape)[:60]} with too few or too many bytes")
    if (
        dtype.kind == "U"
        and np.frombuffer(note.data, f"{note.dtype.order}u4").max() > sys.maxunicode
    ):
        raise RefusedError("a text with codes of no character")
    return np.frombuffer(note.data, dtype).reshape(shape, order="F" if note.order == "F" else "C")
