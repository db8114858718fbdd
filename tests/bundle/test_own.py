"""Pictures of one's own: what the network sees, the table, the page, and hostile ones."""

import base64
import csv
import io
import os
import struct
import subprocess
import sys
import warnings
import zipfile
import zlib

import numpy as np
import pytest
import torch
from bs4 import BeautifulSoup
from PIL import Image

import bundle
from bundle import files, paths
from bundle.own import page, pictures
from bundle.own.network import Network, load_released
from bundle.runs import params, ready, status
from bundle.training import released, store, weights
from lib import predict, settings
from lib.data import Statistics
from lib.errors import UserError
from lib.model import build
from tests.bundle.test_release import digits, results, rounded, trained  # noqa: F401 (fixtures)

CLASSES = ("cat", "dog", "<ship>")
STATISTICS = Statistics((0.49, 0.48, 0.45), (0.25, 0.24, 0.26))
RANDOM = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def network() -> Network:
    """An untrained network of three classes."""
    shape = settings.Network(blocks=(1,), widths=(8,), strides=(1,))
    model = build(shape, classes=3, seed=0).eval()
    return Network("tiny", model, STATISTICS, CLASSES, None, {})


def save(folder, image, name="a.png", **options):
    path = folder / name
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(path, **options)
    return path


def seen(path):
    """What the network sees: (32, 32, 3)."""
    return pictures.picture(path).pixels.transpose(1, 2, 0)


def refusal(path):
    """The one line of the UserError, which names the file."""
    with pytest.raises(UserError) as caught:
        pictures.picture(path)
    message = str(caught.value)
    assert "\n" not in message and len(message) < 500
    return message


# What the network sees


@pytest.mark.parametrize("side", [1, 7, 31, 32, 33, 48, 100])
def test_each_pixel_is_the_mean_over_its_area(side):
    """Compared with a picture of 32 times the size, where every area is one of whole pixels."""
    square = np.random.default_rng(side).integers(0, 256, (side, side, 3), dtype=np.uint8)
    large = square.repeat(32, 0).repeat(32, 1).reshape(32, side, 32, side, 3)
    found, wanted = pictures.by_area(square), large.mean((1, 3)).transpose(2, 0, 1)
    assert found.dtype == np.uint8 and np.abs(found - wanted).max() <= 0.5 + 1e-3


def test_an_image_of_the_right_size_stays_as_it_is(tmp_path):
    np.testing.assert_array_equal(seen(save(tmp_path, RANDOM[:32, :32])), RANDOM[:32, :32])


@pytest.mark.parametrize("shape", [(32, 64), (64, 32), (32, 65)])
def test_the_square_in_the_centre_is_taken(tmp_path, shape):
    blue = np.full((*shape, 3), (255, 0, 0), dtype=np.uint8)
    top, left = ((extent - 32) // 2 for extent in shape)
    blue[top : top + 32, left : left + 32] = (0, 0, 255)
    picture = pictures.picture(save(tmp_path, blue))
    assert picture.size == shape[::-1]
    assert (picture.pixels == np.array([0, 0, 255])[:, None, None]).all()
    with Image.open(io.BytesIO(picture.preview)) as preview:
        assert preview.size == shape[::-1]


# Mode, suffix, level of the picture, and the colour that must be seen.
RED, GREY = (200, 30, 40), (120, 120, 120)
MODES = [
    ("1", "png", 1, (255, 255, 255)),
    ("L", "png", 120, GREY),
    ("L", "jpg", 120, GREY),
    ("LA", "png", (120, 255), GREY),
    ("LA", "png", (0, 0), (255, 255, 255)),
    ("RGB", "png", RED, RED),
    ("RGB", "bmp", RED, RED),
    ("RGB", "ppm", RED, RED),
    ("RGB", "tif", RED, RED),
    ("RGBA", "png", (*RED, 255), RED),
    ("RGBA", "png", (*RED, 0), (255, 255, 255)),
    ("RGBA", "png", (0, 0, 0, 128), (127, 127, 127)),
    ("RGBA", "webp", (*RED, 0), (255, 255, 255)),
    ("CMYK", "tif", (0, 0, 0, 135), GREY),
    ("CMYK", "jpg", (0, 0, 0, 135), GREY),
    ("I;16", "png", 120 * 257, GREY),
    ("I;16", "tif", 120 * 257, GREY),
    ("I", "tif", 120 * 257, GREY),
    ("I", "tif", 120, GREY),
    ("F", "tif", 120 / 255, GREY),
    ("F", "tif", 120.0, GREY),
    ("F", "tif", 1.0, (255, 255, 255)),
]


@pytest.mark.parametrize(("mode", "suffix", "level", "wanted"), MODES)
def test_every_mode_becomes_rgb(tmp_path, mode, suffix, level, wanted):
    path = save(tmp_path, Image.new(mode, (50, 40), level), f"a.{suffix}")
    assert np.abs(seen(path).astype(int) - wanted).max() <= (1 if suffix in ("jpg", "webp") else 0)


def test_a_palette_with_a_transparent_colour_lies_on_white(tmp_path):
    image = Image.new("P", (40, 40), 1)
    image.putpalette([0, 0, 0, *RED])
    assert (seen(save(tmp_path, image)) == RED).all()
    assert (seen(save(tmp_path, image, transparency=1)) == 255).all()


@pytest.mark.parametrize("suffix", ["gif", "webp", "png"])
def test_of_an_animation_the_first_frame_is_taken(tmp_path, suffix):
    frames = [Image.new("RGB", (40, 40), colour) for colour in ("#c81e28", "#0000ff")]
    options = {"save_all": True, "append_images": frames[1:], "lossless": True}
    assert (seen(save(tmp_path, frames[0], f"a.{suffix}", **options)) == RED).all()


# EXIF orientation -> how a camera turned like that stores the picture.
STORED = {
    1: lambda image: image,
    2: np.fliplr,
    3: lambda image: np.rot90(image, 2),
    4: np.flipud,
    5: lambda image: image.swapaxes(0, 1),
    6: np.rot90,
    7: lambda image: np.rot90(image, 2).swapaxes(0, 1),
    8: lambda image: np.rot90(image, -1),
}


@pytest.mark.parametrize("orientation", STORED)
def test_it_is_turned_as_its_exif_says(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = np.ascontiguousarray(STORED[orientation](RANDOM[:32, :32]))
    np.testing.assert_array_equal(seen(save(tmp_path, stored, exif=exif)), RANDOM[:32, :32])


def test_exif_that_cannot_be_read_turns_nothing(tmp_path):
    path = save(tmp_path, RANDOM[:32, :32], exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff no such thing")
    np.testing.assert_array_equal(seen(path), RANDOM[:32, :32])


# What is no picture


def png(width: int, height: int) -> bytes:
    """A PNG that promises so many pixels and holds a few."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        check = zlib.crc32(kind + data)
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", check)

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    body = chunk(b"IDAT", zlib.compress(b"\0" * 1000))
    return b"\x89PNG\r\n\x1a\n" + head + body + chunk(b"IEND", b"")


def zipped() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("zeros", bytes(2**20))
    return buffer.getvalue()


def cut_off() -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(RANDOM).save(buffer, "JPEG")
    return buffer.getvalue()[:600]


HOSTILE = {
    "empty.png": (b"", "no picture; these are read: PNG"),
    "text.png": (b"no picture at all", "no picture"),
    "page.svg": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "no picture"),
    "program.eps": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "no picture"),
    "zeros.zip": (zipped(), "no picture"),
    "bomb.png": (png(60_000, 60_000), "more than 89 million pixels; make it smaller first"),
    "warned.png": (png(10_000, 10_000), "more than 89 million pixels"),
    "short.png": (png(100, 100), "damaged or cut off"),
    "cut.jpg": (cut_off(), "damaged or cut off"),
    "nothing.png": (png(0, 0), "no picture"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_is_no_picture_is_one_line(tmp_path, name):
    content, told = HOSTILE[name]
    (tmp_path / name).write_bytes(content)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        message = refusal(tmp_path / name)
    assert name in message and told in message


def test_what_is_no_plain_file_is_one_line(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "loop.png").symlink_to("loop.png")
    (tmp_path / "folder.png").mkdir()
    assert "is a pipe or a device" in refusal(tmp_path / "pipe.png")
    assert "loop.png: Too many levels of symbolic links" in refusal(tmp_path / "loop.png")
    assert "folder.png: is a folder" in refusal(tmp_path / "folder.png")
    assert "No such file" in refusal(tmp_path / "none.png")
    assert "File name too long; name another file" in refusal(tmp_path / ("n" * 300 + ".png"))


def test_a_file_too_large_is_not_read(tmp_path):
    with (tmp_path / "large.png").open("wb") as file:
        file.truncate(pictures.MOST_BYTES + 1)
    assert "large.png: 128 MiB, at most 128 are read" in refusal(tmp_path / "large.png")


# Files and folders


def test_the_others_still_come(tmp_path, network, capsys):
    save(tmp_path, RANDOM, "b.png")
    save(tmp_path, RANDOM, "a.jpg")
    save(tmp_path, RANDOM, ".hidden.png")
    (tmp_path / "notes.txt").write_text("no picture")
    (tmp_path / "inside").mkdir()
    table = network.predict(tmp_path)
    assert table["file"].tolist() == ["a.jpg", "b.png"]
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2 and "inside: is a folder" in lines[0] and "notes.txt" in lines[1]
    again = network.predict([tmp_path / "b.png", "none\0.png", str(tmp_path / "none.png")])
    assert again["file"].tolist() == ["b.png"] and again["class"][0] == table["class"][1]
    assert len(capsys.readouterr().err.splitlines()) == 2


def test_many_lines_are_few(tmp_path, network, capsys):
    save(tmp_path, RANDOM)
    for number in range(pictures.MOST_LINES + 5):
        (tmp_path / f"{number}.txt").write_text("")
    network.predict(tmp_path)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == pictures.MOST_LINES + 1 and lines[-1].startswith("and 5 more")


def test_no_picture_at_all_is_one_line(tmp_path, network):
    with pytest.raises(UserError, match="no file there; name another folder"):
        network.predict(tmp_path)
    (tmp_path / "a.txt").write_text("")
    (tmp_path / "b.txt").write_text("")
    with pytest.raises(UserError, match=r"a\.txt: no picture.*\(and 1 more\)$"):
        network.predict(tmp_path)
    with pytest.raises(UserError, match="no file there"):
        network.predict([])


def test_a_relative_path_counts_from_here_or_from_the_bundle(tmp_path, monkeypatch):
    save(tmp_path, RANDOM, "here.png")
    (tmp_path / "bundle").mkdir()
    save(tmp_path / "bundle", RANDOM, "there.png")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(paths, "ROOT", tmp_path / "bundle")
    found, problems = pictures.read(["here.png", "there.png", "nowhere.png"])
    assert [picture.file for picture in found] == ["here.png", "there.png"] and len(problems) == 1


# The table


def test_probabilities_are_those_of_the_network(tmp_path, network):
    tiles = [RANDOM[:32, :32], RANDOM[8:, 8:]]
    given = [save(tmp_path, image, f"{number}.png") for number, image in enumerate(tiles)]
    pixels = torch.from_numpy(np.stack(tiles).transpose(0, 3, 1, 2).copy())
    logits = predict.logits(network.model, pixels, STATISTICS)
    for temperature, scale in ((None, 1.0), (2.5, 2.5)):
        own = Network("tiny", network.model, STATISTICS, CLASSES, temperature, {})
        wanted, table = (logits / scale).softmax(1), own.predict(given)
        np.testing.assert_allclose(table[list(CLASSES)], wanted, atol=1e-6)
        assert table["class"].tolist() == [CLASSES[number] for number in wanted.argmax(1)]
        np.testing.assert_allclose(table["probability"], wanted.max(1).values, atol=1e-6)
    assert "not calibrated" in network.calibrated and "temperature, 2.50" in own.calibrated


def test_maps_of_many_are_those_of_each(network, monkeypatch):
    monkeypatch.setattr("bundle.own.network.MAPS", 2)
    pixels = torch.from_numpy(np.stack([RANDOM[k : k + 32, :32] for k in range(3)]))
    pixels, classes = pixels.permute(0, 3, 1, 2).contiguous(), torch.tensor([0, 2, 1])
    maps = network.occlusion(pixels, classes)
    each = [network.occlusion(pixels[k : k + 1], classes[k : k + 1])[0] for k in range(3)]
    torch.testing.assert_close(maps, torch.stack(each), atol=1e-5, rtol=0)


# The page


def written(network, folder, **options):
    target, _table = page.write(network, [folder], **options)
    html = (target / page.PAGE).read_text(encoding="utf-8")
    return target, BeautifulSoup(html, "html.parser")


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "RESULTS", tmp_path / "results")
    (tmp_path / "own").mkdir()
    return tmp_path


NAMES = (
    "<img src=x onerror=alert(1)>.png",
    '" onload="alert(1)\' {{ 7 * 7 }} &amp;.png',
    "a\nb\x1b[2J.png",
    os.fsdecode(b"\xff\xfe.png"),
    "n" * 250 + ".png",
)


def test_names_are_text_and_nothing_else(here, network):
    for name in NAMES:
        save(here / "own", RANDOM, name)
    (here / "own" / "<script>.txt").write_text("")
    target, soup = written(network, here / "own")
    assert not soup.find_all(["script", "iframe", "link"])
    assert {
        key for tag in soup.find_all(True) for key in tag.attrs if key.startswith("on")
    } == set()
    shown = [tag.get_text() for tag in soup.select(".picture > p")]
    wanted = sorted(name if name != NAMES[3] else "\\xff\\xfe.png" for name in NAMES)
    assert sorted(shown) == wanted
    assert "<script>.txt" in soup.get_text()
    with (target / page.TABLE).open(newline="", encoding="utf-8") as file:
        assert sorted(row["file"] for row in csv.DictReader(file)) == wanted


def test_the_page_holds_all_it_shows(here, network):
    save(here / "own", RANDOM, "a.png")
    target, soup = written(network, here / "own", occlusion=True)
    assert target == here / "results/tiny/own/own"
    images = soup.find_all("img")
    assert len(images) == 3 and all(tag["src"].startswith("data:image/") for tag in images)
    assert all("a.png" in tag["alt"] for tag in images)
    assert "default-src 'none'" in soup.find("meta", {"http-equiv": True})["content"]
    assert [link["href"] for link in soup.find_all("a")] == [page.TABLE]
    text = soup.get_text()
    assert "still gets one of them" in text and "not calibrated" in text
    shares = [float(tag.get_text().rstrip("%")) for tag in soup.select("li b")]
    assert shares == sorted(shares, reverse=True) and sum(shares) == pytest.approx(100, abs=0.2)
    assert len(soup.select("[data-photographs]")) == 1  # left out of what is published


def test_what_the_network_sees_is_on_the_page(here, network):
    save(here / "own", RANDOM[:32, :32], "a.png")
    _target, soup = written(network, here / "own")
    content = soup.find("img", class_="pixels")["src"].partition("base64,")[2]
    with Image.open(io.BytesIO(base64.b64decode(content))) as image:
        np.testing.assert_array_equal(np.asarray(image), RANDOM[:32, :32])


def test_a_page_has_an_end(here, network, monkeypatch):
    monkeypatch.setattr(page, "MOST", 2)
    for name in "abc":
        save(here / "own", RANDOM, f"{name}.png")
    target, soup = written(network, here / "own")
    assert len(soup.select(".picture")) == 2 and "1 more pictures are not shown" in soup.get_text()
    assert len((target / page.TABLE).read_text().splitlines()) == 4


@pytest.mark.parametrize(
    ("images", "name"),
    [
        (["/tmp/a b/"], "a-b"),
        (["/x/.."], "pictures"),
        (["a", "b"], "pictures"),
        (["/a/<é>.d"], "d"),
    ],
)
def test_where_the_page_lies(here, network, images, name):
    assert page.folder_of(network, images) == here / "results/tiny/own" / name


def test_a_release_is_not_written_into(here, network):
    released_one = Network("released/tiny", network.model, STATISTICS, CLASSES, None, {})
    assert page.folder_of(released_one, ["own"]) == here / "results/tiny/own/own"


# The run


def test_a_run_here_and_its_release_give_their_networks(results, tmp_path):  # noqa: F811
    save(tmp_path, RANDOM)
    local = load_released("tiny")
    assert local.run == "tiny" and local.classes == tuple("0123456789")
    training = released.load(results / "tiny")
    pixels = torch.from_numpy(pictures.picture(tmp_path / "a.png").pixels)[None]
    wanted = predict.logits(training.model, pixels, local.statistics).softmax(1)
    np.testing.assert_allclose(
        local.predict(tmp_path / "a.png").iloc[:, 3:].astype(float), wanted, atol=1e-6
    )


def test_a_release_alone_gives_its_network(results, rounded, digits):  # noqa: F811
    network = load_released("tiny")
    assert network.run == "released/tiny" == load_released("released/tiny").run
    saved, statistics, _classes = weights.read_network(rounded / weights.FILE)
    images = digits.test.pixels[:5]
    wanted = predict.logits(saved, images, statistics).softmax(1)
    assert torch.equal(network.probabilities(images), wanted)


def test_another_seed_is_taken_where_the_network_is_needed(results, rounded):  # noqa: F811
    release = results / "released"
    (release / "tiny").rename(release / "tiny-seed43")
    assert load_released("tiny", needed=False) is None
    assert load_released("tiny").run == load_released("released/tiny").run == "released/tiny-seed43"
    with pytest.raises(UserError, match="RUN=tin: no weights"):
        load_released("tin")


def test_the_temperature_is_of_these_weights(results):  # noqa: F811
    digest = files.read_json(results / "tiny/training/state.json")["weights_sha256"]
    record = {"train": {"weights_sha256": digest}, "temperature": {"value": 1.5}}
    files.write_json(results / "tiny/metrics.json", record)
    assert load_released("tiny").temperature == 1.5
    record["train"]["weights_sha256"] = "of others"
    files.write_json(results / "tiny/metrics.json", record)
    assert load_released("tiny").temperature is None


def test_without_weights_it_is_one_line(results, rounded):  # noqa: F811
    assert load_released("none", needed=False) is None
    with pytest.raises(UserError, match=r"RUN=none: .*; runs with weights here: tiny$"):
        load_released("none")
    with pytest.raises(UserError, match=r"RUN=none: no weights in .*; make run-all with the RUN"):
        load_released("none")
    (rounded / weights.FILE).unlink()
    with pytest.raises(UserError, match="RUN=tiny: no weights"):
        load_released("tiny")
    with pytest.raises(UserError, match=r"RUN=\.\./x: no name of a run"):
        load_released("../x")


def test_damaged_weights_are_one_line(results):  # noqa: F811
    path = results / "tiny/training/weights.pt"
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(files.Damaged, match="not as it was written"):
        load_released("tiny")
    content = store.saved({"model": {}, "network": {}})
    files.write_sealed(path, content)
    with pytest.raises(files.Damaged, match="not the weights of a network"):
        load_released("tiny")


# Commands and notebooks


def test_the_command_writes_table_and_page(results, tmp_path, capsys):  # noqa: F811
    save(tmp_path, RANDOM)
    from bundle.__main__ import main

    assert main(["predict", "tiny", str(tmp_path / "a.png")]) == 0
    out = capsys.readouterr().out
    assert out.startswith("a.png: ") and "not calibrated" in out
    assert (results / "tiny/own/a.png" / page.PAGE).is_file()
    with pytest.raises(UserError, match="IMAGES: name a folder"):
        main(["predict", "tiny", ""])


def test_importing_the_bundle_stays_quick():
    code = "import bundle, sys; print({'torch', 'PIL', 'pandas'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
    assert bundle.load_released is load_released


def test_a_folder_of_a_run_is_looked_at(tmp_path):
    parameters = params.load("smoke", f"04_predict_tta.own_images={tmp_path / 'none'}")
    with pytest.raises(UserError, match=r"04_predict_tta\.own_images = .*no such folder"):
        ready.check(parameters)
    save(tmp_path, RANDOM)
    before = status._files_named({"own_images": str(tmp_path)})
    save(tmp_path, RANDOM[::-1].copy())
    after = status._files_named({"own_images": str(tmp_path)})
    assert before.keys() == after.keys() == {"own_images/a.png"} and before != after
