"""Objective `colours`: masked patch prediction, the mean colour of hidden patches (ViT, arXiv:2010.11929, B.1.2)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated

import numpy as np
from torch import nn

from pairloom.loader.batch import HIDDEN, IGNORE, ITSELF, Batch, Example, Pixels
from pairloom.loader.make import Make
from pairloom.loader.row import Row
from pairloom.table import Array
from pairloom.typed import Positive, Range, Share, check_ranges
from systems.layers import initialised
from systems.models.vit import Vit
from trainer.contract import Encoded, Scored, Shapes

READS_PIXELS = True  # in `prepare`


@dataclass(frozen=True, kw_only=True)
class Settings:
    """bits: of each channel. Of the patches drawn, `hidden` are not seen, `replaced` show another patch."""

    patch: Positive  # pixels of a side, the model's
    probability: Share = 0.5
    hidden: Share = 0.8
    replaced: Share = 0.1
    bits: Annotated[int, Range(1, 8)] = 3

    def __post_init__(self) -> None:
        check_ranges(self)


def head(settings: Settings, model: Vit, shapes: Shapes) -> nn.Linear:
    return initialised(nn.Linear(model.widths.units, 2 ** (3 * settings.bits)), model.init_std)


def prepare(example: Example, row: Row, make: Make, settings: Settings, rng: np.random.Generator) -> Example:
    """Patches drawn, each with this probability, and their colours."""
    assert isinstance(example.units, Pixels)
    pixels, values_3SS = make.units.settings, np.asarray(example.units.values_3SS)
    colours_U = mean_colours(values_3SS, settings, pixels.mean, pixels.std)
    drawn_U = rng.random(len(colours_U)) < settings.probability
    fate_U = rng.random(len(colours_U))
    other_U = rng.integers(0, 1 << 31, len(colours_U))
    shown_U = np.where(fate_U < settings.hidden + settings.replaced, other_U, ITSELF)
    shown_U = np.where(fate_U < settings.hidden, HIDDEN, shown_U)
    return replace(example, units=Pixels(values_3SS)).with_targets(  # normalised once
        shown_U=np.where(drawn_U, shown_U, ITSELF).astype(np.int64),
        colours_U=np.where(drawn_U, colours_U, IGNORE).astype(np.int64),
    )


def mean_colours(values_3SS: Array, settings: Settings, mean: tuple[float, ...], std: tuple[float, ...]) -> Array:
    """(U,) the number of each patch's mean colour, row by row: red in the highest bits, blue in the lowest."""
    side, levels = settings.patch, 2**settings.bits
    down, across = (length // side for length in values_3SS.shape[1:])
    cut = values_3SS[:, : down * side, : across * side].reshape(3, down, side, across, side)
    colour_3U = cut.mean(axis=(2, 4)).reshape(3, -1) * np.array(std)[:, None] + np.array(mean)[:, None]
    level_3U = np.clip(np.floor(colour_3U * levels), 0, levels - 1).astype(np.int64)
    number: Array = (level_3U[0] * levels + level_3U[1]) * levels + level_3U[2]
    return number


def loss(model: Vit, encoded: Encoded, head: nn.Linear, batch: Batch, settings: Settings) -> Scored:
    """Mean cross-entropy of the hidden patches' colours, 0 if nothing is hidden."""
    labels_BU = batch.targets["colours_U"]
    drawn_BU = labels_BU != IGNORE
    return Scored.of_classes(head(encoded.units_BUH[drawn_BU]), labels_BU[drawn_BU])
