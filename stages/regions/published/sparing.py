"""The last stage of a ResNet on pooled regions with fewer multiplications: for float32, whose time they are.

The same numbers but for rounding, by three changes:
- A 3 × 3 convolution of stride 1 is Winograd's F(4 × 4, 3 × 3) of arXiv:1509.09308: 36 products for 16 cells, not 144.
- A convolution with dilation 2 is four without, each on every second row and column, which is what Winograd needs.
- RoIPool's cells repeat, within a small region and between regions that overlap. The first two 1 × 1 convolutions look
  at each different one once.

All of it is matrix products on cells: a map of side S is (S·S, regions, channels), so that nothing is transposed.

Letters: R regions, P parts of a region (4 with dilation 2), N = R·P, S cells a side, C O channels, M channels of the
map, U different cells, F the feature's width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# Parts. On a CPU what is between two layers then stays in the cache; with 256 a convolution took a third longer.
AT_ONCE, AT_ONCE_ON_GPU = 64, 1200

# Winograd's transforms of input, weights and output, from the appendix of the paper.
INPUT = (
    (4, 0, -5, 0, 1, 0),
    (0, -4, -4, 1, 1, 0),
    (0, 4, -4, -1, 1, 0),
    (0, -2, -1, 2, 1, 0),
    (0, 2, -1, -2, 1, 0),
    (0, 4, 0, -5, 0, 1),
)
WEIGHT = (
    (1 / 4, 0, 0),
    (-1 / 6, -1 / 6, -1 / 6),
    (-1 / 6, 1 / 6, -1 / 6),
    (1 / 24, 1 / 12, 1 / 6),
    (1 / 24, -1 / 12, 1 / 6),
    (0, 0, 1),
)
OUTPUT = ((1, 1, 1, 1, 1, 0), (0, 1, -1, 2, -2, 0), (0, 1, 1, 4, 4, 0), (0, 1, -1, 8, -8, 1))


@dataclass(frozen=True)
class Cells:
    """Pooled regions whose equal cells are stored once."""

    values_UM: Tensor
    index_RSS: Tensor  # which of them each cell of a region is


class Winograd:
    """A 3 × 3 convolution of stride 1 with a border of zeros, on maps of one side."""

    def __init__(self, conv: nn.Conv2d, side: int) -> None:
        tiles = -(-side // 4)
        input_, weight, output = (torch.tensor(rows, dtype=torch.float64) for rows in (INPUT, WEIGHT, OUTPUT))
        reads, writes = torch.zeros(6, tiles, 4 * tiles + 2).double(), torch.zeros(4 * tiles, 6, tiles).double()
        for tile in range(tiles):  # reads six cells from one before its first, and writes four
            reads[:, tile, 4 * tile : 4 * tile + 6] = input_
            writes[4 * tile : 4 * tile + 4, :, tile] = output
        reads, writes = reads[:, :, 1 : side + 1], writes[:side]
        into = torch.einsum("itp,jsq->ijtspq", reads, reads).reshape(36 * tiles**2, side**2)
        back = torch.einsum("pit,qjs->pqijts", writes, writes).reshape(side**2, 36 * tiles**2)
        weights = torch.einsum("ia,jb,ocab->ijco", weight, weight, conv.weight.double().cpu()).flatten(0, 1)
        self.into, self.back, self.weights = (
            each.float().contiguous().to(conv.weight.device) for each in (into, back, weights)
        )
        assert conv.bias is not None
        self.bias = conv.bias

    def __call__(self, x_SNC: Tensor) -> Tensor:
        """(S·S, N, C) → (S·S, N, O)."""
        cells, count, channels = x_SNC.shape
        products = torch.bmm((self.into @ x_SNC.view(cells, -1)).view(36, -1, channels), self.weights)
        made = self.back @ products.view(self.back.shape[1], -1)
        return made.view(cells, count, -1).add_(self.bias)


class SparingBlocks:
    """The blocks of a Res5Head whose 3 × 3 convolutions have stride 1 and one group."""

    def __init__(self, blocks: Sequence[Any], side: int) -> None:
        first = blocks[0]
        self.stride, self.parts = first.conv1.stride[0], first.conv2.dilation[0]
        self.side = side // max(self.stride, self.parts)
        self.width = first.conv1.out_channels
        self.enter = entrance(first)
        self.blocks = [
            (None if block is first else _matrix(block.conv1), Winograd(block.conv2, self.side), _matrix(block.conv3))
            for block in blocks
        ]

    def __call__(self, pooled: Tensor | Cells) -> Tensor:
        """The mean of each region's map (R, F)."""
        if isinstance(pooled, Cells):
            entered_UC, index_SN = F.linear(pooled.values_UM, *self.enter), self._cells_first(pooled.index_RSS)
            return self._means(lambda at: entered_UC[index_SN[:, at]], index_SN.shape[1])
        x_SNM = self._cells_first(pooled.permute(0, 2, 3, 1))
        return self._means(lambda at: F.linear(x_SNM[:, at], *self.enter), x_SNM.shape[1])

    def _cells_first(self, x: Tensor) -> Tensor:
        """(R, S, S, …) → (S·S, R·P, …), of each part or of the rows and columns that the stride does not pass over."""
        x = x[:, :: self.stride, :: self.stride]
        parts = x.unflatten(2, (-1, self.parts)).unflatten(1, (-1, self.parts))  # R, S, P, S, P, …
        cells: Tensor = parts.movedim((1, 3), (0, 1)).flatten(2, 4).flatten(0, 1)
        return cells

    def _means(self, enter: Callable[[slice], Tensor], count: int) -> Tensor:
        at_once = AT_ONCE_ON_GPU if self.enter[0].is_cuda else AT_ONCE
        return torch.cat([self._mean(enter(slice(n, n + at_once))) for n in range(0, count, at_once)])

    def _mean(self, entered_SNC: Tensor) -> Tensor:
        """From the first convolution and the shortcut of the first block, side by side, to the feature."""
        y, x = entered_SNC[..., : self.width].relu(), entered_SNC[..., self.width :]
        for narrow, middle, wide in self.blocks:
            if narrow is not None:
                y = F.linear(x, *narrow).relu_()
            x = F.linear(middle(y).relu_(), *wide).add_(x).relu_()
        mean: Tensor = x.mean(dim=0).unflatten(0, (-1, self.parts**2)).mean(dim=1)
        return mean


def entrance(block: Any) -> tuple[Tensor, Tensor]:
    """(weight, bias) of a block's first convolution and shortcut, side by side, as of one layer on cells."""
    pair = (block.conv1, block.shortcut)
    return torch.cat([conv.weight.flatten(1) for conv in pair]), torch.cat([conv.bias for conv in pair])


def spares(blocks: Sequence[Any], side: int) -> bool:
    """Whether these blocks, whose norms are folded, on pooled regions of this side, can be done so."""
    middles = [getattr(block, "conv2", None) for block in blocks]
    plain = all(isinstance(conv, nn.Conv2d) and conv.stride == (1, 1) and conv.groups == 1 for conv in middles)
    return plain and side % 2 == 0


def _matrix(conv: nn.Conv2d) -> tuple[Tensor, Tensor | None]:
    return conv.weight.flatten(1), conv.bias


def distinct(
    map_NMHW: Tensor, rois_R5: Tensor, size: int, pool: Callable[[Tensor, Tensor, int, float], Tensor]
) -> Cells:
    """RoIPool of a map of stride 16, each different cell once. `pool` is torchvision's.

    A cell is the largest value in a rectangle of whole cells of the map, which its corners name.
    """
    picture_R, corners_R4 = rois_R5[:, 0].long(), rois_R5[:, 1:].nan_to_num()
    height, width = map_NMHW.shape[2:]
    # Half away from zero, as C rounds; torch.round goes to the even number.
    left, top, right, bottom = (corners_R4 / 16 + 0.5).floor().unbind(dim=1)
    x0_RS, x1_RS = _intervals(left, right, size, width)
    y0_RS, y1_RS = _intervals(top, bottom, size, height)
    down, across = (height + 1) * y0_RS + y1_RS, (width + 1) * x0_RS + x1_RS
    key_RS1 = picture_R[:, None, None] * (height + 1) ** 2 + down[:, :, None]
    keys_U, index_RSS = (key_RS1 * (width + 1) ** 2 + across[:, None]).unique(return_inverse=True)
    parts = []
    for base in (width + 1, width + 1, height + 1, height + 1):
        parts.append(keys_U % base)
        keys_U = keys_U // base
    x1, x0, y1, y0 = parts
    one_U5 = torch.stack([keys_U, x0, y0, x1 - 1, y1 - 1], dim=1).to(rois_R5.dtype)
    return Cells(pool(map_NMHW, one_U5, 1, 1.0).flatten(1), index_RSS)


def _intervals(first_R: Tensor, last_R: Tensor, size: int, limit: int) -> tuple[Tensor, Tensor]:
    """Where the `size` cells from `first` to `last` begin and end on a map of `limit` cells, (R, S) whole numbers."""
    sides_R1 = (last_R - first_R + 1).clamp(min=1)[:, None]
    # A GPU divides by a number by multiplying with its inverse, and a cell that ends at 3.0000002 has one column more.
    cell_R1 = sides_R1 / torch.full_like(sides_R1, size)
    steps_S = torch.arange(size + 1, dtype=first_R.dtype, device=first_R.device)
    begin_RS = (steps_S[:-1] * cell_R1).floor() + first_R[:, None]
    end_RS = (steps_S[1:] * cell_R1).ceil() + first_R[:, None]
    return begin_RS.clamp(0, limit).long(), end_RS.clamp(0, limit).long()
