"""What the parts of a recipe offer: units, models and objectives are modules, found by the name that the recipe gives.

A recipe names one module of systems/units, one of systems/models and any number of systems/objectives, each with its
settings. Like a stage, such a module is the interface: no registry, no decorator, no base class, and nothing that asks
which system is being trained. What objectives may expect of a model is a Protocol too, so that one objective serves
every model that offers as much: words and units that have seen each other (Fusion), or two towers (Towers).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pairloom.loader.batch import Batch, Example, Pixels, Regions
from pairloom.loader.draws import Draws
from pairloom.loader.examples import Examples, RegionColumns
from pairloom.loader.make import Make
from pairloom.loader.pair import Pair
from pairloom.loader.pictures import Picture
from pairloom.loader.row import Row
from trainer.precision import as_float32
from trainer.published import Layout


@dataclass(frozen=True)
class Shapes:
    """The sizes that shards and tokenizer decide. None where the recipe's units have no such thing."""

    vocab_size: int
    feature_width: int | None = None
    num_classes: int | None = None
    num_attributes: int | None = None
    image_size: int | None = None  # pixels of a side
    answers: tuple[str, ...] = ()  # the classes of a question's answer


@dataclass(frozen=True)
class Scored:
    """What an objective says about one batch."""

    loss: Tensor  # scalar
    count: Tensor  # scalar, how many predictions it is the mean of
    right: Tensor | None = None  # scalar, how many of them were right. None where right and wrong mean nothing
    answers: Tensor | None = None  # int64 [count], what was right: the best constant guess is what chance gives
    logits: Tensor | None = None  # [count, classes], where it classifies
    chance: float | None = None  # instead of answers: the share that guessing gets right
    over: Tensor | None = None  # scalar, what the loss is divided by, where that is not count

    @classmethod
    def of_classes(cls, logits_MC: Tensor, answers_M: Tensor, loss: Tensor | None = None) -> Scored:
        """M predictions among C classes, each of one answer. loss: if not their mean cross-entropy, 0 of none."""
        if loss is None:
            loss = F.cross_entropy(as_float32(logits_MC), answers_M, reduction="sum") / max(len(answers_M), 1)
        right = (logits_MC.argmax(dim=-1) == answers_M).sum()
        return cls(loss, torch.tensor(len(answers_M)), right, answers_M, logits_MC)


@dataclass(frozen=True)
class Encoded:
    """Words and units that have seen each other. U units (regions, patches or cells of a grid)."""

    words_BTH: Tensor
    units_BUH: Tensor
    units_BU: Tensor  # bool, False is padding
    pooled_BH: Tensor  # one vector for both


@dataclass(frozen=True)
class Embedded:
    """Texts and images that have not seen each other, in one space, each of length 1."""

    images_BE: Tensor
    texts_BE: Tensor


@dataclass(frozen=True)
class Widths:
    """Of what a Fusion model encodes."""

    words: int
    units: int
    pooled: int


@dataclass(frozen=True)
class Nudges:
    """What is added to the embeddings of words and to the features of regions."""

    words_BTH: Tensor | None = None
    regions_BRD: Tensor | None = None


class Fusion(Protocol):
    """A model whose words and units see each other. What most objectives need of it."""

    widths: Widths
    init_std: float  # of the weights at the start, for heads

    @property
    def word_weight(self) -> Tensor:
        """(V, H) the word embeddings, which the head that predicts words shares."""

    def __call__(self, batch: Batch) -> Encoded: ...


@runtime_checkable
class Perturbable(Protocol):
    """A Fusion model whose forward takes Nudges as well, for adversarial training."""

    takes_nudges: bool


@runtime_checkable
class Causal(Protocol):
    """A Fusion model that honours batch.causal: a second text sees itself up to each word."""

    reads_causally: bool


@runtime_checkable
class Convolutional(Protocol):
    """A model with a network of its own over pixels, which need not run once a pair of image and text."""

    backbone: nn.Module | None


class Regional(Fusion, Protocol):
    """A Fusion model whose units are regions, for heads that share the layer which reads their features."""

    @property
    def feature_weight(self) -> Tensor:
        """(H, D), the layer that reads features."""


class Towers(Protocol):
    """A model that reads images and texts apart."""

    def images(self, batch: Batch) -> Tensor:
        """(B, E), each of length 1."""

    def texts(self, batch: Batch) -> Tensor:
        """(B, E), each of length 1."""

    def __call__(self, batch: Batch) -> Embedded: ...


class Unit(Protocol):
    """systems/units/<name>.py: what an image becomes."""

    Settings: type[Any]

    def columns(self, settings: Any) -> tuple[str, ...]:
        """The shards' columns that `load` reads."""

    def shapes(self, settings: Any, metadata: Mapping[str, str]) -> dict[str, int]:
        """The fields of Shapes that these units decide. `metadata` is that of a shard."""

    def load(self, row: Row, settings: Any, rng: np.random.Generator | None) -> Regions | Pixels:
        """One image. `rng` draws the augmentation, None means none."""


class Resizable(Unit, Protocol):
    """Units of pictures that the device may resize and augment (the loader's `resize: device`)."""

    def load_unresized(self, row: Row, settings: Any, rng: np.random.Generator | None) -> Picture: ...


class AllAtOnce(Unit, Protocol):
    """Units that are loaded for all rows of a batch at once: regions, nothing of which is augmented."""

    def load_all(self, rows: Sequence[Row], settings: Any) -> RegionColumns: ...


@runtime_checkable
class Countable(Protocol):
    """Units that are counted in batches of so many tokens. `load` of such units reads no picture."""

    def length(self, row: Row, settings: Any) -> int:
        """How many `load` takes."""

    def most(self, settings: Any) -> int:
        """How many it takes of any row at most."""


class Model(Protocol):
    """systems/models/<name>.py."""

    Settings: type[Any]

    def build(self, settings: Any, shapes: Shapes) -> nn.Module: ...


@runtime_checkable
class Published(Protocol):
    """A model's module that knows how others name its weights."""

    def published(self, model: Any, heads: Mapping[str, nn.Module]) -> Sequence[Layout]:
        """The layouts that this model and these heads can start from. The first that knows a file's names reads it."""


class Objective(Protocol):
    """systems/objectives/<name>.py: the parameters it adds, and its loss."""

    Settings: type[Any]

    def head(self, settings: Any, model: Any, shapes: Shapes) -> nn.Module:
        """The parameters that only this objective uses."""

    def loss(self, model: Any, encoded: Any, head: Any, batch: Batch, settings: Any) -> Scored:
        """encoded: the model's answer to the batch, which all objectives of the step share."""


class Preparing(Objective, Protocol):
    """An objective that changes rows one by one: it hides what is to be predicted, or adds targets.

    Objectives of one step do so one after the other.
    """

    def prepare(self, example: Example, row: Row, make: Make, settings: Any, rng: np.random.Generator) -> Example: ...


class PreparingAll(Objective, Protocol):
    """An objective that does so for all rows of a batch at once, which takes a fraction of the time."""

    def prepare_all(self, examples: Examples, make: Make, settings: Any, draws: Draws) -> Examples: ...


@runtime_checkable
class Reading(Protocol):
    """An objective that reads columns of the shards beyond those of the units."""

    def columns(self, settings: Any) -> tuple[str, ...]: ...


@runtime_checkable
class Numbering(Protocol):
    """An objective whose head numbers the entries of lists in the shards' metadata, such as `answers`."""

    @property
    def NUMBERED_BY(self) -> tuple[str, ...]:  # noqa: N802  a constant of the module
        """Keys of the shards' metadata."""


@runtime_checkable
class Several(Protocol):
    """An objective that compares an image with all texts that `text.draw` draws of it: they are in batch.others."""

    @property
    def SEVERAL_TEXTS(self) -> bool: ...  # noqa: N802  a constant of the module


@runtime_checkable
class Resizing(Objective, Protocol):
    """An objective whose `prepare` may give a row another number of words, beside those that are `Alone`."""

    def resizes(self, settings: Any) -> bool: ...


class Pairing(Objective, Protocol):
    """An objective that also decides what goes together: negatives, replaced tags."""

    def pair(self, pair: Pair, settings: Any, rng: np.random.Generator) -> Pair: ...


@runtime_checkable
class Alone(Objective, Protocol):
    """An objective that may show a text alone. Its `prepare` asks `make.alone` for one that never had an image."""

    def text_alone(self, settings: Any) -> bool: ...


@runtime_checkable
class Matcher(Objective, Protocol):
    """An objective that can also say how well each image goes with each text, for retrieval."""

    def similarity(self, model: Any, head: Any, settings: Any, images: Batch, texts: Batch) -> Tensor:
        """(images, texts) float, higher is better."""


@runtime_checkable
class VectorMatcher(Matcher, Protocol):
    """A Matcher of a model with two towers, which compares vectors: each image and each text is read once."""

    def of_vectors(self, images_IE: Tensor, texts_NE: Tensor) -> Tensor:
        """(images, texts) float, as `similarity` of the images and texts with these vectors of length 1."""
