"""ResNet blocks on a GPU: cuDNN adds bias, shortcut and ReLU while it convolves, which halves a block's time.

A map of 300 regions is a quarter of a gigabyte, and each of those three is otherwise a pass over it of its own. Sums
are then rounded once, after the shortcut: in bfloat16 the numbers differ from the plain ones, to the better.

Letters: R regions, S cells a side, C O channels, M channels of the map, U different cells, F the feature's width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stages.regions.published.sparing import Cells, entrance

FUSES = torch.version.hip is None  # AMD's GPUs, which torch calls cuda too, have no cuDNN
AT_ONCE = 300  # regions: each takes about 2.5 MB in half precision


def convolved(x_NCHW: Tensor, conv: nn.Conv2d) -> Tensor:
    """ReLU of the convolution."""
    assert not isinstance(conv.padding, str)
    return torch.cudnn_convolution_relu(
        x_NCHW, conv.weight, conv.bias, conv.stride, conv.padding, conv.dilation, conv.groups
    )


def bottleneck(block: Any, x_NCHW: Tensor) -> Tensor:
    """What detectron2's BottleneckBlock gives whose norms are folded into its convolutions."""
    shortcut = x_NCHW if block.shortcut is None else block.shortcut(x_NCHW)
    return closed(block, convolved(x_NCHW, block.conv1), shortcut)


def closed(block: Any, y_NCHW: Tensor, shortcut_NOHW: Tensor) -> Tensor:
    """The rest of a block after its first convolution."""
    y_NCHW, conv = convolved(y_NCHW, block.conv2), block.conv3
    return torch.cudnn_convolution_add_relu(
        y_NCHW, conv.weight, shortcut_NOHW, 1.0, conv.bias, conv.stride, conv.padding, conv.dilation, conv.groups
    )


class FusedBlocks:
    """The blocks of a Res5Head on the different cells of RoIPooled regions."""

    def __init__(self, blocks: Sequence[Any]) -> None:
        first = blocks[0]
        self.blocks, self.strides = blocks, (first.conv1.stride[0], first.shortcut.stride[0])
        self.width, self.enter = first.conv1.out_channels, entrance(first)

    def __call__(self, pooled: Cells) -> Tensor:
        """The mean of each region's map (R, F)."""
        entered_UC = F.linear(pooled.values_UM.to(self.enter[0].dtype), *self.enter)
        first_UC, shortcut_UO = entered_UC[:, : self.width].relu(), entered_UC[:, self.width :]
        return torch.cat([self._means(first_UC, shortcut_UO, some) for some in pooled.index_RSS.split(AT_ONCE)])

    def _means(self, first_UC: Tensor, shortcut_UO: Tensor, index_RSS: Tensor) -> Tensor:
        """Of some regions, from their cells after the first convolution and the shortcut of the first block."""
        pairs = zip((first_UC, shortcut_UO), self.strides, strict=True)
        y, x = (cells[index_RSS[:, ::n, ::n]].permute(0, 3, 1, 2) for cells, n in pairs)
        x = closed(self.blocks[0], y, x)
        for block in self.blocks[1:]:
            x = bottleneck(block, x)
        return x.mean(dim=(2, 3))
