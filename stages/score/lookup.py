"""What table `score` says, by image and text: its rows are those of download, and curate unites and cleans them."""

from __future__ import annotations

from dataclasses import dataclass, field

import pyarrow as pa

COLUMNS = ("image_id", "texts", "similarity", "heads")


@dataclass(frozen=True)
class Said:
    """Of the images of one shard."""

    similarity: dict[bytes, dict[str, float]] = field(default_factory=dict)  # image_id -> clean text -> cosine
    heads: dict[bytes, dict[str, float]] = field(default_factory=dict)  # image_id -> head -> value


def said(*score: pa.Table) -> Said:
    """What these shards of the table say, most often one or none. Nothing of an image that stage `score` left out."""
    found = Said()
    for row in (row for table in score for row in table.select(list(COLUMNS)).to_pylist()):
        known = zip(row["texts"], row["similarity"], strict=True)
        texts = found.similarity.setdefault(row["image_id"], {})
        texts |= {text: value for text, value in known if value is not None}
        found.heads[row["image_id"]] = {head["name"]: head["value"] for head in row["heads"]}
    return found
