"""One row of a training set: an image with one of its captions, and the row group in memory that it lies in."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

import numpy as np

from pairloom.loader.drawing import Dice, drawn, part_of
from pairloom.loader.group import OpenGroup
from pairloom.loader.reading import DamagedError
from pairloom.loader.stored import Stored
from pairloom.table import Array

UNUSABLE = "leave the row out when the shards are made, or set the loader's on_damage to skip"


@dataclass(frozen=True)
class Turn:
    """When an image is seen: what is drawn of it follows."""

    seed: int
    epoch: int
    group: int  # in the folder

    def dice(self, image: int, text: int = 0) -> Dice:
        """For an image of the group; text: 0 for its own, other numbers for what it is compared with."""
        return Dice(self.seed, self.epoch, self.group, image, text)


@dataclass(slots=True)  # not frozen: one is made for each row, which takes a fifth of the time
class Row:
    """One training row: an image with one of its captions, or with the texts that were drawn of it."""

    group: OpenGroup
    row: int  # of the image, in the group
    caption_index: int
    turn: Turn | None = None  # None: nothing is drawn
    texts: tuple[str, ...] = ()  # that were drawn, the row's own first

    @property
    def image_id(self) -> bytes:
        identity: bytes = self.value("image_id")
        return identity

    @property
    def text(self) -> str:
        """The caption, or what was drawn of it."""
        return self.texts[0] if self.texts else self.group.text(self.row, self.caption_index)

    def unusable(self, what: str) -> DamagedError:
        """What to raise where a value is as it was written, and cannot be used. It names shard, row and url."""
        return DamagedError(
            what, f"{self.group.where}, row {self.group.in_shard(self.row)}, {self.group.url(self.row)}", UNUSABLE
        )

    def has(self, column: str) -> bool:
        return column in self.group.names

    def value(self, column: str) -> Any:
        return self.group.image(self.row) if column == "image" else self.group.cells(column)[self.row]

    def numbers(self, column: str) -> Array:
        return self.group.numbers(column, self.row)

    def stored(self, column: str, most: int | None = None) -> Stored:
        return self.group.stored(column, self.row, most)

    def negatives(self) -> list[str]:
        """Texts of the caption's mined hard negatives, most similar first."""
        return self._texts_of("negatives")

    def similar(self) -> list[str]:
        """Texts of other images' captions that are most like the caption, most similar first. Perhaps none."""
        return self._texts_of("similar")

    def _texts_of(self, column: str) -> list[str]:
        of_captions = self.group.cell(column, self.row).values
        listed = None if of_captions is None else of_captions[self.caption_index].values
        texts = [] if listed is None else listed.field("text").to_pylist()
        return [self._cut(text, number) for number, text in enumerate(texts, 1)]

    def _cut(self, text: str, number: int) -> str:
        """As many of its sentences as the row's own text was drawn with, or its length would give it away."""
        if self.turn is None:
            return str(text)
        return part_of(text, self.group.draw[0], self.turn.dice(self.row, number))

    def siblings(self) -> list[str]:
        """The image's captions in the wanted languages, its own among them."""
        first, last = self._span()
        return [self.group.text(*place) for place in self.group.places[first:last]]

    def _span(self) -> tuple[int, int]:
        """The places in the group that its image's captions have."""
        places, row_of = self.group.places, itemgetter(0)
        return bisect_left(places, self.row, key=row_of), bisect_left(places, self.row + 1, key=row_of)

    def of_kind(self, kind: str) -> list[str]:
        """The image's captions of this kind in this one's language, whether or not they are offered as rows."""
        captions = self.group.cell("captions", self.row).values
        if captions.type.get_field_index("kind") < 0:  # shards of earlier versions
            return []
        kinds, langs, texts = (captions.field(name).to_pylist() for name in ("kind", "lang", "text"))
        own = langs[self.caption_index]
        found = zip(kinds, langs, texts, strict=True)
        return [text for other, lang, text in found if other == kind and (lang is None or own is None or lang == own)]

    def tags(self) -> str:
        """The image's tags, best first, joined by spaces. Empty if it has none."""
        return " ".join(text for text, _ in self.tagged())

    def tagged(self) -> list[tuple[str, int]]:
        """(text, region) of each of the image's tags, best first."""
        return self.group.tagged(self.row)

    def translations(self) -> list[str]:
        """The image's captions in other languages than this one's. None if a language is not known."""
        captions = self.group.cell("captions", self.row).values
        langs, texts = captions.field("lang").to_pylist(), captions.field("text").to_pylist()
        own = langs[self.caption_index]
        return [text for lang, text in zip(langs, texts, strict=True) if lang and own and lang != own]

    def other(self, rng: np.random.Generator) -> Row | None:
        """A random row of another image of the same row group, or None if there is none."""
        first, last = self._span()
        others = len(self.group.rows) - (last - first)
        if others == 0:
            return None
        place = int(rng.integers(others))
        place = place if place < first else place + last - first
        if self.turn is None:
            return Row(self.group, *self.group.places[place])
        return drawn_row(self.group, bisect_right(self.group.firsts, place) - 1, self.turn)


def drawn_row(group: OpenGroup, image: int, turn: Turn) -> Row:
    """The row of an image, counted among those that are offered, with the texts that are drawn in this turn."""
    first, following = group.firsts[image : image + 2]
    texts = [group.text(*place) for place in group.places[first:following]]
    found = drawn(group.draw, texts, group.kinds[first:following], turn.dice(image))
    return Row(group, *group.places[first + found.caption], turn, found.texts)
