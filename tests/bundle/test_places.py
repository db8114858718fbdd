"""CIFAR-10 as people have it: in other folders and forms; on a small dataset of the same make."""

import hashlib
import io
import os
import shutil
import struct
import tarfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bundle import paths
from bundle.__main__ import main
from bundle.dataset import archive, cifar10, images, keep, places
from lib.data import CIFAR10_CLASSES
from lib.errors import UserError
from tests.conftest import PLACES

SIZES = {"data_batch_1.bin": 30, "data_batch_2.bin": 20, "test_batch.bin": 15}  # records
TRAIN, TEST = 50, 15
RANDOM = np.random.default_rng(0)
RECORDS = RANDOM.integers(0, 256, (TRAIN + TEST, 3073), dtype=np.uint8)
RECORDS[:, 0] = RANDOM.integers(0, 10, TRAIN + TEST)
RECORDS[0, 0], RECORDS[TRAIN, 0] = 6, 6  # a frog in both parts
RECORDS[7] = RECORDS[3]  # the same image twice


def md5(content):
    return hashlib.md5(content).hexdigest()


def batches(records=RECORDS):
    ends = np.cumsum(list(SIZES.values()))
    return {
        name: records[end - size : end].tobytes()
        for (name, size), end in zip(SIZES.items(), ends, strict=True)
    }


def packed(folder, files):
    with io.BytesIO() as buffer:
        with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
            for name, content in files.items():
                entry = tarfile.TarInfo(f"{folder}/{name}")
                entry.size = len(content)
                tar.addfile(entry, io.BytesIO(content))
        return buffer.getvalue()


def version(name, folder, files, **more):
    members = {name: (len(content), md5(content)) for name, content in files.items()}
    content = packed(folder, files)
    made = archive.Archive(name, len(content), md5(content), folder, members, **more)
    return made, content


PY_FILES = {"data_batch_1": b"a pickle", "test_batch": b"another", "batches.meta": b"names"}
BINARY, BINARY_TAR = version("cifar-10-binary.tar.gz", "cifar-10-batches-bin", batches())
PYTHON, PYTHON_TAR = version(
    "cifar-10-python.tar.gz", "cifar-10-batches-py", PY_FILES, binary=BINARY
)


def ranks(part):
    """Where each record stands among its sorted part, by another way than the code's."""
    return [sorted(row.tobytes() for row in part).index(row.tobytes()) for row in part]


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """A bundle of its own with the small dataset's order; its data directory is returned."""
    for name in ("CIFAR10_ROOT", "KERAS_HOME", "HF_HOME"):
        monkeypatch.setenv(name, "")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    root = tmp_path / "work" / "bundle"
    root.mkdir(parents=True)
    for name, value in (("ROOT", root), ("DATA", root / "data"), ("NOTEBOOKS", root / "notebooks")):
        monkeypatch.setattr(paths, name, value)
    monkeypatch.setattr(places, "KAGGLE", tmp_path / "kaggle")
    monkeypatch.setattr(places, "known", PLACES)
    order = np.array([*ranks(RECORDS[:TRAIN]), *ranks(RECORDS[TRAIN:])], np.uint16)
    np.save(tmp_path / "order.npy", order)
    monkeypatch.setattr(images, "ORDER", tmp_path / "order.npy")
    return root / "data"


def find(dataset="cifar10", said=None):
    say = said.append if said is not None else lambda line: None
    return cifar10.resolve(dataset, network=False, archive=PYTHON, say=say)


def refusal(call, *arguments, **options):
    with pytest.raises(UserError) as caught:
        call(*arguments, **options)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 470
    return str(caught.value)


def put(folder, files):
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


def png(record):
    with io.BytesIO() as buffer:
        pixels = record[1:].reshape(3, 32, 32).transpose(1, 2, 0)
        Image.fromarray(pixels).save(buffer, "PNG")
        return buffer.getvalue()


def parts(records=RECORDS):
    return {"train": records[:TRAIN], "test": records[TRAIN:]}


def as_folders(folder, records=RECORDS):
    """train/CLASS/NUMBER.png, numbered in an order that is not CIFAR-10's."""
    for part, rows in parts(records).items():
        for number, row in enumerate(reversed(rows)):
            put(folder / part / CIFAR10_CLASSES[row[0]], {f"{number:04}.png": png(row)})
    return folder


def as_names(folder, records=RECORDS):
    """train/NUMBER_CLASS.png."""
    for part, rows in parts(records).items():
        named = {f"{n}_{CIFAR10_CLASSES[row[0]]}.png": png(row) for n, row in enumerate(rows)}
        put(folder / part, named)
    return folder


def as_parquet(folder, records=RECORDS, label="label"):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    folder.mkdir(parents=True, exist_ok=True)
    for part, rows in parts(records).items():
        rows = rows[::-1]
        column = [{"bytes": png(row), "path": f"{n}.png"} for n, row in enumerate(rows)]
        table = pyarrow.table({"img": column, label: [int(row[0]) for row in rows]})
        parquet.write_table(table, folder / f"{part}-00000-of-00001.parquet")
    return folder


def content(data):
    return {path.name: path.read_bytes() for path in (data / BINARY.folder).iterdir()}


# Each form


FORMS = {
    "PNG files in a folder of each class": as_folders,
    "PNG files with their class in the name": as_names,
    "parquet": as_parquet,
    "the binary version under another name": lambda folder: put(folder, batches()),
    "its archive under another name": lambda folder: put(folder, {"a": BINARY_TAR}),
}


@pytest.mark.parametrize("where", ["data", "root", "kaggle"])
@pytest.mark.parametrize("form", FORMS)
def test_a_form_becomes_the_binary_version(here, tmp_path, monkeypatch, form, where):
    place = {"data": here, "root": tmp_path / "own", "kaggle": tmp_path / "kaggle" / "a"}[where]
    FORMS[form](place / "cifar")
    if where == "root":
        monkeypatch.setenv("CIFAR10_ROOT", str(place))
    before = sorted(path for path in place.rglob("*") if path.is_file())
    said = []
    assert find(said=said) == ("cifar10", here) and content(here) == batches()
    assert "verified, and kept in data" in said[-1] and "cifar" in said[-1]
    read = form.startswith(("PNG", "parquet"))  # takes a while: said before
    assert len(said) == 1 + read and said[0].startswith("CIFAR-10: reading every image") == read
    assert [path for path in before if not path.exists()] == []  # the source stays
    assert not (here / keep.UNPACKING).exists()
    said.clear()  # it is there: nothing is read again
    assert find(said=said) == ("cifar10", here) and said == []
    assert cifar10.checksum(here, PYTHON) == cifar10.checksum(here, PYTHON)


def test_python_files_in_a_folder_of_another_name(here, tmp_path):
    put(tmp_path / "kaggle" / "cifar" / "files", PY_FILES)
    assert find() == ("cifar10", here)
    assert {path.name for path in (here / PYTHON.folder).iterdir()} == set(PY_FILES)


def test_keras_keeps_its_archive_under_a_name_of_its_own(here, tmp_path):
    """Keras 3: datasets/cifar-10-batches-py-target_archive."""
    folder = tmp_path / "home" / ".keras" / "datasets"
    put(folder, {"cifar-10-batches-py-target_archive": PYTHON_TAR})
    assert find() == ("cifar10", here) and (here / PYTHON.folder / "test_batch").is_file()


@pytest.mark.parametrize(
    "place",
    [
        "home/.keras/datasets",
        "home/.keras/datasets/cifar-10-batches-py-target",
        "work/data",
        "work/bundle/notebooks/data",
        "kaggle/cifar10-python",
    ],
)
def test_a_version_is_read_where_it_lies(here, tmp_path, place):
    root = tmp_path / place
    put(root / PYTHON.folder, PY_FILES)
    assert find() == ("cifar10", root) and not here.exists()
    put(here / PYTHON.folder, PY_FILES)  # data/ goes first
    assert find() == ("cifar10", here)
    assert str(root.relative_to(tmp_path)).removeprefix("work/bundle/") in cifar10.unused(
        here, PYTHON
    )
    assert cifar10.unused(root, PYTHON).count("cifar-10-batches") == 1


def test_the_binary_version_has_the_python_versions_identity(tmp_path):
    one, other = tmp_path / "one", tmp_path / "other"
    put(one / PYTHON.folder, PY_FILES)
    put(other / BINARY.folder, batches())
    assert cifar10.checksum(one, PYTHON) == cifar10.checksum(other, PYTHON)
    (other / BINARY.folder / "test_batch.bin").write_bytes(bytes(3073 * 15))
    assert "test_batch.bin: damaged" in refusal(cifar10.checksum, other, PYTHON)


def test_read_gives_pixels_and_labels(tmp_path):
    train, test = images.read(put(tmp_path / BINARY.folder, batches()), BINARY)
    assert (len(train), len(test)) == (TRAIN, TEST)
    assert train.labels.tolist() == RECORDS[:TRAIN, 0].tolist()
    assert test.index.tolist() == list(range(TEST))
    assert np.array_equal(test.pixels.numpy().reshape(TEST, 3072), RECORDS[TRAIN:, 1:])


def test_a_copy_on_a_nodes_disk_of_the_binary_version(here, tmp_path):
    put(here / BINARY.folder, batches())
    root = cifar10.on_node(tmp_path / "node", PYTHON)
    assert content(root) == batches()


# What is refused


def test_what_is_missing_is_named(here, tmp_path, monkeypatch):
    folder = as_folders(tmp_path / "own")
    next((folder / "train" / "frog").iterdir()).unlink()
    shutil.rmtree(folder / "test")
    monkeypatch.setenv("CIFAR10_ROOT", str(folder))
    assert "49 of 50 training images and 0 of 15 test images" in refusal(find)
    assert not (here / BINARY.folder).exists()


def test_missing_parquet(here, tmp_path, monkeypatch):
    folder = as_parquet(tmp_path / "cifar")
    next(folder.glob("test*")).unlink()
    monkeypatch.setenv("CIFAR10_ROOT", str(folder))
    assert "0 of 15 test images" in refusal(find)


def test_parquet_without_its_package(here, tmp_path, monkeypatch):
    put(tmp_path / "own" / "cifar", {"train.parquet": b"", "test.parquet": b""})
    monkeypatch.setenv("CIFAR10_ROOT", str(tmp_path / "own"))
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    assert "takes the package pyarrow, which is not here" in refusal(find)


@pytest.mark.parametrize("place", [0, 1, 3072])
def test_one_value_that_differs_is_seen(here, tmp_path, monkeypatch, place):
    changed = RECORDS.copy()
    changed[20, place] = (changed[20, place] + 1) % 10
    monkeypatch.setenv("CIFAR10_ROOT", str(as_names(tmp_path / "own", changed)))
    assert "not the same pixels and labels" in refusal(find)
    assert not (here / BINARY.folder).exists() and not (here / keep.UNPACKING).exists()


def bomb(side):
    """A PNG whose head promises side x side pixels."""

    def chunk(kind, told):
        return (
            struct.pack(">I", len(told)) + kind + told + struct.pack(">I", zlib.crc32(kind + told))
        )

    head = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (b"", "not a PNG image"),
        (b"text", "not a PNG image"),
        (png(RECORDS[0])[:200], "not a PNG image"),
        (bomb(32), "not a PNG image"),
        (bomb(64), "64 x 64 pixels, not 32 x 32"),
        (bomb(100_000), "PNG image|pixels"),
        (b"GIF89a" + bytes(50), "not a PNG image"),
    ],
    ids=["empty", "text", "cut", "no pixels", "large", "bomb", "GIF"],
)
def test_a_file_that_is_no_such_image(here, tmp_path, monkeypatch, found, said):
    folder = as_folders(tmp_path / "own")
    next((folder / "train" / "frog").iterdir()).write_bytes(found)
    monkeypatch.setenv("CIFAR10_ROOT", str(folder))
    message = refusal(find)
    assert any(each in message for each in said.split("|"))
    assert not (here / BINARY.folder).exists()


def test_a_pipe_among_the_images_is_not_waited_for(here, tmp_path, monkeypatch):
    folder = as_folders(tmp_path / "own")
    path = next((folder / "train" / "frog").iterdir())
    path.unlink()
    os.mkfifo(path)
    monkeypatch.setenv("CIFAR10_ROOT", str(folder))
    assert "49 of 50 training images" in refusal(find)


@pytest.mark.parametrize("kind", ["text", "column", "labels", "rows"])
def test_a_parquet_file_that_is_no_such_table(here, tmp_path, monkeypatch, kind):
    folder, changed = tmp_path / "cifar", RECORDS.copy()
    if kind == "labels":
        changed[5, 0] = 11
    many = np.concatenate([RECORDS[:TRAIN]] * 2 + [RECORDS[TRAIN:]])
    as_parquet(
        folder, many if kind == "rows" else changed, "coarse" if kind == "column" else "label"
    )
    if kind == "text":
        next(folder.glob("train*")).write_bytes(b"PAR1 text")
    monkeypatch.setenv("CIFAR10_ROOT", str(folder))
    said = {
        "text": "not a parquet file",
        "column": "columns img, coarse; needed: label and img",
        "labels": "labels that are not 0 to 9",
        "rows": "of 15 test images",
    }
    assert said[kind] in refusal(find)


def test_the_competitions_files_are_not_enough(here, tmp_path):
    """Its test images are altered among 300,000, and their labels are not public."""
    folder = tmp_path / "kaggle" / "cifar-10"
    put(folder / "train", {"1.png": png(RECORDS[0])})
    put(folder, {"trainLabels.csv": b"id,label\n1,frog\n"})
    said = []
    assert find("auto", said) == ("digits", None)
    assert "found and not used" in said[0] and "labels are not public" in said[0]
    assert "kaggle/cifar-10" in said[0] and "\n" not in said[0]
    assert "nothing is downloaded" in refusal(find)
    as_folders(tmp_path / "kaggle" / "whole")  # another source beside it is used
    assert find() == ("cifar10", here)


def test_a_damaged_copy_elsewhere_is_named_and_passed_over(here, tmp_path):
    keras = put(tmp_path / "home" / ".keras" / "datasets" / PYTHON.folder, PY_FILES)
    (keras / "test_batch").unlink()
    put(tmp_path / "kaggle" / "cifar", {"a.tar.gz": PYTHON_TAR})
    said = []
    assert find(said=said) == ("cifar10", here)
    assert "test_batch: missing" in said[1] and "a.tar.gz" in said[0]


def test_an_archive_of_the_right_size_alone(here, tmp_path):
    put(tmp_path / "kaggle" / "cifar", {"a": bytes(PYTHON.size)})
    said = []
    assert find("auto", said) == ("digits", None) and "damaged, MD5" in said[0]


def test_a_root_with_nothing_in_it(tmp_path, monkeypatch):
    (tmp_path / "own").mkdir()
    monkeypatch.setenv("CIFAR10_ROOT", str(tmp_path / "own"))
    assert "no folder cifar-10-batches-py in it" in refusal(find)


def test_a_search_ends_in_a_large_tree(tmp_path, monkeypatch):
    monkeypatch.setattr(places, "MOST_ENTRIES", 5)
    monkeypatch.setattr(places, "MOST_FOLDERS", 20)
    for number in range(9):
        put(tmp_path / "many" / f"{number}" / "deep", {"a": b""})
    (tmp_path / "many" / "loop").symlink_to(tmp_path / "many")
    assert places.search(tmp_path / "many", PYTHON, depth=50) == []
    assert places.search(tmp_path / "absent", PYTHON) == []


# The real dataset


def test_the_command_names_what_it_leaves_unused(here, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(cifar10, "resolve", lambda *_, **__: ("cifar10", here))
    put(tmp_path / "kaggle" / "a" / "cifar-10-batches-py", {"test_batch": b""})
    assert main(["data"]) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first == "CIFAR-10 is in data/cifar-10-batches-py"
    assert second.startswith("found as well and not used: ") and "kaggle/a" in second


@pytest.mark.cifar10
def test_the_binary_version_is_the_real_content(tmp_path, cifar10_root, monkeypatch):
    """Its MD5s and the order, against the python version as torchvision reads it."""
    from torchvision.datasets import CIFAR10

    from lib import data

    monkeypatch.undo()
    halves = [CIFAR10(cifar10_root, train=train, download=False) for train in (True, False)]
    records = np.concatenate(
        [
            np.concatenate(
                [np.array(half.targets, np.uint8)[:, None],
                 half.data.transpose(0, 3, 1, 2).reshape(-1, 3072)], axis=1,
            )
            for half in halves
        ]
    )  # fmt: skip
    binary, shuffled = cifar10.CIFAR10.binary, np.random.default_rng(1)
    mixed = [records[shuffled.permutation(50_000)], records[50_000:][::-1]]
    back = images.ordered(tmp_path, np.concatenate(mixed), binary)
    images.write(back, tmp_path / binary.folder, binary)
    assert archive.verified_root(tmp_path, cifar10.CIFAR10) is binary
    ours = data.load("cifar10", images.read(tmp_path / binary.folder, binary), 2000)
    theirs = data.load("cifar10", cifar10_root, 2000)
    assert ours.checksum == theirs.checksum == cifar10.checksum(tmp_path)
    for part in ("train", "holdout", "test"):
        for name in ("pixels", "labels", "index"):
            ours_, theirs_ = (getattr(getattr(each, part), name) for each in (ours, theirs))
            assert ours_.equal(theirs_)


def test_the_constants():
    assert images.sizes(archive.BINARY) == (50_000, 10_000)
    assert archive.CIFAR10.versions == (archive.CIFAR10, archive.BINARY)
    order = np.load(Path(images.__file__).with_name("order.npy"))
    for part, size in ((order[:50_000], 50_000), (order[50_000:], 10_000)):
        assert np.array_equal(np.sort(part), np.arange(size))
