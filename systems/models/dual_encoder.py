"""Model `dual_encoder`: a vision and a causal text transformer that meet in one space (CLIP, arXiv:2103.00020)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pairloom.errors import ConfigError
from pairloom.loader.batch import Batch
from systems import backbone
from systems.backbone import Backbone
from systems.layers import Transformer
from systems.layouts.grids import parts
from systems.layouts.pixels import clip
from trainer.contract import Embedded, Shapes
from trainer.published import Layout


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Two transformers and the width of the space where they meet. A backbone takes the place of the one that sees."""

    embedding: int
    patch: int  # pixels of a side
    max_tokens: int  # longest text that has a position
    dropout: float  # on attention weights, CLIP has none
    vision: Transformer
    text: Transformer
    backbone: Backbone | None = None


class DualEncoder(nn.Module):
    """transformers' CLIP without its loss and its scale, which belong to the objective."""

    def __init__(self, settings: Settings, shapes: Shapes) -> None:
        super().__init__()
        text = _tower(settings.text, settings.dropout) | {
            "vocab_size": shapes.vocab_size,
            "max_position_embeddings": settings.max_tokens,
            "bos_token_id": None,  # forward finds the end by the length. The numbers of CLIP's own vocabulary mislead
            "eos_token_id": shapes.vocab_size - 1,  # None would break a pooling that we do not use
            "pad_token_id": None,
        }
        vision = _vision(settings, shapes.image_size)
        from transformers import CLIPConfig, CLIPModel  # slow to import, and the loader's workers need no model

        self.clip = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=settings.embedding))
        del self.clip.logit_scale
        self.backbone: nn.Module | None = None
        if settings.backbone is not None:
            self.backbone, width = backbone.build(settings.backbone)
            self.clip.visual_projection = nn.Linear(width, settings.embedding, bias=False)
            del self.clip.vision_model

    def forward(self, batch: Batch) -> Embedded:
        return Embedded(self.images(batch), self.texts(batch))

    def images(self, batch: Batch) -> Tensor:
        """(B, E), each of length 1."""
        if self.backbone is None:
            pooled_BH = self.clip.vision_model(batch.pixels_B3SS).pooler_output
        else:
            pooled_BH = self.backbone(batch.pixels_B3SS).mean(dim=(2, 3))
        return F.normalize(self.clip.visual_projection(pooled_BH), dim=-1)

    def texts(self, batch: Batch) -> Tensor:
        """(B, E), each of length 1: the last layer at the end token, which alone sees the whole text."""
        hidden_BTH = self.clip.text_model(batch.words.input_ids_BT).last_hidden_state
        end_B = batch.words.attention_mask_BT.sum(dim=1) - 1
        pooled_BH = hidden_BTH[torch.arange(len(end_B), device=end_B.device), end_B]
        return F.normalize(self.clip.text_projection(pooled_BH), dim=-1)


def _vision(settings: Settings, image_size: int | None) -> dict[str, float]:
    """The transformer that sees. One without layers where a backbone takes its place."""
    if settings.backbone is not None:
        empty = Transformer(hidden=64, layers=0, heads=1, feed_forward=64)
        return _tower(empty, settings.dropout) | {"image_size": settings.patch, "patch_size": settings.patch}
    if image_size is None or image_size % settings.patch:
        raise ConfigError(
            f"patch {settings.patch}, image size {image_size}: the one must divide the other",
            where="the recipe",
            fix="set units.pixels.size to a multiple",
        )
    return _tower(settings.vision, settings.dropout) | {"image_size": image_size, "patch_size": settings.patch}


def _tower(tower: Transformer, dropout: float) -> dict[str, float]:
    return {
        "hidden_size": tower.hidden,
        "num_hidden_layers": tower.layers,
        "num_attention_heads": tower.heads,
        "intermediate_size": tower.feed_forward,
        "attention_dropout": dropout,
    }


def published(model: DualEncoder, heads: Mapping[str, nn.Module]) -> tuple[Layout, ...]:
    """CLIP of transformers, of OpenAI and of open_clip; with a network in its ViT's place, the model by its parts."""
    return *clip(heads), parts(model, heads)


def build(settings: Settings, shapes: Shapes) -> DualEncoder:
    return DualEncoder(settings, shapes)
