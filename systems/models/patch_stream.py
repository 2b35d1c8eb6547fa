"""Model `patch_stream`: a caption and fixed crops of the image in one BERT (FashionBERT, Kaleido-BERT)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from pairloom.errors import ConfigError
from pairloom.loader.batch import Batch, RegionBatch
from pairloom.typed import Positive, Share, check_ranges
from systems.layers import BertSettings, attention_bias, bert_model, initialised, region_width, shown_features
from systems.layouts.bert import bert
from systems.layouts.grids import parts
from systems.models.single_stream import embedded_words
from trainer.contract import Encoded, Shapes, Widths
from trainer.published import Layout

LOCATION = [0, 2, 1, 3, 6]  # x1 x2 y1 y2 w·h of boxes_R7, in Kaleido-BERT's order (section 3.5)


@dataclass(frozen=True, kw_only=True)
class Settings(BertSettings):
    """BERT's widths, and how crops enter.

    levels: how many crops are of each level, in their order. Each level has a layer of its own that reads its features.
    place: `learned`, a vector for each crop, or `location`, a layer over its box. Features that are hidden are zero.
    norm: one for all crops, or one for those of each level. feature_dropout: of the features before they are read.
    """

    max_tokens: int  # longest text that has a position
    levels: tuple[Positive, ...]
    place: Literal["learned", "location"]
    norm: Literal["all", "level"] = "all"
    feature_dropout: Share = 0.0

    def __post_init__(self) -> None:
        check_ranges(self)
        if not self.levels:
            raise ConfigError("levels are []", "the recipe", "name one level or more")


class PatchEmbedding(nn.Module):
    """(B, R, H) of the crops: feature, level and place, added and normed. No layer has a bias (both systems' code)."""

    def __init__(self, settings: Settings, width: int) -> None:
        super().__init__()
        hidden, count = settings.hidden, sum(settings.levels)
        self.levels, self.located = settings.levels, settings.place == "location"
        self.features = nn.ModuleList(nn.Linear(width, hidden, bias=False) for _ in settings.levels)
        # Both number their levels from 1, and text has the 0 that no crop uses.
        self.types = nn.Embedding(len(settings.levels) + 1, hidden)
        self.place = nn.Linear(len(LOCATION), hidden, bias=False) if self.located else nn.Embedding(count, hidden)
        norms = len(settings.levels) if settings.norm == "level" else 1
        self.norms = nn.ModuleList(nn.LayerNorm(hidden, eps=1e-12) for _ in range(norms))
        self.feature_dropout, self.dropout = nn.Dropout(settings.feature_dropout), nn.Dropout(settings.dropout)
        initialised(self, settings.init_std)

    def forward(self, crops: RegionBatch) -> Tensor:
        weight = self.types.weight
        shown_BRD = shown_features(crops, weight.new_zeros(crops.features_BRD.shape[-1]))
        shown_BRD = self.feature_dropout(shown_BRD)
        levels = zip(shown_BRD.split(self.levels, dim=1), self.features, strict=True)
        parts = [layer(one) + weight[level] for level, (one, layer) in enumerate(levels, start=1)]
        place = self.place(crops.boxes_BR7[..., LOCATION].to(weight.dtype)) if self.located else self.place.weight
        summed_BRH = torch.cat(parts, dim=1) + place
        blocks = summed_BRH.split(self.levels if len(self.norms) > 1 else [summed_BRH.shape[1]], dim=1)
        normed = [norm(block) for norm, block in zip(self.norms, blocks, strict=True)]
        embedded: Tensor = self.dropout(torch.cat(normed, dim=1))
        return embedded


class PatchStream(nn.Module):
    """BERT whose input is a caption followed by crops, of which every image has the same number."""

    def __init__(self, settings: Settings, shapes: Shapes) -> None:
        super().__init__()
        self.settings, self.init_std = settings, settings.init_std
        self.widths = Widths(settings.hidden, settings.hidden, settings.hidden)
        self.bert = bert_model(settings, shapes.vocab_size, settings.max_tokens)
        self.patches = PatchEmbedding(settings, region_width(shapes))

    @property
    def word_weight(self) -> Tensor:
        """(V, H), the word embeddings, which the head that predicts words shares."""
        return self.bert.embeddings.word_embeddings.weight

    def forward(self, batch: Batch) -> Encoded:
        assert batch.regions is not None
        words_BTH = embedded_words(self.bert.embeddings, batch.words)
        seen_BL = torch.cat([batch.words.attention_mask_BT, batch.regions.mask_BR], dim=1)
        joint_BLH = torch.cat([words_BTH, self.patches(batch.regions).to(words_BTH)], dim=1)
        joint_BLH = self.bert.encoder(joint_BLH, attention_bias(seen_BL, joint_BLH.dtype)).last_hidden_state
        assert self.bert.pooler is not None
        length = words_BTH.shape[1]
        return Encoded(joint_BLH[:, :length], joint_BLH[:, length:], batch.regions.mask_BR, self.bert.pooler(joint_BLH))


def published(model: PatchStream, heads: Mapping[str, nn.Module]) -> tuple[Layout, ...]:
    """The model by its parts, and a BERT for the encoder and the head of hidden words."""
    return parts(model, heads), bert(heads)


def build(settings: Settings, shapes: Shapes) -> PatchStream:
    return PatchStream(settings, shapes)
