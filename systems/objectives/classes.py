"""Objective `classes`: supervised classification of images, by their best tag or a column of the user's list."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import nn

from pairloom.errors import ConfigError
from pairloom.extra import as_dict
from pairloom.loader.batch import IGNORE, Batch, Example
from pairloom.loader.make import Make
from pairloom.loader.row import Row
from systems.layers import initialised
from trainer.contract import Encoded, Fusion, Scored, Shapes


@dataclass(frozen=True, kw_only=True)
class Settings:
    """label: `tag` is the class of the image's best tag, among the detector's, else a key of the column `extra`.

    names: what stands under that key, in the order of the classes. zeroed: the head begins at 0 (fine-tuning of ViT).
    """

    label: str = "tag"
    names: tuple[str, ...] = ()
    zeroed: bool = False

    def __post_init__(self) -> None:
        if (self.label == "tag") == bool(self.names):
            given = f"classes.label is {self.label} with {len(self.names)} names"
            raise ConfigError(given, "the recipe", "name the classes of a column of `extra`, and none of tags")


def columns(settings: Settings) -> tuple[str, ...]:
    return ("tags",) if settings.label == "tag" else ("extra",)


def head(settings: Settings, model: Fusion, shapes: Shapes) -> nn.Linear:
    classes = len(settings.names) or shapes.num_classes
    if classes is None:
        raise ConfigError("the shards name no classes", "objective classes", "run the stage regions, or set label")
    return initialised(nn.Linear(model.widths.pooled, classes), 0.0 if settings.zeroed else model.init_std)


def prepare(example: Example, row: Row, make: Make, settings: Settings, rng: np.random.Generator) -> Example:
    """The label. An image without one takes no part."""
    if settings.label == "tag":
        tags = row.value("tags")
        label = tags[0]["class_id"] if tags else IGNORE
    else:
        given = as_dict(row.value("extra")).get(settings.label)
        label = settings.names.index(given) if given in settings.names else IGNORE
    return example.with_targets(label=np.array(label, np.int64))


def loss(model: Fusion, encoded: Encoded, head: nn.Linear, batch: Batch, settings: Settings) -> Scored:
    """Mean cross-entropy, 0 if no image has a label."""
    labels_B = batch.targets["label"]
    known_B = labels_B != IGNORE
    return Scored.of_classes(head(encoded.pooled_BH[known_B]), labels_B[known_B])
