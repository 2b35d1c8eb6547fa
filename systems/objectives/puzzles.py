"""Objective `puzzles`: what was done to the crops of one level of a pyramid (Kaleido-BERT, arXiv:2103.16110, 3.6).

rotation: the one crop of the first level is turned by 0, 90, 180 or 270 degrees; by how much? jigsaw: the four of the
second level change places; in which of the 24 orders are they? camouflage: one of the nine of the third level is from
another image; which? Features were made of the pixels beforehand, those of an order or of an impostor are stored ones.
Each head reads all crops of its level at once, one after the other, as in the authors' code.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import permutations
from typing import Literal

import numpy as np
import torch.nn.functional as F
from torch import nn

from pairloom.layout import LEVELS
from pairloom.loader.batch import IGNORE, Batch, Example
from pairloom.loader.make import Make
from pairloom.loader.row import Row
from pairloom.table import Array
from systems.layers import initialised
from systems.objectives.patch_kl import showing
from systems.objectives.placing import preferred
from systems.units.patches import Pyramid
from trainer.contract import Encoded, Fusion, Scored, Shapes
from trainer.precision import as_float32

Kind = Literal["rotation", "jigsaw", "camouflage"]
LEVEL: dict[Kind, int] = {"rotation": 0, "jigsaw": 1, "camouflage": 2}  # that it is played on, from 0
ORDERS = tuple(permutations(range(LEVELS[1])))
ANSWERS: dict[Kind, int] = {"rotation": 4, "jigsaw": len(ORDERS), "camouflage": LEVELS[2]}


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Which puzzle."""

    kind: Kind


def places(kind: Kind) -> slice:
    """The crops of its level."""
    first = sum(LEVELS[: LEVEL[kind]])
    return slice(first, first + LEVELS[LEVEL[kind]])


def head(settings: Settings, model: Fusion, shapes: Shapes) -> nn.Linear:
    width = model.widths.units * LEVELS[LEVEL[settings.kind]]
    return initialised(nn.Linear(width, ANSWERS[settings.kind]), model.init_std)


def prepare(example: Example, row: Row, make: Make, settings: Settings, rng: np.random.Generator) -> Example:
    """The level as the puzzle has it, and the answer: IGNORE where there is no other image to take an impostor from."""
    units = example.units
    assert isinstance(units, Pyramid)
    where = places(settings.kind)
    features_LD = np.array(units.features_RD[where])
    if settings.kind == "camouflage":
        answer = _disguise(features_LD, example, row, rng)
    else:
        answer = int(rng.integers(ANSWERS[settings.kind]))
        if settings.kind == "jigsaw":
            features_LD = features_LD[list(ORDERS[answer])]
        elif answer:
            assert units.turned_3D is not None
            features_LD[0] = units.turned_3D[answer - 1]
    changed = showing(units, np.arange(where.start, where.stop), features_LD)
    return replace(example, units=changed).with_targets(**{settings.kind: np.array(answer)})


def _disguise(features_LD: Array, example: Example, row: Row, rng: np.random.Generator) -> int:
    """Put another image's crop of the same place into a place; which one."""
    other = row.other(rng)
    if other is None:
        return IGNORE
    where = places("camouflage")
    (place,) = preferred(example, where.start, where.stop, 1, rng)
    features_LD[place] = other.numbers("pyramid_features")[where.start + place]
    return int(place)


def loss(model: Fusion, encoded: Encoded, head: nn.Linear, batch: Batch, settings: Settings) -> Scored:
    """Mean cross-entropy over the rows that have an answer, 0 if none has."""
    answers_B = batch.targets[settings.kind]
    logits_BC = head(encoded.units_BUH[:, places(settings.kind)].flatten(1))
    asked_B = answers_B != IGNORE
    error = F.cross_entropy(as_float32(logits_BC), answers_B, ignore_index=IGNORE, reduction="sum")
    value = error / asked_B.sum().clamp(min=1)
    return Scored.of_classes(logits_BC[asked_B], answers_B[asked_B], value)
