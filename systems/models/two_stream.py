"""Model `two_stream`: words and regions in streams that attend to each other (ViLBERT, arXiv:1908.02265)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from pairloom.loader.batch import Batch
from pairloom.typed import Share, check_ranges
from systems.layers import (
    Transformer,
    attention_bias,
    bert_config,
    bert_layers,
    init_std_positions,
    initialised,
    region_width,
)
from systems.layouts.bert import layers_of_words
from systems.layouts.regions import vilbert
from systems.models.single_stream import embedded_words
from systems.region_embedding import RegionEmbedding, RegionSettings
from trainer.contract import Encoded, Shapes, Widths
from trainer.published import Layout


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The last `co_layers` of the words' layers and all of the regions' are each preceded by a co-attention.

    joint: width and heads of co-attention, and width of the product of both streams' pooled first tokens.
    pooled_dropout: of that product, which matching reads.
    """

    words: Transformer
    regions: Transformer
    co_layers: int
    joint: int
    joint_heads: int
    dropout: float
    max_tokens: int
    embedding: RegionSettings
    init_std: float = 0.02
    pooled_dropout: Share = 0.0

    def __post_init__(self) -> None:
        check_ranges(self)


class CoAttention(nn.Module):
    """One direction: a stream asks, the other answers. Then the asking stream's feed-forward layer."""

    def __init__(self, asks: Transformer, answers: Transformer, settings: Settings) -> None:
        super().__init__()
        self.heads, self.dropout = settings.joint_heads, settings.dropout
        self.query = nn.Linear(asks.hidden, settings.joint)
        self.key = nn.Linear(answers.hidden, settings.joint)
        self.value = nn.Linear(answers.hidden, settings.joint)
        self.out = nn.Linear(settings.joint, asks.hidden)
        self.norm = nn.LayerNorm(asks.hidden, eps=1e-12)
        self.feed_forward = nn.Sequential(
            nn.Linear(asks.hidden, asks.feed_forward), nn.GELU(), nn.Linear(asks.feed_forward, asks.hidden)
        )
        self.last_norm = nn.LayerNorm(asks.hidden, eps=1e-12)
        initialised(self, settings.init_std)

    def forward(self, asks_BLH: Tensor, answers_BMH: Tensor, bias_B11M: Tensor) -> Tensor:
        query, key, value = (
            layer(given).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for layer, given in ((self.query, asks_BLH), (self.key, answers_BMH), (self.value, answers_BMH))
        )
        dropout = self.dropout if self.training else 0.0
        heard = F.scaled_dot_product_attention(query, key, value, attn_mask=bias_B11M, dropout_p=dropout)
        heard_BLH = self._dropped(self.out(heard.transpose(1, 2).flatten(2)))
        asks_BLH = self.norm(asks_BLH + heard_BLH)
        answer: Tensor = self.last_norm(asks_BLH + self._dropped(self.feed_forward(asks_BLH)))
        return answer

    def _dropped(self, values: Tensor) -> Tensor:
        return F.dropout(values, self.dropout, self.training)


class TwoStream(nn.Module):
    """ViLBERT. Layers in the order of its code: words alone, then co-attention and a layer of each stream in turn."""

    def __init__(self, settings: Settings, shapes: Shapes) -> None:
        super().__init__()
        width, std, dropout = region_width(shapes), settings.init_std, settings.dropout
        self.widths = Widths(settings.words.hidden, settings.regions.hidden, settings.joint)
        self.init_std, self.co_layers = std, settings.co_layers
        from transformers.models.bert.modeling_bert import BertEmbeddings

        config = bert_config(
            settings.words, shapes.vocab_size, dropout=dropout, init_std=std, max_tokens=settings.max_tokens
        )
        self.embeddings = initialised(BertEmbeddings(config), std)
        init_std_positions(self.embeddings.position_embeddings, self.embeddings.token_type_embeddings)
        self.regions = RegionEmbedding(settings.embedding, width, settings.regions.hidden, dropout, std)
        self.word_layers = bert_layers(settings.words, dropout, std)
        self.region_layers = bert_layers(settings.regions, dropout, std)
        streams = ((settings.words, settings.regions), (settings.regions, settings.words))
        self.to_words, self.to_regions = (
            nn.ModuleList(CoAttention(asks, answers, settings) for _ in range(settings.co_layers))
            for asks, answers in streams
        )
        self.pooled_dropout = nn.Dropout(settings.pooled_dropout)
        self.word_pooler = initialised(nn.Linear(settings.words.hidden, settings.joint), std)
        self.region_pooler = initialised(nn.Linear(settings.regions.hidden, settings.joint), std)

    @property
    def word_weight(self) -> Tensor:
        weight: Tensor = self.embeddings.word_embeddings.weight
        return weight

    @property
    def feature_weight(self) -> Tensor:
        return self.regions.feature.weight

    def forward(self, batch: Batch) -> Encoded:
        assert batch.regions is not None
        words_BTH = embedded_words(self.embeddings, batch.words)
        units_BUH = self.regions(batch.regions)
        word_bias = attention_bias(batch.words.attention_mask_BT, words_BTH.dtype)
        unit_bias = attention_bias(self.regions.seen(batch.regions), words_BTH.dtype)
        alone = len(self.word_layers) - self.co_layers
        units_alone = len(self.region_layers) - self.co_layers
        for layer in self.word_layers[:alone]:
            words_BTH = layer(words_BTH, word_bias)
        for layer in self.region_layers[:units_alone]:
            units_BUH = layer(units_BUH, unit_bias)
        for number, (to_words, to_regions) in enumerate(zip(self.to_words, self.to_regions, strict=True)):
            words_BTH, units_BUH = (
                to_words(words_BTH, units_BUH, unit_bias),
                to_regions(units_BUH, words_BTH, word_bias),
            )
            words_BTH = self.word_layers[alone + number](words_BTH, word_bias)
            units_BUH = self.region_layers[units_alone + number](units_BUH, unit_bias)
        pooled_BH = F.relu(self.word_pooler(words_BTH[:, 0])) * F.relu(self.region_pooler(units_BUH[:, 0]))
        pooled_BH = self.pooled_dropout(pooled_BH)
        return Encoded(words_BTH, units_BUH[:, int(self.regions.whole) :], batch.regions.mask_BR, pooled_BH)


def published(model: TwoStream, heads: Mapping[str, nn.Module]) -> tuple[Layout, ...]:
    """ViLBERT's and 12-in-1's own files, and a BERT for the words' embeddings and layers."""
    words = "model.word_layers"
    return vilbert(heads), layers_of_words(len(model.word_layers), heads, (words, words))


def build(settings: Settings, shapes: Shapes) -> TwoStream:
    return TwoStream(settings, shapes)
