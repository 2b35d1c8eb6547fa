"""Model `encoder_decoder`: cells and words in an encoder, a decoder that reads it (SimVLM, E2E-VLP)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pairloom.loader.batch import Batch
from systems import backbone, grids
from systems.backbone import Backbone
from systems.layers import init_std_positions, initialised
from systems.layouts.grids import parts
from trainer.contract import Encoded, Shapes, Widths
from trainer.published import Layout


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Widths and depths. pre_norm: norms before the layers, as ViT's, rather than after, as BERT's."""

    hidden: int
    encoder_layers: int
    decoder_layers: int
    heads: int
    feed_forward: int
    dropout: float
    max_tokens: int
    backbone: Backbone
    pre_norm: bool
    init_std: float = 0.02


@dataclass(frozen=True)
class Read(Encoded):
    """With all that the decoder may look at."""

    memory_BLH: Tensor
    seen_BL: Tensor  # bool


class EncoderDecoder(nn.Module):
    """torch's Transformer. The input is cells, then words. What is read first also stands for both (pooled)."""

    def __init__(self, settings: Settings, shapes: Shapes) -> None:
        super().__init__()
        self.init_std, self.hidden = settings.init_std, settings.hidden
        self.widths = Widths(*[settings.hidden] * 3)
        self.backbone, width = backbone.build(settings.backbone)
        self.project = initialised(nn.Linear(width, settings.hidden), width**-0.5)
        self.words = initialised(nn.Embedding(shapes.vocab_size, settings.hidden), settings.init_std)
        self.places, self.kinds = nn.Embedding(settings.max_tokens, settings.hidden), nn.Embedding(2, settings.hidden)
        init_std_positions(self.places, self.kinds)
        self.norm, self.dropout = nn.LayerNorm(settings.hidden), nn.Dropout(settings.dropout)
        shared = (settings.hidden, settings.heads, settings.feed_forward, settings.dropout, "gelu")
        last = nn.LayerNorm(settings.hidden) if settings.pre_norm else None
        encoder = nn.TransformerEncoderLayer(*shared, batch_first=True, norm_first=settings.pre_norm)
        decoder = nn.TransformerDecoderLayer(*shared, batch_first=True, norm_first=settings.pre_norm)
        self.encoder = nn.TransformerEncoder(encoder, settings.encoder_layers, last, enable_nested_tensor=False)
        self.decoder = nn.TransformerDecoder(decoder, settings.decoder_layers, nn.LayerNorm(settings.hidden))
        for matrix in (*self.encoder.parameters(), *self.decoder.parameters()):
            if matrix.dim() > 1:  # or the copies that torch made of one layer would begin equal
                nn.init.xavier_uniform_(matrix)

    @property
    def word_weight(self) -> Tensor:
        return self.words.weight

    def embedded(self, ids_BT: Tensor) -> Tensor:
        """(B, T, H) words with their places."""
        place_T = torch.arange(ids_BT.shape[1], device=ids_BT.device)
        embedded: Tensor = self.dropout(self.norm(self.words(ids_BT) + self.places(place_T)))
        return embedded

    def forward(self, batch: Batch) -> Read:
        """Of the words those before target `prefix` are read, or all. No cell where target `pictured` is false."""
        cells = grids.cells_of(batch, self.backbone)
        cells_BUH = self.project(cells.values_BUC)
        cells_BUH = cells_BUH + grids.sine(cells, self.hidden).to(cells_BUH)
        seen_BU, seen_BT = grids.seen(cells), batch.words.attention_mask_BT
        if "prefix" in batch.targets:
            place_T = torch.arange(seen_BT.shape[1], device=seen_BT.device)
            seen_BT = seen_BT & (place_T < batch.targets["prefix"][:, None])
        if "pictured" in batch.targets:
            seen_BU = seen_BU & batch.targets["pictured"][:, None]
        words_BTH = self.embedded(batch.words.input_ids_BT) + self.kinds.weight[0]
        cells_BUH = self.dropout(self.norm(cells_BUH + self.kinds.weight[1]))
        seen_BL = torch.cat([seen_BT, seen_BU], dim=1)
        alone_B = ~seen_BL.any(dim=1)  # nothing to read: the start token is, or attention has no answer
        seen_BL = torch.cat([seen_BL[:, :1] | alone_B[:, None], seen_BL[:, 1:]], dim=1)
        memory_BLH = self.encoder(torch.cat([words_BTH, cells_BUH], dim=1), src_key_padding_mask=~seen_BL)
        length = words_BTH.shape[1]
        units_BUH, pooled_BH = memory_BLH[:, length:], memory_BLH[:, 0]
        return Read(memory_BLH[:, :length], units_BUH, seen_BU, pooled_BH, memory_BLH, seen_BL)

    def spoken(self, read: Read, ids_BT: Tensor, first_B: Tensor) -> Tensor:
        """(B, T, H) the decoder at each word, which sees those from `first` to itself."""
        place_T = torch.arange(ids_BT.shape[1], device=ids_BT.device)
        own_TT = place_T[:, None] == place_T
        seen_BTT = (place_T[:, None] >= place_T) & (place_T >= first_B[:, None])[:, None, :] | own_TT
        blocked_BTT = (~seen_BTT).repeat_interleave(self.decoder.layers[0].self_attn.num_heads, dim=0)
        return self.decode(read, self.embedded(ids_BT), blocked_BTT)

    def decode(self, read: Read, asked_BTH: Tensor, blocked_BTT: Tensor | None = None) -> Tensor:
        """(B, T, H)."""
        decoded: Tensor = self.decoder(
            asked_BTH, read.memory_BLH, tgt_mask=blocked_BTT, memory_key_padding_mask=~read.seen_BL
        )
        return decoded

    def logits(self, hidden_BTH: Tensor) -> Tensor:
        """(..., V) by the word embeddings read backwards."""
        return F.linear(hidden_BTH, self.words.weight)


def published(model: EncoderDecoder, heads: Mapping[str, nn.Module]) -> tuple[Layout, ...]:
    """The model by its parts, since nobody has published one: torch's Transformer and a network."""
    return (parts(model, heads),)


def build(settings: Settings, shapes: Shapes) -> EncoderDecoder:
    return EncoderDecoder(settings, shapes)
