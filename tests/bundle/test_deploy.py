"""The network out of the notebook: folding, export, int8, and the way without the packages."""

import pytest
import torch
from torch import nn

from bundle.deploy import fold
from lib.blocks import BLOCKS
from lib.model import ResNet

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
