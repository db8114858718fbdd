"""The network: counted by hand, rebuilt from torchvision's blocks, against the printed figures."""

import json
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from torchvision.models.resnet import BasicBlock as TorchvisionBlock

from bundle.by_hand import count_by_hand
from lib import layers, model
from lib.blocks import BasicBlock, Style
from lib.errors import UserError
from lib.settings import Network

REFERENCE = json.loads(
    (Path(__file__).resolve().parents[2] / "docs" / "reference.json").read_text(encoding="utf-8")
)


def network(blocks=(4, 4, 4, 3), widths=(32, 64, 128, 256), strides=(1, 2, 2, 2), comparison=False):
    return Network(blocks=blocks, widths=widths, strides=strides, comparison=comparison)


SMALL = network((2, 1, 2), (4, 8, 8), (1, 2, 1))  # the last stage changes neither stride nor width
WIDE_START = network((1, 1), (4, 6), (1, 1))  # the width changes, the stride does not
STRIDE_ONLY = network((1, 2), (4, 4), (2, 2))  # the stride changes, the width does not


@pytest.fixture(scope="module")
def reference_network():
    return model.build(network(), seed=0)


@pytest.fixture(scope="module")
def table(reference_network):
    return layers.layer_table(reference_network)


def numbers(module):
    return sum(parameter.numel() for parameter in module.parameters())


def randomised(built):
    """Give batch norm statistics and scales of their own, so that leaving one out would show."""
    generator = torch.Generator().manual_seed(1)
    for module in built.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.weight.data, module.running_var):
                tensor.uniform_(0.5, 1.5, generator=generator)
            for tensor in (module.bias.data, module.running_mean):
                tensor.uniform_(-0.5, 0.5, generator=generator)
    return built


class Rebuilt(nn.Module):
    """The same network written anew with torchvision's basic block."""

    def __init__(self, blocks, widths, strides, classes=10):
        super().__init__()
        self.stem = nn.Conv2d(3, widths[0], 3, 1, 1, bias=False)
        self.norm = nn.BatchNorm2d(widths[0])
        body, channels = [], widths[0]
        for count, width, stride in zip(blocks, widths, strides, strict=True):
            for number in range(count):
                step = stride if number == 0 else 1
                shortcut = None
                if step != 1 or channels != width:
                    shortcut = nn.Sequential(
                        nn.Conv2d(channels, width, 1, step, bias=False), nn.BatchNorm2d(width)
                    )
                body.append(TorchvisionBlock(channels, width, step, shortcut))
                channels = width
        self.body = nn.Sequential(*body)
        self.head = nn.Linear(channels, classes)

    def forward(self, x):
        x = self.body(torch.relu(self.norm(self.stem(x))))
        return self.head(nn.functional.adaptive_avg_pool2d(x, 1).flatten(1))


def rebuilt(built, description):
    """An independent network with weights of `built`, one by one in the order of computation."""
    other = Rebuilt(
        description.blocks, description.widths, description.strides, built.linear.out_features
    )
    pairs = zip(other.state_dict(), built.state_dict().values(), strict=True)
    other.load_state_dict({name: tensor.clone() for name, tensor in pairs})
    return other


def test_parameters_by_stage_by_hand(reference_network):
    stem = 3 * 32 * 9 + 2 * 32
    first = 4 * (2 * 9 * 32 * 32 + 2 * 2 * 32)
    second = (9 * 32 * 64 + 9 * 64 * 64 + 2 * 2 * 64 + 32 * 64 + 2 * 64) + 3 * (
        2 * 9 * 64 * 64 + 2 * 2 * 64
    )
    third = (9 * 64 * 128 + 9 * 128 * 128 + 4 * 128 + 64 * 128 + 2 * 128) + 3 * (
        18 * 128 * 128 + 4 * 128
    )
    fourth = (9 * 128 * 256 + 9 * 256 * 256 + 4 * 256 + 128 * 256 + 2 * 256) + 2 * (
        18 * 256 * 256 + 4 * 256
    )
    head = 256 * 10 + 10
    assert (stem, first, second, third, fourth, head) == (
        928,
        74_240,
        279_680,
        1_116_416,
        3_280_384,
        2_570,
    )
    counted = [numbers(reference_network.conv) + numbers(reference_network.bn)]
    counted += [numbers(stage) for stage in reference_network.stages] + [
        numbers(reference_network.linear)
    ]
    assert counted == [stem, first, second, third, fourth, head]
    assert (
        model.count_parameters(reference_network)
        == sum(counted)
        == 4_754_218
        == REFERENCE["parameters"]
    )
    derived = count_by_hand(network())
    assert derived["parameters"].tolist() == [*counted, 4_754_218]
    assert derived["part"].tolist() == [
        "stem",
        "stage 1",
        "stage 2",
        "stage 3",
        "stage 4",
        "classifier",
        "total",
    ]


@pytest.mark.parametrize(
    ("description", "count"),
    [
        (network((4, 4, 3), (64, 128, 256), (1, 2, 2)), 4_697_162),
        (
            network((2, 2, 2, 2), (64, 128, 256, 512), (1, 2, 2, 2), comparison=True),
            11_173_962,
        ),  # CIFAR ResNet-18
        (network((4, 4, 4, 3), (64, 128, 256, 512), (1, 2, 2, 2), comparison=True), 18_994_762),
    ],
)
def test_other_networks(description, count):
    with torch.device("meta"):
        built = model.build(description)
        assert (
            numbers(Rebuilt(description.blocks, description.widths, description.strides)) == count
        )
    assert model.count_parameters(built) == count
    assert count_by_hand(description)["parameters"].iloc[-1] == count


@pytest.mark.parametrize(
    "description", [SMALL, WIDE_START, STRIDE_ONLY], ids=["small", "width", "stride"]
)
def test_derived_count_with_other_shapes_and_classes(description):
    other = Rebuilt(description.blocks, description.widths, description.strides, classes=7)
    assert model.count_parameters(model.build(description, classes=7)) == numbers(other)
    assert count_by_hand(description, classes=7)["parameters"].iloc[-1] == numbers(other)


def test_the_formulae_shown_give_their_numbers():
    for description in (network(), SMALL, WIDE_START, STRIDE_ONLY):
        for row in count_by_hand(description).iloc[:-1].itertuples():
            formula = row.formula.replace("·", "*").replace("²", "**2")
            assert eval(formula, {"__builtins__": {}}) == row.parameters


def test_only_trainable_parameters_are_counted():
    layer = nn.Linear(3, 2)
    layer.bias.requires_grad = False
    assert model.count_parameters(layer) == 6


def test_layer_table_is_the_reports(table):
    assert len(table) == 85
    types = [name.rsplit("-", 1)[0] for name in table["layer"]]
    assert [name.rsplit("-", 1)[1] for name in table["layer"]] == [
        str(number) for number in range(1, 86)
    ]
    for row, kind, parameters in zip(
        REFERENCE["layer_table_head"], types, table["parameters"], strict=False
    ):
        assert row["layer"] == kind and row["parameters"] in (parameters, None)
    assert table.iloc[-1][["layer", "parameters"]].tolist() == ["Linear-85", 2570]
    assert [REFERENCE["last_layer"][key] for key in ("name", "parameters")] == ["Linear-85", 2570]
    counts = {kind: types.count(kind) for kind in set(types)}
    # 1 stem + 2 a block + 3 shortcuts; a pool; a classifier
    assert counts == {
        "Conv2d": 34,
        "BatchNorm2d": 34,
        "BasicBlock": 15,
        "GlobalAveragePool": 1,
        "Linear": 1,
    }
    assert types[-2:] == ["GlobalAveragePool", "Linear"]
    assert table["parameters"].sum() == 4_754_218
    assert table.loc[[one == "BasicBlock" for one in types], "parameters"].tolist() == [0] * 15


def test_layer_table_shapes_and_stages(table):
    blocks = table[table["layer"].str.startswith("BasicBlock")]
    shapes = [(32, 32, 32)] * 4 + [(64, 16, 16)] * 4 + [(128, 8, 8)] * 4 + [(256, 4, 4)] * 3
    assert blocks["output"].tolist() == shapes
    assert table["output"].tolist()[-2:] == [(256,), (10,)]
    stages = [
        f"stage {number}" for number, count in enumerate((4, 4, 4, 3), 1) for _ in range(count)
    ]
    assert blocks["stage"].tolist() == stages
    # a block is 5 rows, a first one with a shortcut 7; stem 2, pool and classifier 2
    expected = {"stem and head": 4, "stage 1": 20, "stage 2": 22, "stage 3": 22, "stage 4": 17}
    assert table["stage"].value_counts().to_dict() == expected


@pytest.mark.parametrize("training", [True, False])
def test_layer_table_leaves_the_network_as_it_was(training):
    built = model.build(SMALL, seed=0).train(training)
    before = {name: tensor.clone() for name, tensor in built.state_dict().items()}
    layers.layer_table(built)
    assert built.training is training and all(
        module.training is training for module in built.modules()
    )
    assert all(torch.equal(tensor, before[name]) for name, tensor in built.state_dict().items())
    assert not any(module._forward_hooks for module in built.modules())


def test_memory_estimate_to_the_printed_digits(table):
    estimate = layers.memory_estimate(table)
    assert {key: round(value, 2) for key, value in estimate.items()} == REFERENCE["memory_mb"]
    assert REFERENCE["memory_mb"] == {
        "input": 0.01,
        "forward_backward": 10.16,
        "parameters": 18.14,
        "total": 28.31,
    }


@pytest.mark.parametrize("description", [network(), SMALL, WIDE_START, STRIDE_ONLY])
def test_arithmetic_equals_torchs_own_count(description):
    built = model.build(description, seed=0).eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        built(torch.zeros(1, 3, 32, 32))
    macs = counter.get_total_flops() / 2  # torch counts a multiply-accumulate as two operations
    table = layers.layer_table(built)
    assert table["mmac"].sum() * 1e6 == pytest.approx(macs, rel=1e-9)
    if description.widths == (32, 64, 128, 256):
        assert table["mmac"].sum() == pytest.approx(REFERENCE["macs"] / 1e6, abs=0.5)
    weightless = table[~table["layer"].str.startswith(("Conv2d", "Linear"))]
    assert (weightless["mmac"] == 0).all()


@pytest.mark.parametrize(
    ("description", "projections"),
    [
        (network(), [[0, 0, 0, 0], [1, 0, 0, 0], [1, 0, 0, 0], [1, 0, 0]]),
        (SMALL, [[0, 0], [1], [0, 0]]),
        (WIDE_START, [[0], [1]]),
        (STRIDE_ONLY, [[1], [1, 0]]),
    ],
)
def test_shortcuts_exactly_where_stride_or_width_change(description, projections):
    built = model.build(description, seed=0)
    found = [[int(block.shortcut is not None) for block in stage] for stage in built.stages]
    assert found == projections
    for stage, stride in zip(built.stages, description.strides, strict=True):
        first = stage[0]
        assert first.conv1.stride == (stride, stride)
        assert all(block.conv1.stride == (1, 1) for block in list(stage)[1:])
        if first.shortcut is not None:
            convolution, norm = first.shortcut
            assert convolution.kernel_size == (1, 1) and convolution.stride == (stride, stride)
            assert convolution.bias is None and isinstance(norm, nn.BatchNorm2d)


def test_a_block_whose_branch_is_silent_passes_its_input_on():
    block = BasicBlock(4, 4, 1, Style()).eval()
    nn.init.zeros_(block.bn2.weight)
    images = torch.randn(2, 4, 5, 5, generator=torch.Generator().manual_seed(0))
    assert torch.equal(block(images), images.clamp(min=0))


@pytest.mark.parametrize("description", [network(), SMALL, WIDE_START, STRIDE_ONLY])
def test_stage_shapes(description):
    built, side = model.build(description, seed=0).eval(), 32
    images = torch.zeros(2, 3, 32, 32)
    with torch.no_grad():
        x = torch.relu(built.bn(built.conv(images)))
        assert x.shape == (2, description.widths[0], 32, 32)
        for stage, width, stride in zip(
            built.stages, description.widths, description.strides, strict=True
        ):
            x, side = stage(x), side // stride
            assert x.shape == (2, width, side, side)
        assert built.pool(x).shape == (2, description.widths[-1])
        assert built(images).shape == (2, 10)


@pytest.mark.parametrize("description", [network(), SMALL, WIDE_START, STRIDE_ONLY])
@pytest.mark.parametrize("training", [True, False])
def test_logits_equal_an_independently_written_network(description, training):
    built = randomised(model.build(description, classes=10, seed=3))
    other = rebuilt(built, description)
    images = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(5))
    with torch.no_grad():
        expected = other.train(training)(images)
        found = built.train(training)(images)
    assert expected.std() > 1e-3
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    for mine, theirs in zip(built.state_dict().values(), other.state_dict().values(), strict=True):
        # Running statistics moved alike.
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-5)


def test_gradients_equal_an_independently_written_network():
    built = model.build(SMALL, seed=3).double()
    other = rebuilt(built, SMALL).double()
    images = torch.randn(
        4, 3, 32, 32, generator=torch.Generator().manual_seed(5), dtype=torch.float64
    )
    for each in (built, other):
        nn.functional.cross_entropy(each(images), torch.arange(4)).backward()
    for mine, theirs in zip(built.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, theirs.grad, rtol=1e-7, atol=1e-10)


def test_limit_of_five_million_and_its_exception():
    too_wide = {"blocks": (2, 2, 2, 2), "widths": (64, 128, 256, 512)}
    with torch.device("meta"):
        with pytest.raises(UserError) as caught:
            model.build(network(**too_wide))
        allowed = model.build(network(**too_wide, comparison=True))
    message = str(caught.value)
    assert "\n" not in message
    assert all(part in message for part in ("11,173,962", "5,000,000", "comparison: true"))
    assert numbers(allowed) == 11_173_962


def test_exactly_the_limit_is_allowed(monkeypatch):
    count = numbers(Rebuilt(SMALL.blocks, SMALL.widths, SMALL.strides))
    monkeypatch.setattr(model, "PARAMETER_LIMIT", count)
    assert model.count_parameters(model.build(SMALL)) == count
    monkeypatch.setattr(model, "PARAMETER_LIMIT", count - 1)
    with pytest.raises(UserError):
        model.build(SMALL)


def test_seed_decides_the_weights():
    first, again, other = (model.build(SMALL, seed=seed).state_dict() for seed in (7, 7, 8))
    assert all(torch.equal(first[name], again[name]) for name in first)
    changed = [name for name in first if not torch.equal(first[name], other[name])]
    assert {"conv.weight", "linear.weight", "linear.bias", "stages.2.1.conv2.weight"} <= set(
        changed
    )


def test_seed_leaves_the_global_generator_alone():
    torch.manual_seed(123)
    before = torch.get_rng_state()
    model.build(SMALL, seed=7)
    assert torch.equal(torch.get_rng_state(), before)


def test_seed_means_torchs_manual_seed():
    torch.manual_seed(7)
    convolution = nn.Conv2d(3, SMALL.widths[0], 3, padding=1, bias=False)
    assert torch.equal(model.build(SMALL, seed=7).conv.weight, convolution.weight)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_seed_leaves_the_gpus_generator_alone():
    torch.cuda.manual_seed(123)
    before = torch.cuda.get_rng_state()
    model.build(SMALL, seed=7)
    assert torch.equal(torch.cuda.get_rng_state(), before)


def test_initial_weights_are_torchs_defaults():
    """He-uniform with a = sqrt(5): uniform in +-1/sqrt(fan_in) nn.Conv2d's, nn.Linear's."""
    built = model.build(network(), seed=0)
    for layer, fan_in in ((built.stages[3][2].conv2, 256 * 9), (built.linear, 256)):
        bound = fan_in**-0.5
        assert layer.weight.abs().max() <= bound and layer.weight.abs().max() > 0.98 * bound
        assert layer.weight.std().item() == pytest.approx(bound / 3**0.5, rel=0.03)
