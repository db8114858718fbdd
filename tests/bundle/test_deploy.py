"""The network out of the notebook: folding, export, int8, and the way without the packages."""

import re
from dataclasses import replace
from itertools import pairwise
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from bundle import fingerprint
from bundle.claims import deployed as claim
from bundle.deploy import deployment, export, fold, quantise
from bundle.paths import ROOT
from bundle.report import device, device_plot
from bundle.runs import graph, status
from bundle.runs.results import reference
from lib import data
from lib.blocks import BLOCKS
from lib.model import ResNet
from lib.settings import Deploy

SHAPE = ((1, 2), (8, 16), (1, 2))  # blocks, widths, strides


def network(negative: bool = False, **options) -> ResNet:
    """A small network whose batch norms have seen something: no statistic is at its start."""
    torch.manual_seed(3)
    model = ResNet(*SHAPE, **options)
    for norm in (layer for layer in model.modules() if isinstance(layer, nn.BatchNorm2d)):
        nn.init.normal_(norm.running_mean, 0, 0.3)
        nn.init.uniform_(norm.running_var, 0.3, 2)
        nn.init.uniform_(norm.weight, -1 if negative else 0.2, 1)
        nn.init.normal_(norm.bias, 0, 0.3)
    return model.eval()


def norms(model: nn.Module) -> int:
    return sum(isinstance(layer, nn.BatchNorm2d) for layer in model.modules())


TINY = reference()["mlperf_tiny"]
IMAGES = torch.randn(16, 3, 32, 32, generator=torch.Generator().manual_seed(1))
LEFT = {"basic": 0, "pooled": 0, "preactivation": 4}  # the first of each block, and the last


@pytest.mark.parametrize("block", sorted(BLOCKS))
@pytest.mark.parametrize("stem", ["convolution", "whitening"])
@pytest.mark.parametrize("activation", ["relu", "gelu"])
@pytest.mark.parametrize("pooling", ["mean", "max"])
@torch.inference_mode()
def test_a_folded_network_gives_the_same_logits(block, stem, activation, pooling):
    options = {"block": block, "stem": stem, "activation": activation, "pooling": pooling}
    model = network(**options, logit_scale=0.5)
    before = model(IMAGES)
    folded = fold.folded(model)
    assert norms(folded) == LEFT[block] < norms(model)
    assert (folded(IMAGES) - before).abs().max() < 1e-5 < before.abs().max()
    assert torch.equal(model(IMAGES), before), "the network itself stays as it was"


@torch.inference_mode()
def test_a_negative_scale_after_a_maximum_is_not_folded():
    """max(-x) is not -max(x): the batch norm stays, and the others go."""
    model = network(negative=True, block="pooled")
    folded = fold.folded(model)
    assert norms(folded) == 1  # the block with a maximum
    assert (folded(IMAGES) - model(IMAGES)).abs().max() < 1e-5


# Without the packages


def deployed(tmp_path, network) -> deployment.Deployment:
    """A deployment of a network, as notebook 08 makes it, on digits."""
    loaded = data.load("digits", None, 60)
    small = replace(loaded, test=data.subset(loaded.test, 40))
    training = SimpleNamespace(model=network, network=network, normalisation="pixel")
    settings = Deploy(run="tiny", calibration_images=20, latency_runs=10, reference_network=False)
    return deployment.Deployment(training, small, settings, tmp_path)


def test_without_the_packages_a_line_says_how_to_get_them(tmp_path, monkeypatch):
    monkeypatch.setattr(export, "PACKAGES", ("onnx", "no_such_package"))
    monkeypatch.setattr(export, "find_spec", lambda name: name == "onnx" or None)
    out = deployed(tmp_path, network())
    assert "no_such_package is not installed; run `make setup-deploy`" in out.told
    for does in (out.export, out.quantise, out.measure):
        assert does() == "*Not done, for the reason above.*" and "\n" not in out.why
    assert out.record() == {"missing": ["no_such_package"]} and out.rows == []
    assert device.measured({"deploy": out.record()}) is None and not list(tmp_path.iterdir())


def test_without_weights_a_line_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(export, "PACKAGES", ())
    out = deployed(tmp_path, None)
    assert "weights are not here" in out.told and out.record() == {"missing": ["weights"]}


def test_a_notebook_runs_again_when_its_optional_packages_arrive(monkeypatch):
    node = graph.read("08_deploy")
    assert node.optional == export.PACKAGES
    monkeypatch.setattr(status, "find_spec", lambda name: None)
    before = status._optional(node)
    monkeypatch.setattr(status, "find_spec", lambda name: name)
    assert fingerprint.differences(before, status._optional(node)) == [
        f"the package {name} missing -> installed" for name in sorted(export.PACKAGES)
    ]


@pytest.mark.parametrize(
    ("has", "bits"),
    [
        ({"architecture": "x86_64", "avx512_vnni": False, "avx_vnni": False}, 7),
        ({"architecture": "x86_64", "avx512_vnni": True}, 8),
        ({"architecture": "x86_64", "avx_vnni": True}, 8),
        ({"architecture": "aarch64"}, 8),
    ],
)
def test_weights_have_seven_bits_where_eight_overflow(monkeypatch, has, bits):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: has)
    assert quantise.bits_of("auto") == bits
    assert [quantise.bits_of(given) for given in ("7", "8")] == [7, 8]


def test_logits_that_differ_are_refused():
    ours = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    assert export.largest_difference(ours, ours + 5e-5) == pytest.approx(5e-5, rel=0.01)
    with pytest.raises(AssertionError, match=r"differs by 0\.001"):
        export.largest_difference(ours, ours + 1e-3)
    near = torch.tensor([[1e-5, 0.0]])
    with pytest.raises(AssertionError, match="1 images get another class"):
        export.largest_difference(near, near.flip(1))


# With them


def with_packages():
    for name in export.PACKAGES:
        pytest.importorskip(name, reason=f"{name} is optional: make setup-deploy")


@pytest.mark.slow
@pytest.mark.parametrize("block", sorted(BLOCKS))
def test_a_network_is_exported_quantised_and_measured(tmp_path, block):
    with_packages()
    out = deployed(tmp_path, network(block=block, stem="whitening", activation="gelu"))
    assert "0.0001" in out.export() and out.difference < 1e-5
    assert "times smaller" in out.quantise() and "10 times" in out.measure()
    fp32, int8 = out.record()["forms"]
    assert (fp32["form"], int8["form"]) == ("fp32", "int8") and fp32["images"] == 40
    assert fp32["bytes"] == out.file("fp32").stat().st_size > 0
    assert 0 < fp32["median_s"] <= fp32["p90_s"] and fp32["images_per_second"] > 0
    agree = (out.logits["fp32"].argmax(1) == out.logits["int8"].argmax(1)).float().mean()
    assert agree > 0.8
    for count in (1, 7):  # any number of images
        pixels = out.dataset.test.pixels[:count]
        assert torch.allclose(export.logits(out.file("fp32"), pixels), out.logits["fp32"][:count])
    assert str(ROOT).encode() not in out.file("fp32").read_bytes(), "no path of this machine"


# What is said


def record(lost=30, gained=10, **more):
    """A deployment as the metrics hold it, of 10,000 images."""
    fp32 = {"network": "cpu", "form": "fp32", "bytes": 8_000_000, "accuracy": 0.94, "low": 0.935,
            "high": 0.945, "images": 10_000, "median_s": 0.010, "p90_s": 0.012,
            "images_per_second": 150.0, "peak_bytes": 20_000_000}  # fmt: skip
    paired = {"only_first": lost, "only_second": gained, "p": 0.002, "method": "chi-square"}
    accuracy = 0.94 + (gained - lost) / 10_000
    int8 = fp32 | {"form": "int8", "bytes": 2_500_000, "accuracy": accuracy, "mcnemar": paired}
    int8["median_s"] = 0.004
    untrained = {"network": "reference", "median_s": 0.02, "p90_s": 0.02, "images_per_second": 80.0}
    others = [
        {"form": form, "bytes": size, "peak_bytes": 1, **untrained}
        for form, size in (("fp32", 19_000_000), ("int8", 4_900_000))
    ]
    return {"forms": [fp32, int8, *others], "mmac": 125.0, "reference_mmac": 271.4, **more}


def test_what_eight_bits_change_is_said_in_two_sentences():
    said = device.eight_bits(record())
    assert "2.5 MB instead of 8 MB" in said and "−0.20 points" in said
    assert "4.0 ms instead of 10.0" in said and "2.5 times as fast" in said
    assert len(re.findall(r"\.(?= |$)", said)) == 2 and "(weights of" not in said
    assert "In eight bits (weights of 7 bits, as" in device.eight_bits(record(weight_bits=7))
    assert "(weights of" not in device.eight_bits(record(weight_bits=8))


def test_mlperf_tinys_network_has_the_arithmetic_that_its_authors_state():
    """12.5 million: 16, 32, 64 channels, by hand: 442,368 + 4,718,592 + 2 * 3,670,016 + 640."""
    assert device.small_mmac(TINY) == pytest.approx(12.501632)
    board = TINY["boards"][0]
    assert device.seconds_on(board, TINY, 12.501632) == pytest.approx(0.70426)
    table = device.boards(record(), TINY)
    assert list(table["this file fits"]) == ["no", "no", "yes"]
    assert list(table["one image (estimate)"]) == ["7 s", "543 ms", "10.7 ms"]


def test_the_reference_s_network_has_the_accuracy_of_the_run_that_trained_it():
    """And the speed measured here; without that run it has none."""
    others = {"best": record(), "as_written": {"forms": record(lost=60)["forms"][:2]}}
    shown = device.table(record(), others)
    assert list(shown["accuracy"].str[:6]) == ["94.00%", "93.80%", "94.00%", "93.50%"]
    assert (
        list(shown["network"]) == ["cpu"] * 2 + ["the reference's network, trained: as_written"] * 2
    )
    assert list(shown["file (MB)"]) == ["8.00", "2.50", "19.00", "4.90"]
    assert list(shown["one image (ms)"]) == ["10.00", "4.00", "20.00", "20.00"]
    alone = device.table(record(), {"best": record()})
    assert list(alone["accuracy"])[2:] == ["–", "–"] and alone["network"].iloc[2] == "reference"


def test_the_pareto_frontier_leaves_out_what_is_beaten():
    places = [(3.0, 90.0), (1.0, 80.0), (2.0, 79.0), (4.0, 95.0), (4.0, 91.0)]
    assert device_plot.best(places) == [(1.0, 80.0), (3.0, 90.0), (4.0, 95.0)]
    found = device_plot.points({"cpu": record()}, TINY)
    assert [point.kind for point in found] == ["fp32", "int8", "reported"]
    assert found[2].size == 0.096 and found[2].low < 0.865 < found[2].high
    for narrow in (False, True):
        assert len(device_plot.draw(found, narrow).axes) == 2


def test_the_names_of_alike_networks_do_not_lie_on_each_other():
    alike = {f"run{number}": record(lost=number) for number in range(9)}
    drawn = device_plot.draw(device_plot.points(alike, TINY))
    for axis in drawn.axes:
        places = {text.get_text(): text.xyann[1] for text in axis.texts}
        assert list(places)[:3] == ["run0", "run1", "run2"]  # the most accurate above
        low, high = axis.get_ylim()
        apart = [(above - below) / (high - low) for above, below in pairwise(places.values())]
        assert len(apart) >= 8 and min(apart) > 0.058  # 10 points of some 170


@pytest.mark.parametrize(
    ("lost", "gained", "verdict"),
    [(30, 25, "confirmed"), (60, 10, "undecided"), (140, 60, "refuted")],
)
def test_the_claim_on_edge_devices(lost, gained, verdict):
    runs = {"cpu": {"deploy": record(lost, gained)}, "other": {"deploy": {"missing": ["onnx"]}}}
    found = claim.edge_devices(reference(), 0.005, runs)
    assert found.verdict == verdict, found
    assert "Raspberry Pi 4B" in found.found and "4.9 MB, which does not fit" in found.found
    waits = claim.edge_devices(reference(), 0.005, {"other": runs["other"], "none": {}})
    assert waits.verdict == "pending" and "notebook 08" in waits.found
