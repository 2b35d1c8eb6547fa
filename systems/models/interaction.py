"""Model `interaction`: words and regions first together, then each alone (InterBERT, arXiv:2003.13198, section 3.1)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pairloom.loader.batch import Batch
from pairloom.typed import Share
from systems.layers import (
    BertSettings,
    attention_bias,
    bert_config,
    bert_layers,
    init_std_positions,
    initialised,
    region_width,
)
from systems.layouts.bert import layers_of_words
from systems.layouts.regions import interbert
from systems.models.single_stream import embedded_words
from systems.region_embedding import RegionEmbedding, RegionSettings
from trainer.contract import Encoded, Shapes, Widths
from trainer.published import Layout


@dataclass(frozen=True, kw_only=True)
class Alone:
    """The layers of words or of regions alone. attention_dropout: of attention's weights. Null is the same."""

    layers: int
    heads: int
    feed_forward: int
    dropout: float
    attention_dropout: float | None = None


@dataclass(frozen=True, kw_only=True)
class Settings(BertSettings):
    """The interaction module, as BERT's, then the two independence modules of the same width.

    pooled_dropout: of the product that matching reads.
    """

    max_tokens: int
    pooled_dropout: Share = 0.0
    words_alone: Alone
    regions_alone: Alone
    regions: RegionSettings


class Interaction(nn.Module):
    """Pooled is the product of both modalities' first tokens, each through a layer and ReLU, as in the code."""

    def __init__(self, settings: Settings, shapes: Shapes) -> None:
        super().__init__()
        width, std, hidden = region_width(shapes), settings.init_std, settings.hidden
        self.widths, self.init_std = Widths(hidden, hidden, hidden), std
        from transformers.models.bert.modeling_bert import BertEmbeddings

        config = bert_config(
            settings, shapes.vocab_size, dropout=settings.dropout, init_std=std, max_tokens=settings.max_tokens
        )
        self.embeddings = initialised(BertEmbeddings(config), std)
        init_std_positions(self.embeddings.position_embeddings, self.embeddings.token_type_embeddings)
        self.regions = RegionEmbedding(settings.regions, width, hidden, settings.dropout, std)
        self.pooled_dropout = nn.Dropout(settings.pooled_dropout)
        self.together = bert_layers(settings, settings.dropout, std, settings.attention_dropout)
        self.words_alone, self.regions_alone = (
            bert_layers(replace(settings, **asdict(alone)), alone.dropout, std, alone.attention_dropout)
            for alone in (settings.words_alone, settings.regions_alone)
        )
        self.word_pooler = initialised(nn.Linear(hidden, hidden), std)
        self.region_pooler = initialised(nn.Linear(hidden, hidden), std)

    @property
    def word_weight(self) -> Tensor:
        weight: Tensor = self.embeddings.word_embeddings.weight
        return weight

    @property
    def feature_weight(self) -> Tensor:
        return self.regions.feature.weight

    def forward(self, batch: Batch) -> Encoded:
        assert batch.regions is not None
        words_BTH, units_BUH = embedded_words(self.embeddings, batch.words), self.regions(batch.regions)
        seen_BT, seen_BU = batch.words.attention_mask_BT, self.regions.seen(batch.regions)
        length, joint_BLH = words_BTH.shape[1], torch.cat([words_BTH, units_BUH], dim=1)
        bias = attention_bias(torch.cat([seen_BT, seen_BU], dim=1), joint_BLH.dtype)
        for layer in self.together:
            joint_BLH = layer(joint_BLH, bias)
        words_BTH, units_BUH = joint_BLH[:, :length], joint_BLH[:, length:]
        # Each its own bias: a slice of the joint one may lie where CUDA's attention cannot read (misaligned address).
        word_bias, unit_bias = (attention_bias(seen, joint_BLH.dtype) for seen in (seen_BT, seen_BU))
        for layer in self.words_alone:
            words_BTH = layer(words_BTH, word_bias)
        for layer in self.regions_alone:
            units_BUH = layer(units_BUH, unit_bias)
        pooled_BH = F.relu(self.word_pooler(words_BTH[:, 0])) * F.relu(self.region_pooler(units_BUH[:, 0]))
        pooled_BH = self.pooled_dropout(pooled_BH)
        return Encoded(words_BTH, units_BUH[:, int(self.regions.whole) :], batch.regions.mask_BR, pooled_BH)


def published(model: Interaction, heads: Mapping[str, nn.Module]) -> tuple[Layout, ...]:
    """InterBERT's own file, and a BERT: its lower layers for both together, its upper ones for the words alone."""
    together = len(model.together)
    return interbert(together, heads), layers_of_words(together, heads, ("model.together", "model.words_alone"))


def build(settings: Settings, shapes: Shapes) -> Interaction:
    return Interaction(settings, shapes)
