"""Model `vit`: a transformer over raw patches, or a network's cells, and no words (ViT, arXiv:2010.11929)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pairloom.loader.batch import HIDDEN, Batch
from systems import backbone
from systems.backbone import Backbone
from systems.grids import cells_of, normed_planes
from systems.layers import BertSettings, attention_dropout
from systems.layouts.pixels import IN_MEMORY, vits
from trainer.contract import Encoded, Shapes, Widths
from trainer.published import Layout


@dataclass(frozen=True, kw_only=True)
class Settings(BertSettings):
    """Widths and depths. image_size: of the positions. Pictures of another size have them interpolated.

    backbone: a network whose cells are read instead of pixels, the hybrid of section 3.1. patch and image_size then
    count cells.
    """

    patch: int
    image_size: int
    backbone: Backbone | None = None


class Vit(nn.Module):
    """transformers' ViTModel. Its pooler is the hidden layer of the paper's pre-training head."""

    def __init__(self, settings: Settings, shapes: Shapes) -> None:
        super().__init__()
        self.init_std, self.widths = settings.init_std, Widths(*[settings.hidden] * 3)
        self.backbone: nn.Module | None = None
        channels = 3
        if settings.backbone is not None:
            self.backbone, channels = backbone.build(settings.backbone)
        from transformers import ViTConfig, ViTModel  # slow to import, and the loader's workers need no model

        config = ViTConfig(
            hidden_size=settings.hidden,
            num_hidden_layers=settings.layers,
            num_attention_heads=settings.heads,
            intermediate_size=settings.feed_forward,
            hidden_dropout_prob=settings.dropout,
            attention_probs_dropout_prob=attention_dropout(settings),
            patch_size=settings.patch,
            image_size=settings.image_size,
            num_channels=channels,
            initializer_range=settings.init_std,
        )
        self.vit = ViTModel(config, use_mask_token=True)

    def forward(self, batch: Batch) -> Encoded:
        """No words. Patches are shown as the target `shown_U` says, if an objective drew one (see batch.ITSELF)."""
        embeddings, planes_BCSS = self.vit.embeddings, batch.pixels_B3SS
        if self.backbone is not None:
            planes_BCSS = normed_planes(cells_of(batch, self.backbone))[0]
        assert planes_BCSS is not None
        shape = planes_BCSS.shape[2:]
        patches_BUH = embeddings.patch_embeddings(planes_BCSS)
        if "shown_U" in batch.targets:
            assert embeddings.mask_token is not None
            patches_BUH = shown(patches_BUH, batch.targets["shown_U"], embeddings.mask_token)
        hidden_BLH = torch.cat([embeddings.cls_token.expand(len(patches_BUH), -1, -1), patches_BUH], dim=1)
        hidden_BLH = hidden_BLH + embeddings.interpolate_pos_encoding(hidden_BLH, *shape)
        hidden_BLH = embeddings.dropout(hidden_BLH)
        for layer in self.vit.layers:
            hidden_BLH = layer(hidden_BLH, None)
        hidden_BLH = self.vit.layernorm(hidden_BLH)
        assert self.vit.pooler is not None
        units_BU = torch.ones_like(hidden_BLH[:, 1:, 0], dtype=torch.bool)
        return Encoded(hidden_BLH[:, :0], hidden_BLH[:, 1:], units_BU, self.vit.pooler(hidden_BLH))


def shown(patches_BUH: Tensor, shown_BU: Tensor, hidden_H: Tensor) -> Tensor:
    """The patches, hidden ones replaced by `hidden`, others where told by the batch's patch of that number."""
    flat_NH = patches_BUH.flatten(0, 1)
    other_BUH = flat_NH[shown_BU.clamp(min=0) % len(flat_NH)]
    replaced_BUH = torch.where((shown_BU > HIDDEN)[..., None], other_BUH, patches_BUH)
    return torch.where((shown_BU == HIDDEN)[..., None], hidden_H.to(patches_BUH.dtype), replaced_BUH)


def published(model: Vit, heads: Mapping[str, nn.Module]) -> tuple[Layout, ...]:
    """ViT of transformers, of timm and of its authors. The hidden layer before the classes is due, too."""
    return vits("model.vit.", r"layers.\1.", IN_MEMORY, pooler=True)


def build(settings: Settings, shapes: Shapes) -> Vit:
    return Vit(settings, shapes)
