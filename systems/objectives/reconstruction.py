"""Objective `reconstruction`: hidden cells painted again, words hidden with them (MLIM, arXiv:2109.12178)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from pairloom.errors import ConfigError
from pairloom.loader.batch import Batch, Example, Pixels
from pairloom.loader.make import Make
from pairloom.loader.row import Row
from pairloom.typed import Positive, Share, check_ranges
from systems.objectives.drawing import draw_tokens
from systems.objectives.masking import hide_words
from trainer.contract import Encoded, Fusion, Scored, Shapes

READS_PIXELS = True  # in `prepare`


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Modality-aware masking: one of three modes a row, equally likely: `much` of the picture, `much` of the text, or
    `light` of both. stride: pixels of a cell's side. area: over which pixels the error is summed. widths: channels of
    the layers that paint, each doubling the side."""

    stride: Positive
    widths: tuple[int, ...]
    much: Share = 0.8
    light: Share = 0.15
    area: Literal["all", "masked"] = "all"

    def __post_init__(self) -> None:
        check_ranges(self)
        if 2 ** len(self.widths) != self.stride:
            given = f"reconstruction.stride is {self.stride} with {len(self.widths)} widths"
            raise ConfigError(given, "the recipe", "each width doubles the side: name log2(stride) of them")


class Head(nn.Module):
    """Deconvolutions from cells to pixels from 0 to 1."""

    def __init__(self, width: int, widths: tuple[int, ...]) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for before, after in zip((width, *widths), widths, strict=False):
            layers += [nn.ConvTranspose2d(before, after, kernel_size=2, stride=2), nn.GELU()]
            layers += [nn.Conv2d(after, after, kernel_size=3, padding=1), nn.GELU()]
        self.layers = nn.Sequential(*layers, nn.Conv2d(widths[-1], 3, kernel_size=1), nn.Sigmoid())

    def forward(self, cells_BUH: Tensor, down: int, across: int) -> Tensor:
        """(B, 3, S, S)."""
        painted: Tensor = self.layers(cells_BUH.transpose(1, 2).unflatten(2, (down, across)))
        return painted


def head(settings: Settings, model: Fusion, shapes: Shapes) -> Head:
    return Head(model.widths.units, settings.widths)


def prepare(example: Example, row: Row, make: Make, settings: Settings, rng: np.random.Generator) -> Example:
    """The mode drawn, and with it the cells and the words that are hidden. Pixels must be from 0 to 1."""
    assert isinstance(example.units, Pixels)
    pixels = make.units.settings
    if set(pixels.mean) != {0.0} or set(pixels.std) != {1.0} or make.tokenizer.mask is None:
        raise ConfigError("pixels are not from 0 to 1, or words have no mask", "the recipe", "set mean 0 and std 1")
    if pixels.fit == "shorter":
        given = "objective reconstruction paints squares, and units.pixels.fit is shorter"
        raise ConfigError(given, "the recipe", "set fit to crop or squash")
    image, text = ((settings.much, 0.0), (0.0, settings.much), (settings.light,) * 2)[rng.integers(3)]
    down, across = (length // settings.stride for length in example.units.values_3SS.shape[1:])
    masked_U = rng.random(down * across) < image
    words = example.words
    if text:
        words = hide_words(words, make.tokenizer, draw_tokens(words.word_ids_T, "token", text, rng), rng, mask_all=True)
    masked_example = replace(example, words=words)
    return masked_example.with_targets(masked_U=masked_U, mask_id=np.array(make.tokenizer.mask, np.int64))


def loss(model: Fusion, encoded: Encoded, head: Head, batch: Batch, settings: Settings) -> Scored:
    assert batch.pixels_B3SS is not None
    down, across = (length // settings.stride for length in batch.pixels_B3SS.shape[2:])
    painted_B3SS = head(encoded.units_BUH, down, across)
    counted_BSS = torch.ones_like(batch.pixels_B3SS[:, 0], dtype=torch.bool)
    if settings.area == "masked":
        counted_BSS = batch.targets["masked_U"].unflatten(1, (down, across))
        counted_BSS = counted_BSS.repeat_interleave(settings.stride, 1).repeat_interleave(settings.stride, 2)
    return Scored(pixel_error(painted_B3SS, batch.pixels_B3SS, counted_BSS), counted_BSS.sum())


def pixel_error(painted_B3SS: Tensor, pixels_B3SS: Tensor, counted_BSS: Tensor) -> Tensor:
    """Squared error of a pixel, summed over its channels, mean over the pixels that count. 0 if none does."""
    error_BSS = (painted_B3SS.float() - pixels_B3SS).square().sum(dim=1)
    return torch.where(counted_BSS, error_BSS, 0).sum() / counted_BSS.sum().clamp(min=1)
