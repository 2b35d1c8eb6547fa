"""Which images are held out: a function of the image's id and the seed alone, so every stage knows it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Literal

from pairloom.typed import Share


@dataclass(frozen=True, kw_only=True)
class Split:
    """The settings of section shards that decide it."""

    seed: int
    val_share: Share  # of the images that are held out

    def of(self, image_id: bytes) -> Literal["train", "val"]:
        """It stays the same however the list grows."""
        digest = hashlib.sha256(self.seed.to_bytes(8, "little", signed=True) + image_id).digest()
        return "val" if int.from_bytes(digest[:8], "little") < self.val_share * 2**64 else "train"
