"""Model `grid_stream`: a convolutional network's cells and words in one BERT (Pixel-BERT, SOHO, MLIM)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from pairloom.loader.batch import Batch
from pairloom.typed import check_ranges
from systems import backbone, grids
from systems.backbone import Backbone
from systems.dictionary import Dictionary, VisualDictionary
from systems.layers import PLACE_STD, BertSettings, attention_bias, bert_model, init_std_positions, initialised
from systems.layouts.bert import bert
from systems.layouts.grids import parts, soho
from trainer.contract import Encoded, Shapes, Widths
from trainer.published import Layout


@dataclass(frozen=True, kw_only=True)
class Settings(BertSettings):
    """BERT's widths, and what becomes of the cells before it reads them.

    sampled: so many random cells are kept in training, 0 all. typed: one vector is added to every cell, to mark it.
    positions: `none`, `learned` (at most max_cells of them) or `sine` (of rows and columns). norm: of the cells.
    """

    max_tokens: int
    backbone: Backbone
    sampled: int = 0
    typed: bool = True
    positions: Literal["none", "learned", "sine"] = "none"
    max_cells: int = 0
    norm: bool = False
    dictionary: Dictionary | None = None

    def __post_init__(self) -> None:
        check_ranges(self)


@dataclass(frozen=True)
class Coded(Encoded):
    """With the cells' numbers in the visual dictionary, and which of the cells were hidden because of theirs."""

    codes_BU: Tensor | None = None
    hidden_BU: Tensor | None = None


class GridStream(nn.Module):
    """A caption followed by cells."""

    def __init__(self, settings: Settings, shapes: Shapes) -> None:
        super().__init__()
        self.settings, self.init_std = settings, settings.init_std
        self.widths = Widths(*[settings.hidden] * 3)
        self.bert = bert_model(settings, shapes.vocab_size, settings.max_tokens)
        self.backbone, width = backbone.build(settings.backbone)
        self.project = initialised(nn.Linear(width, settings.hidden), width**-0.5)
        self.type_H = nn.Parameter(torch.randn(settings.hidden) * PLACE_STD) if settings.typed else None
        self.place = nn.Embedding(settings.max_cells, settings.hidden) if settings.positions == "learned" else None
        init_std_positions(self.bert.embeddings.position_embeddings, self.bert.embeddings.token_type_embeddings)
        if self.place is not None:
            init_std_positions(self.place)
        self.norm = nn.LayerNorm(settings.hidden) if settings.norm else nn.Identity()
        self.dictionary = VisualDictionary(settings.dictionary, settings.hidden) if settings.dictionary else None

    @property
    def word_weight(self) -> Tensor:
        return self.bert.embeddings.word_embeddings.weight

    def forward(self, batch: Batch) -> Coded:
        cells_BUH, seen_BU, codes_BU, hidden_BU = self.cells(batch)
        words_BTH = self.bert.embeddings(batch.words.input_ids_BT, token_type_ids=batch.words.segments_BT)
        seen_BL = torch.cat([batch.words.attention_mask_BT, seen_BU], dim=1)
        joint_BLH = torch.cat([words_BTH, cells_BUH], dim=1)
        joint_BLH = self.bert.encoder(joint_BLH, attention_bias(seen_BL, joint_BLH.dtype)).last_hidden_state
        assert self.bert.pooler is not None
        length = words_BTH.shape[1]
        pooled_BH = self.bert.pooler(joint_BLH)
        return Coded(joint_BLH[:, :length], joint_BLH[:, length:], seen_BU, pooled_BH, codes_BU, hidden_BU)

    def cells(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
        """Cells as BERT reads them, which are no filling, their codes, and which were hidden for their codes."""
        cells = grids.cells_of(batch, self.backbone)
        cells_BUH, seen_BU = self.project(cells.values_BUC), grids.seen(cells)
        codes_BU = hidden_BU = None
        if self.dictionary is not None:
            cells_BUH, codes_BU, hidden_BU = self.dictionary(cells_BUH, seen_BU, batch.targets)
        if "masked_U" in batch.targets:  # both kinds hide behind one vector: the word's [MASK] (MLIM)
            mask_BH = self.word_weight[batch.targets["mask_id"]]
            cells_BUH = torch.where(batch.targets["masked_U"][..., None], mask_BH[:, None].to(cells_BUH), cells_BUH)
        if self.settings.positions == "sine":
            cells_BUH = cells_BUH + grids.sine(cells, cells_BUH.shape[-1]).to(cells_BUH)
        elif self.place is not None:
            cells_BUH = cells_BUH + self.place.weight[: cells_BUH.shape[1]]
        cells_BUH = self.norm(cells_BUH if self.type_H is None else cells_BUH + self.type_H)
        if 0 < self.settings.sampled < cells_BUH.shape[1] and self.training:
            kept_BK = torch.where(seen_BU, torch.rand_like(cells_BUH[..., 0]), -1.0).topk(self.settings.sampled).indices
            cells_BUH = cells_BUH.gather(1, kept_BK[..., None].expand(-1, -1, cells_BUH.shape[-1]))
            seen_BU = seen_BU.gather(1, kept_BK)
        return cells_BUH, seen_BU, codes_BU, hidden_BU


def published(model: GridStream, heads: Mapping[str, nn.Module]) -> tuple[Layout, ...]:
    """SOHO's own file, the model by its parts, and a BERT for the encoder and the head of hidden words.

    The backbone alone has a checkpoint of its own (Backbone).
    """
    own = (soho(heads),) if model.dictionary is not None else ()
    return *own, parts(model, heads), bert(heads)


def build(settings: Settings, shapes: Shapes) -> GridStream:
    return GridStream(settings, shapes)
