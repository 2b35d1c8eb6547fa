"""Model `efficient_dual`: an EfficientNet and a BERT that meet in one space (ALIGN, arXiv:2102.05918, section 4.2)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from pairloom.loader.batch import Batch
from systems.layers import BertSettings, init_std_positions
from systems.layouts.grids import parts
from systems.layouts.pixels import align
from trainer.contract import Embedded, Shapes
from trainer.published import Layout


@dataclass(frozen=True, kw_only=True)
class EfficientNet:
    """EfficientNet's width and depth beside B0's (arXiv:1905.11946), and how often a block is left out in training."""

    width: float
    depth: float
    dropout: float = 0.2


@dataclass(frozen=True, kw_only=True)
class Tower(BertSettings):
    """A BERT."""

    dropout: float = 0.1


@dataclass(frozen=True, kw_only=True)
class Settings:
    """embedding: width of the common space. null: the EfficientNet's own. Only texts are projected (paper)."""

    embedding: int | None
    max_tokens: int
    vision: EfficientNet
    text: Tower


class EfficientDual(nn.Module):
    """transformers' ALIGN without its loss and its temperature, which belong to the objective."""

    def __init__(self, settings: Settings, shapes: Shapes) -> None:
        super().__init__()
        from transformers import AlignTextConfig, AlignTextModel, AlignVisionConfig, AlignVisionModel
        from transformers.models.align.modeling_align import round_filters

        vision, text = settings.vision, settings.text
        config = AlignVisionConfig(
            width_coefficient=vision.width, depth_coefficient=vision.depth, drop_connect_rate=vision.dropout
        )
        own = round_filters(config, config.out_channels[-1])
        self.vision = AlignVisionModel(config)
        self.text = AlignTextModel(
            AlignTextConfig(
                vocab_size=shapes.vocab_size, hidden_size=text.hidden, num_hidden_layers=text.layers,
                num_attention_heads=text.heads, intermediate_size=text.feed_forward, hidden_dropout_prob=text.dropout,
                attention_probs_dropout_prob=text.dropout, max_position_embeddings=settings.max_tokens,
                initializer_range=text.init_std,
            ),
            add_pooling_layer=False,
        )  # fmt: skip
        init_std_positions(self.text.embeddings.position_embeddings, self.text.embeddings.token_type_embeddings)
        self.projection = nn.Linear(text.hidden, settings.embedding or own)
        self.image_projection = nn.Identity() if settings.embedding is None else nn.Linear(own, settings.embedding)

    def forward(self, batch: Batch) -> Embedded:
        return Embedded(self.images(batch), self.texts(batch))

    def images(self, batch: Batch) -> Tensor:
        """(B, E), each of length 1: the mean over the last grid, without EfficientNet's own last convolution."""
        grid_BHSS = self.vision(batch.pixels_B3SS).last_hidden_state
        return F.normalize(self.image_projection(grid_BHSS.mean(dim=(2, 3))), dim=-1)

    def texts(self, batch: Batch) -> Tensor:
        """(B, E), each of length 1: the last layer at the first token."""
        words = batch.words
        hidden_BTH = self.text(words.input_ids_BT, attention_mask=words.attention_mask_BT.long()).last_hidden_state
        return F.normalize(self.projection(hidden_BTH[:, 0]), dim=-1)


def published(model: EfficientDual, heads: Mapping[str, nn.Module]) -> tuple[Layout, ...]:
    """transformers' AlignModel; with a layer over pictures, which it has not, the model by its parts."""
    return align(heads), parts(model, heads)


def build(settings: Settings, shapes: Shapes) -> EfficientDual:
    return EfficientDual(settings, shapes)
