"""Model `vilt`: one transformer over words and raw patches (ViLT, arXiv:2102.03334)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pairloom.loader.batch import Batch
from systems import backbone
from systems.backbone import Backbone
from systems.grids import cells_of, normed_planes
from systems.layers import BertSettings, attention_bias, attention_dropout, init_std_positions
from systems.layouts.pixels import vilt
from trainer.contract import Encoded, Shapes, Widths
from trainer.published import Layout


@dataclass(frozen=True, kw_only=True)
class Settings(BertSettings):
    """A ViT that also reads words. image_size: of the square whose patches have positions. Others are interpolated."""

    max_tokens: int
    patch: int
    image_size: int
    max_patches: int  # of an image with more, so many are drawn; −1: all are taken
    backbone: Backbone | None = None  # its cells are read instead of pixels. patch and image_size count them


class Vilt(nn.Module):
    """transformers' ViltModel, and which of its places are words and patches."""

    def __init__(self, settings: Settings, shapes: Shapes) -> None:
        super().__init__()
        self.init_std, self.widths = settings.init_std, Widths(*[settings.hidden] * 3)
        self.backbone: nn.Module | None = None
        channels = 3
        if settings.backbone is not None:
            self.backbone, channels = backbone.build(settings.backbone)
        from transformers import ViltConfig, ViltModel  # slow to import, and the loader's workers need no model

        self.vilt = ViltModel(
            ViltConfig(
                vocab_size=shapes.vocab_size,
                hidden_size=settings.hidden,
                num_hidden_layers=settings.layers,
                num_attention_heads=settings.heads,
                intermediate_size=settings.feed_forward,
                hidden_dropout_prob=settings.dropout,
                attention_probs_dropout_prob=attention_dropout(settings),
                max_position_embeddings=settings.max_tokens,
                patch_size=settings.patch,
                image_size=settings.image_size,
                num_channels=channels,
                max_image_length=settings.max_patches,
                initializer_range=settings.init_std,
            )
        )
        words = self.vilt.embeddings.text_embeddings
        init_std_positions(
            words.position_embeddings, words.token_type_embeddings, self.vilt.embeddings.token_type_embeddings
        )

    @property
    def word_weight(self) -> Tensor:
        return self.vilt.embeddings.text_embeddings.word_embeddings.weight

    def forward(self, batch: Batch) -> Encoded:
        """Units are the patches without the image's class token, in ViltModel's own order, which is drawn."""
        words, planes_BCSS, mask_BSS = batch.words, batch.pixels_B3SS, batch.pixel_mask_BSS
        if self.backbone is not None:
            planes_BCSS, mask_BSS = normed_planes(cells_of(batch, self.backbone))
        assert planes_BCSS is not None
        if mask_BSS is None:
            mask_BSS = torch.ones_like(planes_BCSS[:, 0], dtype=torch.bool)
        # not ViltModel.forward, which keeps to itself which patches are filling
        embedded_BLH, seen_BL = self.vilt.embeddings(
            words.input_ids_BT, words.attention_mask_BT.long(), None, planes_BCSS, mask_BSS.long(), None, None
        )
        bias_B11L = attention_bias(seen_BL.bool(), embedded_BLH.dtype)
        joint_BLH = self.vilt.layernorm(self.vilt.encoder(embedded_BLH, attention_mask=bias_B11L)[0])
        assert self.vilt.pooler is not None
        length = words.input_ids_BT.shape[1]
        units_BUH, units_BU = joint_BLH[:, length + 1 :], seen_BL[:, length + 1 :].bool()
        return Encoded(joint_BLH[:, :length], units_BUH, units_BU, self.vilt.pooler(joint_BLH))


def published(model: Vilt, heads: Mapping[str, nn.Module]) -> tuple[Layout, ...]:
    """ViLT of transformers and of its authors, and a ViT for its patches and layers, from which the authors start."""
    return vilt(heads)


def build(settings: Settings, shapes: Shapes) -> Vilt:
    return Vilt(settings, shapes)
