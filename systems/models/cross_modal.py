"""Model `cross_modal`: encoders of words, of regions and of both together, transformers' LXMERT (arXiv:1908.07490)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pairloom.loader.batch import Batch
from systems.layers import init_std_positions, region_width, shown_features
from systems.layouts.regions import lxmert
from trainer.contract import Encoded, Shapes, Widths
from trainer.published import Layout


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Layers of each of the three encoders, and their common width."""

    hidden: int
    heads: int
    feed_forward: int
    word_layers: int
    region_layers: int
    cross_layers: int
    dropout: float
    max_tokens: int
    init_std: float = 0.02


class CrossModal(nn.Module):
    """LXMERT without its heads, which belong to the objectives. A box is its four corners. A hidden feature is zero."""

    def __init__(self, settings: Settings, shapes: Shapes) -> None:
        super().__init__()
        width = region_width(shapes)
        self.widths = Widths(settings.hidden, settings.hidden, settings.hidden)
        self.init_std = settings.init_std
        from transformers import LxmertConfig, LxmertModel  # slow to import, and the loader's workers need no model

        self.lxmert = LxmertModel(
            LxmertConfig(
                vocab_size=shapes.vocab_size,
                hidden_size=settings.hidden,
                num_attention_heads=settings.heads,
                intermediate_size=settings.feed_forward,
                l_layers=settings.word_layers,
                r_layers=settings.region_layers,
                x_layers=settings.cross_layers,
                hidden_dropout_prob=settings.dropout,
                attention_probs_dropout_prob=settings.dropout,
                max_position_embeddings=settings.max_tokens,
                initializer_range=settings.init_std,
                visual_feat_dim=width,
            )
        )
        init_std_positions(self.lxmert.embeddings.position_embeddings, self.lxmert.embeddings.token_type_embeddings)
        self.nothing_D = nn.Buffer(torch.zeros(width), persistent=False)

    @property
    def word_weight(self) -> Tensor:
        return self.lxmert.embeddings.word_embeddings.weight

    @property
    def feature_weight(self) -> Tensor:
        return self.lxmert.encoder.visn_fc.visn_fc.weight

    def forward(self, batch: Batch) -> Encoded:
        assert batch.regions is not None
        found = self.lxmert(
            input_ids=batch.words.input_ids_BT,
            token_type_ids=batch.words.segments_BT,
            attention_mask=batch.words.attention_mask_BT.long(),
            visual_feats=shown_features(batch.regions, self.nothing_D),
            visual_pos=batch.regions.boxes_BR7[..., :4],
            visual_attention_mask=batch.regions.mask_BR.long(),
        )
        return Encoded(found.language_output, found.vision_output, batch.regions.mask_BR, found.pooled_output)


def published(model: CrossModal, heads: Mapping[str, nn.Module]) -> tuple[Layout, ...]:
    """transformers' LxmertForPreTraining and the authors' own file."""
    return (lxmert(heads),)


def build(settings: Settings, shapes: Shapes) -> CrossModal:
    return CrossModal(settings, shapes)
