"""The rows of a batch column by column: what each row has several of, such as tokens, lies one row after the other."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np

from pairloom.loader.batch import Example, Pixels, Regions, Words
from pairloom.loader.pair import Question
from pairloom.loader.pictures import Picture
from pairloom.loader.stored import Stored
from pairloom.table import Array

WORDS = tuple(one.name for one in fields(Words))
COLUMNS = tuple(one.name for one in fields(Regions) if one.name not in ("features_RD", "variants"))


@dataclass(slots=True)
class RegionColumns:
    """The regions of many images. N regions of all of them together."""

    counts: list[int]  # of each image
    features: list[Array | Stored]  # of each image, (R, D)
    columns: dict[str, Array]  # by the name of a field of Regions, each that is there of COLUMNS: (N, …)
    variants: Sequence[Mapping[str, Array]] = ()  # of each image, or of none

    def split(self) -> list[Regions]:
        """Of each image. The arrays are parts of those here."""
        variants = self.variants or [{}] * len(self.counts)
        return [
            Regions(features, **{name: values[start:end] for name, values in self.columns.items()}, variants=other)
            for features, other, (start, end) in zip(self.features, variants, spans(self.counts), strict=True)
        ]

    @classmethod
    def united(cls, regions: Sequence[Regions]) -> RegionColumns:
        """What `split` gives, together. The first image says which columns there are."""
        names = [name for name in COLUMNS if getattr(regions[0], name) is not None]
        columns = {name: np.concatenate([getattr(one, name) for one in regions]) for name in names}
        counts, features = [len(one.boxes_R7) for one in regions], [one.features_RD for one in regions]
        return cls(counts, features, columns, [one.variants for one in regions] if regions[0].variants else ())


@dataclass(slots=True)
class Examples:
    """Rows ready for a batch: what an Example has, of all of them."""

    image_ids: list[bytes]
    caption_indices: list[int]
    words: Words  # of all rows
    word_counts: list[int]  # tokens of each
    units: RegionColumns | Sequence[Regions | Pixels | Picture]  # all of one kind
    mismatch: list[int]
    questions: list[Question | None]
    others: list[tuple[Words, ...]]
    targets: dict[str, list[Array]] = field(default_factory=dict)  # a value a row
    causal: bool = False
    strings: Mapping[str, list[Any]] = field(default_factory=dict)  # a value a row
    apart: tuple[Examples, ...] = ()  # the same rows for each pass of its own, see Batch

    def __len__(self) -> int:
        return len(self.image_ids)

    def with_targets(self, **targets: list[Array]) -> Examples:
        """The rows with these targets beside those that they have: a value a row. One of the same name is replaced."""
        return replace(self, targets={**self.targets, **targets})

    def regions(self) -> RegionColumns:
        """The units, which must be regions, column by column."""
        if not isinstance(self.units, RegionColumns):
            regions = [unit for unit in self.units if isinstance(unit, Regions)]
            assert len(regions) == len(self.units), "one batch, one kind of units"
            self.units = RegionColumns.united(regions)
        return self.units

    def unit_counts(self) -> list[int]:
        """Regions of each row. Pictures have none."""
        units = self.units
        if isinstance(units, RegionColumns):
            return units.counts
        return [len(unit.boxes_R7) if isinstance(unit, Regions) else 0 for unit in units]

    def lengths(self) -> list[tuple[int, int]]:
        """Tokens and regions of each row, in the pass where it has most."""
        passes = (self, *self.apart)
        words = zip(*(one.word_counts for one in passes), strict=True)
        units = zip(*(one.unit_counts() for one in passes), strict=True)
        return list(zip(map(max, words), map(max, units), strict=True))

    def split(self) -> list[Example]:
        """Row by row, of the first pass. The arrays are parts of those here."""
        units = self.units.split() if isinstance(self.units, RegionColumns) else self.units
        targets, strings = self.targets.items(), self.strings.items()
        return [
            Example(
                self.image_ids[row], self.caption_indices[row], words, units[row], self.mismatch[row],
                {name: values[row] for name, values in targets}, self.causal, self.others[row],
                self.questions[row], {name: values[row] for name, values in strings},
            )
            for row, words in enumerate(split_words(self.words, self.word_counts))
        ]  # fmt: skip

    @classmethod
    def united(cls, examples: Sequence[Example]) -> Examples:
        """What `split` gives, together. The first row says whether all are causal, and which targets there are."""
        first = examples[0]
        return cls(
            [example.image_id for example in examples],
            [example.caption_index for example in examples],
            united_words([example.words for example in examples]),
            [len(example.words.ids_T) for example in examples],
            [example.units for example in examples],
            [example.mismatch for example in examples],
            [example.question for example in examples],
            [example.others for example in examples],
            {name: [example.targets[name] for example in examples] for name in first.targets},
            first.causal,
            {name: [example.strings[name] for example in examples] for name in first.strings},
        )


def each(examples: Examples, change: Callable[[int, Example], Example]) -> Examples:
    """The rows changed one by one: change(number, example)."""
    return Examples.united(list(itertools.starmap(change, enumerate(examples.split()))))


def united_words(words: Sequence[Words]) -> Words:
    """Texts one after the other."""
    return Words(*(np.concatenate([getattr(one, name) for one in words]) for name in WORDS))


def split_words(words: Words, counts: Sequence[int]) -> list[Words]:
    """The texts of so many tokens each. The arrays are parts of those here."""
    arrays = [getattr(words, name) for name in WORDS]
    return [Words(*(array[start:end] for array in arrays)) for start, end in spans(counts)]


def spans(counts: Sequence[int]) -> list[tuple[int, int]]:
    """Where each of so many lies when they lie one after the other."""
    ends = list(itertools.accumulate(counts))
    return list(zip([0, *ends], ends, strict=False))
