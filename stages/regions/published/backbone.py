"""The ResNets of the published detectors, from detectron2's parts, with the published differences as settings.

State-dict names are detectron2's. Letters: N pictures or regions, C channels, H W cells of a map.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from stages.regions.d2 import (
    FPN,
    BasicStem,
    BottleneckBlock,
    CNNBlockBase,
    Conv2d,
    FrozenBatchNorm2d,
    LastLevelMaxPool,
    ResNet,
)
from stages.regions.published.fused import FUSES, bottleneck
from stages.regions.published.settings import Backbone


class CeilStem(BasicStem):  # type: ignore[misc]  # detectron2 has no types
    """The stem with caffe's pooling: no padding, and a last window that is cut off still counts."""

    def forward(self, x_NCHW: Tensor) -> Tensor:
        return _ceil_pool(F.relu_(self.conv1(x_NCHW)))


class PreStem(CeilStem):
    """The stem of a pre-activation network, which begins with a norm of the picture itself."""

    def __init__(self, out_channels: int, eps: float) -> None:
        super().__init__(3, out_channels, lambda channels: FrozenBatchNorm2d(channels, eps))
        self.norm = FrozenBatchNorm2d(3, eps)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        return super().forward(self.norm(x_NCHW))


def _ceil_pool(x_NCHW: Tensor) -> Tensor:
    # A map of 1 or 2 cells is smaller than the window, which torch refuses. Caffe pools what is there.
    missing_H, missing_W = (max(3 - side, 0) for side in x_NCHW.shape[-2:])
    if missing_H or missing_W:
        x_NCHW = F.pad(x_NCHW, (0, missing_W, 0, missing_H), mode="replicate")
    return F.max_pool2d(x_NCHW, kernel_size=3, stride=2, padding=0, ceil_mode=True)


class Bottleneck(BottleneckBlock):  # type: ignore[misc]  # detectron2 has no types
    """detectron2's block, in fewer steps on a GPU once its norms are folded."""

    def forward(self, x_NCHW: Tensor) -> Tensor:
        if FUSES and x_NCHW.is_cuda and self.conv1.norm is None:
            return bottleneck(self, x_NCHW)
        plain: Tensor = super().forward(x_NCHW)
        return plain


class NormFirstConv(nn.Conv2d):
    """Norm, ReLU, then the convolution."""

    def __init__(self, channels: int, width: int, kernel: int, eps: float, stride: int = 1, groups: int = 1) -> None:
        super().__init__(channels, width, kernel, stride, padding=kernel // 2, groups=groups, bias=False)
        self.norm = FrozenBatchNorm2d(channels, eps)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        return super().forward(F.relu_(self.norm(x_NCHW)))


class PreBlock(CNNBlockBase):  # type: ignore[misc]  # detectron2 has no types
    """A bottleneck of a pre-activation network (arXiv:1603.05027): its sum passes no ReLU."""

    def __init__(
        self, in_channels: int, out_channels: int, *, bottleneck_channels: int, stride: int, settings: Backbone
    ) -> None:
        super().__init__(in_channels, out_channels, stride)
        eps = settings.norm_eps
        first, second = (stride, 1) if settings.stride_in == "1x1" else (1, stride)
        self.norm = FrozenBatchNorm2d(in_channels, eps)
        self.conv1 = Conv2d(in_channels, bottleneck_channels, kernel_size=1, stride=first, bias=False)
        self.conv2 = NormFirstConv(bottleneck_channels, bottleneck_channels, 3, eps, second, settings.groups)
        self.conv3 = NormFirstConv(bottleneck_channels, out_channels, 1, eps)
        self.shortcut = None
        if in_channels != out_channels:
            self.shortcut = Conv2d(in_channels, out_channels, kernel_size=1, stride=stride, bias=False)

    def activated(self, x_NCHW: Tensor) -> Tensor:
        return F.relu_(self.norm(x_NCHW))

    def after_activation(self, activated_NCHW: Tensor, x_NCHW: Tensor) -> Tensor:
        y: Tensor = self.conv3(self.conv2(self.conv1(activated_NCHW)))
        return y + (x_NCHW if self.shortcut is None else self.shortcut(activated_NCHW))

    def forward(self, x_NCHW: Tensor) -> Tensor:
        return self.after_activation(self.activated(x_NCHW), x_NCHW)


def stage(settings: Backbone, index: int, blocks: int, stride: int, dilation: int = 1) -> list[CNNBlockBase]:
    """The blocks of res2 (index 0), res3 (1), res4 (2) or res5 (3)."""
    bottleneck, out = settings.groups * settings.group_width * 2**index, settings.channels * 2**index
    inputs = settings.stem_channels if index == 0 else out // 2
    made = []
    for number in range(blocks):
        channels, block_stride = (inputs, stride) if number == 0 else (out, 1)
        if settings.order == "pre":
            made.append(PreBlock(channels, out, bottleneck_channels=bottleneck, stride=block_stride, settings=settings))
        else:
            made.append(
                Bottleneck(
                    channels,
                    out,
                    bottleneck_channels=bottleneck,
                    stride=block_stride,
                    num_groups=settings.groups,
                    norm=lambda width: FrozenBatchNorm2d(width, settings.norm_eps),
                    stride_in_1x1=settings.stride_in == "1x1",
                    dilation=dilation,
                )
            )
    return made


def fold(module: nn.Module) -> None:
    """Take each norm that follows a convolution into it, in place; for inference."""
    for conv in module.modules():
        if isinstance(conv, Conv2d) and isinstance(conv.norm, FrozenBatchNorm2d):
            scale_C = conv.norm.weight * (conv.norm.running_var + conv.norm.eps).rsqrt()
            conv.bias = nn.Parameter(conv.norm.bias - conv.norm.running_mean * scale_C, requires_grad=False)
            conv.weight = nn.Parameter(conv.weight * scale_C[:, None, None, None], requires_grad=False)
            conv.norm = None


def build(settings: Backbone) -> nn.Module:
    """Picture (N, 3, H, W) → {"res4": map of stride 16}, or with a pyramid {"p2" … "p6": maps of stride 4 … 64}."""
    stages = [stage(settings, index, blocks, 1 if index == 0 else 2) for index, blocks in enumerate(settings.blocks)]
    if settings.pyramid_channels is None:
        return ResNet(_stem(settings), stages, out_features=["res4"])  # type: ignore[no-any-return]
    levels = ["res2", "res3", "res4", "res5"]
    bottom_up = ResNet(_stem(settings), stages, out_features=levels)
    return FPN(bottom_up, levels, settings.pyramid_channels, top_block=LastLevelMaxPool())  # type: ignore[no-any-return]


def _stem(settings: Backbone) -> CNNBlockBase:
    if settings.order == "pre":
        return PreStem(settings.stem_channels, settings.norm_eps)
    kind = CeilStem if settings.max_pool == "ceil" else BasicStem
    return kind(3, settings.stem_channels, lambda channels: FrozenBatchNorm2d(channels, settings.norm_eps))
