"""Small curated tables whose captions are drawn by a skewed law, for the stage's tests on disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from schemas.pairs import CAPTION, PAIRS
from tests.building import write_table

IMAGES = 40  # a shard


def shard(number: int) -> pa.Table:
    """Images with one to three captions in two languages. Words by a skewed law, some texts the same."""
    rng = np.random.default_rng(number)
    law = 1 / np.arange(1, 41)
    words = np.array([f"word{rank}" for rank in range(40 + number)])[-40:]  # later shards have words of their own
    texts = [
        [" ".join(rng.choice(words, rng.integers(1, 8), p=law / law.sum())) for _ in range(rng.integers(1, 4))]
        for _ in range(IMAGES)
    ]
    captions = [
        [{"text": text, "original": text, "lang": "en" if rng.random() < 0.8 else "de"} for text in own]
        for own in texts
    ]
    ids = [rng.bytes(16) for _ in range(IMAGES)]
    sides: Any = dict.fromkeys(("width", "height", "original_width", "original_height"), [64] * IMAGES)
    return PAIRS.table(
        image_id=ids,
        image=[b""] * IMAGES,
        format=["png"] * IMAGES,
        url=["http://host/"] * IMAGES,
        sha256=[bytes(32)] * IMAGES,
        phash=rng.integers(0, 1 << 63, IMAGES, dtype=np.uint64),
        captions=pa.array(captions, pa.list_(CAPTION)),
        extra=[[]] * IMAGES,
        **sides,
    )


def curated(data: Path, shards: range) -> None:
    """A finished table `curate` with these shards."""
    write_table(data / "curate", PAIRS, {f"{number:05d}": shard(number) for number in shards}, "curate")
