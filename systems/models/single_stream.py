"""Model `single_stream`: one transformer over words and regions together (UNITER, arXiv:1909.11740, section 3.1)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pairloom.loader.batch import Batch, WordBatch
from pairloom.typed import Range
from systems.layers import (
    NORM_EPS,
    BertSettings,
    attention_bias,
    bert_model,
    causal_bias,
    init_std_positions,
    region_width,
)
from systems.layouts.bert import bert, roberta
from systems.layouts.grids import parts
from systems.layouts.regions import oscar, unimo, uniter
from systems.region_embedding import RegionEmbedding, RegionSettings
from trainer.contract import Encoded, Nudges, Shapes, Widths
from trainer.published import Layout

if TYPE_CHECKING:
    from transformers.models.bert.modeling_bert import BertEmbeddings


@dataclass(frozen=True, kw_only=True)
class Settings(BertSettings):
    """Widths and depths, as BERT's, and how regions enter. norm_eps: added to the variance in every norm."""

    max_tokens: int  # longest text that has a position
    regions: RegionSettings
    norm_eps: Annotated[float, Range(0)] = NORM_EPS


class SingleStream(nn.Module):
    """BERT whose input is a caption followed by regions."""

    reads_causally = True  # honours batch.causal
    takes_nudges = True  # forward has them, for adversarial training

    def __init__(self, settings: Settings, shapes: Shapes) -> None:
        super().__init__()
        width = region_width(shapes)
        self.widths = Widths(settings.hidden, settings.hidden, settings.hidden)
        self.init_std, self.norm_eps, self.typed = settings.init_std, settings.norm_eps, settings.regions.typed
        self.bert = bert_model(settings, shapes.vocab_size, settings.max_tokens, settings.norm_eps)
        # The first number is padding in BERT's vocabulary, whose gradient is zero without this. In RoBERTa's it is <s>.
        self.bert.embeddings.word_embeddings.padding_idx = None
        init_std_positions(self.bert.embeddings.position_embeddings, self.bert.embeddings.token_type_embeddings)
        given = settings.regions, width, settings.hidden, settings.dropout, settings.init_std, settings.norm_eps
        self.regions = RegionEmbedding(*given)

    @property
    def word_weight(self) -> Tensor:
        """(V, H), the word embeddings, which the head that predicts words shares."""
        return self.bert.embeddings.word_embeddings.weight

    @property
    def feature_weight(self) -> Tensor:
        """(H, D), the layer that reads features, which the head that predicts features may share."""
        return self.regions.feature.weight

    def forward(self, batch: Batch, nudges: Nudges | None = None) -> Encoded:
        nudges = nudges or Nudges()
        assert batch.regions is not None
        words_BTH = embedded_words(self.bert.embeddings, batch.words, nudges.words_BTH)
        type_H = self.bert.embeddings.token_type_embeddings.weight[1] if self.typed else 0.0
        regions_BRH = self.regions(batch.regions, type_H, nudges.regions_BRD)
        # Padding between words and regions is masked and has no position, so packing them would change nothing.
        seen_BL = torch.cat([batch.words.attention_mask_BT, self.regions.seen(batch.regions)], dim=1)
        joint_BLH = torch.cat([words_BTH, regions_BRH], dim=1)
        bias = attention_bias(seen_BL, joint_BLH.dtype)
        if batch.causal:
            second_BL = F.pad(batch.words.segments_BT == 1, (0, regions_BRH.shape[1]), value=False)
            bias = causal_bias(seen_BL, second_BL, joint_BLH.dtype)
        joint_BLH = self.bert.encoder(joint_BLH, bias).last_hidden_state
        assert self.bert.pooler is not None
        pooled_BH = self.bert.pooler(joint_BLH)
        length, first = words_BTH.shape[1], words_BTH.shape[1] + self.regions.whole
        return Encoded(joint_BLH[:, :length], joint_BLH[:, first:], batch.regions.mask_BR, pooled_BH)


def embedded_words(embeddings: BertEmbeddings, words: WordBatch, nudge_BTH: Tensor | None = None) -> Tensor:
    """(B, T, H) by BERT's embeddings. Positions count the tokens that are there, so padding may lie anywhere."""
    positions_BT = (words.attention_mask_BT.cumsum(dim=1) - 1).clamp(min=0)
    embedded_BTH = embeddings.word_embeddings(words.input_ids_BT)
    embedded_BTH = embedded_BTH if nudge_BTH is None else embedded_BTH + nudge_BTH
    found: Tensor = embeddings(inputs_embeds=embedded_BTH, token_type_ids=words.segments_BT, position_ids=positions_BT)
    return found


def published(model: SingleStream, heads: Mapping[str, nn.Module]) -> tuple[Layout, ...]:
    """UNITER's own file, Oscar's and VinVL's, UNIMO's, and a BERT or RoBERTa for the encoder and hidden words.

    UNIMO's has no head, so the model by its parts is the one that has everything.
    """
    return uniter(heads), oscar(model, heads), unimo(), parts(model, heads), roberta(heads), bert(heads)


def build(settings: Settings, shapes: Shapes) -> SingleStream:
    return SingleStream(settings, shapes)
