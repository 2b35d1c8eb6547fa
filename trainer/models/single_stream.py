"""Model `single_stream`: one transformer over words and regions together (UNITER, arXiv:1909.11740, section 3.1)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from schemas.errors import ConfigError
from trainer.batch import Batch, RegionBatch
from trainer.contract import Shapes
from trainer.layers import initialised


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Widths and depths, as BERT's."""

    hidden: int
    layers: int
    heads: int
    feed_forward: int
    dropout: float
    max_tokens: int  # longest text that has a position
    init_std: float = 0.02  # of the weights at the start


@dataclass(frozen=True)
class Encoded:
    """The last layer: words, regions, and the pooled first token."""

    words_BTH: Tensor
    regions_BRH: Tensor
    pooled_BH: Tensor


class RegionEmbedding(nn.Module):
    """Feature and place, each through a layer and a norm, and the type of a region, added and normed again."""

    def __init__(self, width: int, settings: Settings) -> None:
        super().__init__()
        self.feature = nn.Linear(width, settings.hidden)
        self.feature_norm = nn.LayerNorm(settings.hidden, eps=1e-12)
        self.place = nn.Linear(7, settings.hidden)
        self.place_norm = nn.LayerNorm(settings.hidden, eps=1e-12)
        self.norm = nn.LayerNorm(settings.hidden, eps=1e-12)
        self.dropout = nn.Dropout(settings.dropout)
        initialised(self, settings.init_std)
        self.hidden_D = nn.Parameter(torch.randn(width) * settings.init_std)  # stands where a masked feature was

    def forward(self, regions: RegionBatch, type_H: Tensor) -> Tensor:
        """(B, R, H). Features of masked regions are not seen: zero, plus a learned vector."""
        features_BRD = regions.features_BRD.to(self.hidden_D.dtype)
        shown_BRD = torch.where(regions.masked_BR[..., None], self.hidden_D, features_BRD)
        feature_BRH = self.feature_norm(self.feature(shown_BRD))
        place_BRH = self.place_norm(self.place(regions.boxes_BR7))
        embedded: Tensor = self.dropout(self.norm(feature_BRH + place_BRH + type_H))
        return embedded


class SingleStream(nn.Module):
    """BERT whose input is a caption followed by regions."""

    def __init__(self, settings: Settings, shapes: Shapes) -> None:
        super().__init__()
        if shapes.feature_width is None:
            raise ConfigError("model single_stream needs regions", "the recipe", "set units to regions")
        self.hidden, self.init_std = settings.hidden, settings.init_std
        from transformers import BertConfig, BertModel  # slow to import, and the loader's workers need no model

        self.bert = BertModel(
            BertConfig(
                vocab_size=shapes.vocab_size,
                hidden_size=settings.hidden,
                num_hidden_layers=settings.layers,
                num_attention_heads=settings.heads,
                intermediate_size=settings.feed_forward,
                hidden_dropout_prob=settings.dropout,
                attention_probs_dropout_prob=settings.dropout,
                max_position_embeddings=settings.max_tokens,
                initializer_range=settings.init_std,
            )
        )
        self.regions = RegionEmbedding(shapes.feature_width, settings)

    @property
    def word_weight(self) -> Tensor:
        """(V, H), the word embeddings, which the head that predicts words shares."""
        return self.bert.embeddings.word_embeddings.weight

    @property
    def region_weight(self) -> Tensor:
        """(H, D), the layer that reads features, which the head that predicts features shares."""
        return self.regions.feature.weight

    def forward(self, batch: Batch) -> Encoded:
        assert batch.regions is not None
        words_BTH = self.bert.embeddings(batch.words.input_ids_BT)
        type_H = self.bert.embeddings.token_type_embeddings.weight[1]
        regions_BRH = self.regions(batch.regions, type_H)
        # Padding between words and regions is masked and has no position, so packing them would change nothing.
        seen_BL = torch.cat([batch.words.attention_mask_BT, batch.regions.mask_BR], dim=1)
        bias_B11L = torch.where(seen_BL, 0.0, torch.finfo(words_BTH.dtype).min)[:, None, None, :].to(words_BTH.dtype)
        joint_BLH = self.bert.encoder(torch.cat([words_BTH, regions_BRH], dim=1), bias_B11L).last_hidden_state
        assert self.bert.pooler is not None
        pooled_BH = self.bert.pooler(joint_BLH)
        length = words_BTH.shape[1]
        return Encoded(joint_BLH[:, :length], joint_BLH[:, length:], pooled_BH)


def build(settings: Settings, shapes: Shapes) -> SingleStream:
    return SingleStream(settings, shapes)
