"""What goes into a model: one row as an Example of numpy arrays, many as a Batch of tensors.

Shape letters, here and in all of trainer/:
B rows, T text tokens, R regions, D feature width, K stored class probabilities, C classes, V vocabulary, H hidden
width, E embedding width, I images and N texts of a retrieval test.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import torch
from torch import Tensor

from pairloom.loader.pair import Question
from pairloom.loader.pictures import Picture, PictureBatch
from pairloom.loader.stored import Stored
from pairloom.table import Array

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

IGNORE = -100  # a label that no loss counts, as in torch
# What is seen of a region: itself, nothing, or (n from 0) the batch's region n, counted in a circle.
ITSELF, HIDDEN = -2, -1

Tensors = TypeVar("Tensors", bound="DataclassInstance")


@dataclass(slots=True)  # not frozen: one is made for each row, which takes a fifth of the time
class Words:
    """One text, or a caption and what follows it, as token ids. Start and ends included."""

    ids_T: Array  # int64
    word_ids_T: Array  # int64, number of the word that the token is a part of, −1 for special tokens
    labels_T: Array  # int64, the id to predict, or IGNORE
    segments_T: Array  # int64, 0 the caption, 1 what follows it, such as tags


@dataclass(slots=True)
class Regions:
    """The regions of one image, best first. What the recipe does not name is None."""

    features_RD: Array | Stored  # float16, read-only; Stored: still in the shard, read when its batch is made
    boxes_R7: Array  # float32: x1/W y1/H x2/W y2/H w/W h/H area share
    masked_R: Array  # bool, to be predicted
    shown_R: Array | None = None  # int64: ITSELF, HIDDEN or a number; None: HIDDEN where masked
    class_ids_R: Array | None = None
    class_scores_R: Array | None = None
    attribute_ids_R: Array | None = None
    attribute_scores_R: Array | None = None
    prob_ids_RK: Array | None = None
    prob_values_RK: Array | None = None
    # What objectives may show instead of some of the features, by its name. No batch has it.
    variants: Mapping[str, Array] = field(default_factory=dict)


class Unwritten(Protocol):
    """Pixels that are worked out where they are written to: in their place in a batch, with no copy in between."""

    @property
    def shape(self) -> tuple[int, int, int]: ...

    def write(self, out_3SS: Array) -> None:
        """Fill `out_3SS`, float32 of this shape, contiguous or not."""

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array: ...


@dataclass(frozen=True)
class Pixels:
    """One picture, cropped, resized and normalised."""

    values_3SS: Array | Unwritten  # float32. 3 channels RGB, S pixels a side, which need not be equally many


@dataclass(slots=True)
class Example:
    """One row ready for a batch."""

    image_id: bytes
    caption_index: int  # of the caption that the row is about, even where `words` are a negative's
    words: Words
    units: Regions | Pixels | Picture
    mismatch: int = 0  # 0: all belongs together, else what does not, as the objective numbers it
    targets: Mapping[str, Array] = field(default_factory=dict)  # what else an objective draws or asks, see Batch
    causal: bool = False  # whether the second text is written word by word, as in all rows of the batch
    others: tuple[Words, ...] = ()  # further texts to compare the image with, equally many in all rows
    question: Question | None = None  # as in Pair
    strings: Mapping[str, Any] = field(default_factory=dict)  # see Batch

    def with_targets(self, **targets: Array) -> Example:
        """The example with these targets beside those that it has. One of the same name is replaced."""
        return replace(self, targets={**self.targets, **targets})


@dataclass(frozen=True)
class WordBatch:
    """Captions, padded to the longest."""

    input_ids_BT: Tensor  # int64
    attention_mask_BT: Tensor  # bool, False is padding
    word_ids_BT: Tensor  # int64, −1 for special tokens and padding
    labels_BT: Tensor  # int64, the id to predict, or IGNORE
    segments_BT: Tensor  # int64, 0 the caption, 1 what follows it


@dataclass(frozen=True)
class RegionBatch:
    """Regions, padded to the most."""

    features_BRD: Tensor  # float16 as stored, complete: the model hides the masked ones, losses see them
    boxes_BR7: Tensor  # float32
    mask_BR: Tensor  # bool, False is padding
    masked_BR: Tensor  # bool, to be predicted
    shown_BR: Tensor | None = None  # int64, see Regions
    class_ids_BR: Tensor | None = None  # int64
    class_scores_BR: Tensor | None = None  # float32
    attribute_ids_BR: Tensor | None = None  # int64
    attribute_scores_BR: Tensor | None = None  # float32
    prob_ids_BRK: Tensor | None = None  # int64
    prob_values_BRK: Tensor | None = None  # float32


@dataclass(frozen=True)
class CellBatch:
    """Pictures as cells of a grid, each picture's own grid row by row."""

    values_BUC: Tensor  # filled up at the end
    shape_B2: Tensor  # int64, rows and columns


@dataclass(frozen=True)
class Batch:
    """Rows of one training step."""

    image_ids: tuple[bytes, ...]
    caption_index_B: Tensor  # int64
    image_number_B: Tensor  # int64, equal for rows of the same image
    mismatch_B: Tensor  # int64, 0 where all belongs together
    words: WordBatch
    regions: RegionBatch | None = None
    pixels_B3SS: Tensor | None = None  # float32. Those of another shape are filled up at the right and below
    pixel_mask_BSS: Tensor | None = None  # bool, False is such filling; None: there is none
    pictures: PictureBatch | None = None  # that are not resized yet (Options.resize), `to` makes pixels of them
    cells: CellBatch | None = None  # what the model's backbone makes of the pixels, where that is known already
    causal: bool = False  # second texts see themselves up to each word, and first texts do not see them
    others: WordBatch | None = None  # further texts of each row: (B, K, T)
    objective: str = ""  # that the rows are made ready for, or the step that several share
    # By name, what an objective's `prepare` left for its loss or the model: padded with IGNORE, False or 0 by its type.
    targets: Mapping[str, Tensor] = field(default_factory=dict)
    progress: float = 1.0  # share of the training that went before
    real_B: Tensor | None = None  # bool, False: only fills up the epoch's last batch (end: pad) and should not count
    # What Options.strings asks for, a value a row: `captions` the row's own, `tags` and `negatives` tuples of texts.
    strings: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    # The same rows made ready once more, for each objective of the step that has a pass of the model to itself.
    apart: tuple[Batch, ...] = ()

    def __len__(self) -> int:
        return len(self.image_ids)

    @property
    def match_B(self) -> Tensor:  # noqa: N802  a tensor is named with its shape
        """bool, whether words and image belong together."""
        return self.mismatch_B == 0

    def to(self, device: torch.device) -> Batch:
        """The same rows with every tensor on this device. Pictures that were left for it are resized there."""
        if self.caption_index_B.device == device:
            moved = self
        else:
            moved = map_tensors(self, lambda tensor: tensor.to(device, non_blocking=True))
        if moved.pictures is None:
            return moved
        pixels_B3SS, mask_BSS = moved.pictures.resized()
        apart = tuple(part.to(device) for part in self.apart)
        return replace(moved, pictures=None, pixels_B3SS=pixels_B3SS, pixel_mask_BSS=mask_BSS, apart=apart)

    def take(self, rows: Tensor) -> Batch:
        """The batch of these rows, in this order, repeats allowed. Pictures must have been resized."""
        assert self.pictures is None, "move the batch to its device first"
        taken = map_tensors(self, lambda tensor: tensor.index_select(0, rows.to(tensor.device)))
        numbers = rows.tolist()
        strings = {name: tuple(values[row] for row in numbers) for name, values in self.strings.items()}
        image_ids = tuple(self.image_ids[row] for row in numbers)
        apart = tuple(part.take(rows) for part in self.apart)
        return replace(taken, image_ids=image_ids, strings=strings, apart=apart)


def map_tensors(value: Tensors, change: Callable[[Tensor], Tensor]) -> Tensors:
    """The same dataclass with every tensor in it changed."""
    changed: dict[str, Any] = {}
    for name in _names(type(value)):
        part = getattr(value, name)
        if part is None or isinstance(part, str | bool):
            continue  # most of them, and what follows takes longer
        if isinstance(part, Tensor):
            changed[name] = change(part)
        elif isinstance(part, dict | Mapping):
            changed[name] = {key: change(item) if isinstance(item, Tensor) else item for key, item in part.items()}
        elif isinstance(part, tuple) and part and is_dataclass(part[0]):
            changed[name] = tuple(map_tensors(item, change) for item in part)
        elif is_dataclass(part) and not isinstance(part, type):
            changed[name] = map_tensors(part, change)
    return replace(value, **changed)


@cache
def _names(kind: type[DataclassInstance]) -> tuple[str, ...]:
    """Of a dataclass's fields."""
    return tuple(one.name for one in fields(kind))
