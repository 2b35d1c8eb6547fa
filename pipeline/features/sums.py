"""Check sums of pictures' regions, some hundred bytes each: an export is compared with its shards in any order."""

from __future__ import annotations

import numpy as np
import xxhash

from formats.exports.pairs import Pair
from formats.features.record import Array, Bad, Record

PIXEL = 1e-4  # by which a number of a box may differ
SHARE = 1e-6  # by which one in shares of the picture's sides may
HALF = 2.0**-11  # the same of a layout that keeps them as float16


Wanted = tuple[int, bytes, Array, Array]


class Sums:
    """What is wanted of each key: the bits of its features, and its boxes, weighted by their place in the order."""

    def __init__(self, stored: str) -> None:
        self._stored = stored
        self._wanted: dict[str, Wanted] = {}
        self._found: set[str] = set()

    def __len__(self) -> int:
        return len(self._wanted)

    def of(self, record: Record) -> tuple[str, Wanted]:
        """(key, what is wanted of it); any process may make it."""
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

    def differs(self, found: Record | Bad) -> str | None:
        """What is wrong with a picture that was read back; None where it is the same."""
        if isinstance(found, Bad):
            return f"{found.key or found.place} can't be read back: {found.detail}"
        if found.key not in self._wanted or found.key in self._found:
            return f"{found.key} is there twice" if found.key in self._found else f"{found.key} was never written"
        self._found.add(found.key)
        count, bits, pixels, shares = self._wanted[found.key]
        if len(found.boxes) != count:
            return f"{found.key} has {len(found.boxes)} regions, not {count}"
        if self._bits(found) != bits:
            return f"{found.key} has other features"
        if self._far(found, pixels, shares):
            return f"{found.key} has other boxes, or the same in another order"
        return None

    def _far(self, found: Record, pixels: Array, shares: Array) -> bool:
        """Whether the boxes differ by more than the layout's rounding."""
        own, limit = self._corners(found)[0], (len(found.boxes) + 1) / 2
        if found.width is not None:
            return bool(np.abs(own - pixels).max() > PIXEL * limit)
        return bool(np.abs(own - shares).max() > (HALF if self._stored == "<f2" else SHARE) * limit)

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
        """(key, what is wanted of it); any process may make it."""
        return pair.key, self._sum(pair)

    def add(self, key: str, wanted: bytes) -> None:
        self._wanted[key] = wanted

    def _sum(self, pair: Pair) -> bytes:
        words = "\n".join(" ".join(one.text.split()) for one in pair.captions)  # lists hold no line ends
        picture = xxhash.xxh3_128_digest(pair.image if self._pictures else b"")
        return xxhash.xxh3_128_digest(picture + words.encode("utf-8", "surrogatepass"))

    def differs(self, found: Pair) -> str | None:
        """What is wrong with a pair that was read back; None where it is the same."""
        if found.key not in self._wanted or found.key in self._found:
            return f"{found.key} is there twice" if found.key in self._found else f"{found.key} was never written"
        self._found.add(found.key)
        return None if self._sum(found) == self._wanted[found.key] else f"{found.key} has another picture or captions"

    def missing(self) -> int:
        return len(self._wanted) - len(self._found)
