"""How a region enters a transformer: its feature and its place, each through a layer, added and normed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from pairloom.loader.batch import RegionBatch
from systems.layers import NORM_EPS, initialised, shown_features

# Which of x1/W y1/H x2/W y2/H w/W h/H area share are given: LXMERT, ViLBERT, Oscar, UNITER
PLACES = {4: (0, 1, 2, 3), 5: (0, 1, 2, 3, 6), 6: (0, 1, 2, 3, 4, 5), 7: (0, 1, 2, 3, 4, 5, 6)}


@dataclass(frozen=True, kw_only=True)
class RegionSettings:
    """norm: `each` of feature and place before they are added, and the sum again (UNITER), the `sum` alone, or `none`.

    hidden: what stands where a feature is hidden. whole: whether the image as a whole comes first, as the mean of the
    features that are shown, at the box of the whole image (ViLBERT). typed: whether a learned type of token is added.
    """

    box: Literal[4, 5, 6, 7]
    norm: Literal["each", "sum", "none"]
    hidden: Literal["learned", "zero"]
    whole: bool = False
    typed: bool = False


class RegionEmbedding(nn.Module):
    """(B, R, H) of the regions of a batch. One more in front with `whole`."""

    def __init__(
        self,
        settings: RegionSettings,
        width: int,
        hidden: int,
        dropout: float,
        std: float,
        norm_eps: float = NORM_EPS,
    ) -> None:
        super().__init__()
        each = settings.norm == "each"
        self.whole, self.place_names = settings.whole, list(PLACES[settings.box])
        self.feature = nn.Linear(width, hidden)
        self.feature_norm = nn.LayerNorm(hidden, eps=norm_eps) if each else nn.Identity()
        self.place = nn.Linear(settings.box, hidden)
        self.place_norm = nn.LayerNorm(hidden, eps=norm_eps) if each else nn.Identity()
        self.norm = nn.Identity() if settings.norm == "none" else nn.LayerNorm(hidden, eps=norm_eps)
        self.dropout = nn.Dropout(dropout)
        initialised(self, std)
        hidden_D = torch.randn(width) * std if settings.hidden == "learned" else torch.zeros(width)
        self.hidden_D = nn.Parameter(hidden_D, requires_grad=settings.hidden == "learned")

    def forward(self, regions: RegionBatch, type_H: Tensor | float = 0.0, nudge_BRD: Tensor | None = None) -> Tensor:
        """Features of hidden regions are not seen. nudge: added to what is seen, see trainer/adversarial.py."""
        shown_BRD = shown_features(regions, self.hidden_D)
        shown_BRD = shown_BRD if nudge_BRD is None else shown_BRD + nudge_BRD
        boxes_BR7 = regions.boxes_BR7
        if self.whole:
            shown_BRD = torch.cat([mean(shown_BRD, regions.mask_BR)[:, None], shown_BRD], dim=1)
            all_7 = boxes_BR7.new_tensor([0, 0, 1, 1, 1, 1, 1])
            boxes_BR7 = torch.cat([all_7.expand(len(boxes_BR7), 1, 7), boxes_BR7], dim=1)
        feature_BRH = self.feature_norm(self.feature(shown_BRD))
        place_BRH = self.place_norm(self.place(boxes_BR7[..., self.place_names].to(shown_BRD.dtype)))
        embedded: Tensor = self.dropout(self.norm(feature_BRH + place_BRH + type_H))
        return embedded

    def seen(self, regions: RegionBatch) -> Tensor:
        """(B, R) bool, False is padding. One more in front with `whole`."""
        if not self.whole:
            return regions.mask_BR
        return torch.cat([regions.mask_BR.any(dim=1, keepdim=True), regions.mask_BR], dim=1)  # of no image, no whole


def mean(values_BRD: Tensor, mask_BR: Tensor) -> Tensor:
    """(B, D) mean over what is not padding. 0 if all is."""
    return (values_BRD * mask_BR[..., None]).sum(dim=1) / mask_BR.sum(dim=1, keepdim=True).clamp(min=1)
