"""The competition's pickle: both shapes, all protocols; nothing that a pickle asks for is done."""

import builtins
import codecs
import collections
import copyreg
import os
import pickle
import struct
import time

import numpy as np
import pytest

from bundle.dataset import competition
from bundle.dataset.competition import read_shifted_set, write_submission
from lib.errors import UserError

N = 4
PLANES = np.random.default_rng(0).integers(0, 256, (N, 3, 32, 32), dtype=np.uint8)
IMAGES = PLANES.transpose(0, 2, 3, 1).copy()


def good(**changes):
    return {b"data": IMAGES, b"ids": list(range(N))} | {
        key.encode(): value for key, value in changes.items()
    }


def save(tmp_path, content, protocol=4):
    path = tmp_path / "cifar_test_nolabel.pkl"
    path.write_bytes(
        content if isinstance(content, bytes) else pickle.dumps(content, protocol=protocol)
    )
    return path


def refusal(path):
    """The one line of the UserError."""
    with pytest.raises(UserError) as caught:
        read_shifted_set(path)
    message = str(caught.value)
    assert "\n" not in message and "cifar_test_nolabel.pkl" in message and len(message) < 400
    return message


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("shape", ["images", "flat", "fortran"])
def test_every_protocol_and_shape(tmp_path, protocol, shape):
    data = {
        "images": IMAGES,
        "flat": PLANES.reshape(N, 3072),
        "fortran": np.asfortranarray(IMAGES),
    }[shape]
    images, ids = read_shifted_set(save(tmp_path, good(data=data, ids=np.arange(N) + 7), protocol))
    assert images.dtype == np.uint8 and images.flags.c_contiguous and images.flags.writeable
    np.testing.assert_array_equal(images, PLANES)
    np.testing.assert_array_equal(ids, np.arange(N) + 7)


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize(
    "ids",
    [
        [3, 1, 2, 0],
        (3, 1, 2, 0),
        np.array([3, 1, 2, 0], dtype=">i4"),
        np.array([3, 1, 2, 0], dtype=np.uint8),
        [np.int64(3), np.int64(1), 2, 0],
        ["a", "ü", "c", "d"],
        np.array(["a", "ü", "c", "d"]),
        [b"a", b"bc", b"c", b"d"],
        np.array([b"a", b"bc", b"c", b"d"]),
        [np.str_("a"), np.str_("b"), "c", "d"],
    ],
    ids=str,
)
def test_ids_of_every_kind(tmp_path, protocol, ids):
    read = read_shifted_set(save(tmp_path, good(ids=ids), protocol))[1]
    expected = [one.decode() if isinstance(one, bytes) else one for one in ids]
    assert read.ndim == 1 and read.tolist() == expected


@pytest.mark.parametrize("core", [b"numpy.core.multiarray", b"numpy._core.multiarray"])
def test_python_2_with_plain_string_keys(tmp_path, core):
    def text(value):
        return b"T" + struct.pack("<I", len(value)) + value

    array = (
        b"c" + core + b"\n_reconstruct\n(cnumpy\nndarray\n(I0\ntU\x01btR(I1\n(K\x04K K K\x03t"
        b"cnumpy\ndtype\n(U\x02u1I0\nI1\ntR(I3\nU\x01|NNNI-1\nI-1\nI0\ntbI00\n"
        + text(IMAGES.tobytes())
        + b"tb"
    )
    ids = b"]q\x01(" + b"".join(text(b"%d.png" % one) for one in range(N)) + b"e"
    images, ids = read_shifted_set(
        save(tmp_path, b"\x80\x02}(U\x04data" + array + b"U\x03ids" + ids + b"u.")
    )
    np.testing.assert_array_equal(images, PLANES)
    assert ids.tolist() == [f"{one}.png" for one in range(N)]


def test_python_2_protocol_0(tmp_path):
    escaped = "".join(f"\\x{byte:02x}" for byte in IMAGES.tobytes()).encode()
    array = (
        b"cnumpy.core.multiarray\n_reconstruct\np1\n(cnumpy\nndarray\np2\n(I0\ntp3\nS'b'\np4\n"
        b"tp5\nRp6\n(I1\n(I4\nI32\nI32\nI3\ntp7\ncnumpy\ndtype\np8\n(S'u1'\np9\nI0\nI1\ntp10\n"
        b"Rp11\n(I3\nS'|'\np12\nNNNI-1\nI-1\nI0\ntp13\nbI00\n"
        b"S'" + escaped + b"'\np14\ntp15\nb"
    )
    content = b"(dp0\nS'data'\n" + array + b"sS'ids'\n(lp16\nL5L\naI6\naI7\naI8\nas."
    images, ids = read_shifted_set(save(tmp_path, content))
    np.testing.assert_array_equal(images, PLANES)
    assert ids.tolist() == [5, 6, 7, 8]


class Calls:
    """Pickles to a call of `function`."""

    def __init__(self, function, *arguments, state=None):
        self.how = (function, arguments) if state is None else (function, arguments, state)

    def __reduce__(self):
        return self.how


class Stateful:
    def __setstate__(self, state):
        os.mkdir(state)  # noqa: PTH102


def attacks(marker):
    code = f"open({str(marker)!r}, 'w')"
    lookup = [b"\x8c" + bytes([len(word)]) + word for word in (b"os", b"system")]
    argument = b"\x8c" + bytes([len(str(marker)) + 6]) + f"mkdir {marker}".encode()
    return {
        "os.system": Calls(os.system, f"touch {marker}"),
        "os.mkdir": Calls(os.mkdir, str(marker)),
        "eval": Calls(builtins.eval, code),
        "exec": Calls(builtins.exec, code),
        "getattr": Calls(getattr, Calls(__import__, "os"), "system"),
        "numpy.load": Calls(np.load, str(marker), None, True),
        "numpy.memmap": Calls(np.memmap, str(marker), "uint8", "w+", 0, (4,)),
        "numpy.save": Calls(np.save, str(marker), 1),
        "nested in ids": {b"data": IMAGES, b"ids": [0, 1, 2, Calls(os.mkdir, str(marker))]},
        "nested in key": {b"data": IMAGES, b"ids": [], Calls(os.mkdir, str(marker)): 1},
        "object array": good(ids=np.array([Calls(os.mkdir, str(marker))] * N, dtype=object)),
        "setstate": Calls(Stateful, state=str(marker)),
        "reconstructor": Calls(copyreg._reconstructor, collections.OrderedDict, dict, {"a": 1}),
        "copyreg newobj": b"ccopyreg\n__newobj__\n(cos\nDirEntry\ntR.",
        "codecs.decode": Calls(codecs.decode, b"aa", "hex"),
        "codecs.open": Calls(codecs.open, str(marker), "w"),
        "encode elsewise": Calls(codecs.encode, b"a", "zlib"),
        "encode rot13": Calls(codecs.encode, "a", "rot13"),
        "dotted": b"\x80\x04\x8c\x05numpy\x8c\x0dndarray.dumps\x93.",
        "dotted dump": b"\x80\x04\x8c\x05numpy\x8c\x0cndarray.dump\x93\x8c\x01a\x85R.",
        "STACK_GLOBAL": b"\x80\x04" + b"".join(lookup) + b"\x93" + argument + b"\x85R.",
        "INST": f"(S'mkdir {marker}'\nios\nsystem\n.".encode(),
        "OBJ": f"(cos\nsystem\nS'mkdir {marker}'\no.".encode(),
        "NEWOBJ": b"\x80\x02cnumpy\nndarray\n(tK\x01\x85\x81.",
        "BUILD on a global": b"\x80\x02cnumpy\ndtype\n}U\x04codeU\x01as\x86b.",
        "BUILD on a dict": b"\x80\x02}}U\x04codeU\x01asb.",
        "call of ndarray": b"\x80\x02cnumpy\nndarray\n(K\x01tR.",
        "persistent id": b"Pos.system\n.",
        "extension": b"\x80\x02\x82\x01.",
        "out of band": b"\x80\x05\x97.",
    }


@pytest.mark.parametrize("name", attacks("x"))
@pytest.mark.parametrize("protocol", [0, 2, 5])
def test_an_attack_is_refused_and_nothing_runs(tmp_path, name, protocol):
    marker = tmp_path / "marker"
    path = save(tmp_path, attacks(marker)[name], protocol)
    assert "expected a dict with b'data'" in refusal(path)
    assert sorted(tmp_path.iterdir()) == [path]


def test_the_attacks_would_work(tmp_path):
    marker = tmp_path / "marker"
    for name in ("os.mkdir", "STACK_GLOBAL", "INST", "object array", "setstate"):
        path = save(tmp_path, attacks(marker)[name])
        pickle.loads(path.read_bytes())
        marker.rmdir()


def test_a_global_is_named(tmp_path):
    assert "the global posix.system" in refusal(save(tmp_path, Calls(os.system, "true")))
    assert "dtype 'O8'" in refusal(save(tmp_path, good(ids=np.array([None] * N))))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (good(data=IMAGES.astype(np.float32)), "dtype float32"),
        (good(data=IMAGES.astype(np.int64)), "dtype int64"),
        (good(data=IMAGES[..., :1]), "shape (4, 32, 32, 1)"),
        (good(data=PLANES), "shape (4, 3, 32, 32)"),
        (good(data=IMAGES[0]), "shape (32, 32, 3)"),
        (good(data=IMAGES.tolist()), "a list under b'data'"),
        (good(data=IMAGES[:0], ids=[]), "an array"),
        (good(ids=range(3)), "builtins.range"),
        (good(ids=[1, 2, 3]), "4 images and 3 ids"),
        (good(ids=np.arange(5)), "4 images and 5 ids"),
        (good(ids=np.zeros((2, 2), int)), "ids that are no list"),
        (good(ids=7), "ids that are no list"),
        (good(ids=[1, 2, 3, "a"]), "not all whole numbers"),
        (good(ids=[1.0, 2.0, 3.0, 4.0]), "not all whole numbers"),
        (good(ids=np.arange(4.0)), "not all whole numbers"),
        (good(ids=[1, 2, 3, True]), "not all whole numbers"),
        (good(ids=[1, 2, 3, 1 << 70]), "not all whole numbers"),
        (good(ids=["a", "b", "c", "d" * 1000]), "short texts"),
        (good(ids=["a", "b", "c", b"d" * 1000]), "short texts"),
        (good(ids=["a", "b", "c", np.str_("d" * 1000)]), "short texts"),
        (good(ids=[b"\xff", b"b", b"c", b"d"]), "codec"),
        (good(ids=np.array(["2020"] * 4, dtype="M8[Y]")), "a dtype 'M8'"),
        (good(ids=np.zeros(4, dtype=[("a", "i4")])), "a dtype 'V4'"),
        ({b"data": IMAGES}, "no key b'ids'"),
        ({b"ids": [1]}, "no key b'data'"),
        ([IMAGES], "a list"),
        (IMAGES, "not a dict but an array"),
        ({(1, 2): 3}, "keys that are not plain"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_found_is_said(tmp_path, content, said):
    assert said in refusal(save(tmp_path, content))


def test_files_that_are_no_pickle(tmp_path, monkeypatch):
    for content in (b"", b"ID,Labels\n1,2\n", b"\x80\xff.", b".", b"0", b"(((", b"\xff"):
        message = refusal(save(tmp_path, content))
        assert "no pickle" in message or "an instruction" in message
    assert "no such file" in refusal(tmp_path / "cifar_test_nolabel.pkl.not")
    assert "no such file" in refusal(tmp_path / "cifar_test_nolabel.pkl" / "..")
    monkeypatch.setattr(competition, "MAX_BYTES", 10)
    assert "more than 10" in refusal(save(tmp_path, good()))


@pytest.mark.parametrize("protocol", range(6))
def test_a_truncated_file(tmp_path, protocol):
    whole = pickle.dumps(good(), protocol=protocol)
    for length in (1, 2, 30, 90, 200, len(whole) // 2, len(whole) - 1):
        refusal(save(tmp_path, whole[:length]))


def test_any_changed_byte_gives_an_error_line_or_data(tmp_path):
    whole = pickle.dumps({b"data": np.zeros((1, 3072), np.uint8), b"ids": np.arange(1)}, protocol=4)
    ends = [*range(200), *range(len(whole) - 200, len(whole))]
    generator = np.random.default_rng(1)
    for position in ends:
        for byte in generator.integers(0, 256, 1):
            path = save(tmp_path, whole[:position] + bytes([byte]) + whole[position + 1 :])
            try:
                images, ids = read_shifted_set(path)
            except UserError:
                continue
            assert images.shape == (1, 3, 32, 32) and ids.shape == (1,)


@pytest.mark.parametrize("dtype", [b"b8", b"f1", b"c8", b"O8"])
def test_a_dtype_that_numpy_does_not_know(tmp_path, dtype):
    whole = pickle.dumps(good(ids=[np.int64(one) for one in range(N)]), protocol=2)
    assert whole.count(b"i8") == 1
    assert f"a dtype '{dtype.decode()}'" in refusal(save(tmp_path, whole.replace(b"i8", dtype)))


def test_a_number_whose_bytes_are_none(tmp_path):
    whole = pickle.dumps(good(ids=[np.int64(7)] * N), protocol=3)
    content = b"C\x08" + struct.pack("<q", 7)
    assert whole.count(content) == 1
    assert "too few or too many bytes" in refusal(save(tmp_path, whole.replace(content, b"K\x07")))


@pytest.mark.parametrize("dtype", ["<U1", ">U1"])
def test_a_text_with_codes_of_no_character(tmp_path, dtype):
    ids = np.array(["a"] * N, dtype=dtype)
    whole = pickle.dumps(good(ids=ids), protocol=3)
    assert whole.count(ids.tobytes()) == 1
    assert "no character" in refusal(
        save(tmp_path, whole.replace(ids.tobytes(), b"\xff" * ids.nbytes))
    )


HUGE = struct.pack("<Q", 1 << 45)


@pytest.mark.parametrize(
    "content",
    [
        b"\x80\x05\x96" + HUGE + b"a.",  # BYTEARRAY8
        b"\x80\x04\x8e" + HUGE + b"a.",  # BINBYTES8
        b"\x80\x04\x8d" + HUGE + b"a.",  # BINUNICODE8
        b"\x80\x04\x95" + HUGE + b"a.",  # FRAME
        b"\x80\x02\x8b\xff\xff\xff\x7fa.",  # LONG4
        b"\x80\x02}r\xff\xff\xff\xff.",  # LONG_BINPUT
        b"I" + b"9" * 100_000 + b"\n.",
        b"\x80\x02X\x40\x42\x0f\x00"
        + b"a" * 1_000_000
        + b"q\x000]"
        + b"c_codecs\nencode\nh\0U\x06latin1\x86Ra" * 9_000
        + b".",
        b"\x80\x02" + b")" + b"\x85" * 300_000 + b"}q\x010h\x01)s.",
        b"\x80\x02}" + b")" + b"\x85" * 300_000 + b"Ns.",  # hashing this key would end the process
        b"\x80\x02})" + b"2\x86" * 64 + b"Ns.",  # hashing this one would take for ever
        b"\x80\x02" + b"]" * 300_000 + b".",
    ],
    ids=lambda content: repr(content[2:12]),
)
def test_a_bomb_is_refused_at_once(tmp_path, content):
    began = time.monotonic()
    refusal(save(tmp_path, content))
    assert time.monotonic() - began < 5


def test_a_shape_that_would_fill_the_memory(tmp_path):
    whole = pickle.dumps(good(data=IMAGES), protocol=2)
    assert whole.count(b"K\x04K K K\x03t") == 1
    for size in (
        b"J\xff\xff\xff\x7f",
        b"\x8a\x05\xff\xff\xff\xff\x7f",
        b"\x8a\x20" + b"\xff" * 31 + b"\x7f",
    ):
        content = whole.replace(b"K\x04K K K\x03t", size + b"K K K\x03t")
        assert "an array" in refusal(save(tmp_path, content))


def test_submission(tmp_path):
    path = tmp_path / "submission.csv"
    path.write_text("old")
    write_submission(path, np.array([12, 3, 7]), np.array([9, 0, 4]))
    assert path.read_bytes() == b"ID,Labels\n12,9\n3,0\n7,4\n"
    write_submission(path, ["a,b.png", "c"], [1, 2])
    assert path.read_bytes() == b'ID,Labels\n"a,b.png",1\nc,2\n'
    for labels in ([1], [1, 10], [-1, 1], [1.0, 2.0], [[1, 2]]):
        with pytest.raises(ValueError):
            write_submission(path, ["x", "y"], labels)
    assert path.read_bytes().startswith(b'ID,Labels\n"a') and list(tmp_path.iterdir()) == [path]
