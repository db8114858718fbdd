"""The parts a residual network is made of: blocks, pools, and the filters of a whitening stem."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class GlobalAveragePool(nn.Module):
    """Mean over height and width: (N, C, H, W) to (N, C).

    A module, so that it has a row in the layer table; a plain mean, since AdaptiveAvgPool2d's
    backward pass is not deterministic on CUDA.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Average the last two dimensions."""
        return x.mean((2, 3))


class GlobalMaxPool(nn.Module):
    """Largest value over height and width: (N, C, H, W) to (N, C)."""

    def forward(self, x: Tensor) -> Tensor:
        """Take the largest of the last two dimensions."""
        # Compiled in bf16, amax's backward pass finds no equal of the value it rounded: 0 / 0.
        compiling = torch.compiler.is_dynamo_compiling()
        return x.flatten(2).max(2).values if compiling else x.amax((2, 3))


@dataclass(frozen=True)
class Style:
    """What the layers of a network share.

    activation: relu or gelu. norm_scale: batch norm learns a scale beside its shift. norm_momentum:
    weight of the newest batch in batch norm's statistics.
    """

    activation: str = "relu"
    norm_scale: bool = True
    norm_momentum: float = 0.1

    def norm(self, channels: int) -> nn.BatchNorm2d:
        """Return a batch norm; its scale stays 1 where it is not learned."""
        layer = nn.BatchNorm2d(channels, momentum=self.norm_momentum)
        layer.weight.requires_grad_(self.norm_scale)
        return layer

    def act(self, x: Tensor) -> Tensor:
        """Apply the activation."""
        return F.relu(x) if self.activation == "relu" else F.gelu(x)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with batch norm, added to the shortcut, then the activation."""

    def __init__(self, channels_in: int, channels: int, stride: int, style: Style):
        super().__init__()
        self.style = style
        self.conv1 = nn.Conv2d(channels_in, channels, 3, stride, padding=1, bias=False)
        self.bn1 = style.norm(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = style.norm(channels)
        self.shortcut = None
        if stride != 1 or channels_in != channels:
            convolution = nn.Conv2d(channels_in, channels, 1, stride, bias=False)
            self.shortcut = nn.Sequential(convolution, style.norm(channels))

    def forward(self, x: Tensor) -> Tensor:
        """(N, C_in, H, W) to (N, C, H / stride, W / stride)."""
        out = self.style.act(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        return self.style.act(out + (x if self.shortcut is None else self.shortcut(x)))


class PreactivationBlock(nn.Module):
    """Batch norm and activation before each 3x3 convolution; nothing after the sum.

    He et al., Identity Mappings in Deep Residual Networks (ECCV 2016), figure 4e. Where the shape
    changes, the shortcut takes the first activation through a 1x1 convolution.
    """

    def __init__(self, channels_in: int, channels: int, stride: int, style: Style):
        super().__init__()
        self.style = style
        self.bn1 = style.norm(channels_in)
        self.conv1 = nn.Conv2d(channels_in, channels, 3, stride, padding=1, bias=False)
        self.bn2 = style.norm(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        changes = stride != 1 or channels_in != channels
        self.shortcut = nn.Conv2d(channels_in, channels, 1, stride, bias=False) if changes else None

    def forward(self, x: Tensor) -> Tensor:
        """(N, C_in, H, W) to (N, C, H / stride, W / stride)."""
        active = self.style.act(self.bn1(x))
        out = self.conv2(self.style.act(self.bn2(self.conv1(active))))
        return out + (x if self.shortcut is None else self.shortcut(active))


class PooledBlock(nn.Module):
    """A 3x3 convolution, pooled by its stride's maximum, then another added to what it is given.

    The group of layers of Jordan, 94% on CIFAR-10 in 3.29 seconds (2024), section 3.1, with a
    shortcut around its second convolution: the first, which widens, costs least before the pooling
    in parameters and sees every pixel.
    """

    def __init__(self, channels_in: int, channels: int, stride: int, style: Style):
        super().__init__()
        self.style = style
        self.conv1 = nn.Conv2d(channels_in, channels, 3, padding=1, bias=False)
        self.pool = nn.MaxPool2d(stride) if stride > 1 else None
        self.bn1 = style.norm(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = style.norm(channels)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C_in, H, W) to (N, C, H / stride, W / stride), rounded down."""
        out = self.conv1(x)
        out = self.style.act(self.bn1(out if self.pool is None else self.pool(out)))
        return self.style.act(out + self.bn2(self.conv2(out)))


WHITENING_CHANNELS = 24  # each of the 3 * 2 * 2 directions of a patch, and its opposite
BLOCKS = {"basic": BasicBlock, "preactivation": PreactivationBlock, "pooled": PooledBlock}


def whitening_filters(images: Tensor, size: int, epsilon: float = 5e-4) -> Tensor:
    """Return filters, float32 (6 * size * size, 3, size, size), that whiten the images' patches.

    The eigenvectors of the patches' covariance, each divided by sqrt(eigenvalue + epsilon), and
    their opposites: Page, How to Train Your ResNet 8 (2019), and Jordan (2024), section 3.2.
    """
    channels = images.shape[1]
    patches = F.unfold(images.float(), size).mT.reshape(-1, channels * size * size).double()
    values, vectors = torch.linalg.eigh(patches.T @ patches / len(patches))
    filters = vectors.T / (values[:, None].clamp(min=0) + epsilon).sqrt()
    return torch.cat((filters, -filters)).view(-1, channels, size, size).float()
