"""Check sums of pictures' regions, some hundred bytes each: an export is compared with its shards in any order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import xxhash

from formats.exports.pairs import Pair
from formats.features.record import Array, Bad, Record

PIXEL = 1e-4  # by which a number of a box may differ
SHARE = 1e-6  # by which one in shares of the picture's sides may
HALF = 2.0**-11  # the same of a layout that keeps them as float16


Wanted = tuple[int, bytes, Array, Array]


@dataclass(frozen=True)
class Seen:
    """What was read back of a picture."""

    key: str
    wanted: Any = None  # what is wanted of it, if this is how it should be
    sized: bool = True  # whether the layout says how large the picture is
    problem: str = ""  # why it can't be read


class Sums:
    """What is wanted of each key: the bits of its features, and its boxes, weighted by their place in the order."""

    def __init__(self, stored: str) -> None:
        self._stored = stored
        self._wanted: dict[str, Wanted] = {}
        self._found: set[str] = set()

    def __len__(self) -> int:
        return len(self._wanted)

    def of(self, record: Record) -> tuple[str, Wanted]:
        """(key, what is wanted of it). Any process may make it."""
        return record.key, (len(record.boxes), self._bits(record), *self._corners(record))

    def add(self, key: str, wanted: Wanted) -> None:
        self._wanted[key] = wanted

    def _bits(self, record: Record) -> bytes:
        return xxhash.xxh3_128_digest(np.ascontiguousarray(record.features, self._stored).data)

    def _corners(self, record: Record) -> tuple[Array, Array]:
        """(the boxes as they are, and in shares of the picture's sides where these are known), each summed up."""
        boxes = np.asarray(record.boxes, np.float64)
        weights = np.arange(1, len(boxes) + 1) / len(boxes)
        if record.width is None or record.height is None:
            return weights @ boxes, weights @ boxes
        return weights @ boxes, weights @ (boxes / ([record.width, record.height] * 2))

    def seen(self, found: Record | Bad) -> Seen:
        """Of a picture that was read back. Any process may make it."""
        if isinstance(found, Bad):
            return Seen(found.key, problem=f"{found.key or found.place} can't be read back: {found.detail}")
        return Seen(*self.of(found), sized=found.width is not None)

    def differs(self, found: Seen) -> str | None:
        """What is wrong with a picture that was read back. None where it is the same."""
        if found.problem:
            return found.problem
        if found.key not in self._wanted or found.key in self._found:
            return f"{found.key} is there twice" if found.key in self._found else f"{found.key} was never written"
        self._found.add(found.key)
        count, bits, pixels, shares = self._wanted[found.key]
        own_count, own_bits, own, _ = found.wanted
        if own_count != count:
            return f"{found.key} has {own_count} regions, not {count}"
        if own_bits != bits:
            return f"{found.key} has other features"
        if self._far(own, pixels if found.sized else shares, found.sized, count):
            return f"{found.key} has other boxes, or the same in another order"
        return None

    def _far(self, own: Array, wanted: Array, in_pixels: bool, count: int) -> bool:
        """Whether the boxes differ by more than the layout's rounding."""
        most = PIXEL if in_pixels else HALF if self._stored == "<f2" else SHARE
        return bool(np.abs(own - wanted).max() > most * (count + 1) / 2)

    def missing(self) -> int:
        return len(self._wanted) - len(self._found)


class PairSums:
    """What is wanted of each key: the picture's bytes (unless only texts are held) and its captions' words."""

    def __init__(self, pictures: bool = True) -> None:
        self._pictures = pictures
        self._wanted: dict[str, bytes] = {}
        self._found: set[str] = set()

    def __len__(self) -> int:
        return len(self._wanted)

    def of(self, pair: Pair) -> tuple[str, bytes]:
        """(key, what is wanted of it). Any process may make it."""
        return pair.key, self._sum(pair)

    def add(self, key: str, wanted: bytes) -> None:
        self._wanted[key] = wanted

    def _sum(self, pair: Pair) -> bytes:
        words = "\n".join(" ".join(one.text.split()) for one in pair.captions)  # lists hold no line ends
        picture = xxhash.xxh3_128_digest(pair.image if self._pictures else b"")
        return xxhash.xxh3_128_digest(picture + words.encode("utf-8", "surrogatepass"))

    def seen(self, found: Pair) -> Seen:
        """Of a pair that was read back. Any process may make it."""
        return Seen(*self.of(found))

    def differs(self, found: Seen) -> str | None:
        """What is wrong with a pair that was read back. None where it is the same."""
        if found.key not in self._wanted or found.key in self._found:
            return f"{found.key} is there twice" if found.key in self._found else f"{found.key} was never written"
        self._found.add(found.key)
        return None if found.wanted == self._wanted[found.key] else f"{found.key} has another picture or captions"

    def missing(self) -> int:
        return len(self._wanted) - len(self._found)
