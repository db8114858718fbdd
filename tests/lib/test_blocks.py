"""The kinds of blocks and stems, each against the same written with PyTorch's own layers."""

import itertools

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from bundle.by_hand import count_by_hand
from lib import blocks, layers, model
from lib.settings import Network

IMAGES = torch.rand(64, 3, 32, 32, generator=torch.Generator().manual_seed(5))
STYLE = blocks.Style("gelu", norm_scale=False, norm_momentum=0.3)
FAST = Network(
    blocks=(1, 1, 1),
    widths=(64, 256, 256),
    strides=(2, 2, 2),
    block="pooled",
    stem="whitening",
    activation="gelu",
    pooling="max",
    initialisation="dirac",
    norm_scale=False,
    logit_scale=0.1,
)


def features(channels, size=8):
    return torch.randn(4, channels, size, size, generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize(("channels", "stride"), [(6, 2), (6, 1), (4, 1)])
def test_preactivation_block(channels, stride):
    block, x = blocks.PreactivationBlock(4, channels, stride, STYLE).train(), features(4)
    active = F.gelu(F.batch_norm(x, None, None, training=True))
    out = F.conv2d(active, block.conv1.weight, stride=stride, padding=1)
    out = F.conv2d(
        F.gelu(F.batch_norm(out, None, None, training=True)), block.conv2.weight, padding=1
    )
    shortcut = x
    if channels != 4 or stride != 1:
        shortcut = F.conv2d(active, block.shortcut.weight, stride=stride)
    torch.testing.assert_close(block(x), out + shortcut)


@pytest.mark.parametrize(("stride", "size"), [(1, 8), (2, 8), (2, 7)])
def test_pooled_block(stride, size):
    block, x = blocks.PooledBlock(4, 6, stride, STYLE).train(), features(4, size)
    out = F.conv2d(x, block.conv1.weight, padding=1)
    out = F.gelu(F.batch_norm(F.max_pool2d(out, stride), None, None, training=True))
    added = F.batch_norm(F.conv2d(out, block.conv2.weight, padding=1), None, None, training=True)
    torch.testing.assert_close(block(x), F.gelu(out + added))
    assert block(x).shape == (4, 6, size // stride, size // stride)


def test_the_style_reaches_every_batch_norm():
    built = model.build(FAST)
    norms = [module for module in built.modules() if isinstance(module, nn.BatchNorm2d)]
    assert len(norms) == 6
    assert {norm.momentum for norm in norms} == {FAST.norm_momentum}
    assert not any(norm.weight.requires_grad for norm in norms) and all(
        norm.bias.requires_grad for norm in norms
    )


def test_whitening_makes_patches_uncorrelated():
    # Neighbouring pixels go together, as in photographs.
    smooth = F.avg_pool2d(IMAGES, 3, 1, 1) - 0.5
    filters = blocks.whitening_filters(smooth, 2, epsilon=0.0)
    found = F.conv2d(smooth, filters[:12]).movedim(1, 0).flatten(1)
    torch.testing.assert_close(found @ found.T / found.shape[1], torch.eye(12), rtol=0, atol=1e-3)
    plain = smooth.movedim(1, 0).flatten(1)
    assert (plain @ plain.T / plain.shape[1] - torch.eye(3)).abs().max() > 0.5
    assert torch.equal(filters[12:], -filters[:12])


def test_the_stem_is_whitened_once_and_stays():
    built = model.build(FAST, seed=1)
    built.whiten(IMAGES)
    torch.testing.assert_close(built.conv.weight, blocks.whitening_filters(IMAGES, 2))
    built(IMAGES[:4]).sum().backward()
    assert built.conv.weight.grad is None and built.conv.bias.grad is not None


def test_whitening_leaves_a_learned_stem_alone():
    built = model.build(Network(blocks=(1,), widths=(4,), strides=(1,)), seed=1)
    before = built.conv.weight.clone()
    built.whiten(IMAGES)
    assert torch.equal(built.conv.weight, before)


def test_dirac_convolutions_pass_channels_on():
    built = model.build(FAST, seed=1)
    x = features(64)
    torch.testing.assert_close(built.stages[0][0].conv2(x), x)
    torch.testing.assert_close(built.stages[1][0].conv1(x)[:, :64], x)
    plain = model.build(Network(blocks=(1,), widths=(64,), strides=(1,)), seed=1)
    assert not torch.allclose(plain.stages[0][0].conv2(x), x, atol=0.5)


def test_the_logits_are_scaled_and_the_maximum_is_pooled():
    scaled, plain = (
        model.build(
            Network(blocks=(1,), widths=(4,), strides=(1,), pooling="max", logit_scale=scale),
            seed=1,
        ).eval()
        for scale in (0.1, 1.0)
    )
    torch.testing.assert_close(scaled(IMAGES[:4]), plain(IMAGES[:4]) * 0.1)
    seen = []
    plain.pool.register_forward_hook(
        lambda module, inputs, output: seen.append((inputs[0], output))
    )
    plain(IMAGES[:4])
    assert torch.equal(seen[0][1], F.adaptive_max_pool2d(seen[0][0], 1).flatten(1))


def test_the_fast_network_is_that_of_the_paper():
    built = model.build(FAST)
    table = layers.layer_table(built)
    assert table["mmac"].sum() == pytest.approx(118, abs=0.5)  # as stated for airbench94
    assert model.count_parameters(built) == 1_971_362
    assert built.linear.in_features == 256 and table["output"].tolist()[-3] == (256, 3, 3)


@pytest.mark.parametrize(
    ("block", "stem", "scale", "strides"),
    [
        *itertools.product(
            blocks.BLOCKS, ("convolution", "whitening"), (True, False), [(1, 2), (2, 1)]
        )
    ],
)
def test_counted_by_hand_and_by_asking(block, stem, scale, strides):
    network = Network(
        blocks=(2, 3), widths=(8, 12), strides=strides, block=block, stem=stem, norm_scale=scale
    )
    built = model.build(network, classes=7)
    by_hand = count_by_hand(network, classes=7)
    assert by_hand["parameters"].iloc[-1] == model.count_parameters(built)
    assert built(IMAGES[:2]).shape == (2, 7)
    for row in by_hand.itertuples():  # the formula says what the number is
        if row.formula and "fixed" not in row.formula:
            formula = row.formula.replace("·", "*").replace("²", "**2")
            assert eval(formula, {"__builtins__": {}}) == row.parameters
