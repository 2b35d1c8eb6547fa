"""The images of a split with their captions: batches of any of them, and each by its name."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from pairloom.errors import InputError
from pairloom.extra import as_dict
from pairloom.loader.batch import Batch, Example, Regions
from pairloom.loader.make import Make
from pairloom.loader.row import Row
from pairloom.loader.rows import Rows, open_rows
from pairloom.loader.tokenizer import Tokenizer
from pairloom.names import OF_URL, name_of, stem
from trainer.recipe import Recipe


@dataclass(frozen=True)
class Gallery:
    """Images of a split in stored order, each a place in its rows. Pictures and regions are read when asked for."""

    rows: Rows
    make: Make
    places: tuple[tuple[int, int], ...]  # of each image: row group, and row of its first caption there
    captions: tuple[tuple[str, ...], ...]  # of each image
    known: dict[str, dict[str, int]] = field(default_factory=dict, repr=False, compare=False)  # names, by `match`

    def __len__(self) -> int:
        return len(self.places)

    def row(self, image: int) -> Row:
        """The image with the first of its captions."""
        return self.rows.at(*self.places[image])

    def batch(self, images: Sequence[int]) -> Batch:
        """These images with their first captions, and what follows a caption, such as tags."""
        return self.make.collate(self.make([self.make.pair(self.row(image)) for image in images]))

    def place(self, name: str, match: str, where: str) -> int:
        """The image of this name, with or without folder and ending. Raises InputError for none and for several."""
        if match not in self.known:
            self.known[match] = self._names(match)
        found = self.known[match].get(stem(name))
        if found is None or found < 0:
            several = "several images of the split have" if found is not None else "no image of the split has"
            some = ", ".join(list(self.known[match])[:3]) or "none"
            raise InputError(
                f"{several} the name {stem(name)!r}; names there are {some} …",
                where,
                "name another split (--split), or the key of `extra` that holds the names (--match)",
            )
        return found

    def _names(self, match: str) -> dict[str, int]:
        """−1 for a name of several images."""
        found: dict[str, int] = {}
        for image, row in enumerate(self):
            values = {column: row.value(column) for column in ("url", "extra") if row.has(column)}
            name = name_of(values, match)
            found[name] = image if name not in found else -1
        found.pop("", None)
        return found

    def __iter__(self) -> Iterator[Row]:
        return map(self.row, range(len(self)))

    def labels(self, key: str) -> list[str | None]:
        """What `extra` says of each image under this key."""
        return [as_dict(row.value("extra")).get(key) for row in self]


def open_gallery(
    shards: Path | str,
    split: str,
    recipe: Recipe,
    tokenizer: Tokenizer,
    *,
    beside: Sequence[str] = (),
    most: int | None = None,
    captions_each: int | None = None,
) -> Gallery:
    """The images of a split as the recipe shows them, nothing augmented.

    beside: further columns that a test reads. most: so many images, captions_each: so many captions of each, the first
    ones; None: all.

    Raises StoreError and MissingColumnsError as open_rows does.
    """
    wanted = {"image_id", "captions", *recipe.units.unit.columns(recipe.units.settings), *beside}
    wanted.update({"tags"} if recipe.text.second == "tags" else ())
    rows = open_rows(shards, split, tuple(sorted(wanted)), recipe.text.languages)
    places: list[tuple[int, int]] = []
    captions: list[list[str]] = []
    for group, size in enumerate(rows.sizes()):
        image = -1
        for place in range(size):
            row = rows.at(group, place)
            if row.row != image:
                if len(places) == most:
                    break
                image = row.row
                places.append((group, place))
                captions.append([])
            if captions_each is None or len(captions[-1]) < captions_each:
                captions[-1].append(row.text)
    make = Make(tokenizer, recipe.units, augment=False, second=recipe.text.second)
    return Gallery(rows, make, tuple(places), tuple(map(tuple, captions)))


def columns_of(match: str) -> tuple[str, ...]:
    """The columns that tell the images' names."""
    return ("url",) if match == OF_URL else ("extra",)


def texts_alone(tokenizer: Tokenizer, texts: Sequence[str]) -> Batch:
    """Texts as a batch without images, for what reads texts alone."""
    from pairloom.loader.collate import collate

    nothing = Regions(np.zeros((0, 1), np.float16), np.zeros((0, 7), np.float32), np.zeros(0, bool))
    return collate([Example(bytes(16), 0, tokenizer.words(text), nothing) for text in texts], tokenizer.pad)
