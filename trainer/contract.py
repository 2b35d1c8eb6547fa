"""What the parts of a recipe offer: units, models and objectives are modules, found by the name that the recipe gives.

A recipe names one module of trainer/units, one of trainer/models and any number of trainer/objectives, each with its
settings. Like a stage, such a module is the interface: no registry, no decorator, no base class, and nothing that asks
which system is being trained.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from torch import Tensor, nn

if TYPE_CHECKING:  # data.py imports this file
    from trainer.batch import Batch, Example, Pixels, Regions
    from trainer.data import Make
    from trainer.rows import Row


@dataclass(frozen=True)
class Shapes:
    """The sizes that shards and tokenizer decide; None where the recipe's units have no such thing."""

    vocab_size: int
    feature_width: int | None = None
    num_classes: int | None = None
    image_size: int | None = None  # pixels of a side


@dataclass(frozen=True)
class Scored:
    """What an objective says about one batch."""

    loss: Tensor  # scalar
    count: Tensor  # scalar, how many predictions it is the mean of
    right: Tensor | None = None  # scalar, how many of them were right; None where right and wrong mean nothing


class Unit(Protocol):
    """trainer/units/<name>.py: what an image becomes."""

    Settings: type[Any]

    def columns(self, settings: Any) -> tuple[str, ...]:
        """The shards' columns that `load` reads."""

    def shapes(self, settings: Any, metadata: Mapping[str, str]) -> dict[str, int]:
        """The fields of Shapes that these units decide; metadata is that of a shard."""

    def load(self, row: Row, settings: Any, rng: np.random.Generator | None) -> Regions | Pixels:
        """One image; rng draws the augmentation, None means none."""


class Model(Protocol):
    """trainer/models/<name>.py."""

    Settings: type[Any]

    def build(self, settings: Any, shapes: Shapes) -> nn.Module: ...


class Objective(Protocol):
    """trainer/objectives/<name>.py: how rows are prepared for it, the parameters it adds, and its loss."""

    Settings: type[Any]

    def columns(self, settings: Any) -> tuple[str, ...]:
        """The shards' columns that it reads beyond those of the units."""

    def head(self, settings: Any, model: Any, shapes: Shapes) -> nn.Module:
        """The parameters that only this objective uses."""

    def prepare(self, row: Row, make: Make, settings: Any, rng: np.random.Generator) -> Example:
        """One training row: masks drawn, negative chosen."""

    def loss(self, model: Any, head: Any, batch: Batch, settings: Any) -> Scored: ...


class Matcher(Objective, Protocol):
    """An objective that can also say how well each image goes with each text, for retrieval."""

    def similarity(self, model: Any, head: Any, settings: Any, images: Batch, texts: Batch) -> Tensor:
        """(images, texts) float, higher is better."""
