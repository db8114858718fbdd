"""The network in a page: the same logits as PyTorch, in a browser that asks no host."""

import io
import json
import re
import shutil
from base64 import b64encode

import numpy as np
import pytest
import torch
from bs4 import BeautifulSoup
from PIL import Image
from torch import nn
from torch.fx.experimental.optimization import fuse

from bundle import files, paths
from bundle.__main__ import main
from bundle.demo import page
from bundle.demo.export import export
from bundle.own.network import Network, load_released
from bundle.release import pages
from bundle.training import session, store, weights
from lib import data, predict
from lib.data import CIFAR10_CLASSES, CIFAR10_STATISTICS
from lib.errors import UserError
from lib.model import ResNet
from tests.bundle.test_publish import browse, needs_chromium, requests, sample, write
from tests.bundle.test_release import TINY

SHAPES = {"blocks": (1, 2), "widths": (10, 13), "strides": (2, 2)}  # no multiples of a tile
NETWORKS = {
    "basic": {},
    "pooled": {
        "block": "pooled", "stem": "whitening", "activation": "gelu", "pooling": "max",
        "norm_scale": False, "logit_scale": 0.5,
    },
    "preactivation": {"block": "preactivation", "activation": "gelu"},
    "pooled, three": {"block": "pooled", "strides": (1, 2), "stem": "whitening"},
}  # fmt: skip
METRICS = {
    "notice": "",
    "test": {"images": 10_000, "accuracy": 0.9357, "low": 0.9307, "high": 0.9403},
    "temperature": {"value": 0.8},
}


def network(kind: str) -> ResNet:
    """Return a network with every number of its batch norms at random, some scales negative."""
    torch.manual_seed(sum(map(ord, kind)))
    model = ResNet(**{**SHAPES, **NETWORKS[kind]}).eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.weight)
            nn.init.normal_(module.bias)
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
    return model


def made(model: ResNet, metrics=METRICS, classes=CIFAR10_CLASSES, **options) -> str:
    temperature = metrics.get("temperature", {}).get("value")
    about = (CIFAR10_STATISTICS, tuple(classes), temperature, metrics)
    return page.html(Network("mine", model, *about), **options)


def pixels(count: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (count, 3, 32, 32), dtype=torch.uint8, generator=generator)


def in_browser(tmp_path, text: str, images: torch.Tensor) -> torch.Tensor:
    """Return the logits that the page's own code gives for images: (N, classes)."""
    given = b64encode(images.permute(0, 2, 3, 1).contiguous().numpy().tobytes()).decode()
    code = BeautifulSoup(text, "html.parser").find(id="forward").string
    driver = f"""<script>{code}
    const all = new Uint8Array(bytes("{given}")), one = 32 * 32 * 3, found = [];
    const own = unpack({{ ...about, weights: part("weights").textContent,
      numbers: part("numbers").textContent }});
    for (let at = 0; at < all.length; at += one) {{
      found.push(classify(own, all.subarray(at, at + one), 32));
    }}
    document.body.append(Object.assign(document.createElement("i"),
      {{ textContent: JSON.stringify(found) }}));</script></body>"""
    path = tmp_path / "driven.html"
    path.write_text(text.replace("</body>", driver), encoding="utf-8")
    return torch.tensor(json.loads(browse(tmp_path, path).select("body > i")[-1].string))


@pytest.mark.chromium
@needs_chromium
@pytest.mark.parametrize("kind", NETWORKS)
def test_the_browser_gives_pytorch_s_logits(tmp_path, kind):
    model, images = network(kind), pixels(6)
    expected = predict.logits(model, images, CIFAR10_STATISTICS)
    given = in_browser(tmp_path, made(model, bits=16), images)
    assert expected.std() > 0.1
    assert (given - expected).abs().max() <= 1e-3 * expected.abs().max()


@pytest.mark.chromium
@needs_chromium
def test_few_bits_are_rounded_weights_and_nothing_else(tmp_path):
    """The same logits as PyTorch with the folded weights rounded to 31 levels of each sign."""
    model, images = network("pooled"), pixels(6)
    rounded = fuse(model)
    for module in rounded.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            scale = module.weight.detach().flatten(1).abs().amax(1) / 31
            scale = scale.view(-1, *[1] * (module.weight.dim() - 1))
            module.weight = nn.Parameter((module.weight.detach() / scale).round() * scale)
    expected = predict.logits(rounded, images, CIFAR10_STATISTICS)
    given = in_browser(tmp_path, made(model, bits=6), images)
    assert torch.allclose(given, expected, atol=1e-4 * expected.abs().max())
    assert not torch.allclose(given, predict.logits(model, images, CIFAR10_STATISTICS), rtol=1e-4)


@pytest.mark.parametrize("bits", [4, 10, 13])
def test_weights_are_packed_bit_by_bit(bits):
    """Read by hand: the file as one large number, cut into parts of `bits` bits."""
    model = network("basic")
    exported = export(model, bits)
    whole, numbers = exported.data()
    convolutions = [m for m in model.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    count = sum(module.weight.numel() for module in convolutions)
    assert len(whole) == -(-count * bits // 8)
    large, first = int.from_bytes(whole, "little"), exported.steps[0]
    folded = fuse(model).conv.weight.detach().numpy()
    read = [(large >> at * bits) % 2**bits - (2 ** (bits - 1) - 1) for at in range(folded.size)]
    scale = np.frombuffer(numbers, "<f4")[first["scale"] :][:10, None]
    error = np.array(read).reshape(10, -1) * scale - folded.reshape(10, -1)
    assert np.abs(error / scale).max() <= 0.501 and max(read) <= 2 ** (bits - 1) - 1
    assert [step["op"] for step in exported.steps].count("norm") == 0  # all of them are folded


class Odd(nn.Module):
    def __init__(self, part):
        super().__init__()
        self.part = part

    def forward(self, x):
        return self.part(x)


@pytest.mark.parametrize(
    ("part", "named"),
    [
        (nn.Conv2d(3, 3, 1, groups=3), "Conv2d"),
        (nn.Conv2d(3, 8, (3, 1)), "Conv2d"),
        (nn.AvgPool2d(2), "AvgPool2d"),
        (nn.MaxPool2d(3, 2), "MaxPool2d"),
        (torch.sigmoid, "sigmoid"),
        (lambda x: nn.functional.gelu(x, approximate="tanh"), "gelu"),
        (lambda x: x + 1, "add"),
        (lambda x: x.mean(1), "mean"),
    ],
)
def test_what_the_page_cannot_compute_is_refused(part, named):
    with pytest.raises(UserError, match=named) as error:
        export(Odd(part), 8)
    assert "\n" not in str(error.value) and "bundle/demo/export.py" in str(error.value)


def test_the_page_says_what_it_is():
    text = made(network("basic"))
    found = BeautifulSoup(text, "html.parser")
    rows = found.select("#bars th")
    assert [row.string for row in rows] == list(CIFAR10_CLASSES)
    said = " ".join(found.main.get_text(" ").split())
    assert "right for 93.57% (93.07% to 94.03%)" in said and "10,000 test images" in said
    assert "It knows these ten classes only." in said and "temperature, 0.80" in said
    policy = found.find("meta", attrs={"http-equiv": "Content-Security-Policy"})["content"]
    assert policy.startswith("default-src 'none'") and "http" not in policy
    assert not re.search(r"connect-src|\*", policy)
    assert not re.search(r"(?:src|href)=[\"']?(?!#)\w", str(found.body))
    for control in found.select("#drawings button, #size, #picture, #small"):
        assert control.get("aria-label")
    assert json.loads(found.find(id="network").string)["temperature"] == 0.8
    assert not found.select(".notice, .rehearsal")


def test_without_a_record_it_claims_neither_accuracy_nor_calibration():
    found = BeautifulSoup(made(network("basic"), {}), "html.parser").main.get_text(" ")
    assert "test images" not in found and "%" not in found.split("About this page")[1]
    assert "not calibrated" in found


def test_other_data_is_said_aloud_and_names_are_escaped():
    classes = ["<ship>", *"123456789"]
    text = made(network("basic"), {"notice": "handwritten digits, not CIFAR-10"}, classes)
    found = BeautifulSoup(text, "html.parser")
    assert "not CIFAR-10" in found.select_one(".notice").string
    assert found.select_one("#bars th").string == "<ship>" and not found.find("ship")
    assert "<ship>" not in found.find(id="network").string  # could end the script


# The browser's virtual time does not wait for a worker: some real time passes until it answered.
WAIT = """<script>const waiting = setInterval(() => {
  if (part("rest").textContent) return clearInterval(waiting);
  for (let at = 0, sum = 0; at < 1e7; at += 1) sum += at % 3;
}, 100);</script>"""


@pytest.fixture
def drawn(tmp_path):
    """A page whose network is tiny, and what its document is after a script of the test's own."""

    def run(script: str) -> BeautifulSoup:
        path = tmp_path / "demo.html"
        text = made(network("basic")).replace("</body>", f"{WAIT}{script}</body>")
        path.write_text(text, "utf-8")
        return browse(tmp_path, path, "--virtual-time-budget=20000")

    return run


@pytest.mark.chromium
@needs_chromium
def test_it_opens_with_a_drawing_that_is_classified(drawn):
    found = drawn("")
    shares = [row.get_text() for row in found.select("#bars .number")]
    assert all(re.fullmatch(r"\d+%|<1%|>99%", share) for share in shares)
    widths = [float(bar["style"].split()[1].rstrip("%;")) for bar in found.select("#bars i")]
    assert sum(widths) == pytest.approx(100, abs=0.1)
    best = CIFAR10_CLASSES[int(np.argmax(widths))]
    assert found.find(id="best").string == best and found.select_one(".most th").string == best
    assert best in found.find(id="heard").string
    assert found.find(id="seconds").string.startswith("computed in ")


PICTURE = """<script>
const picked = new Image();
picked.src = "data:image/png;base64,%s";
picked.decode().then(() => {
  show(picked, picked.naturalWidth, picked.naturalHeight);
  const told = [JSON.stringify(square), JSON.stringify([...shrink()])];
  picture.dispatchEvent(new KeyboardEvent("keydown", { key: "ArrowLeft" }));
  told.push(square.x);
  picture.dispatchEvent(new KeyboardEvent("keydown", { key: "+" }));
  told.push(JSON.stringify(square));
  for (const text of told) document.body.append(Object.assign(document.createElement("i"),
    { textContent: text }));
});
</script>"""


@pytest.mark.chromium
@needs_chromium
@pytest.mark.parametrize("size", [(97, 71), (23, 40), (300, 64)])
def test_a_picture_becomes_the_mean_of_each_area(drawn, size):
    """By hand: each pixel of the square repeated 32 times each way, then the mean of blocks."""
    noise = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    with io.BytesIO() as buffer:
        Image.fromarray(noise).save(buffer, "PNG")
        script = PICTURE % b64encode(buffer.getvalue()).decode()
    square, shrunk, moved, closer = [one.string for one in drawn(script).select("body > i")]
    side, left, top = min(size), (size[0] - min(size)) // 2, (size[1] - min(size)) // 2
    assert json.loads(square) == {"x": left, "y": top, "side": side}
    fine = noise[top : top + side, left : left + side].astype(float).repeat(32, 0).repeat(32, 1)
    expected = fine.reshape(32, side, 32, side, 3).mean((1, 3))
    assert np.abs(np.array(json.loads(shrunk)).reshape(32, 32, 3) - expected).max() <= 0.51
    assert int(moved) == max(0, left - -(-side // 20))
    assert json.loads(closer)["side"] == round(side * 0.95)


@pytest.mark.chromium
@needs_chromium
def test_what_is_no_picture_is_one_line(drawn):
    found = drawn('<script>open(new File(["no picture"], "notes <b>.png"));</script>')
    assert found.find(id="status").get_text().startswith("notes <b>.png is no picture")
    assert found.find(id="best").string in CIFAR10_CLASSES  # that of the drawing stays


@pytest.mark.chromium
@needs_chromium
def test_it_asks_no_host_and_could_not(tmp_path):
    path = tmp_path / "demo.html"
    path.write_text(made(network("basic")), encoding="utf-8")
    assert requests(tmp_path, path) == set()
    tries = """<script>fetch("http://example.invalid/").then(() => 0, () => { document.body.append(
      Object.assign(document.createElement("i"), { textContent: "refused" })); });</script>"""
    path.write_text(path.read_text("utf-8").replace("</body>", f"{tries}</body>"), "utf-8")
    assert requests(tmp_path, path) == set()


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """A folder of results with a tiny finished training, a report, and its release."""
    folder = tmp_path_factory.mktemp("demo") / "results"
    with paths.results_in(folder):
        session.train(TINY, data.load("digits", None, TINY.train_images), folder / "tiny")
        write(folder / "tiny" / "06_report.ipynb", sample())
        saved = store.load_weights(folder / "tiny" / "training")
        packed = weights.pack({**saved, "model": weights.rounded(saved["model"])})
        (folder / "released" / "tiny" / "training").mkdir(parents=True)
        (folder / "released" / "tiny" / "training" / weights.FILE).write_bytes(packed)
        yield folder


def links(page) -> list[str]:
    return [link["href"] for link in BeautifulSoup(page.read_text(), "html.parser").select("a")]


@pytest.mark.slow
def test_the_command_writes_the_page_and_links_it(results, capsys):
    assert main(["demo", "tiny"]) == 0
    assert "tiny/demo.html: 0." in capsys.readouterr().out
    assert files.is_sealed(results / "tiny" / "demo.html")
    assert "demo.html" in links(results / "tiny" / "report.html")
    assert "demo.html" not in links(results / "tiny" / "06_report.html")  # with code


@pytest.mark.slow
def test_a_release_has_its_page_and_a_report_that_leads_there(results):
    stage = results / "released" / "tiny"
    pages.report(results / "tiny", stage)
    assert "demo.html" not in links(stage / "report.html")
    assert main(["demo", "released/tiny"]) == 0
    assert files.is_sealed(stage / "demo.html")
    pages.report(results / "tiny", stage)
    relative = [link for link in links(stage / "report.html") if not re.match("#|https?:", link)]
    assert relative == ["demo.html"]
    shutil.rmtree(results / "tiny" / "training")
    assert main(["demo", "tiny"]) == 0  # with the weights of the release


@pytest.mark.chromium
@pytest.mark.slow
@needs_chromium
def test_it_decides_as_pytorch_does(results, tmp_path):
    """On 1,000 images, with a network that is unsure of many: it saw 200 images three times.

    How many stand between two classes, nearer than weights are rounded, is the processor's chance.
    """
    network, images = load_released("released/tiny"), data.load("digits").all_train.pixels[:1000]
    expected = predict.logits(network.model, images, network.statistics)
    given = in_browser(tmp_path, page.html(network), images)
    assert expected.argmax(1).unique().numel() > 3 and len(given) == 1000
    near, (first, second) = 5e-3 * expected.abs().max(), expected.topk(2).values.T
    same, sure = given.argmax(1) == expected.argmax(1), first - second > near
    assert same[sure].all() and sure.float().mean() > 0.9 and same.float().mean() >= 0.98
    assert (given - expected).abs().max() <= near


@pytest.mark.chromium
@pytest.mark.slow
@needs_chromium
def test_the_released_network_decides_as_pytorch_does(cifar10_root, tmp_path, monkeypatch):
    """On the first 200 test images of CIFAR-10; on 1,000 it was measured by hand: all agree."""
    monkeypatch.setattr(paths, "RESULTS", paths.ROOT / "results")
    network = load_released("released/cpu-seed43")
    images = data.load("cifar10", cifar10_root).test.pixels[:200]
    given = in_browser(tmp_path, page.html(network), images)
    expected = predict.logits(network.model, images, network.statistics)
    assert (given.argmax(1) == expected.argmax(1)).float().mean() >= 0.995


@pytest.mark.parametrize("name", ["nothing", "../smoke", "released/nothing", ""])
def test_a_run_without_weights_is_one_line(tmp_path, name, capsys, monkeypatch):
    monkeypatch.setattr(paths, "RESULTS", tmp_path)
    with pytest.raises(UserError) as error:
        main(["demo", name])
    assert "\n" not in str(error.value) and not capsys.readouterr().out
    assert not [*tmp_path.rglob("*.html")]
