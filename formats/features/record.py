"""What files of region features hold, whatever their layout: a `Record` a picture, or a `Bad` where one can't be read.

Letters: N regions of a picture, D numbers of a feature, C object classes without background.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


@dataclass(frozen=True, kw_only=True)
class Record:
    """One picture's regions in the order of its file. What a layout does not hold is None.

    boxes: x1 y1 x2 y2 in pixels of the picture, or in shares of its sides (0 to 1) where `width` is None.
    features: as stored, float16, float32 or float64. Ids count from 0 without background. probs: background first.
    """

    key: str  # by which the format knows the picture
    boxes: Array  # (N, 4)
    features: Array  # (N, D)
    width: int | None
    height: int | None
    class_ids: Array | None = None  # (N,)
    class_scores: Array | None = None  # (N,)
    attribute_ids: Array | None = None  # (N,)
    attribute_scores: Array | None = None  # (N,)
    probs: Array | None = None  # (N, C + 1)
    class_names: Sequence[str] | None = None  # N, where the file names classes instead of numbering them
    attribute_names: Sequence[str] | None = None  # N. An empty one is none
    captions: Sequence[str] = ()


@dataclass(frozen=True)
class Bad:
    """An entry that was left out: its key (empty if that can't be read), where it stands, and why."""

    key: str
    place: str
    reason: str  # a word of schemas.quarantine.REASONS
    detail: str


class BrokenError(ValueError):
    """An entry is not as its layout says. `reason` is the word for the quarantine."""

    def __init__(self, detail: str, reason: str = "bad-features") -> None:
        super().__init__(detail)
        self.reason = reason


@dataclass(frozen=True, kw_only=True)
class Vocabularies:
    """The names that a writer has for ids."""

    classes: Sequence[str] = field(default_factory=tuple)
    attributes: Sequence[str] = field(default_factory=tuple)


def bad_of(error: Exception, key: str, place: str) -> Bad:
    """What is said of an entry that raised this."""
    reason = error.reason if isinstance(error, BrokenError) else "bad-features"
    return Bad(key, place, reason, str(error) or type(error).__name__)


def matrix(values: Any, rows: int, columns: int | None, name: str) -> Array:
    """values as (rows, columns). Raises BrokenError where they have another shape."""
    array = np.asarray(values)
    if array.ndim != 2 or len(array) != rows or (columns is not None and array.shape[1] != columns):
        wanted = f"({rows}, {columns if columns is not None else 'any'})"
        raise BrokenError(f"{name} has the shape {array.shape}, not {wanted}")
    if array.dtype.kind not in "fiu":
        raise BrokenError(f"{name} holds {array.dtype}, not numbers")
    return array


def vector(values: Any, rows: int, name: str) -> Array:
    """values as (rows,). A column of one number a row is taken, too. Raises BrokenError for another shape."""
    array = np.asarray(values)
    if array.shape not in ((rows,), (rows, 1)):
        raise BrokenError(f"{name} has the shape {array.shape}, not ({rows},)")
    return array.reshape(rows)


def best_class(probs: Array) -> tuple[Array, Array]:
    """(ids, scores) of each region's most probable class, background left out: probs (N, C + 1)."""
    ids = probs[:, 1:].argmax(axis=1)
    return ids, np.take_along_axis(probs[:, 1:], ids[:, None], axis=1)[:, 0]
