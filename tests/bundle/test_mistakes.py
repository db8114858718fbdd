"""The confusion matrix whose cells open their images."""

import base64
import io
import json
import re

import numpy as np
import pytest
from bs4 import BeautifulSoup
from nbformat.v4 import new_markdown_cell, new_output
from PIL import Image

from bundle import Notebook, paths
from bundle.pages import mistakes
from tests.bundle.test_publish import browse, code, contrast, needs_chromium, rendered

CLASSES = ("cat", "dog", "<ship>")
# Image: its true class, and the probabilities. 0 and 4 are cats said to be dogs, 4 the surer one;
# 2 is a dog said to be a ship; the others are right.
LABELS = np.array([0, 0, 1, 1, 0, 2])
PROBABILITIES = np.array(
    [
        [0.30, 0.60, 0.10],
        [0.90, 0.05, 0.05],
        [0.10, 0.15, 0.75],
        [0.20, 0.80, 0.00],
        [0.04, 0.95, 0.01],
        [0.30, 0.30, 0.40],
    ]
)
IN_ORDER = [1, 4, 0, 3, 2, 5]  # cat-cat, cat-dog (the surest first), dog-dog, dog-ship, ship-ship


@pytest.fixture
def results(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "RESULTS", tmp_path)
    return tmp_path


def images(count=6, side=32):
    """Return images, each of one colour of its own."""
    levels = (np.arange(count * 3) * 37 % 256).reshape(count, 3, 1, 1)
    return np.broadcast_to(levels, (count, 3, side, side)).astype(np.uint8)


def matrix():
    return BeautifulSoup(
        mistakes.html(images(), LABELS, PROBABILITIES, CLASSES), "html.parser"
    ).find(class_="mistakes")


def test_cells_have_their_images_the_surest_mistake_first():
    cells, shown = mistakes.choose(LABELS, PROBABILITIES)
    assert shown == IN_ORDER
    assert [(cell["true"], cell["said"], cell["count"], cell["start"]) for cell in cells] == [
        (0, 0, 1, 0),
        (0, 1, 2, 1),
        (1, 1, 1, 3),
        (1, 2, 1, 4),
        (2, 2, 1, 5),
    ]
    assert cells[1]["images"] == [[4, 0.95, 0.04], [0, 0.6, 0.3]]
    assert cells[3]["images"] == [[2, 0.75, 0.15]]


def test_of_right_images_the_least_sure_are_shown():
    sure = np.linspace(0.95, 0.55, 20)
    cells, shown = mistakes.choose(np.zeros(20, dtype=int), np.stack([sure, 1 - sure], axis=1))
    assert shown == list(range(19, 19 - mistakes.RIGHT, -1))
    assert cells[0]["count"] == 20 and len(cells[0]["images"]) == mistakes.RIGHT


def test_many_mistakes_are_shared_out_so_that_a_page_stays_small():
    assert mistakes._share([3, 5]) == 5 and mistakes._share([]) == 0
    assert mistakes._share([1000, 300, 100]) == 300
    assert sum(min(count, 300) for count in (1000, 300, 100)) == mistakes.MOST
    labels, probabilities = np.zeros(2000, dtype=int), np.tile([[0.2, 0.8]], (2000, 1))
    cells, shown = mistakes.choose(labels, probabilities)
    assert cells[0]["count"] == 2000 and shown == list(range(mistakes.MOST))


def test_the_sprite_has_the_images_in_order():
    many = images(mistakes.COLUMNS + 2)
    kind, file = mistakes.sprite(many)
    with Image.open(io.BytesIO(file)) as opened:
        assert f"image/{opened.format.lower()}" == kind
        pixels = np.asarray(opened.convert("RGB"), dtype=int)
    assert pixels.shape == (2 * 32, mistakes.COLUMNS * 32, 3)
    for place in (0, 1, mistakes.COLUMNS - 1, mistakes.COLUMNS, mistakes.COLUMNS + 1):
        row, column = divmod(place, mistakes.COLUMNS)
        middle = pixels[row * 32 + 16, column * 32 + 16]
        assert np.abs(middle - many[place, :, 0, 0]).max() <= 12  # WebP loses a little
    assert pixels[40, 3 * 32 :].max() <= 12  # the rest of the last row


def test_without_javascript_it_is_the_plain_matrix():
    found = matrix()
    rows = [[cell.get_text() for cell in row.find_all("td")] for row in found.select("tbody tr")]
    assert rows == [["1", "2", "·"], ["·", "1", "1"], ["·", "·", "1"]]
    assert [cell.get_text() for cell in found.select("tbody th")] == list(CLASSES)
    assert not found.find("button") and found.select_one(".hint").has_attr("hidden")
    assert found.select_one(".opened").has_attr("hidden")
    told = found.caption.get_text()
    assert "3 of 6 images are mistaken, most often cat as dog (2)." in told
    data = json.loads(found.find("script", type="application/json").string)
    assert data["cells"] == mistakes.choose(LABELS, PROBABILITIES)[0] and data["rows"] == 1


def test_numbers_are_legible_on_every_ground():
    style = (mistakes.TEMPLATE / "mistakes.css").read_text()
    light, dark = style.split("prefers-color-scheme: dark")
    for text, ends in ((light, mistakes.LIGHT), (dark, mistakes.DARK)):
        colours = dict(re.findall(r"--([\w-]+): (#\w{6})", text))
        assert contrast(colours["right"], colours["ink-right"]) >= 4.5
        for share in np.linspace(0, 1, 11):
            assert contrast(mistakes.ground(share, ends), colours["ink-cell"]) >= 4.5
        far, near = mistakes.ground(0, ends), mistakes.ground(1, ends)
        assert contrast(far, near) >= 2  # the largest number stands out
    assert mistakes.ground(1, mistakes.LIGHT) in str(matrix().find(string="2").parent)


def test_a_network_without_mistakes():
    told = BeautifulSoup(
        mistakes.html(images(2), np.array([0, 1]), np.eye(2), ("cat", "dog")), "html.parser"
    )
    assert "none of 2 images is mistaken" in told.caption.get_text()
    assert told.select("td.zero") and not told.select("td[style]")


def output():
    shown = Notebook("05_confusion", {"run": "mine"}).mistakes(
        images(), LABELS, PROBABILITIES, CLASSES
    )
    data = {"text/html": shown.data}
    return code("book.mistakes()", new_output("display_data", data=data))


def test_what_is_published_is_the_plain_matrix(results):
    page = rendered(results, [new_markdown_cell("# T"), output()], photographs=False)
    found = page.find(class_="mistakes")
    assert [cell.get_text() for cell in found.find_all("td")][:3] == ["1", "2", "·"]
    assert not found.find("script") and "data:image" not in str(page)
    assert page.get_text().count("Images of the dataset are left out") == 1


def test_a_page_of_650_mistakes_is_small(results):
    """Patches of colour take about as much as photographs: CIFAR-10's took 322 KB with 579."""
    generator = np.random.default_rng(0)
    smooth = generator.integers(0, 256, (10_000, 3, 4, 4)).repeat(8, 2).repeat(8, 3)
    labels = np.arange(10_000) % 10
    said = np.where(np.arange(10_000) < 650, (labels + 1) % 10, labels)
    shown = mistakes.html(
        smooth.astype(np.uint8), labels, np.eye(10)[said] * 0.9 + 0.01, [*"abcdefghij"]
    )
    assert len(shown) <= 400 * 1024
    assert sum(len(cell["images"]) for cell in mistakes.choose(labels, np.eye(10)[said])[0]) == 770


DRIVE = """<script>
const say = (text) => { document.body.append(Object.assign(document.createElement("i"),
  { textContent: text })); };
const press = (key) => document.activeElement.dispatchEvent(
  new KeyboardEvent("keydown", { key, bubbles: true }));
const panel = document.querySelector(".opened");
const buttons = [...document.querySelectorAll(".mistakes td button")];
say(buttons.map((button) => button.getAttribute("aria-label")).join("|"));
buttons[0].focus(); press("ArrowRight"); document.activeElement.click();
say(panel.hidden + "|" + panel.querySelector("p span").textContent + "|"
  + [...panel.querySelectorAll("li")].map((item) => item.innerText).join("|"));
say([...panel.querySelectorAll(".thumb")].map((one) => one.style.backgroundPosition).join("|"));
press("ArrowDown");
say(document.activeElement.getAttribute("aria-label"));
press("Escape");
say(panel.hidden + "|" + document.activeElement.getAttribute("aria-expanded"));
const box = document.querySelector(".mistakes table");
say(box.scrollWidth - box.parentNode.clientWidth);
</script>"""


@pytest.mark.chromium
@needs_chromium
def test_a_cell_opens_its_images_by_mouse_and_keys(results, tmp_path):
    rendered(results, [new_markdown_cell("# T"), output()])
    page = results / "quick" / "03_train.html"
    page.write_text(page.read_text().replace("</body>", DRIVE + "</body>"))
    labels, opened, places, below, closed, over = [
        line.get_text() for line in browse(tmp_path, page).select("body > i")
    ]
    assert labels.split("|") == [
        "cat, recognised: 1 image",
        "cat said to be dog: 2 images, the surest first",
        "dog, recognised: 1 image",
        "dog said to be <ship>: 1 image",
        "<ship>, recognised: 1 image",
    ]
    hidden, title, *items = opened.split("|")
    assert (hidden, title) == ("false", "cat said to be dog: 2 images, the surest first")
    assert [item.split() for item in items] == [
        ["dog", "95%", "cat", "4%"],
        ["dog", "60%", "cat", "30%"],
    ]
    assert places == "-64px 0px|-128px 0px" or places == "-64px -0px|-128px -0px"
    assert below == "dog, recognised: 1 image"
    assert closed == "true|false" and int(over) <= 0


def test_the_sprite_stands_in_the_page_once():
    text = mistakes.html(images(), LABELS, PROBABILITIES, CLASSES)
    (address,) = re.findall(r"url\(data:image/(?:webp|png);base64,([^)]*)\)", text)
    with Image.open(io.BytesIO(base64.b64decode(address))) as opened:
        assert opened.size == (mistakes.COLUMNS * 32, 32)
