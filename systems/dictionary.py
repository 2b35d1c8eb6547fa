"""A visual dictionary, whose entries follow the cells that are nearest to them (SOHO, arXiv:2104.03135, 3.2)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, distributed, nn


@dataclass(frozen=True, kw_only=True)
class Dictionary:
    """entries: how many. decay: what stays of an entry at each step. floor: an entry that so few cells ask for (by the
    moving count) is dead, and becomes a random cell of the batch. 0 leaves the dead alone, as SOHO's code does.
    start: count of each entry before the first step; from SOHO's 0 an entry that nothing asks for falls to the origin,
    from where it is chosen again."""

    entries: int
    decay: float
    floor: float = 0.0
    start: float = 0.0


class VisualDictionary(nn.Module):
    """Entries are moving means of the cells nearest to them. They have no gradient."""

    entries_NH: Tensor
    sizes_N: Tensor
    sums_NH: Tensor

    def __init__(self, settings: Dictionary, width: int) -> None:
        super().__init__()
        self.settings = settings
        self.register_buffer("entries_NH", torch.randn(settings.entries, width))
        self.register_buffer("sizes_N", torch.full((settings.entries,), settings.start))
        self.register_buffer("sums_NH", self.entries_NH * settings.start)
        self.hidden_H = nn.Parameter(torch.randn(width) * 0.02)
        self.quantised = nn.Linear(width, width)
        self.gate = nn.Linear(2 * width, 2)

    def forward(
        self, cells_BUH: Tensor, seen_BU: Tensor, targets: Mapping[str, Tensor]
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Cells mixed with their entries by a gate, the entries' numbers, and the cells that are hidden.

        Where targets has `hidden_place` (B, a share of the cells; negative: none), all cells with the code of the
        cell at that place are hidden.
        """
        codes_BU = nearest(cells_BUH, self.entries_NH)
        if self.training:  # first, as in the code: a cell is mixed with its entry as it is after the move
            self.follow(cells_BUH.detach()[seen_BU].float(), codes_BU[seen_BU])
        entry_BUH = self.entries_NH[codes_BU]
        entry_BUH = cells_BUH + (entry_BUH - cells_BUH).detach()  # the gradient goes past the choice
        entry_BUH = self.quantised(entry_BUH)
        share_BU2 = self.gate(torch.cat([entry_BUH, cells_BUH], dim=-1)).softmax(dim=-1)
        mixed_BUH = share_BU2[..., :1] * entry_BUH + share_BU2[..., 1:] * cells_BUH
        if "hidden_place" not in targets:
            return mixed_BUH, codes_BU, None
        share_B = targets["hidden_place"]
        count_B = seen_BU.sum(dim=1)
        order_BU = torch.argsort(~seen_BU, dim=1, stable=True)  # seen cells first
        place_B = order_BU.gather(1, (share_B.clamp(min=0) * count_B).long().clamp(max=seen_BU.shape[1] - 1)[:, None])
        hidden_BU = (codes_BU == codes_BU.gather(1, place_B)) & seen_BU & (share_B >= 0)[:, None]
        return torch.where(hidden_BU[..., None], self.hidden_H.to(mixed_BUH.dtype), mixed_BUH), codes_BU, hidden_BU

    @torch.no_grad()
    def follow(self, cells_NH: Tensor, codes_N: Tensor) -> None:
        """Move the entries towards the cells that chose them. Counts and sums are those of all ranks."""
        decay, entries = self.settings.decay, self.settings.entries
        counts_N = torch.bincount(codes_N, minlength=entries).float()
        sums_NH = torch.zeros_like(self.sums_NH).index_add_(0, codes_N, cells_NH)
        if distributed.is_available() and distributed.is_initialized():
            distributed.all_reduce(counts_N)
            distributed.all_reduce(sums_NH)
        self.sizes_N.lerp_(counts_N, 1 - decay)
        self.sums_NH.lerp_(sums_NH, 1 - decay)
        total = self.sizes_N.sum()
        smooth_N = (self.sizes_N + 1e-5) / (total + entries * 1e-5) * total  # Laplace's, as in the code
        self.entries_NH.copy_(self.sums_NH / smooth_N.clamp(min=1e-5)[:, None])
        self._revive(cells_NH)

    def _revive(self, cells_NH: Tensor) -> None:
        dead_N = (self.sizes_N < self.settings.floor).nonzero().squeeze(1)
        if not len(dead_N) or not len(cells_NH):
            return
        chosen_NH = cells_NH[torch.randint(len(cells_NH), (len(dead_N),), device=cells_NH.device)]
        if distributed.is_available() and distributed.is_initialized():
            distributed.broadcast(chosen_NH, 0)  # or ranks would drift apart
        self.entries_NH[dead_N] = chosen_NH
        self.sums_NH[dead_N] = chosen_NH
        self.sizes_N[dead_N] = 1.0


def nearest(cells_BUH: Tensor, entries_NH: Tensor) -> Tensor:
    """(B, U) number of the entry at the smallest Euclidean distance."""
    return torch.cdist(cells_BUH.detach().float().flatten(0, 1), entries_NH).argmin(dim=-1).view(cells_BUH.shape[:2])
