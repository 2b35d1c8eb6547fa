"""Small layers that several objectives and models put on top of transformers' parts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Protocol, TypeVar, runtime_checkable

import torch
from torch import Tensor, nn

from pairloom.errors import ConfigError
from pairloom.loader.batch import HIDDEN, RegionBatch
from pairloom.typed import Positive, Range, Share, check_ranges
from trainer.contract import Shapes

if TYPE_CHECKING:
    from transformers import BertConfig, BertModel

Module = TypeVar("Module", bound=nn.Module)

NORM_EPS = 1e-12  # BERT's, added to the variance
PLACE_STD = 0.02  # BERT's, of the vectors that say where a word stands and of which kind it is


def transform(width: int, std: float, norm_eps: float = NORM_EPS) -> nn.Sequential:
    """What BERT puts before a prediction: a layer of the same width, GELU, norm."""
    return initialised(nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.LayerNorm(width, eps=norm_eps)), std)


@runtime_checkable
class Normed(Protocol):
    """A model that says what its norms add to the variance, so that heads which start with it do the same."""

    norm_eps: float


def norm_eps_of(model: object) -> float:
    """What the model's norms add to the variance, for a head that may start with its published weights."""
    return model.norm_eps if isinstance(model, Normed) else NORM_EPS


def initialised(module: Module, std: float) -> Module:
    """The module with BERT's starting weights: matrices normal with this deviation, biases zero."""
    for part in module.modules():
        if isinstance(part, nn.Linear | nn.Embedding):
            nn.init.normal_(part.weight, std=std)
        if isinstance(part, nn.Linear) and part.bias is not None:
            nn.init.zeros_(part.bias)
    return module


def init_std_positions(*embeddings: nn.Embedding) -> None:
    """Start vectors of positions and kinds of word at PLACE_STD, also where `init_std` is larger, as at size tiny.

    Small models need larger weights, but where positions weigh as much as words, matching hardly leaves chance
    (measured: docs/lab/systems.md). At the published 0.02 it is the same draw again. Not for crops, whose
    systems learn less that way (patch_stream).
    """
    for embedding in embeddings:
        nn.init.normal_(embedding.weight, std=PLACE_STD)


def shown_features(regions: RegionBatch, hidden_D: Tensor) -> Tensor:
    """(B, R, D) what is seen of the regions: `hidden_D` where one is hidden, another's feature where replaced."""
    features_BRD = regions.features_BRD.to(hidden_D.dtype)
    if regions.shown_BR is None:
        return torch.where(regions.masked_BR[..., None], hidden_D, features_BRD)
    hidden_BR, replaced_BR = regions.shown_BR == HIDDEN, regions.shown_BR > HIDDEN
    flat_ND = features_BRD[regions.mask_BR]
    other_BRD = flat_ND[regions.shown_BR.clamp(min=0) % len(flat_ND)]
    return torch.where(hidden_BR[..., None], hidden_D, torch.where(replaced_BR[..., None], other_BRD, features_BRD))


def attention_bias(seen_BL: Tensor, dtype: torch.dtype) -> Tensor:
    """(B, 1, 1, L) what is added to attention scores: nothing, or so little that padding is not seen."""
    nothing_BL = torch.zeros(seen_BL.shape, dtype=dtype, device=seen_BL.device)
    return nothing_BL.masked_fill(~seen_BL, torch.finfo(dtype).min)[:, None, None, :]


def causal_bias(seen_BL: Tensor, second_BL: Tensor, dtype: torch.dtype) -> Tensor:
    """(B, 1, L, L) the same, but a second text (bool) is seen by itself alone, and there by what comes after."""
    place_L = torch.arange(seen_BL.shape[1], device=seen_BL.device)
    before_LL = place_L[None, :] <= place_L[:, None]
    allowed_BLL = seen_BL[:, None, :] & (~second_BL[:, None, :] | (second_BL[:, :, None] & before_LL))
    return torch.zeros_like(allowed_BLL, dtype=dtype).masked_fill(~allowed_BLL, torch.finfo(dtype).min)[:, None]


@dataclass(frozen=True, kw_only=True)
class Transformer:
    """Settings of a transformer's widths and depth, as BERT counts."""

    hidden: Positive
    layers: Annotated[int, Range(0)]
    heads: Positive
    feed_forward: Positive

    def __post_init__(self) -> None:
        check_ranges(self)


@dataclass(frozen=True, kw_only=True)
class BertSettings(Transformer):
    """With what is dropped in training, and the weights' deviation at the start.

    attention_dropout: of attention's weights. Null is the same as the others.
    """

    dropout: Share
    attention_dropout: Share | None = None
    init_std: Annotated[float, Range(0)] = 0.02


def attention_dropout(settings: BertSettings) -> float:
    """What is dropped of attention's weights."""
    return settings.dropout if settings.attention_dropout is None else settings.attention_dropout


def bert_config(
    widths: Transformer,
    vocab_size: int = 1,
    *,
    dropout: float,
    init_std: float,
    max_tokens: int = 1,
    attention_dropout: float | None = None,
    norm_eps: float = NORM_EPS,
) -> BertConfig:
    """transformers' configuration of a BERT, or of layers alone."""
    from transformers import BertConfig  # slow to import, and the loader's workers need no model

    return BertConfig(
        vocab_size=vocab_size,
        hidden_size=widths.hidden,
        num_hidden_layers=widths.layers,
        num_attention_heads=widths.heads,
        intermediate_size=widths.feed_forward,
        hidden_dropout_prob=dropout,
        attention_probs_dropout_prob=dropout if attention_dropout is None else attention_dropout,
        max_position_embeddings=max_tokens,
        initializer_range=init_std,
        layer_norm_eps=norm_eps,
    )


def bert_model(settings: BertSettings, vocab_size: int, max_tokens: int, norm_eps: float = NORM_EPS) -> BertModel:
    """A whole BERT of these settings."""
    from transformers import BertModel  # slow to import, and the loader's workers need no model

    return BertModel(
        bert_config(
            settings,
            vocab_size,
            dropout=settings.dropout,
            init_std=settings.init_std,
            max_tokens=max_tokens,
            attention_dropout=settings.attention_dropout,
            norm_eps=norm_eps,
        )
    )


def region_width(shapes: Shapes) -> int:
    """Width of the regions' features. Raises ConfigError if the recipe's units are no regions."""
    if shapes.feature_width is None:
        raise ConfigError("the recipe's model needs regions", "the recipe", "set units to regions")
    return shapes.feature_width


def bert_layers(
    widths: Transformer, dropout: float, init_std: float, attention_dropout: float | None = None
) -> nn.ModuleList:
    """BERT's layers, to be called one by one with a bias as `attention_bias` makes it."""
    from transformers.models.bert.modeling_bert import BertLayer

    config = bert_config(widths, dropout=dropout, init_std=init_std, attention_dropout=attention_dropout)
    config._attn_implementation = "sdpa"  # what a whole BertModel would choose
    return nn.ModuleList(initialised(BertLayer(config), init_std) for _ in range(widths.layers))
