"""Objective `puzzles`: what was done to the crops of one level of a pyramid (Kaleido-BERT, arXiv:2103.16110, 3.6).

rotation: the one crop of the first level is turned by 0, 90, 180 or 270 degrees; by how much? jigsaw: the four of the
second level change places; in which of the 24 orders are they? camouflage: one of the nine of the third level is from
another image; which? Features were made of the pixels beforehand, those of an order or of an impostor are stored ones.
Each head reads all crops of its level at once, one after the other, as in the authors' code.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import permutations
from typing import Literal

import numpy as np
import torch.nn.functional as F
from torch import nn

from pairloom.layout import LEVELS
from pairloom.loader.batch import IGNORE, Batch
from pairloom.loader.draws import Draws
from pairloom.loader.examples import Examples
from pairloom.loader.make import Make
from pairloom.loader.row import Row
from pairloom.table import Array
from systems.layers import initialised
from systems.objectives.patch_kl import showing
from systems.objectives.placing import preferred, wishes_of
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


def prepare_all(examples: Examples, make: Make, settings: Settings, draws: Draws) -> Examples:
    """The level as the puzzle has it, and the answer: IGNORE where there is no other image to take an impostor from."""
    regions = examples.regions()
    if settings.kind == "camouflage":
        wished = zip(regions.features, wishes_of(examples), draws.rows, draws.rngs, strict=True)
        played = [_disguised(np.asarray(one), wishes, row, rng) for one, wishes, row, rng in wished]
    else:
        drawn = [int(rng.integers(ANSWERS[settings.kind])) for rng in draws.rngs]
        rows = zip(regions.features, regions.variants, drawn, strict=True)
        changed = _turned if settings.kind == "rotation" else _shuffled
        played = [(changed(np.asarray(one), variants, answer), answer) for one, variants, answer in rows]
    features, answers = zip(*played, strict=True)
    shown = replace(regions, features=list(features))
    return replace(examples, units=shown).with_targets(**{settings.kind: [np.array(answer) for answer in answers]})


def _turned(features_RD: Array, variants: Mapping[str, Array], answer: int) -> Array:
    """The first crop turned so often."""
    return showing(features_RD, 0, variants["turned"][answer - 1]) if answer else features_RD


def _shuffled(features_RD: Array, variants: Mapping[str, Array], answer: int) -> Array:
    """The crops of the second level in this order."""
    where = places("jigsaw")
    return showing(features_RD, where, features_RD[where][list(ORDERS[answer])])


def _disguised(features_RD: Array, wishes_R: Array | None, row: Row, rng: np.random.Generator) -> tuple[Array, int]:
    """Another image's crop of the same place in a place of the third level; which one."""
    other, where = row.other(rng), places("camouflage")
    if other is None:
        return features_RD, IGNORE
    place = int(preferred(wishes_R, where.start, where.stop, 1, rng)[0])
    number = where.start + place
    return showing(features_RD, number, other.numbers("pyramid_features")[number]), place


def loss(model: Fusion, encoded: Encoded, head: nn.Linear, batch: Batch, settings: Settings) -> Scored:
    """Mean cross-entropy over the rows that have an answer, 0 if none has."""
    answers_B = batch.targets[settings.kind]
    logits_BC = head(encoded.units_BUH[:, places(settings.kind)].flatten(1))
    asked_B = answers_B != IGNORE
    error = F.cross_entropy(as_float32(logits_BC), answers_B, ignore_index=IGNORE, reduction="sum")
    value = error / asked_B.sum().clamp(min=1)
    return Scored.of_classes(logits_BC[asked_B], answers_B[asked_B], value)
