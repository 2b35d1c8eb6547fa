"""Which texts of an image a row has: captions drawn by their kind, whole or some sentences of them."""

from __future__ import annotations

import itertools
import re
import struct
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated

import xxhash

from pairloom.errors import ConfigError
from pairloom.loader.order import DRAWN
from pairloom.typed import Positive, Range, Share, check_ranges

UNKNOWN = "unknown"  # stands for captions that have no kind
TRIES = 32  # to draw a text that the image does not have in this row yet
# A sentence ends where its mark is followed by a blank. The marks of Chinese and Japanese need none.
END = re.compile(r"(?<=[.!?…][\"'”’)\]])\s+|(?<=[.!?…])\s+|(?<=[。！？])\s*|\n+")


@dataclass(frozen=True, kw_only=True)
class Draw:
    """An entry of `text.draw`: which texts of an image are drawn, anew in every epoch."""

    # Chance of each kind of caption, against the other kinds that the image has. `unknown`: captions without a kind.
    # A kind that is not named is not taken. None named: all captions alike.
    kinds: Mapping[str, Annotated[float, Range(above=0)]] = field(default_factory=dict)
    sentences: tuple[Positive, Positive] | None = None  # of the caption, at least and at most; null: the whole caption
    consecutive: Share = 1.0  # how often the sentences follow each other, else they are any, in their order
    count: Positive = 1  # texts, none twice unless 32 tries find no other

    def __post_init__(self) -> None:
        check_ranges(self)
        if self.sentences is not None and self.sentences[0] > self.sentences[1]:
            fix = "write the smaller number first"
            raise ConfigError(f"sentences is {list(self.sentences)}", "text.draw of the recipe", fix)

    def takes(self, kind: str | None) -> bool:
        """Whether a caption of this kind may be drawn."""
        return not self.kinds or (kind or UNKNOWN) in self.kinds


class Dice:
    """Random numbers of one image in one epoch: a hash of our own, so no library's new version changes them."""

    def __init__(self, *key: int) -> None:
        self._key = struct.pack(f"<{len(key) + 1}q", DRAWN, *key)
        self._thrown = 0

    def share(self) -> float:
        """From 0, below 1."""
        self._thrown += 1
        bits: int = xxhash.xxh3_64_intdigest(self._key + struct.pack("<q", self._thrown))
        return (bits >> 11) / (1 << 53)

    def below(self, count: int) -> int:
        return int(self.share() * count)


@dataclass(frozen=True)
class Drawn:
    """What was drawn of one image."""

    caption: int  # its place among the image's captions that were offered
    texts: tuple[str, ...]  # the row's own first


def drawn(draws: Sequence[Draw], texts: Sequence[str], kinds: Sequence[str | None], dice: Dice) -> Drawn:
    """The texts of a row: of each draw `count`. The captions must have one that each draw takes.

    texts, kinds: of the image's captions.
    """
    found: list[str] = []
    first = None
    for draw in draws:
        of_kind: dict[str, list[int]] = {}
        for place, kind in enumerate(kinds):
            if draw.takes(kind):
                of_kind.setdefault((kind or UNKNOWN) if draw.kinds else "", []).append(place)
        for _ in range(draw.count):
            for _ in range(TRIES):
                place = _place(draw, of_kind, dice)
                text = part_of(texts[place], draw, dice)
                first = place if first is None else first
                if text not in found:
                    break
            found.append(text)
    assert first is not None, "rows without such captions are left out"
    return Drawn(first, tuple(found))


def _place(draw: Draw, of_kind: Mapping[str, Sequence[int]], dice: Dice) -> int:
    """A caption: first its kind by the chances, then any of that kind."""
    ends = list(itertools.accumulate(draw.kinds.get(kind, 1.0) for kind in of_kind))
    number = min(bisect_right(ends, dice.share() * ends[-1]), len(ends) - 1)  # a product may round up to the last end
    places = list(of_kind.values())[number]
    return places[dice.below(len(places))]


def part_of(text: str, draw: Draw, dice: Dice) -> str:
    """The text, or as many of its sentences as the draw says. All of them where it has no more."""
    if draw.sentences is None:
        return text
    least, most = draw.sentences
    wanted = least + dice.below(most - least + 1)
    parts = sentences_of(text)
    if wanted >= len(parts):
        return text
    if dice.share() < draw.consecutive:
        start = dice.below(len(parts) - wanted + 1)
        return " ".join(parts[start : start + wanted])
    return " ".join(parts[place] for place in _any_of(len(parts), wanted, dice))


def _any_of(count: int, wanted: int, dice: Dice) -> list[int]:
    """So many of the numbers below `count`, in order. Each choice is equally likely (Floyd's algorithm)."""
    chosen: set[int] = set()
    for last in range(count - wanted, count):
        number = dice.below(last + 1)
        chosen.add(last if number in chosen else number)
    return sorted(chosen)


def sentences_of(text: str) -> list[str]:
    """The text cut after full stops, question and exclamation marks and line breaks, without blanks at the ends."""
    return [part for piece in END.split(text) if (part := piece.strip())]
