"""Pictures as sequences of cells: each picture's own grid, row by row, whatever pictures it shares a batch with."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from pairloom.loader.batch import Batch, CellBatch


def cells_of(batch: Batch, backbone: nn.Module) -> CellBatch:
    """What the backbone makes of the batch's pixels, unless the batch brings it.

    Pictures of one size go through the backbone together, so that no padding enters it. Where a batch norm is being
    trained, all of them go together, padded: such a norm depends on the batch anyhow, and wants many cells.
    """
    if batch.cells is not None:
        return batch.cells
    pixels_B3SS, mask_BSS = batch.pixels_B3SS, batch.pixel_mask_BSS
    assert pixels_B3SS is not None
    if mask_BSS is None:
        return _stacked(backbone(pixels_B3SS))
    if any(isinstance(part, nn.modules.batchnorm._BatchNorm) and part.training for part in backbone.modules()):
        return _cut(backbone(pixels_B3SS), mask_BSS)
    sizes_B2 = torch.stack([mask_BSS.any(dim=2).sum(dim=1), mask_BSS.any(dim=1).sum(dim=1)], dim=1)
    found: dict[int, Tensor] = {}
    for size in sizes_B2.unique(dim=0):
        rows = (sizes_B2 == size).all(dim=1).nonzero().squeeze(1)
        grids_N = backbone(pixels_B3SS[rows, :, : int(size[0]), : int(size[1])])
        found |= dict(zip(rows.tolist(), grids_N, strict=True))
    return _packed([found[row] for row in range(len(sizes_B2))])


def _stacked(grid_BCSS: Tensor) -> CellBatch:
    shape_B2 = torch.tensor(grid_BCSS.shape[2:], device=grid_BCSS.device).expand(len(grid_BCSS), 2)
    return CellBatch(grid_BCSS.flatten(2).transpose(1, 2), shape_B2)


def _cut(grid_BCSS: Tensor, mask_BSS: Tensor) -> CellBatch:
    """Of each padded grid the cells that show some of the picture."""
    shown_BSS = F.adaptive_max_pool2d(mask_BSS[:, None].float(), grid_BCSS.shape[2:])[:, 0] > 0
    down_B, across_B = shown_BSS.any(dim=2).sum(dim=1).tolist(), shown_BSS.any(dim=1).sum(dim=1).tolist()
    return _packed([grid[:, :down, :across] for grid, down, across in zip(grid_BCSS, down_B, across_B, strict=True)])


def _packed(grids: list[Tensor]) -> CellBatch:
    """Grids (C, S, S) of any shapes, each as one sequence, filled up at its end."""
    shape_B2 = torch.tensor([grid.shape[1:] for grid in grids], device=grids[0].device)
    return CellBatch(pad_sequence([grid.flatten(1).t() for grid in grids], batch_first=True), shape_B2)


def seen(cells: CellBatch) -> Tensor:
    """(B, U) bool, False is padding."""
    place_U = torch.arange(cells.values_BUC.shape[1], device=cells.shape_B2.device)
    return place_U < cells.shape_B2.prod(dim=1, keepdim=True)


def sine(cells: CellBatch, width: int) -> Tensor:
    """(B, U, H) half for the row, half for the column, sines and cosines in turn, each scaled to 2π.

    As DETR (arXiv:2005.12872) and SOHO's code have it.
    """
    quarter = width // 4
    device = cells.shape_B2.device
    frequencies = 10000 ** (-torch.arange(quarter, device=device) / quarter)
    place_U = torch.arange(cells.values_BUC.shape[1], device=device)
    across_B1 = cells.shape_B2[:, 1:]
    places_2BU = torch.stack([place_U // across_B1, place_U % across_B1])
    angle = (places_2BU + 1) / cells.shape_B2.t()[..., None] * 2 * torch.pi
    angles_2BUQ = angle[..., None] * frequencies
    rows_BUH, columns_BUH = torch.stack([angles_2BUQ.sin(), angles_2BUQ.cos()], dim=-1).flatten(-2)
    return torch.cat([rows_BUH, columns_BUH], dim=-1)


def normed_planes(cells: CellBatch) -> tuple[Tensor, Tensor]:
    """((B, C, S, S), (B, S, S) bool): the grids as pictures of C channels, for a ViT in a network's place of pixels.

    Each cell is normed, so that a network's numbers, of whatever size, weigh as much as a picture's. False is padding.
    """
    down, across = cells.shape_B2.amax(dim=0).tolist()
    values_BUC = F.layer_norm(cells.values_BUC, cells.values_BUC.shape[-1:])
    planes_BCSS = values_BUC.new_zeros(len(values_BUC), values_BUC.shape[-1], down, across)
    mask_BSS = torch.zeros(len(values_BUC), down, across, dtype=torch.bool, device=values_BUC.device)
    for row, (high, wide) in enumerate(cells.shape_B2.tolist()):
        planes_BCSS[row, :, :high, :wide] = values_BUC[row, : high * wide].t().unflatten(1, (high, wide))
        mask_BSS[row, :high, :wide] = True
    return planes_BCSS, mask_BSS
