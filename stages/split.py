"""Which images are held out: a function of the image's row and the seed alone, so every stage knows it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from pairloom.extra import as_dict
from pairloom.table import Array
from pairloom.typed import Share, check_ranges

SPLITS = ("train", "val", "test")
# What published splits call ours. A word that is not here is none.
NAMED = {
    **dict.fromkeys(("train", "restval"), "train"),  # restval: Karpathy's rest of COCO's val, which all train on
    **dict.fromkeys(("val", "valid", "validation", "dev"), "val"),
    "test": "test",
}


@dataclass(frozen=True, kw_only=True)
class Split:
    """The settings of section shards that decide it."""

    seed: int
    val_share: Share  # of the images that are held out
    split_from: str | None = None  # name in `extra` of the split that the list gives

    def __post_init__(self) -> None:
        check_ranges(self)

    @property
    def holds_out(self) -> bool:
        """Whether any image may be held out."""
        return bool(self.val_share or self.split_from)

    @property
    def columns(self) -> tuple[str, ...]:
        """Of a table of pairs, what `of_rows` reads."""
        return ("image_id", "extra") if self.split_from else ("image_id",)

    def of_rows(self, pairs: pa.Table) -> Iterator[str]:
        """The split of each image of a table of pairs."""
        ids = pairs["image_id"].to_pylist()
        if self.split_from is None:
            yield from map(self.of, ids)
            return
        for image_id, extra in zip(ids, pairs["extra"].to_pylist(), strict=True):
            yield NAMED.get(as_dict(extra).get(self.split_from, "")) or self.of(image_id)

    def numbers(self, pairs: pa.Table) -> Array:
        """The same as places in SPLITS, uint8."""
        if not self.holds_out:
            return np.zeros(pairs.num_rows, np.uint8)
        return np.fromiter(map(SPLITS.index, self.of_rows(pairs)), np.uint8, pairs.num_rows)

    def of(self, image_id: bytes) -> str:
        """`train` or `val`, from the image's id and the seed alone: it stays the same however the list grows."""
        digest = hashlib.sha256(self.seed.to_bytes(8, "little", signed=True) + image_id).digest()
        return "val" if int.from_bytes(digest[:8], "little") < self.val_share * 2**64 else "train"
